/* Link in three steps: an e-mail address, a one-time code, done. The sandbox sends nothing; its code is 000000. */

import { showFault } from "./fields.js";

const CODE = "000000";
const byId = (id) => document.getElementById(id);
let isProved = false;

export const isComplete = () => isProved;
export const isEmpty = () => !byId("link-email").value;

const askForCode = () => {
  const isAddress = /^\S+@\S+\.\S+$/.test(byId("link-email").value);
  showFault("link-email", isAddress ? "" : "Your email is incomplete.");
  if (!isAddress) return;
  byId("link-code-field").hidden = false;
  byId("link-code").focus();
};

const check = () => {
  const typed = byId("link-code").value.replace(/\D/g, "");
  if (typed.length < CODE.length) return showFault("link-code");
  isProved = typed === CODE;
  showFault("link-code", isProved ? "" : "That code is not right. Try again.");
  if (!isProved) return undefined;
  byId("link-email-field").hidden = byId("link-code-field").hidden = true;
  byId("link-done").textContent = `Paying with Link as ${byId("link-email").value}`;
  return undefined;
};

export const validate = () => {
  if (isProved) return undefined;
  const asksForCode = !byId("link-code-field").hidden;
  const name = asksForCode ? "link-code" : "link-email";
  const message = asksForCode ? "Enter the code to pay with Link." : "Choose “Pay with Link” and enter the code.";
  showFault(name, message);
  byId(name).focus();
  return { type: "validation_error", code: "incomplete_link", message };
};

export const methodData = () => ({ type: "link", billing_details: { email: byId("link-email").value } });

export const start = ({ email, changed }) => {
  byId("link-email").value = email ?? "";
  byId("link-send").addEventListener("click", askForCode);
  byId("link-email").addEventListener("keydown", (press) => {
    if (press.key === "Enter") (press.preventDefault(), askForCode());
  });
  byId("link-email").addEventListener("input", () => (showFault("link-email"), changed()));
  byId("link-code").addEventListener("input", () => (check(), changed()));
};
