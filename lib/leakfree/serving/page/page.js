"use strict";

// What the service takes (leakfree.data.intake.Limits): a larger file would be sent for nothing.
const MOST_BYTES = 24_000_000;
const CHOOSE = "Choose one chest X-ray, as JPEG or PNG.";

const at = (id) => document.getElementById(id);

/** Why there is no answer, and what to do next. */
class Problem extends Error {
  constructor(message, next, again = false) {
    super(message);
    this.next = next;
    this.again = again;
  }
}

// The newest upload. An answer to any other comes too late and is dropped.
let newest = new AbortController();
let filmUrl = null;

/** Forget the upload before this one, whatever became of it. */
function begin() {
  newest.abort();
  newest = new AbortController();
  if (filmUrl) URL.revokeObjectURL(filmUrl);
  filmUrl = null;
  at("film").removeAttribute("src");
  at("overlay").removeAttribute("src");
  at("alert").replaceChildren();
  at("status").textContent = "";
  for (const id of ["said", "source", "figure", "fade", "overlay", "explained", "unseen"]) at(id).hidden = true;
  return newest.signal;
}

function state(name) {
  at("main").dataset.state = name;
}

/** Take what was chosen, dropped or pasted. */
function take(files, ifNone) {
  if (files.length === 1) return look(files[0]);
  begin();
  if (files.length === 0) return complain(new Problem(ifNone, CHOOSE));
  return complain(new Problem(`${files.length} files at once.`, "It takes one image at a time: choose one of them."));
}

async function look(file) {
  const signal = begin();
  try {
    if (file.size > MOST_BYTES) {
      const size = `${(file.size / 1e6).toFixed(1)} MB, over the limit of ${MOST_BYTES / 1e6} MB`;
      throw new Problem(`${file.name} has ${size}.`, "Save the image as JPEG, or make it smaller.");
    }
    state("waiting");
    at("status").textContent = `Looking at ${file.name} …`;
    showFilm(file);
    const answer = await ask(file, signal);
    if (!signal.aborted) show(answer, file);
  } catch (error) {
    if (!signal.aborted) complain(error, file);
  }
}

async function ask(file, signal) {
  let data;
  try {
    data = await file.arrayBuffer();
  } catch {
    throw new Problem(`${file.name} cannot be read.`, "If it is a folder, choose one image in it.");
  }
  const form = new FormData();
  form.append("image", new Blob([data]), "film"); // a file's name can be a patient's
  form.append("overlay", "true");
  let response;
  try {
    response = await fetch("predict", { method: "POST", body: form, signal });
  } catch {
    throw new Problem("The service does not answer.", "See that it runs and that you are connected.", true);
  }
  const said = await response.json().catch(() => null);
  if (response.ok && said) return said;
  throw refusal(response.status, said, file.name);
}

function refusal(status, said, name) {
  // The service names the field of the form; people know the file.
  const line = said?.error
    ? `${said.error.replace(/^image(?=: )/, name)}.`
    : `The service answered with status ${status} and gave no reason.`;
  if (status === 429) return new Problem(line, "Many images are waiting. Try again in a moment.", true);
  if (status === 408) return new Problem(line, "The connection may be slow.", true);
  if (status === 413) return new Problem(line, "Save the image as JPEG, or make it smaller.");
  if (status >= 400 && status < 500) return new Problem(line, CHOOSE);
  const where = said?.request_id ? ` The log has it under ${said.request_id}.` : "";
  return new Problem(line, `The image is not to blame.${where}`, true);
}

function complain(problem, file) {
  at("figure").hidden = true;
  at("film").removeAttribute("src"); // or it would appear once it is decoded
  at("status").textContent = "";
  state("failed");
  const known = problem instanceof Problem;
  if (!known) console.error(problem);
  const box = element("div", "box");
  box.append(element("strong", "", known ? problem.message : "The page could not show the answer."));
  box.append(element("span", "", known ? problem.next : "Reload it, then try again."));
  if (problem.again) {
    const again = element("button", "", "Try again");
    again.type = "button";
    again.addEventListener("click", () => {
      at("choose").focus(); // this button goes
      look(file);
    });
    box.append(again);
  }
  at("alert").replaceChildren(box);
  bringIntoView(at("alert"));
}

function showFilm(file) {
  const film = at("film");
  filmUrl = URL.createObjectURL(file);
  film.hidden = false;
  film.onload = () => {
    shape(film);
    at("figure").hidden = false;
  };
  // Browsers do not show every format that the service reads: then its drawing stands alone.
  film.onerror = () => {
    film.hidden = true;
    if (!at("overlay").hidden) showUnseen();
  };
  film.src = filmUrl;
}

function showUnseen() {
  fade(100);
  at("fade").hidden = true;
  at("unseen").hidden = false;
  at("figure").hidden = false;
}

function shape(image) {
  at("stage").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
}

function fade(percent) {
  at("strength").value = percent;
  at("overlay").style.opacity = percent / 100;
  const text = { 0: "image only", 100: "overlay only" }[percent] ?? `overlay at ${percent} %`;
  at("strength").setAttribute("aria-valuetext", text);
}

