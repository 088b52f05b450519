/* The figures of inflation that a reader can question: choose a task, a model and a leak.
 *
 * Data and colours stand in the page (element "explore-data"), so nothing is fetched. The static figure stays;
 * without this script, and on paper, it is all there is.
 */
"use strict";

// The script stands in the head of the page, before the data.
const questionFigures = () => {
  const SVG = "http://www.w3.org/2000/svg";
  const ALL = "";
  // Linear up to here and logarithmic beyond, as the static forest plot.
  const LINEAR = 0.03;
  const TICKS = [-0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1, 0.3];
  let panels = 0;

  const source = document.getElementById("explore-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const rows = data.rows.map((row) => Object.fromEntries(data.columns.map((name, i) => [name, row[i]])));
  const modelOf = new Map(data.models.map((model, i) => [model.name, { ...model, order: i }]));
  const leakOf = new Map(data.leaks.map((leak) => [leak.name, leak]));

  /* Numbers with the sign of mathematics, as long as the interesting differences need. */
  const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(4);
  const percent = (dose) => `${Math.round(dose * 100)} %`;
  const interval = (row) => `${signed(row.low)} to ${signed(row.high)}`;

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function drawn(name, attributes = {}, ...children) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const symlog = (x) => {
    const size = Math.abs(x);
    return Math.sign(x) * (size <= LINEAR ? size / LINEAR : 1 + Math.log10(size / LINEAR));
  };

  /* A scale from values, through a bend, to pixels. */
  function scale(low, high, from, to, bend = (x) => x) {
    const [a, b] = [bend(low), bend(high)];
    return (x) => from + ((bend(x) - a) / (b - a)) * (to - from);
  }

  function mark(model, x, y) {
    const look = { fill: model.fill, stroke: model.colour, "stroke-width": 1.5, class: "explore-mark" };
    const r = 4.5;
    if (model.mark === "circle") return drawn("circle", { cx: x, cy: y, r, ...look });
    if (model.mark === "square") return drawn("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...look });
    const d = 1.25 * r;
    return drawn("path", { d: `M${x} ${y - d}L${x + d} ${y}L${x} ${y + d}L${x - d} ${y}Z`, ...look });
  }

  function label(text, x, y, attributes = {}) {
    return drawn("text", { x, y, "font-size": 12, fill: "#222222", ...attributes }, text);
  }

  const pen = document.createElement("canvas").getContext("2d");

  /* Width of a label in pixels. */
  function widthOf(text) {
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    return Math.ceil(pen.measureText(text).width);
  }

  const told = (row) =>
    `${leakOf.get(row.protocol).title}, dose ${percent(row.dose)}, ${modelOf.get(row.model).title}: ${signed(row.estimate)}, ` +
    `95 % interval ${interval(row)}, ${row.n_patients} patients (${row.n_by_class} by class)` +
    (row.verdict ? `; ${row.verdict}` : "");

  /* One estimate: interval and mark together, which the keyboard and the pointer reach as one thing. */
  function estimate(row, line, x, y) {
    return drawn(
      "g",
      { class: "explore-estimate", role: "img", tabindex: -1, "aria-label": told(row) },
      drawn("line", { ...line, stroke: modelOf.get(row.model).colour, "stroke-width": 1.6 }),
      // Wider than what is seen, so that a finger meets it.
      drawn("circle", { cx: x, cy: y, r: 11, fill: "transparent" }),
      mark(modelOf.get(row.model), x, y),
    );
  }

  function byOrder(a, b) {
    return modelOf.get(a.model).order - modelOf.get(b.model).order;
  }

  /* Every leak at its full dose, one below the other. */
  function forest(chosen, width) {
    const leaks = data.leaks.filter((leak) => chosen.some((row) => row.protocol === leak.name));
    const narrow = width < 560;
    const named = (leak) => leak.title + (leak.taxonomy ? ` (${leak.taxonomy})` : "");
    const left = narrow ? 8 : 16 + Math.max(...leaks.map((leak) => widthOf(named(leak))));
    const right = width - 14;
    // A leak is as high as its marks, and on a phone its name stands above them.
    const above = narrow ? 24 : 4;
    const rowsOf = leaks.map((leak) => chosen.filter((row) => row.protocol === leak.name).sort(byOrder));
    const tops = [0];
    for (const here of rowsOf) tops.push(tops.at(-1) + above + 13 * Math.max(2, here.length) + 6);
    const bottom = tops.at(-1) + 6;
    const low = Math.min(-0.02, ...chosen.map((row) => row.low)) * 1.1;
    const high = Math.max(0.05, ...chosen.map((row) => row.high)) * 1.1;
    const x = scale(low, high, left, right, symlog);
    const picture = [
      drawn("rect", { x: x(-data.margin), y: 0, width: x(data.margin) - x(-data.margin), height: bottom,
        fill: "#dddddd", class: "explore-margin" }),
    ];
    for (const tick of TICKS.filter((t) => t >= low && t <= high)) {
      picture.push(drawn("line", { x1: x(tick), x2: x(tick), y1: 0, y2: bottom,
        stroke: tick === 0 ? "#555555" : "#e4e4e4" }));
      // On a phone there is room for every other one.
      if (!narrow || Math.abs(tick) !== 0.01) {
        picture.push(label(String(tick).replace("-", "−"), x(tick), bottom + 16,
          { "text-anchor": "middle", "font-size": 11 }));
      }
    }
    picture.push(label("Leaky minus clean ROC AUC", (left + right) / 2, bottom + 34, { "text-anchor": "middle" }));
    const marks = [];
    leaks.forEach((leak, place) => {
      const [top, next, here] = [tops[place], tops[place + 1], rowsOf[place]];
      if (place) picture.push(drawn("line", { x1: 0, x2: width, y1: top, y2: top, stroke: "#eeeeee" }));
      picture.push(narrow ? label(named(leak), left, top + 15)
        : label(named(leak), left - 10, (top + next) / 2 + 4, { "text-anchor": "end" }));
      here.forEach((row, number) => {
        const y = top + above + ((next - top - above) * (number + 0.5)) / here.length;
        marks.push(estimate(row, { x1: x(row.low), x2: x(row.high), y1: y, y2: y }, x(row.estimate), y));
      });
    });
    return { picture, marks, height: bottom + 42 };
  }

  /* One leak by the share of test patients that it reaches. */
  function dose(chosen, width) {
    const [left, right, top, bottom] = [58, width - 14, 10, 300];
    const low = Math.min(-2 * data.margin, ...chosen.map((row) => row.low));
    const high = Math.max(2 * data.margin, ...chosen.map((row) => row.high));
    const x = scale(-3, 105, left, right);
    const y = scale(low - 0.05 * (high - low), high + 0.05 * (high - low), bottom, top);
    const picture = [
      drawn("rect", { x: left, y: y(data.margin), width: right - left, height: y(-data.margin) - y(data.margin),
        fill: "#dddddd", class: "explore-margin" }),
    ];
    const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2].find((size) => (high - low) / size <= 8) || 0.5;
    for (let n = Math.ceil(low / step); n * step <= high; n += 1) {
      const tick = n * step;
      picture.push(drawn("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), stroke: n ? "#e4e4e4" : "#555555" }));
      picture.push(label(String(Number(tick.toFixed(3))).replace("-", "−"), left - 6, y(tick) + 4,
        { "text-anchor": "end", "font-size": 11 }));
    }
    for (const tick of [0, 25, 50, 75, 100]) {
      picture.push(label(String(tick), x(tick), bottom + 16, { "text-anchor": "middle", "font-size": 11 }));
    }
    picture.push(label("Test patients reached by the leak (%)", (left + right) / 2, bottom + 34,
      { "text-anchor": "middle" }));
    const middle = (top + bottom) / 2;
    picture.push(label("Leaky minus clean ROC AUC", 13, middle,
      { "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }));
    const models = [...new Set(chosen.map((row) => row.model))];
    const marks = [];
    models.forEach((name, number) => {
      const of = chosen.filter((row) => row.model === name).sort((a, b) => a.dose - b.dose);
      // Moved a little to the side, so that intervals do not hide each other.
      const aside = 1.5 * (number - (models.length - 1) / 2);
      const points = of.map((row) => [x(100 * row.dose + aside), y(row.estimate)]);
      picture.push(drawn("polyline", { points: [[x(0), y(0)], ...points].map((p) => p.join(",")).join(" "),
        fill: "none", stroke: modelOf.get(name).colour, "stroke-width": 1.4 }));
      of.forEach((row, i) => {
        const [cx, cy] = points[i];
        marks.push(estimate(row, { x1: cx, x2: cx, y1: y(row.low), y2: y(row.high) }, cx, cy));
      });
    });
    return { picture, marks, height: bottom + 42 };
  }

  const KINDS = {
    forest: { draw: forest, title: "Choose what the forest shows", rows: rows.filter((row) => row.dose === 1) },
    dose: { draw: dose, title: "Choose a leak and see its dose", leaks: data.leaks.filter((leak) => leak.doses),
      rows: rows.filter((row) => leakOf.get(row.protocol).doses) },
  };

  function choice(panel, name, text) {
    const id = `explore-${panel}-${name}`;
    const select = element("select", { id, name });
    return { select, field: element("div", { class: "explore-field" }, element("label", { for: id }, text), select) };
  }

  function fill(select, options) {
    const before = select.value;
    select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
    select.value = options.some(([value]) => value === before) ? before : options[0][0];
  }

  function numbers(chosen) {
    const heads = ["leak", "dose", "model", "inflation", "95 % interval", "patients", "verdict"];
    const order = (row) => data.leaks.findIndex((leak) => leak.name === row.protocol);
    const sorted = [...chosen].sort((a, b) => order(a) - order(b) || byOrder(a, b) || a.dose - b.dose);
    return element("table", { class: "explore-numbers" },
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...sorted.map((row) => element("tr", {},
        ...[leakOf.get(row.protocol).title, percent(row.dose), modelOf.get(row.model).title, signed(row.estimate), interval(row),
          String(row.n_patients), row.verdict || ""].map((text) => element("td", {}, text))))));
  }

  function legend(chosen) {
    const names = [...new Set(chosen.map((row) => row.model))].sort(
      (a, b) => modelOf.get(a).order - modelOf.get(b).order);
    return names.map((name) => {
      const sign = drawn("svg", { width: 16, height: 14, viewBox: "0 0 16 14", "aria-hidden": "true" },
        mark(modelOf.get(name), 8, 7));
      return element("li", {}, sign, modelOf.get(name).title);
    });
  }

  function start(panel) {
    const number = (panels += 1);
    const kind = KINDS[panel.dataset.explore];
    const task = choice(number, "task", "Task");
    const model = choice(number, "model", "Model");
    const leak = choice(number, "leak", "Leak");
    const says = element("p", { class: "explore-says", role: "status" });
    const detail = element("p", { class: "explore-detail" });
    const keys = element("ul", { class: "explore-legend" });
    const picture = drawn("svg", { role: "group", "aria-describedby": `explore-${number}-says` });
    says.id = `explore-${number}-says`;
    const table = element("div", { class: "explore-scroll", tabindex: 0, role: "region", "aria-label": "Numbers drawn" });
    panel.replaceChildren(element("details", {},
      element("summary", { class: "explore-title" }, kind.title),
      element("div", { class: "explore-controls" }, task.field, model.field, ...(kind.leaks ? [leak.field] : [])),
      says, element("div", { class: "explore-card" }, picture, keys), detail,
      element("details", {}, element("summary", {}, "Numbers drawn"), table)));
    fill(task.select, data.tasks.map((name) => [name, data.task_titles[name] || name]));
    if (kind.leaks) {
      fill(leak.select, kind.leaks.map((one) => [one.name, one.title]));
      // The question of the study.
      if (kind.leaks.some((one) => one.name === "siblings")) leak.select.value = "siblings";
    }

    let width = 0;
    const hint = "Point at a mark, or reach it with Tab and the arrow keys, for its numbers.";

    function draw() {
      const possible = kind.rows.filter(
        (row) => row.task === task.select.value && (!kind.leaks || row.protocol === leak.select.value));
      const models = data.models.filter((one) => possible.some((row) => row.model === one.name));
      fill(model.select, [[ALL, "all models"], ...models.map((one) => [one.name, one.title])]);
      const chosen = possible.filter((row) => model.select.value === ALL || row.model === model.select.value);
      const made = kind.draw(chosen, width);
      picture.setAttribute("viewBox", `0 0 ${width} ${made.height}`);
      picture.setAttribute("width", width);
      picture.setAttribute("height", made.height);
      const what = kind.leaks ? leakOf.get(leak.select.value).title : "every leak at its full dose";
      picture.setAttribute("aria-label", `Inflation of ROC AUC: ${what}`);
      picture.replaceChildren(...made.picture, ...made.marks);
      says.textContent = `Drawn: ${what}; ${task.select.selectedOptions[0].text}; ${model.select.selectedOptions[0].text}; ` +
        `${made.marks.length} estimates with 95 % intervals over patients. Grey: within ${data.margin}, called none.`;
      detail.textContent = hint;
      keys.replaceChildren(...legend(chosen));
      table.replaceChildren(numbers(chosen));
      if (made.marks.length) made.marks[0].setAttribute("tabindex", 0);
      made.marks.forEach((one, place) => {
        const tell = () => { detail.textContent = one.getAttribute("aria-label"); };
        one.addEventListener("pointerenter", tell);
        one.addEventListener("click", () => one.focus());
        one.addEventListener("focus", () => {
          for (const other of made.marks) other.setAttribute("tabindex", other === one ? 0 : -1);
          tell();
        });
        one.addEventListener("keydown", (event) => {
          const last = made.marks.length - 1;
          const next = { ArrowDown: place + 1, ArrowRight: place + 1, ArrowUp: place - 1, ArrowLeft: place - 1,
            Home: 0, End: last }[event.key];
          if (next === undefined) return;
          event.preventDefault();
          made.marks[Math.min(last, Math.max(0, next))].focus();
        });
      });
    }

    for (const one of [task, model, leak]) one.select.addEventListener("change", draw);
    panel.hidden = false;
    const card = panel.querySelector(".explore-card");
    const fit = () => {
      const style = getComputedStyle(card);
      const room = Math.floor(card.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
      if (room > 0 && room !== width) {
        width = room;
        draw();
      }
    };
    new ResizeObserver(fit).observe(card);
    fit();
  }

  document.querySelectorAll("[data-explore]").forEach(start);
};

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", questionFigures);
else questionFigures();
