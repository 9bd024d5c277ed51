/*
 * The Payment Element's inside. It speaks to the page through one private port, taken from the first greeting of the
 * embedding window; the card is sent from here to the sandbox's API, so that it never reaches the page.
 */

import * as card from "./fields.js";
import * as link from "./link.js";
import * as saved from "./saved.js";
import { request } from "./wire.js";

const byId = (id) => document.getElementById(id);
const panels = { saved: byId("panel-saved"), card: byId("panel-card"), link: byId("panel-link") };
const state = { tab: "card", session: {}, startedAt: Date.now() };

const emit = (event, payload = {}) => state.port.postMessage({ event, payload });
const now = () => new Date((state.session.now ?? Date.now() / 1000) * 1000 + Date.now() - state.startedAt);

const showFailure = (message = "") => {
  byId("failure").textContent = message;
  byId("failure").hidden = !message;
};

// --- What the page is told ------------------------------------------------------------------------------------

const isComplete = () =>
  ({ saved: () => Boolean(saved.chosen()), card: () => card.isComplete(now), link: link.isComplete })[state.tab]();
const isEmpty = () => ({ saved: () => !saved.chosen(), card: card.isEmpty, link: link.isEmpty })[state.tab]();

const changed = () => {
  showFailure();
  const type = state.tab === "saved" ? savedMethod()?.type : state.tab;
  const payment_method = state.tab === "saved" ? savedMethod() : undefined;
  emit("change", { empty: isEmpty(), complete: isComplete(), collapsed: false, value: { type, payment_method } });
};

const savedMethod = () => state.session.payment_methods?.find(({ id }) => id === saved.chosen());

// --- Tabs -----------------------------------------------------------------------------------------------------

const openTab = (name) => {
  state.tab = name;
  for (const [each, panel] of Object.entries(panels)) {
    panel.hidden = each !== name;
    byId(`tab-${each}`).setAttribute("aria-selected", String(each === name));
    byId(`tab-${each}`).tabIndex = each === name ? 0 : -1;
  }
  byId("samples").hidden = name !== "card";
};

const visibleTabs = () => Object.keys(panels).filter((name) => !byId(`tab-${name}`).hidden);

const stepTab = (press) => {
  const tabs = visibleTabs();
  const step = { ArrowRight: 1, ArrowLeft: -1 }[press.key];
  if (!step) return;
  openTab(tabs[(tabs.indexOf(state.tab) + step + tabs.length) % tabs.length]);
  byId(`tab-${state.tab}`).focus();
  changed();
};

// --- Looks ----------------------------------------------------------------------------------------------------

const VARIABLES = {
  colorPrimary: "--accent", colorBackground: "--ground", colorText: "--ink", colorTextSecondary: "--quiet",
  colorDanger: "--danger", borderRadius: "--radius", fontFamily: "--font", fontSizeBase: "--size",
};

const dress = (appearance = {}) => {
  const root = document.documentElement;
  root.dataset.theme = { night: "dark", stripe: "light", flat: "light" }[appearance.theme] ?? "auto";
  for (const [name, property] of Object.entries(VARIABLES)) {
    const value = appearance.variables?.[name];
    if (value) root.style.setProperty(property, value);
    else root.style.removeProperty(property);
  }
};

// --- The session: what is being paid, by whom, with which saved methods -----------------------------------------

const loadSession = async () => {
  const { clientSecret, customerSessionClientSecret, mode } = state.elements;
  const params = { client_secret: clientSecret, customer_session_client_secret: customerSessionClientSecret, mode };
  const answer = await request("/elements/session", state.key, params, "POST");
  if (answer.error) return answer;
  state.session = answer.value;
  showSession();
  return {};
};

const showSession = () => {
  const { payment_methods: methods = [], payment_method_types: types = ["card"], features = {} } = state.session;
  const { wallets = {}, fields = {}, terms = {} } = state.options;
  saved.show(methods, { mayRemove: features.payment_method_remove === "enabled", changed, remove });
  byId("tab-saved").hidden = methods.length === 0;
  byId("tab-link").hidden = !types.includes("link") || wallets.link === "never";
  document.querySelector(".tabs").hidden = visibleTabs().length < 2;
  byId("save-field").hidden = features.payment_method_save !== "enabled";
  const address = fields.billingDetails?.address ?? fields.billingDetails;
  card.offerAddress(address !== "never" && address?.country !== "never");
  byId("terms").hidden = !state.session.saves || terms.card === "never";
  const merchant = state.options.business?.name ?? state.session.merchant;
  byId("terms").textContent = `By providing your card information, you allow ${merchant} to charge your card for future payments in accordance with their terms.`;
};

const remove = async (method) => {
  const params = { payment_method: method.id, customer_session_client_secret: state.elements.customerSessionClientSecret };
  const answer = await request("/elements/session/remove", state.key, params, "POST");
  showFailure(answer.error?.message);
  emit("savedpaymentmethodremove", { success: !answer.error, error: answer.error?.message, payment_method: method });
  if (answer.error) return;
  await loadSession();
  openTab(visibleTabs()[0]);
};