function show(answer, file) {
  const learned = ["this image", "a copy"].includes(answer.in_training_set);
  const doubted = learned || (answer.novelty !== null && answer.novelty > 1);
  at("warnings").replaceChildren(...answer.warnings.map((warning) => element("li", "box", warning)));
  const why = learned ? "Learned from this very image: it proves nothing" : "Most probable class, not to be believed";
  at("lead").textContent = doubted ? why : "Most probable class";
  at("diagnosis").textContent = answer.diagnosis;
  at("said").classList.toggle("doubted", doubted);
  at("bars").replaceChildren(...Object.entries(answer.probabilities).map((pair) => bar(...pair)));
  const [set, coverage] = ruledOut(answer);
  at("set").textContent = set;
  at("coverage").textContent = coverage;
  at("facts").replaceChildren(...facts(answer, file).flatMap(([name, value, full]) => {
    const said = element("dd", "", value);
    if (full) said.title = full;
    return [element("dt", "", name), said];
  }));
  if (answer.overlay) showOverlay(answer);
  at("said").hidden = false;
  at("source").hidden = false;
  state("answered");
  at("status").textContent =
    [`${answer.diagnosis}, ${percent(answer.confidence)}.`, ...answer.warnings].join(" ");
  bringIntoView(at("answer"));
}

function showOverlay(answer) {
  const [film, overlay] = [at("film"), at("overlay")];
  overlay.onload = () => film.hidden && shape(overlay);
  overlay.src = answer.overlay;
  overlay.hidden = false;
  at("explained").textContent =
    `Orange marks what raised the score of ${answer.diagnosis} (Grad-CAM): ` +
    "it is no outline of a disease, and a marked lung does not show that the lung was read.";
  at("explained").hidden = false;
  at("fade").hidden = false;
  fade(100);
  if (film.hidden) showUnseen();
}

function bar(name, probability) {
  const item = element("li");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, share] of [["whole", 1], ["share", probability]]) {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("class", kind);
    rect.setAttribute("width", `${100 * share}%`);
    rect.setAttribute("height", "100%");
    svg.append(rect);
  }
  item.append(element("span", "name", name), svg, element("span", "number", percent(probability)));
  return item;
}

/** Say the prediction set in one sentence, and what its promise is worth in another. */
function ruledOut({ prediction_set: set, coverage, probabilities }) {
  if (set === null) return ["This model has no prediction sets.", ""];
  const classes = Object.keys(probabilities).length;
  const before = coverage === null ? "" : `At ${Math.round(100 * coverage)} % coverage `;
  let rest = `${list(set)} cannot be ruled out.`;
  if (set.length === 0) rest = "no class fits.";
  else if (set.length === 1) rest = `only ${set[0]} remains.`;
  else if (set.length === classes) rest = `${classes === 2 ? "neither" : "no"} class can be ruled out.`;
  const sentence = before + rest;
  const promise =
    "Coverage is the share of patients whose class is among those that remain. It was set on patients of the study, " +
    "and promises nothing for others.";
  return [sentence[0].toUpperCase() + sentence.slice(1), coverage === null ? "" : promise];
}

function facts({ novelty, in_training_set: trained, model, request_id: request }, file) {
  const unlike = novelty === null ? "not measured by this model" : `${novelty.toFixed(2)} (limit 1)`;
  return [
    ["File", file.name],
    ["Novelty", unlike],
    ["Trained on it", { "this image": "yes", "a copy": "yes, on a copy of it" }[trained] ?? trained ?? "nobody knows"],
    ["Model", model.name],
    ["Weights", model.weights_sha256.slice(0, 12), model.weights_sha256],
    ["Files checked by", model.files_checked === "no" ? "nothing" : model.files_checked],
    ["Preprocessing", model.preprocessing],
    ["Precision", model.precision],
    ["Request", request],
  ];
}

/** Never "100.0 %": the network is never certain. */
function percent(probability) {
  if (probability > 0.9995) return "> 99.9 %";
  if (probability < 0.0005) return "< 0.1 %";
  return `${(100 * probability).toFixed(1)} %`;
}

function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

// Text only: names of files and lines of the service are never markup.
function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

function bringIntoView(shown) {
  const { top } = shown.getBoundingClientRect();
  if (top < 0 || top > 0.7 * innerHeight) shown.scrollIntoView({ block: "start" });
}

at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = ""; // the same file can be chosen again
  if (files.length) take(files);
});

for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    const name = button.dataset.example;
    try {
      const data = await (await fetch(`static/examples/${name}`)).blob();
      look(new File([data], name, { type: data.type }));
    } catch {
      complain(new Problem("The service does not answer.", "See that it runs and that you are connected."));
    }
  });
}

// The whole page is the target: an image dropped beside the button must not replace the page.
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take([...event.dataTransfer.files], "What was dropped is no file.");
});
addEventListener("paste", (event) => {
  take([...event.clipboardData.files], "The clipboard holds no picture.");
});

at("strength").addEventListener("input", (event) => fade(Number(event.target.value)));
at("bare").addEventListener("click", () => fade(0));
at("full").addEventListener("click", () => fade(100));
