"use strict";
(() => {
  const ink = "currentColor", line = "var(--line)";
  const config = {
    background: null,
    font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif",
    view: { stroke: null },
    axis: { labelColor: ink, titleColor: ink, domainColor: line, tickColor: line, gridColor: line, labelFontSize: 12,
            titleFontSize: 12, titleFontWeight: "normal", labelLimit: 260 },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 12, labelLimit: 260, symbolStrokeWidth: 2 },
    range: { category: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => `var(--s${n})`) },
  };
  const options = { actions: false, renderer: "svg", defaultStyle: false, ast: true, config };
  // A chart within closed details has no width: it is drawn when they open.
  const draw = async (place) => {
    place.dataset.begun = "";
    await vegaEmbed(place, JSON.parse(place.nextElementSibling.textContent), options);
    place.querySelector("svg").ariaHidden = "true";  // the place itself says what it shows
  };
  const drawAll = (within) => {
    const places = [...within.querySelectorAll(".chart:not([data-begun])")];
    return Promise.all(places.filter((place) => !place.closest("details:not([open])")).map(draw));
  };
  document.addEventListener("toggle", (event) => drawAll(event.target), true);
  drawAll(document).then(() => { document.documentElement.dataset.drawn = ""; });

  // A number where a cell begins with one, its text otherwise; empty cells stay last.
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim(), number = parseFloat(text.replaceAll(",", ""));
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : +(a > b)) : typeof a === "number" ? -1 : 1;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("thead button");
    if (!button) return;
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const sign = head.ariaSort === "ascending" ? -1 : 1;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [value(row, head.cellIndex), row]);
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
    body.append(...rows.map(([, row]) => row));
  });
})();
