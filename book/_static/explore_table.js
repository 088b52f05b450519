/* Long tables that the reader sorts by any column and filters by some (class "explorable").
 *
 * Everything is in the page. Without this script, and on paper, it is a plain table.
 */
"use strict";

(() => {
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const text = (row, column) => row.cells[column].textContent.trim();

  /* The number that a cell begins with, or null: "0.975 (0.962–0.984)", "1,042 (716)". */
  function number(value) {
    const found = value.replace("−", "-").match(/^[+-]?[\d,]*\.?\d+/);
    return found ? Number(found[0].replaceAll(",", "")) : null;
  }

  /* Numbers by size, words by letter; what is no number among numbers comes last either way. */
  function compare(a, b, sign = 1) {
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null) return sign * (x - y);
    return (x === null) - (y === null) || sign * a.localeCompare(b);
  }

  let tables = 0;

  function start(table) {
    const place = (tables += 1);
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const names = heads.map((head) => head.textContent.trim());
    const status = element("span", { role: "status" });

    const choices = table.dataset.filters.split(",").map((name) => names.indexOf(name)).filter((column) => column >= 0)
      .map((column) => {
        const id = `explorable-${place}-${column}`;
        const select = element("select", { id });
        select.append(element("option", { value: "" }, "all"));
        for (const value of [...new Set(rows.map((row) => text(row, column)))].sort((a, b) => compare(a, b))) {
          select.append(element("option", { value }, value));
        }
        select.addEventListener("change", show);
        return { column, select, field: element("div", { class: "explore-field" },
          element("label", { for: id }, names[column]), select) };
      });

    function show() {
      const chosen = choices.filter(({ select }) => select.value !== "");
      let shown = 0;
      for (const row of rows) {
        row.hidden = !chosen.every(({ column, select }) => text(row, column) === select.value);
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = `${shown} of ${rows.length} rows`;
    }

    heads.forEach((head, column) => {
      const button = element("button", { type: "button", title: `Sort by ${names[column]}` }, names[column]);
      button.addEventListener("click", () => {
        // Scores: the largest first. A second click turns the order.
        const first = rows.some((row) => number(text(row, column)) !== null) ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        for (const one of heads) one.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        body.append(...[...rows].sort((a, b) => compare(text(a, column), text(b, column), sign)));
      });
      head.replaceChildren(button);
    });

    const scroll = element("div", { class: "explorable-scroll", tabindex: 0, role: "region", "aria-label": "Table" });
    table.before(element("div", { class: "explorable-controls" },
      ...choices.map(({ field }) => field), status), scroll);
    scroll.append(table);
    show();
  }

  const begin = () => document.querySelectorAll("table.explorable").forEach(start);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
