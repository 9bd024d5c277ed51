// The card page: mounts Stripe's Payment Element and saves the card off-session. Card data stays in Stripe's frame.
(() => {
  "use strict";

  const form = document.querySelector("[data-payment-form]");
  if (!form) return;
  const button = form.querySelector("button[type=submit]");
  const problem = form.querySelector("[data-payment-error]");
  const place = form.querySelector("[data-payment-element]");
  const settings = JSON.parse(document.getElementById("payment-element").textContent);

  const show = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };

  if (typeof window.Stripe !== "function") {
    show("Stripe's form could not be loaded. Check your connection or a content blocker, then reload the page.");
    return;
  }

  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  };

  const stripe = window.Stripe(settings.publishableKey);
  const elements = stripe.elements({
    clientSecret: settings.clientSecret,
    customerSessionClientSecret: settings.customerSessionClientSecret,
    appearance: { theme: isDark() ? "night" : "stripe" },
  });
  const element = elements.create("payment");
  element.on("ready", () => {
    place.removeAttribute("aria-busy");
    button.disabled = false;
  });
  element.on("loaderror", () => show("Stripe's form could not be loaded. Reload the page to try again."));
  place.replaceChildren();
  element.mount(place);

  // The mandate is recorded before the card is saved: a card without an acceptance must not exist.
  const acceptMandate = async () => {
    const body = new FormData(form);
    body.set("setup_intent", settings.setupIntent);
    const answer = await fetch(settings.mandateUrl, { method: "POST", body });
    if (!answer.ok) throw new Error("Your acceptance could not be recorded. Reload the page and try again.");
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    show("");
    try {
      const checked = await elements.submit();
      if (checked.error) throw new Error(checked.error.message);
      await acceptMandate();
      const result = await stripe.confirmSetup({ elements, confirmParams: { return_url: settings.returnUrl } });
      // Without an error the browser is already on its way to the return address.
      if (result.error) throw new Error(result.error.message);
    } catch (error) {
      show(error.message);
      button.disabled = false;
      button.removeAttribute("aria-busy");
    }
  });
})();
