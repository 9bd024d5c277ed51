/* Drives stripe.js as a page would; what to do is read from the address, what came of it is written into #result. */
"use strict";

const query = new URLSearchParams(location.search);
const result = document.getElementById("result");
const say = (text) => (result.textContent += `${text}\n`);
const say_result = ({ setupIntent, paymentIntent, error }) =>
  say(error ? `error ${error.type} ${error.code} ${error.decline_code ?? "-"}` : `${(setupIntent ?? paymentIntent).id} ${(setupIntent ?? paymentIntent).status}`);

if (query.get("done")) document.body.dataset.done = query.get("redirect_status");

const stripe = Stripe("pk_test_shop");
const clientSecret = query.get("secret");
const theme = query.get("theme");
const options = { clientSecret, customerSessionClientSecret: query.get("session") ?? undefined };
if (theme) options.appearance = { theme };

const elements = stripe.elements(options);
const element = elements.create("payment", JSON.parse(query.get("options") ?? "{}"));
element.on("ready", () => say("ready"));
element.on("loaderror", ({ error }) => say(`loaderror ${error.code}`));
element.on("change", ({ complete, value }) => (document.body.dataset.change = `${value.type} ${complete}`));
element.on("savedpaymentmethodremove", ({ success, payment_method }) => say(`removed ${payment_method.id} ${success}`));
element.mount("#element");

document.getElementById("pay").addEventListener("click", async () => {
  const { error, selectedPaymentMethod } = await elements.submit();
  if (error) return say(`invalid ${error.code}`);
  say(`submitted ${selectedPaymentMethod}`);
  const confirm = clientSecret.startsWith("seti_") ? stripe.confirmSetup : stripe.confirmPayment;
  say_result(await confirm({ elements, confirmParams: { return_url: `${location.origin}/?done=1` }, redirect: query.get("redirect") ?? "if_required" }));
});

