/* Payment methods the customer saved before; a CustomerSession decides whether they are shown and may be removed. */

const byId = (id) => document.getElementById(id);
export const chosen = () => document.querySelector("#saved input:checked")?.value;

export const describe = (method) => {
  if (method.type === "link") return ["Link", method.link?.email ?? ""];
  const { brand, last4, exp_month, exp_year } = method.card ?? {};
  return [`${brand ?? method.type} •••• ${last4 ?? ""}`, `${String(exp_month).padStart(2, "0")}/${String(exp_year).slice(2)}`];
};

const row = (method, index, { mayRemove, changed, remove }) => {
  const [name, detail] = describe(method);
  const label = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "saved", value: method.id, checked: index === 0 });
  const text = Object.assign(document.createElement("span"), { className: "name", textContent: name });
  const more = Object.assign(document.createElement("span"), { className: "hint", textContent: detail });
  radio.addEventListener("change", changed);
  label.append(radio, text, more);
  const line = Object.assign(document.createElement("div"), { className: "saved-row" });
  line.append(label);
  if (mayRemove) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Remove" });
    button.setAttribute("aria-label", `Remove ${name}`);
    button.addEventListener("click", () => remove(method));
    line.append(button);
  }
  return line;
};

export const show = (methods, options) => {
  byId("saved").replaceChildren(...methods.map((method, index) => row(method, index, options)));
};
