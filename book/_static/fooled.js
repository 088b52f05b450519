/* "Would you have been fooled?": three games on one page. What they show stands in the page; nothing is fetched, and
 * nothing that a reader enters is sent: a link to share holds it behind its "#".
 */
"use strict";

(() => {
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function button(text, act, attributes = {}) {
    const made = element("button", { type: "button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  }

  let ids = 0;
  function field(text, control, ...after) {
    control.id = `fooled-${(ids += 1)}`;
    return element("div", { class: "fooled-field" }, element("label", { for: control.id }, text), control, ...after);
  }

  const said = () => element("p", { class: "fooled-says", role: "status" });
  const three = (x) => x.toFixed(3);
  const percent = (share) => `${Math.round(100 * share)} %`;
  const whole = (x) => Math.round(x).toLocaleString("en");
  const answer = (same) => (same ? "one child" : "two children");

  /* Two images: of one child, or of two? */
  function pairs(panel, asked) {
    let place = 0;
    let points = [0, 0];
    const [left, right] = ["First", "Second"].map((which) => element("img", { alt: `${which} drawn X-ray of the pair` }));
    const count = element("p", { class: "fooled-count" });
    const says = said();
    const same = button("One child", () => decide(true));
    const other = button("Two children", () => decide(false));
    const next = button("Next pair", () => { place += 1; show(); same.focus(); });
    const again = button("Play again", () => { place = 0; points = [0, 0]; show(); same.focus(); });

    function score() {
      const done = place + (same.disabled ? 1 : 0);
      count.textContent = `Pair ${place + 1} of ${asked.length}. ` +
        (done ? `Right so far: you ${points[0]} of ${done}, the machine ${points[1]} of ${done}.` : "");
    }

    function show() {
      [left.src, right.src] = asked[place].images;
      same.disabled = other.disabled = false;
      next.hidden = again.hidden = true;
      says.textContent = "";
      score();
    }

    function decide(yours) {
      const pair = asked[place];
      points = [points[0] + (yours === pair.same), points[1] + (pair.machine === pair.same)];
      same.disabled = other.disabled = true;
      says.textContent = `${yours === pair.same ? "Right" : "Wrong"}: it is ${answer(pair.same)}. ` +
        `The machine said ${answer(pair.machine)}.`;
      score();
      const last = place === asked.length - 1;
      (last ? again : next).hidden = false;
      (last ? again : next).focus();
    }

    panel.append(count, element("div", { class: "fooled-pair" }, left, right),
      element("div", { class: "fooled-buttons", role: "group", "aria-label": "Your answer" }, same, other, next, again),
      says);
    show();
  }

  /* A score that climbs with the leak, beside one that stays. */
  function leaks(panel, measured) {
    const choices = ["cohort", "task", "leak", "model"].map((name) => [name, element("select", { name })]);
    const slider = element("input", { type: "range", min: 0, step: 1 });
    const share = element("output", {});
    const bars = ["reported", "true"].map((name) => {
      const [fill, span, number] = [element("i"), element("b"), element("span", { class: "fooled-number" })];
      return { name, fill, span, number,
        row: element("div", { class: `fooled-bar fooled-${name}` }, element("span", {}, name),
          element("div", { class: "fooled-track", "aria-hidden": "true" }, fill, span), number) };
    });
    const says = said();
    const body = element("tbody");
    const heads = ["test patients that leak", "reported ROC AUC", "95 % interval", "true ROC AUC"];
    const table = element("details", {}, element("summary", {}, "Numbers drawn"),
      element("div", { class: "fooled-scroll", tabindex: 0, role: "region", "aria-label": "Numbers drawn" },
        element("table", {}, element("thead", {}, element("tr", {},
          ...heads.map((head) => element("th", { scope: "col" }, head)))), body)));
    let stops = [];
    let row = null;

    /* Offer what was measured with the choices above; keep a choice where it is still there. */
    function offer() {
      let left = measured;
      for (const [name, select] of choices) {
        const options = [...new Set(left.map((one) => one[name]))];
        const before = select.value;
        select.replaceChildren(...options.map((text) => element("option", {}, text)));
        if (options.includes(before)) select.value = before;
        left = left.filter((one) => one[name] === select.value);
      }
      [row] = left;
      const place = Number(slider.value);
      stops = [[0, ...row.true], ...row.doses];
      slider.max = stops.length - 1;
      slider.value = Math.min(place, stops.length - 1);
      const interval = ([, , low, high]) => (low === null ? "" : `${three(low)} to ${three(high)}`);
      body.replaceChildren(...stops.map((stop) => element("tr", {},
        ...[percent(stop[0]), three(stop[1]), interval(stop), three(row.true[0])].map((text) => element("td", {}, text)))));
      draw();
    }

    function draw() {
      const [dose, score] = stops[Number(slider.value)];
      const values = { reported: stops[Number(slider.value)].slice(1), true: row.true };
      // From a guess (0.5) to perfect (1).
      const at = (x) => 100 * Math.min(1, Math.max(0, (x - 0.5) / 0.5));
      for (const bar of bars) {
        const [value, low, high] = values[bar.name];
        bar.fill.style.width = `${at(value)}%`;
        bar.span.hidden = low === null;
        bar.span.style.left = `${at(low)}%`;
        bar.span.style.width = `${at(high) - at(low)}%`;
        bar.number.textContent = three(value);
      }
      share.textContent = percent(dose);
      slider.setAttribute("aria-valuetext", `${percent(dose)} of the test patients leak`);
      const gap = score - row.true[0];
      says.textContent = `${percent(dose)} of the ${whole(row.patients)} test patients leak: the report says ` +
        `${three(score)}, the truth is ${three(row.true[0])}` +
        (dose ? `, ${gap < 0 ? "−" : "+"}${three(Math.abs(gap))}.` : ".");
    }

    slider.addEventListener("input", draw);
    for (const [, select] of choices) select.addEventListener("change", offer);
    panel.append(element("div", { class: "fooled-fields" }, ...choices.map(([name, select]) =>
      field(name[0].toUpperCase() + name.slice(1), select))),
      field("Test patients that leak", slider, share),
      ...bars.map((bar) => bar.row),
      element("p", { class: "fooled-axis", "aria-hidden": "true" }, element("span", {}, "0.5: a guess"),
        element("span", {}, "1: perfect")),
      says, table);
    // The case that shows most is the first to be seen.
    const rise = (one) => one.doses.at(-1)[1] - one.true[0];
    const first = measured.filter((one) => one.cohort === measured[0].cohort)
      .reduce((best, one) => (rise(one) > rise(best) ? one : best));
    for (const [name, select] of choices) {
      select.append(element("option", {}, first[name]));
    }
    slider.value = 0;
    offer();
  }

  /* Numbers of images: some patients have the lower whole number, the others one more. */
  function alike(images, patients) {
    const size = Math.floor(images / patients);
    const more = images - size * patients;
    return [[size, patients - more], [size + 1, more]].filter(([, n]) => n > 0);
  }

  /* Patients on both sides of a random split of images, as leakfree.audit.checks.overlap.expected_overlap. */
  function expected(groups, test) {
    const n = groups.reduce((sum, [size, many]) => sum + size * many, 0);
    // All images of a patient fall on one side: a draw without putting back.
    const all = (size, side) => {
      let chance = 1;
      for (let i = 0; i < size; i += 1) chance *= Math.max(0, side - i) / (n - i);
      return chance;
    };
    let [shared, lonely] = [0, 0];
    for (const [size, many] of groups) {
      shared += many * (1 - all(size, test) - all(size, n - test));
      lonely += many * size * all(size, test);
    }
    return [shared, 1 - lonely / test];
  }

  /* How many patients of the reader's study stand on both sides. */
  function study(panel) {
    const inputs = Object.fromEntries([["patients", 500, 1], ["images", 1200, 2]].map(([name, value, min]) =>
      [name, element("input", { type: "number", name, min, max: 1e9, step: 1, value, inputmode: "numeric", required: "" })]));
    const test = element("input", { type: "range", name: "test", min: 1, max: 99, step: 1, value: 20 });
    const share = element("output", {});
    const each = element("p", { class: "fooled-each" });
    const says = said();
    const link = element("input", { type: "text", readonly: "", size: 30 });
    const copy = button("Copy the link", async () => {
      link.select();
      let copied = false;
      try {
        await navigator.clipboard.writeText(link.value);
        copied = true;
      } catch { // a page from the disk may have no clipboard
        copied = document.execCommand("copy");
      }
      copy.textContent = copied ? "Copied" : "Select it and copy it";
    });

    function draw() {
      const [patients, images] = [Number(inputs.patients.value), Number(inputs.images.value)];
      const portion = Number(test.value) / 100;
      share.textContent = percent(portion);
      test.setAttribute("aria-valuetext", `${percent(portion)} of the images`);
      copy.textContent = "Copy the link";
      link.value = `${location.href.split("#")[0]}#patients=${patients}&images=${images}&test=${test.value}`;
      each.textContent = "";
      const wrong = [patients, images].some((x) => !Number.isInteger(x) || x < 1 || x > 1e9);
      if (wrong || images < patients || images < 2) {
        says.textContent = wrong ? "Give whole numbers of patients and images." :
          "Every patient has an image, and a split needs two: give at least as many images as patients.";
        return;
      }
      each.textContent = `${(images / patients).toFixed(2)} images a patient`;
      const tested = Math.min(images - 1, Math.max(1, Math.round(portion * images)));
      const [shared, of] = expected(alike(images, patients), tested);
      says.textContent = `Split ${whole(images)} images at random, ${whole(tested)} of them for the test: expect ` +
        `${whole(shared)} of the ${whole(patients)} patients on both sides, and ${percent(of)} of the test images ` +
        "with their patient in training. A split of patients leaves none.";
    }

    const given = new URLSearchParams(location.hash.slice(1));
    for (const control of [inputs.patients, inputs.images, test]) {
      if (/^\d{1,9}$/.test(given.get(control.name) ?? "")) control.value = given.get(control.name);
      control.addEventListener("input", draw);
    }
    panel.append(element("div", { class: "fooled-fields" }, field("Patients", inputs.patients),
      field("Images", inputs.images, each)), field("Images in the test part", test, share), says,
      field("Link to these numbers", link, copy));
    draw();
    if (given.has("patients")) panel.scrollIntoView();
  }

  const GAMES = { pairs, leaks, study };
  function begin() {
    for (const panel of document.querySelectorAll("[data-fooled]")) {
      const data = JSON.parse(panel.querySelector("script").textContent);
      panel.replaceChildren();
      GAMES[panel.dataset.fooled](panel, data);
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
