/* Everything the pages do beyond HTML: each part only improves what already works without it. */
(() => {
  const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

  // htmx: Django's CSRF token on every request of ours; a failed request says so.
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") event.detail.headers["X-CSRFToken"] = meta("csrf-token");
  });
  const failed = (text) => (event) => event.target.matches?.("[data-live]") || toast(text, "bad");
  document.addEventListener("htmx:responseError", failed("That did not work. Please try again."));
  document.addEventListener("htmx:sendError", failed("No connection. Please try again."));
  // What asks again by itself rests while nobody looks, and what fails is asked again, so it needs no message.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.target.matches?.("[data-live]")) event.preventDefault();
  });
  document.addEventListener("toast", (event) => toast(event.detail.text ?? event.detail.value, event.detail.tone));

  function toast(text, tone = "info") {
    const list = document.querySelector("[data-toasts]");
    if (!list || !text) return;
    const item = document.createElement("div");
    item.className = `toast tone-${tone}`;
    item.append(Object.assign(document.createElement("span"), { textContent: text }));
    const close = Object.assign(document.createElement("button"), {
      type: "button",
      className: "toast-close",
      textContent: "×",
    });
    close.setAttribute("aria-label", "Dismiss");
    close.addEventListener("click", () => item.remove());
    item.append(close);
    list.append(item);
    if (tone !== "bad") setTimeout(() => item.remove(), 6000);
  }

  // Menus are <details>: outside clicks and Escape close them.
  const openMenus = () => document.querySelectorAll("details[data-menu][open]");
  document.addEventListener("click", (event) => {
    for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of openMenus()) {
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
      menu.open = false;
    }
  });

  // Dialogs open as popovers by themselves; with scripts they become modal.
  document.addEventListener("click", (event) => {
    const opener = event.target.closest?.("[popovertarget]");
    const dialog = opener && document.getElementById(opener.getAttribute("popovertarget"));
    if (dialog instanceof HTMLDialogElement) {
      event.preventDefault();
      if (dialog.hasAttribute("popover")) dialog.removeAttribute("popover");
      if (dialog.open) dialog.close();
      else dialog.showModal();
      return;
    }
    if (event.target instanceof HTMLDialogElement && event.target.open) {
      const box = event.target.getBoundingClientRect();
      const inside =
        event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
      if (!inside) event.target.close();
    }
  });

  // Copy: the value is selectable text anyway.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const label = button.querySelector("[data-copy-label]");
    const before = label?.textContent;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.dataset.copied = "";
      if (label) label.textContent = "Copied";
    } catch {
      if (label) label.textContent = "Select and copy by hand";
    }
    setTimeout(() => {
      delete button.dataset.copied;
      if (label) label.textContent = before;
    }, 1600);
  });

  // A form about what is shown sends the address as it is now, which filters may have changed since the page was read.
  document.addEventListener("submit", (event) => {
    if (event.target.matches?.("form[data-takes-query]")) event.target.elements.query.value = location.search.slice(1);
  });

  // A form that makes something is sent once, however often its button is pressed; the server would refuse the rest.
  document.addEventListener("submit", (event) => {
    const form = event.target.closest?.("form[data-once]");
    if (!form) return;
    if (form.hasAttribute("aria-busy")) event.preventDefault();
    form.setAttribute("aria-busy", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-once]")) form.removeAttribute("aria-busy");
  });

  // A filter form sends itself when a choice changes; what is typed, dates too, waits for Enter or the button.
  document.addEventListener("change", (event) => {
    if (event.target.matches?.("form[data-autosubmit] :is(select, input:is([type=checkbox], [type=radio]))")) {
      event.target.form.requestSubmit();
    }
  });
})();
