// Pages with Stripe's Payment Element: one saves a card off-session, one pays an invoice. Card data stays in its frame.
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

  // Stripe's frame knows nothing of our style sheets: hand it the colors as they are computed here, as plain RGB.
  const rgb = (color) => {
    const pixel = document.createElement("canvas").getContext("2d");
    pixel.fillStyle = color;
    pixel.fillRect(0, 0, 1, 1);
    const [red, green, blue] = pixel.getImageData(0, 0, 1, 1).data;
    return `rgb(${red}, ${green}, ${blue})`;
  };
  const variables = {
    colorBackground: rgb(getComputedStyle(form.closest(".card") || document.body).backgroundColor),
    colorText: rgb(getComputedStyle(form).color),
    colorPrimary: rgb(getComputedStyle(button).backgroundColor),
    fontSizeBase: "15px",
  };

  const stripe = window.Stripe(settings.publishableKey);
  const elements = stripe.elements({
    clientSecret: settings.clientSecret,
    ...(settings.customerSessionClientSecret && { customerSessionClientSecret: settings.customerSessionClientSecret }),
    appearance: { theme: isDark() ? "night" : "stripe", variables },
  });
  const element = elements.create("payment", { terms: { card: "never" } }); // our own mandate stands below
  element.on("ready", () => {
    place.removeAttribute("aria-busy");
    button.disabled = false;
  });
  element.on("loaderror", () => show("Stripe's form could not be loaded. Reload the page to try again."));
  place.replaceChildren();
  element.mount(place);

  // The mandate is recorded before the card is saved: a card without an acceptance must not exist.
  const acceptMandate = async () => {
    if (!settings.mandateUrl) return; // nothing is saved
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
      const confirm = settings.mandateUrl ? stripe.confirmSetup : stripe.confirmPayment;
      const result = await confirm({ elements, confirmParams: { return_url: settings.returnUrl } });
      // Without an error the browser is already on its way to the return address.
      if (result.error) throw new Error(result.error.message);
    } catch (error) {
      show(error.message);
      button.disabled = false;
      button.removeAttribute("aria-busy");
    }
  });
})();
