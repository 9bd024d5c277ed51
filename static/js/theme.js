/* Runs before the first paint: applies the stored theme and tells the CSS that scripts run. */
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // Storage is blocked: the system's theme it is.
    }
  };

  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };

  const mark = () => {
    const current = root.dataset.theme ?? "system";
    for (const button of document.querySelectorAll("[data-set-theme]")) {
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === current));
    }
  };

  apply(stored());
  document.addEventListener("DOMContentLoaded", mark);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-set-theme]");
    if (!button) return;
    const theme = button.dataset.setTheme;
    try {
      if (theme === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", theme);
    } catch {
      // The choice lasts as long as the page.
    }
    apply(theme);
    mark();
  });
})();
