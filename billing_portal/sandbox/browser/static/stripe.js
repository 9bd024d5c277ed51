/*
 * The sandbox's own Stripe.js: the calls a billing portal makes, with Stripe's names, arguments and results.
 *
 * Stripe's script cannot run without Stripe, because its fields are remote frames. This one keeps the property that
 * matters: card data is typed into a frame of another origin, and the page only ever sees the resulting intent.
 * It needs `script-src`, `frame-src` and `connect-src` for this origin, and nothing else from a strict policy.
 */
(() => {
  "use strict";

  const BASE = new URL(document.currentScript.src).origin;
  const LOAD_PATIENCE_MS = 15_000;
  const wire = () => import(`${BASE}/elements/static/wire.js`);

  class IntegrationError extends Error {
    name = "IntegrationError";
  }

  const resourceOf = (clientSecret) => {
    if (/^seti_\w+_secret_\w+$/.test(clientSecret ?? "")) return "setup_intents";
    if (/^pi_\w+_secret_\w+$/.test(clientSecret ?? "")) return "payment_intents";
    throw new IntegrationError(`Invalid value for clientSecret: ${clientSecret}`);
  };
  const resultKey = { setup_intents: "setupIntent", payment_intents: "paymentIntent" };
  const idOf = (clientSecret) => clientSecret.split("_secret_")[0];

  /** Remember handlers by event, as every Element does. */
  class Emitter {
    #handlers = new Map();

    on(event, handler) {
      this.#handlers.set(event, [...(this.#handlers.get(event) ?? []), handler]);
      return this;
    }

    once(event, handler) {
      const first = (payload) => {
        this.off(event, first);
        handler(payload);
      };
      return this.on(event, first);
    }

    off(event, handler) {
      this.#handlers.set(event, handler ? (this.#handlers.get(event) ?? []).filter((each) => each !== handler) : []);
      return this;
    }

    emit(event, payload) {
      for (const handler of this.#handlers.get(event) ?? []) handler(payload);
    }
  }

  /**
   * Talk to a frame of the sandbox through a private port.
   *
   * The port is handed over once, to the sandbox's origin only; after that nobody else can read or write, so no
   * later message needs its origin checked.
   */
  class Line {
    #calls = new Map();
    #count = 0;

    constructor(frame, greeting, hear) {
      const { port1, port2 } = new MessageChannel();
      this.port = port1;
      port1.onmessage = ({ data }) => {
        if (data.reply === undefined) return hear(data);
        this.#calls.get(data.reply)?.(data.result);
        this.#calls.delete(data.reply);
      };
      frame.contentWindow.postMessage({ greeting }, BASE, [port2]);
    }

    call(verb, payload = {}) {
      const id = ++this.#count;
      return new Promise((resolve) => {
        this.#calls.set(id, resolve);
        this.port.postMessage({ id, verb, payload });
      });
    }
  }

  const newFrame = (source, title) => {
    const frame = document.createElement("iframe");
    Object.assign(frame, { src: source, title, allow: "payment *" });
    frame.setAttribute("frameborder", "0");
    Object.assign(frame.style, { border: "0", width: "100%", display: "block" });
    return frame;
  };

  /** `night` and `stripe` name a scheme; without a theme the frame follows the page's own. */
  const schemeOf = (appearance) =>
    ({ night: "dark", stripe: "light", flat: "light" })[appearance?.theme] ?? "";

  class PaymentElement extends Emitter {
    constructor(group, options) {
      super();
      this.group = group;
      this.options = options;
      this.line = new Promise((resolve) => (this.connected = resolve));
      this.ready = new Promise((resolve, reject) => {
        this.once("ready", resolve);
        this.once("loaderror", ({ error }) => reject(error));
      });
      this.ready.catch(() => {}); // Told by the event; whoever confirms is told again.
    }

    mount(place) {
      const node = typeof place === "string" ? document.querySelector(place) : place;
      if (!node) throw new IntegrationError(`The selector you specified (${place}) applies to no DOM elements.`);
      this.unmount();
      this.frame = newFrame(`${BASE}/elements/payment-frame`, "Secure payment input frame");
      this.frame.style.height = "320px";
      this.frame.style.colorScheme = schemeOf(this.group.options.appearance);
      this.frame.addEventListener("load", () => this.#greet(), { once: true });
      node.classList.add("StripeElement");
      node.replaceChildren(this.frame);
      this.patience = setTimeout(() => this.#fail("The payment form did not load."), LOAD_PATIENCE_MS);
      this.emit("loaderstart", { elementType: "payment" });
    }

    #greet() {
      const greeting = { key: this.group.key, elements: this.group.options, options: this.options };
      this.connected(new Line(this.frame, greeting, (message) => this.#hear(message)));
    }

    #hear({ event, payload }) {
      if (event === "resize") {
        this.frame.style.height = `${payload.height}px`;
        return;
      }
      if (event === "ready" || event === "loaderror") clearTimeout(this.patience);
      this.emit(event, { elementType: "payment", ...payload });
    }

    #fail(message) {
      this.emit("loaderror", { elementType: "payment", error: { type: "api_connection_error", message } });
    }

    async call(verb, payload) {
      if (!this.frame) throw new IntegrationError("The Payment Element must be mounted before it is used.");
      await this.ready;
      return (await this.line).call(verb, payload);
    }

    update(options) {
      this.options = { ...this.options, ...options };
      if (this.frame) void this.tell("update", { options: this.options });
      return this;
    }

    async tell(verb, payload) {
      return (await this.line).call(verb, payload);
    }

    focus = () => void this.tell("focus");
    blur = () => void this.tell("blur");
    clear = () => void this.tell("clear");
    collapse = () => this;

    unmount() {
      clearTimeout(this.patience);
      this.frame?.parentElement?.classList.remove("StripeElement");
      this.frame?.remove();
      this.frame = undefined;
    }

    destroy() {
      this.unmount();
      this.group.element = undefined;
    }
  }

  class Elements extends Emitter {
    constructor(key, options) {
      super();
      this.key = key;
      this.options = options;
      if (options.clientSecret) resourceOf(options.clientSecret);
    }

    create(type, options = {}) {
      if (type !== "payment") throw new IntegrationError(`The sandbox has no "${type}" Element, only "payment".`);
      if (this.element) throw new IntegrationError("Can only create one Element of type payment.");
      this.element = new PaymentElement(this, options);
      return this.element;
    }

    getElement(type) {
      return (type === "payment" && this.element) || null;
    }

    async update(options) {
      this.options = { ...this.options, ...options };
      if (!this.element?.frame) return;
      this.element.frame.style.colorScheme = schemeOf(this.options.appearance);
      await this.element.tell("update", { elements: this.options });
      this.emit("update-end");
    }

    async fetchUpdates() {
      return this.element?.frame ? this.element.tell("fetchUpdates") : {};
    }

    async submit() {
      if (!this.element) throw new IntegrationError("elements.submit() needs a mounted Payment Element.");
      return this.element.call("submit").catch((error) => ({ error }));
    }
  }

  /** Show the bank's page over this one until the customer answers it. */
  const challenge = (url) =>
    new Promise((resolve) => {
      const dialog = document.createElement("dialog");
      const frame = newFrame(url, "Authentication by your bank");
      dialog.setAttribute("aria-label", "Authentication by your bank");
      Object.assign(dialog.style, {
        border: "0", padding: "0", borderRadius: "14px", width: "min(420px, 94vw)", overflow: "hidden",
        boxShadow: "0 0 0 100vmax rgb(10 14 24 / 55%), 0 24px 64px rgb(0 0 0 / 40%)", background: "Canvas",
      });
      frame.style.height = "430px";
      const finish = () => {
        dialog.remove();
        resolve();
      };
      let connected;
      const line = new Promise((connect) => (connected = connect));
      const greet = () => connected(new Line(frame, {}, ({ event }) => event === "finished" && finish()));
      let pages = 0; // A second one means: answered before the script could keep the first in place.
      frame.addEventListener("load", () => (++pages === 1 ? greet() : finish()));
      // Escape closes the dialog and answers the bank with "no", as closing its window would.
      dialog.addEventListener("close", async () => (await line).call("fail"));
      dialog.append(frame);
      document.body.append(dialog);
      dialog.showModal();
    });

  /** Turn an intent into Stripe.js's result: an intent that lost its payment method carries the reason. */
  const resultOf = (resource, intent) => {
    const reason = intent.last_setup_error ?? intent.last_payment_error;
    if (intent.status !== "requires_payment_method" || !reason) return { [resultKey[resource]]: intent };
    return { error: { ...reason, [resource.slice(0, -1)]: intent } };
  };

  const challengeUrl = (clientSecret) => `${BASE}/3ds/${idOf(clientSecret)}?client_secret=${clientSecret}`;

  class Stripe {
    static version = "sandbox";

    constructor(key, options = {}) {
      if (!/^pk_test_/.test(key ?? "")) throw new IntegrationError("The sandbox takes keys that start with pk_test_ only.");
      Object.assign(this, { key, options });
    }

    elements(options = {}) {
      return new Elements(this.key, { locale: this.options.locale, ...options });
    }

    confirmSetup = (options) => this.#confirm("setup_intents", options);
    confirmPayment = (options) => this.#confirm("payment_intents", options);
    retrieveSetupIntent = (clientSecret) => this.#retrieve("setup_intents", clientSecret);
    retrievePaymentIntent = (clientSecret) => this.#retrieve("payment_intents", clientSecret);

    /** Finish an intent that waits for the customer, for example after an off-session charge was challenged. */
    async handleNextAction({ clientSecret }) {
      const resource = resourceOf(clientSecret);
      const found = await this.#request(resource, clientSecret);
      return found.error ? found : this.#follow(resource, clientSecret, found.value);
    }

    async #confirm(resource, { elements, clientSecret, confirmParams = {}, redirect = "always" }) {
      const secret = clientSecret ?? elements?.options.clientSecret;
      if (resourceOf(secret) !== resource) throw new IntegrationError(`clientSecret is not one of ${resource}.`);
      if (redirect === "always" && !confirmParams.return_url) {
        throw new IntegrationError('confirmParams.return_url is required unless redirect is "if_required".');
      }
      const answer = elements
        ? await elements.element.call("confirm", { resource, clientSecret: secret, confirmParams }).catch((error) => ({ error }))
        : await this.#request(resource, secret, "/confirm", { ...confirmParams, use_stripe_sdk: true });
      if (answer.error) return answer;
      const result = await this.#follow(resource, secret, answer.value);
      if (result.error || redirect !== "always") return result;
      return this.#leave(resource, secret, confirmParams.return_url);
    }

    async #follow(resource, clientSecret, intent) {
      if (intent.status !== "requires_action") return resultOf(resource, intent);
      await challenge(challengeUrl(clientSecret));
      return this.#retrieve(resource, clientSecret);
    }

    #leave(resource, clientSecret, returnUrl) {
      const name = resource.slice(0, -1);
      const url = new URL(returnUrl, location.href);
      url.searchParams.set(name, idOf(clientSecret));
      url.searchParams.set(`${name}_client_secret`, clientSecret);
      url.searchParams.set("redirect_status", "succeeded");
      location.assign(url);
      return new Promise(() => {}); // As with Stripe, nothing runs on once the customer leaves.
    }

    async #retrieve(resource, clientSecret) {
      const found = await this.#request(resource, clientSecret);
      return found.error ? found : resultOf(resource, found.value);
    }

    async #request(resource, clientSecret, action = "", params = undefined) {
      const { request } = await wire();
      const path = `/v1/${resource}/${idOf(clientSecret)}${action}`;
      return request(BASE + path, this.key, { ...params, client_secret: clientSecret }, params ? "POST" : "GET");
    }
  }

  const create = (key, options) => new Stripe(key, options);
  window.Stripe = Object.assign(create, { version: "sandbox" });
})();
