/* The card panel: typing, inline faults, and the test cards that fill it in. */

import { asParams, digits, faults, kindOf, spaceExpiry, spaceNumber, wantsPostalCode } from "./card.js";
import { countryOptions, likelyCountry } from "./countries.js";

const NAMES = ["number", "expiry", "cvc", "country", "postal"];
const SAMPLES = [
  ["Succeeds", "4242424242424242"],
  ["Asks for 3-D Secure", "4000002760003184"],
  ["Declined", "4000000000000002"],
  ["No funds", "4000000000009995"],
  ["Saves, then declines", "4000000000000341"],
  ["Prepaid", "5105105105105100"],
  ["Expired", "4000000000000069"],
];

const byId = (id) => document.getElementById(id);
const input = Object.fromEntries(NAMES.map((name) => [name, byId(name)]));

/** Keep the caret where the customer types while separators come and go around it. */
const respace = (field, space) => {
  const typedBefore = digits(field.value.slice(0, field.selectionStart)).length;
  const atEnd = field.selectionStart === field.value.length;
  field.value = space(field.value);
  let caret = field.value.length;
  if (!atEnd) for (caret = 0; digits(field.value.slice(0, caret)).length < typedBefore; ) caret++;
  if (document.activeElement === field) field.setSelectionRange(caret, caret);
};

export const values = () => Object.fromEntries(NAMES.map((name) => [name, input[name].value]));
export const isEmpty = () => ["number", "expiry", "cvc"].every((name) => !input[name].value);

export const showFault = (name, message = "") => {
  byId(`${name}-fault`).textContent = message;
  if (message) byId(name).setAttribute("aria-invalid", "true");
  else byId(name).removeAttribute("aria-invalid");
};

const showBrand = () => {
  const { brand } = kindOf(digits(input.number.value));
  byId("brand").textContent = brand === "unknown" ? "" : brand;
  byId("brand").dataset.brand = brand;
};

const showPostal = () => {
  const country = input.country.value;
  const isHidden = !wantsPostalCode(country) || byId("country-field").hidden;
  byId("postal-field").hidden = isHidden;
  byId("postal-label").textContent = country === "US" ? "ZIP code" : "Postal code";
  input.postal.placeholder = { US: "12345", GB: "WS11 1DB", CA: "M5T 1T4" }[country] ?? "";
};

/** The page may fill in the address itself (`fields.billingDetails.address: "never"`); then nobody asks twice. */
export const offerAddress = (isOffered) => {
  byId("country-field").hidden = !isOffered;
  showPostal();
};

const currentFaults = (now) => {
  const found = faults(values(), now());
  if (byId("postal-field").hidden) delete found.postal;
  return found;
};

export const isComplete = (now) => Object.keys(currentFaults(now)).length === 0;

/** Show every fault and answer the first as Stripe's error, or nothing. */
export const validate = (now) => {
  const found = currentFaults(now);
  for (const name of ["number", "expiry", "cvc", "postal"]) showFault(name, found[name]?.[1]);
  const [first] = Object.keys(found);
  if (!first) return undefined;
  input[first].focus();
  return { type: "validation_error", code: found[first][0], message: found[first][1] };
};

export const methodData = () => {
  const { country, postal } = values();
  const address = byId("country-field").hidden ? undefined : { country, postal_code: byId("postal-field").hidden ? undefined : postal };
  return { type: "card", card: asParams(values()), billing_details: address && { address } };
};

const fill = (number, now) => {
  input.number.value = spaceNumber(number);
  input.expiry.value = `12 / ${String(now().getUTCFullYear() + 4).slice(2)}`;
  input.cvc.value = kindOf(number).cvc === 4 ? "1234" : "123";
  if (!input.postal.value) input.postal.value = input.postal.placeholder;
  for (const name of ["number", "expiry", "cvc", "postal"]) showFault(name);
  showBrand();
};

export const clear = () => {
  for (const name of ["number", "expiry", "cvc", "postal"]) {
    input[name].value = "";
    showFault(name);
  }
  showBrand();
};

/** Prepare the panel once; `changed` is called whenever its content may have changed. */
export const start = ({ locale, defaults, now, changed }) => {
  input.country.replaceChildren(...countryOptions(locale));
  input.country.value = defaults?.address?.country ?? likelyCountry();
  input.postal.value = defaults?.address?.postal_code ?? "";
  input.number.addEventListener("input", () => (respace(input.number, spaceNumber), showBrand()));
  input.expiry.addEventListener("input", () => respace(input.expiry, spaceExpiry));
  input.cvc.addEventListener("input", () => respace(input.cvc, digits));
  input.country.addEventListener("input", showPostal);
  for (const name of NAMES) {
    input[name].addEventListener("input", () => (name !== "country" && showFault(name), changed()));
    input[name].addEventListener("blur", () => input[name].value && name !== "country" && showFault(name, currentFaults(now)[name]?.[1]));
  }
  byId("chips").replaceChildren(
    ...SAMPLES.map(([label, number]) => {
      const chip = Object.assign(document.createElement("button"), { type: "button", textContent: label });
      chip.title = spaceNumber(number);
      chip.addEventListener("click", () => (fill(number, now), changed()));
      return chip;
    }),
  );
  showPostal();
};