// --- Confirming -------------------------------------------------------------------------------------------------

const validate = () => {
  showFailure();
  return { saved: () => undefined, card: () => card.validate(now), link: link.validate }[state.tab]();
};

const mergeBilling = (given = {}, typed = {}) => ({ ...given, ...typed, address: { ...given.address, ...typed.address } });

const newMethodParams = ({ billing_details: given, ...rest } = {}) => {
  const data = { card, link }[state.tab].methodData();
  const allow_redisplay = byId("save").checked ? "always" : rest.allow_redisplay ?? (state.session.saves ? "limited" : "unspecified");
  const known = { ...state.options.defaultValues?.billingDetails, ...given };
  return { ...rest, ...data, billing_details: mergeBilling(known, data.billing_details), allow_redisplay };
};

/**
 * Answer `{value}` with the payment method to confirm with, made from what was typed unless a saved one was chosen.
 *
 * Stripe's own frames send the card along with the confirmation, in fields its published description leaves out;
 * these two documented calls come to the same.
 */
const chooseMethod = async (given) =>
  state.tab === "saved" ? { value: savedMethod() } : request("/v1/payment_methods", state.key, newMethodParams(given), "POST");

/** A saved method needs the customer's consent on record, in the words of the API. */
const mandate = (resource) =>
  resource === "setup_intents" || state.session.saves
    ? { customer_acceptance: { type: "online", online: { user_agent: navigator.userAgent } } }
    : undefined;

const confirmWith = (method, { resource, clientSecret, confirmParams: { payment_method_data: _, ...rest } }) => {
  const saves = resource === "payment_intents" && byId("save").checked;
  const params = {
    setup_future_usage: saves ? state.session.features?.payment_method_save_usage ?? "off_session" : undefined,
    mandate_data: mandate(resource),
    ...rest,
    payment_method: method.id,
    client_secret: clientSecret,
    use_stripe_sdk: true,
  };
  return request(`/v1/${resource}/${clientSecret.split("_secret_")[0]}/confirm`, state.key, params, "POST");
};

const confirm = async (payload) => {
  const error = validate();
  if (error) return { error };
  byId("fields").disabled = true;
  const method = await chooseMethod(payload.confirmParams.payment_method_data);
  const answer = method.error ? method : await confirmWith(method.value, payload);
  byId("fields").disabled = false;
  showFailure(answer.error?.message);
  return answer;
};

// --- The conversation -------------------------------------------------------------------------------------------

const VERBS = {
  confirm,
  submit: async () => {
    const error = validate();
    return error ? { error } : { selectedPaymentMethod: state.tab === "saved" ? savedMethod()?.type : state.tab };
  },
  update: async ({ elements = state.elements, options = state.options }) => {
    Object.assign(state, { elements, options });
    dress(elements.appearance);
    showSession();
  },
  fetchUpdates: loadSession,
  fail: async ({ message }) => showFailure(message),
  focus: async () => byId(`panel-${state.tab}`).querySelector("input")?.focus(),
  blur: async () => document.activeElement?.blur(),
  clear: async () => card.clear(),
};

const hear = async ({ data: { id, verb, payload } }) => {
  const result = (await VERBS[verb]?.(payload)) ?? {};
  state.port.postMessage({ reply: id, result });
};

const localeOf = (locale) => (!locale || locale === "auto" ? navigator.language || "en" : locale);

const begin = async ({ key, elements, options }, port) => {
  Object.assign(state, { key, elements, options, port });
  port.onmessage = hear;
  dress(elements.appearance);
  new ResizeObserver(() => emit("resize", { height: Math.ceil(byId("form").getBoundingClientRect().height) })).observe(byId("form"));
  const { error } = await loadSession();
  if (error) {
    showFailure(error.message);
    emit("loaderror", { error });
    return;
  }
  const billing = options.defaultValues?.billingDetails;
  card.start({ locale: localeOf(elements.locale), defaults: billing, now, changed });
  link.start({ email: billing?.email ?? state.session.customer?.email, changed });
  showSession();
  openTab(visibleTabs()[0]);
  byId("fields").disabled = false; // Nothing that was typed before this could be lost.
  emit("ready");
};

for (const name of Object.keys(panels)) byId(`tab-${name}`).addEventListener("click", () => (openTab(name), changed()));
document.querySelector(".tabs").addEventListener("keydown", stepTab);
byId("form").addEventListener("submit", (submission) => submission.preventDefault());
byId("form").addEventListener("focusin", () => state.port && emit("focus"));
byId("form").addEventListener("focusout", () => state.port && emit("blur"));
addEventListener("keydown", (press) => press.key === "Escape" && state.port && emit("escape"));
addEventListener("message", ({ source, data, ports }) => {
  const isGreeting = source === window.parent && source !== window && data?.greeting && ports.length === 1;
  if (isGreeting && !state.port) void begin(data.greeting, ports[0]);
});
