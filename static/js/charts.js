/* Charts: a tooltip read from the chart's own table, and one Tab stop per chart with arrow keys between columns. */
(() => {
  const ready = new WeakSet();

  function prepare(chart) {
    if (ready.has(chart)) return;
    ready.add(chart);
    const columns = [...chart.querySelectorAll(".chart-column")];
    const tip = chart.querySelector(".chart-tip");
    const heads = [...chart.querySelectorAll("thead th")];
    const rows = [...chart.querySelectorAll("tbody tr")];

    columns.forEach((column, index) => {
      column.querySelector("title")?.remove(); // The tooltip below replaces the browser's own.
      column.setAttribute("tabindex", index === columns.length - 1 ? "0" : "-1");
      column.addEventListener("pointerenter", () => show(index));
      column.addEventListener("pointerleave", hide);
      column.addEventListener("focus", () => show(index));
      column.addEventListener("blur", hide);
      column.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: columns.length - 1 }[event.key];
        if (event.key === "Escape") hide();
        if (to === undefined || !columns[to]) return;
        event.preventDefault();
        column.setAttribute("tabindex", "-1");
        columns[to].setAttribute("tabindex", "0");
        columns[to].focus();
      });
    });

    function hide() {
      tip.hidden = true;
    }

    function show(index) {
      const cells = [...rows[index].children];
      const line = (tag, ...texts) => {
        const row = document.createElement("div");
        row.className = tag;
        for (const text of texts) {
          row.append(typeof text === "string" ? Object.assign(document.createElement("span"), { textContent: text }) : text);
        }
        return row;
      };
      const parts = heads
        .map((head, at) => ({ head, text: cells[at].textContent, css: head.dataset.series }))
        .filter(({ css, text }) => css && text !== "–")
        .map(({ head, text, css }) =>
          line("chart-tip-row", Object.assign(document.createElement("i"), { className: css }), head.textContent, text),
        );
      tip.replaceChildren(line("chart-tip-head", cells[0].textContent, cells.at(-1).textContent), ...parts.reverse());
      tip.hidden = false;

      const body = tip.parentElement.getBoundingClientRect();
      const slot = columns[index].querySelector(".chart-hit").getBoundingClientRect();
      const after = slot.right - body.left + 8;
      const before = slot.left - body.left - tip.offsetWidth - 8;
      const centered = (body.width - tip.offsetWidth) / 2;
      const left = after + tip.offsetWidth <= body.width ? after : before >= 0 ? before : centered;
      tip.style.left = `${Math.round(left)}px`;
    }
  }

  const prepareAll = (root) => {
    if (root.matches?.("[data-chart]")) prepare(root);
    for (const chart of root.querySelectorAll("[data-chart]")) prepare(chart);
  };
  document.addEventListener("DOMContentLoaded", () => prepareAll(document));
  document.addEventListener("htmx:load", (event) => prepareAll(event.target));
})();
