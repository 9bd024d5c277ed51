/* The hosted pages pay with the same stripe.js and Payment Element that the portal embeds. */

const start = (form) => {
  const { secret, done } = form.dataset;
  const address = form.dataset.address ? JSON.parse(form.dataset.address) : undefined;
  const button = form.querySelector("button.primary");
  const failure = form.querySelector("[role=alert]");
  const stripe = window.Stripe("pk_test_hosted");
  const elements = stripe.elements({ clientSecret: secret });
  const element = elements.create("payment", address && { fields: { billingDetails: { address: "never" } } });
  const fail = (error) => {
    failure.textContent = error.message;
    failure.hidden = error.type === "validation_error" || error.type === "card_error"; // The frame shows those itself.
  };
  element.on("loaderror", ({ error }) => fail(error));
  element.mount(form.querySelector(".element"));

  form.addEventListener("submit", async (submission) => {
    submission.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    failure.hidden = true;
    const confirm = secret.startsWith("seti_") ? stripe.confirmSetup : stripe.confirmPayment;
    const billing_details = { email: form.elements.email?.value, address };
    const confirmParams = { return_url: new URL(done, location.href).href, payment_method_data: { billing_details } };
    const { error, setupIntent } = await confirm({ elements, confirmParams, redirect: "if_required" });
    button.disabled = false;
    if (error) return fail(error);
    const finish = document.getElementById("finish");
    if (!finish) return location.assign(done);
    if (finish.elements.payment_method && setupIntent) finish.elements.payment_method.value = setupIntent.payment_method;
    return finish.requestSubmit();
  });
};

for (const form of document.querySelectorAll("form.pay")) start(form);
