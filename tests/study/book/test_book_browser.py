"""Every page of the published book in a browser: from the disk, on a desk and a phone, light and dark."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leakfree_study.figures.names import model_name

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "artifacts" / "chest_xray"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FOUND = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(FOUND is None, reason="no Chromium on this machine")]

STATE = """() => ({
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  titles: document.querySelectorAll("h1").length,
  broken: [...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.src),
  mute: [...document.images].filter((i) => !i.hasAttribute("alt")).map((i) => i.src),
  theme: document.documentElement.dataset.theme,
  height: document.querySelector("article")?.getBoundingClientRect().height ?? 0,
  // Tables that end outside the text and do not scroll, and cells that hide a part of what is in them.
  cut: [...document.querySelectorAll("article table")].filter((table) => {
    let box = table;
    while (box && !["auto", "scroll"].includes(getComputedStyle(box).overflowX)) box = box.parentElement;
    const edge = document.querySelector("article").getBoundingClientRect().right + 1;
    const hides = (cell) => cell.scrollWidth > cell.clientWidth + 1
      && ["hidden", "clip"].includes(getComputedStyle(cell).overflowX);
    return table.checkVisibility() && ((!box && table.getBoundingClientRect().right > edge)
      || [...table.querySelectorAll("td, th")].some(hides));
  }).map((table) => table.textContent.trim().slice(0, 40)),
})"""
#: Pixels that a page may be high on a desk, and pages that are longer, where one looks a name up.
HIGHEST = 6000
LONGER = ("api/", "genindex", "py-modindex")
# Text that is too pale: contrast below 4.5 (WCAG 2.2, AA) against the nearest background that is opaque.
PALE = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (rgb) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("article p, article td, article th, article figcaption, article li")]
    .filter((node) => node.textContent.trim() && node.checkVisibility())
    .map((node) => {
      const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim().slice(0, 40)];
    })
    .filter(([contrast]) => contrast < 4.5);
}"""
ON_PAPER = """() => ({
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  shown: [...document.querySelectorAll(
    ".bd-sidebar, .bd-header-article, .explore, .prev-next-footer, .headerlink, details.hide:not([open])",
  )].filter((node) => node.checkVisibility()).map((node) => node.className),
  titles: [...document.querySelectorAll("h1")].filter((node) => node.checkVisibility()).length,
})"""


@pytest.fixture(scope="module")
def browser():
    """Return a running Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser):
    """Return a function that opens a tab in which every trouble ends up in ``problems``."""
    contexts = []

    def open_tab(width: int = 1280, height: int = 900, theme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        contexts.append(context)
        # A pattern, which the browser knows: a function would be asked, here, about every file of a page.
        context.route(re.compile("^(?!file:)"), lambda route: outside(route))
        page = context.new_page()
        page.problems = []

        def outside(route):
            page.problems.append(f"asked for {route.request.url}")
            route.abort()

        page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("requestfailed", lambda request: page.problems.append(f"failed: {request.url}"))
        return page

    yield open_tab
    for context in contexts:
        context.close()


def every_page(html: Path) -> list[Path]:
    """Return all pages that a reader can open."""
    return [file for file in sorted(html.rglob("*.html")) if "_static" not in file.parts]


def test_trouble_on_a_page_is_seen(tab, tmp_path):
    (tmp_path / "bad.html").write_text(
        "<h1>a</h1><img src='http://127.0.0.1:9/x.png'><img alt='' src='gone.png'>"
        "<article><p style='color:#ccc'>pale</p></article><div style='width:5000px'>w</div>"
        "<article><table style='width:9000px'><tr><td>cut</td></tr></table><div style='overflow-x:auto'>"
        "<table style='width:9000px'><tr><td>scrolls</td></tr></table></div></article>"
        "<script>console.error('told'); nowhere();</script>"
    )
    page = tab()
    page.goto((tmp_path / "bad.html").as_uri())
    told = "\n".join(page.problems)
    assert "asked for http://127.0.0.1:9/x.png" in told and "told" in told and "nowhere" in told
    assert "failed: file://" in told
    state = page.evaluate(STATE)
    assert state["cut"] == ["cut"] and state["height"] > 10
    assert len(state["broken"]) == 2 and len(state["mute"]) == 1 and state["wide"] > 3000
    assert [text for _, text in page.evaluate(PALE)] == ["pale"]


@pytest.mark.parametrize(
    ("width", "height", "theme"), [(1280, 900, "light"), (390, 844, "dark")], ids=["desk", "phone"]
)
def test_every_page_is_sound(published_book, tab, width, height, theme):
    page = tab(width, height, theme)
    found = []
    for file in every_page(published_book.html):
        name = file.relative_to(published_book.html).as_posix()
        page.goto(file.as_uri())
        state = page.evaluate(STATE)
        # Without a choice of the reader, the page follows the system.
        found += [f"{name}: theme {state['theme']}"] if state["theme"] != theme else []
        found += [f"{name}: {problem}" for problem in page.problems]
        found += [f"{name}: {state['titles']} titles"] if state["titles"] != 1 else []
        found += [f"{name}: {state['wide']} px too wide"] if state["wide"] > 0 else []
        found += [f"{name}: {what}" for what in state["broken"] + state["mute"]]
        found += [f"{name}: cut table {what!r}" for what in state["cut"]]
        if width > 1000 and state["height"] > HIGHEST and not name.startswith(LONGER):
            found.append(f"{name}: {state['height']:.0f} px high")
        # The other theme, as the button of the page sets it.
        for shown in (theme, "dark" if theme == "light" else "light"):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", shown)
            found += [f"{name}, {shown}: pale text {text!r} ({c:.1f})" for c, text in page.evaluate(PALE)]
        page.problems.clear()
    assert found == []


def test_words_of_the_glossary_are_explained_in_notebooks(published_book, tab):
    page = tab()
    page.goto((published_book.html / "run" / "05_leakfree_deep.html").as_uri())
    links = page.locator("article a.term").evaluate_all("all => all.map((a) => [a.hash, a.title])")
    assert {"#term-ledger", "#term-cohort"} <= {target for target, _ in links}
    assert len(links) == len({target for target, _ in links}), "each word once a page"
    assert all(len(meaning) > 30 for _, meaning in links)
    assert "{term}" not in page.locator("article").inner_text()


LONG = """<table class="wide explorable" data-filters="task,model"><thead><tr><th>task</th><th>model</th>
<th>ROC AUC</th></tr></thead><tbody><tr><td>binary</td><td>b</td><td>9 (8)</td></tr>
<tr><td>binary</td><td>a</td><td>0.95 (0.1)</td></tr><tr><td>three-class</td><td>a</td><td>undefined</td></tr>
<tr><td>binary</td><td>c</td><td>1,042 (716)</td></tr></tbody></table>"""


def test_a_long_table_is_sorted_and_filtered(tab, tmp_path):
    shutil.copy(ROOT / "book" / "_static" / "explore_table.js", tmp_path)
    (tmp_path / "long.html").write_text(f"{LONG}<script src='explore_table.js'></script>")
    page = tab()
    page.goto((tmp_path / "long.html").as_uri())

    def column(number: int) -> list[str]:
        return page.locator(f"tbody tr:visible td:nth-child({number})").all_inner_texts()

    # Numbers by their size and not by their letters, largest first; what is no number comes last.
    page.get_by_role("button", name="ROC AUC").click()
    assert column(3) == ["1,042 (716)", "9 (8)", "0.95 (0.1)", "undefined"]
    page.get_by_role("button", name="ROC AUC").focus()
    page.keyboard.press("Enter")
    assert column(3) == ["0.95 (0.1)", "9 (8)", "1,042 (716)", "undefined"]
    assert page.locator("th[aria-sort]").all_inner_texts() == ["ROC AUC"]
    page.get_by_role("button", name="model").click()
    assert column(2) == ["a", "a", "b", "c"]
    page.get_by_label("task").select_option("binary")
    assert column(2) == ["a", "b", "c"]
    page.get_by_label("model").select_option("a")
    assert column(3) == ["0.95 (0.1)"] and "1 of 4 rows" in page.get_by_role("status").inner_text()
    assert page.problems == []


def test_search_finds_pages_from_the_disk(published_book, tab):
    page = tab()
    page.goto((published_book.html / "search.html").as_uri() + "?q=siblings")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() >= 1
    assert page.problems == []


def test_pages_print_without_what_is_for_the_screen(published_book, tab):
    # The width of A4 between its margins.
    page = tab(673, 900)
    page.emulate_media(media="print")
    for name in ("intro", "run/05_leakfree_deep", "run/06_inflation", "methods"):
        page.goto((published_book.html / f"{name}.html").as_uri())
        state = page.evaluate(ON_PAPER)
        assert state == {"wide": 0, "shown": [], "titles": 1}, name


def rows(**wanted: str) -> list[dict[str, str]]:
    """Return the rows of the published table that a drawing may show and that have these values."""
    with (RUN / "tables" / "inflation.csv").open(newline="") as file:
        return [
            row
            for row in csv.DictReader(file)
            if row["metric"] == "roc_auc"
            and row["primary"] == "True"
            and all(row[key] == value for key, value in wanted.items())
        ]


def told(row: dict[str, str]) -> list[str]:
    """Return model, estimate, interval and patients of a row as the page writes them."""
    estimate, low, high = (
        f"{float(row[name]):+.4f}".replace("-", "−") for name in ("estimate", "low", "high")
    )
    return [model_name(row["model"]), estimate, f"{low} to {high}", row["n_patients"]]


def shown(panel) -> list[list[str]]:
    """Return the same of every row of the table below a drawing."""
    lines = panel.locator(".explore-numbers tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return [line[2:6] for line in lines]


@pytest.fixture
def panels(published_book, tab):
    """Return the page with the figures that can be questioned, and both of them."""
    page = tab()
    page.goto((published_book.html / "run" / "06_inflation.html").as_uri())
    for summary in page.locator(".explore > details > summary").all():
        summary.click()
    page.wait_for_function("document.querySelector('.explore-card svg').getAttribute('width') > 300")
    yield page, page.locator('[data-explore="forest"]'), page.locator('[data-explore="dose"]')
    assert page.problems == []


def test_forest_shows_the_task_and_model_that_are_chosen(panels):
    page, forest, _ = panels
    assert page.locator('figure[data-figure="06_forest"] img').is_visible()
    for task in ("binary", "etiology"):
        forest.get_by_label("Task").select_option(task)
        wanted = rows(task=task, dose="1.000000")
        assert sorted(shown(forest)) == sorted(map(told, wanted))
        assert forest.locator(".explore-estimate").count() == len(wanted)
    before = forest.locator(".explore-card svg").first.inner_html()
    forest.get_by_label("Model").select_option("1-nn on embeddings")
    wanted = rows(task="etiology", dose="1.000000", model="1-nn on embeddings")
    assert sorted(shown(forest)) == sorted(map(told, wanted))
    assert forest.locator(".explore-card svg").first.inner_html() != before
    says = forest.locator(".explore-says").inner_text()
    assert (
        "Bacterial against viral pneumonia" in says
        and "nearest neighbour on embeddings" in says
        and f"{len(wanted)} estimates" in says
    )


def test_dose_shows_the_leak_that_is_chosen(panels):
    _, _, dose = panels
    for leak, title in (("siblings", "The same patient on both sides"), ("exact", "Exact copies")):
        dose.get_by_label("Leak").select_option(title)
        dose.get_by_label("Task").select_option("three-class")
        dose.get_by_label("Model").select_option("1-nn on pixels")
        wanted = rows(task="three-class", model="1-nn on pixels", protocol=leak)
        assert len(wanted) == 4
        assert sorted(shown(dose)) == sorted(map(told, wanted))


def test_a_model_that_the_task_lacks_gives_way_to_all(panels):
    _, forest, _ = panels
    forest.get_by_label("Task").select_option("etiology")
    forest.get_by_label("Model").select_option("resnet18")
    assert len(shown(forest)) == len(rows(task="etiology", dose="1.000000", model="resnet18")) > 0
    forest.get_by_label("Task").select_option("binary")
    assert forest.get_by_label("Model").input_value() == ""
    assert len(shown(forest)) == len(rows(task="binary", dose="1.000000"))


def test_keyboard_walks_through_the_estimates_and_reads_their_numbers(panels):
    page, forest, dose = panels
    # Both begin where leaks are worth something.
    assert [panel.get_by_label("Task").input_value() for panel in (forest, dose)] == ["etiology"] * 2
    forest.get_by_label("Task").select_option("binary")
    forest.get_by_label("Model").select_option("1-nn on pixels")
    forest.get_by_label("Model").focus()
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first.startswith("No separate test set")
    assert forest.locator(".explore-detail").inner_text() == first
    row = rows(task="binary", dose="1.000000", model="1-nn on pixels", protocol="no-test-set")[0]
    assert all(part in first for part in told(row))
    page.keyboard.press("ArrowDown")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert second.startswith("Scaling fitted on all images")
    page.keyboard.press("End")
    last = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert last.startswith("Score of folds that ignore patients")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == last


def test_colours_are_those_of_the_static_figures(panels):
    from leakfree_study.inflation import plots

    _, forest, _ = panels
    forest.get_by_label("Task").select_option("etiology")
    for model in ("1-nn on pixels", "xgboost on embeddings", "resnet18"):
        forest.get_by_label("Model").select_option(model)
        stroke = forest.locator(".explore-estimate line").first.get_attribute("stroke")
        assert stroke == plots.model_look(model)["color"]


def test_elsewhere_the_choice_is_a_line_that_opens(published_book, tab):
    page = tab()
    page.goto((published_book.html / "methods.html").as_uri())
    panel = page.locator('[data-explore="forest"]')
    assert panel.count() == 1 and not panel.get_by_label("Task").is_visible()
    panel.locator("summary").first.click()
    panel.get_by_label("Task").select_option("etiology")
    page.wait_for_function("document.querySelector('.explore-card svg').getAttribute('width') > 300")
    assert sorted(shown(panel)) == sorted(map(told, rows(task="etiology", dose="1.000000")))
    assert page.problems == []


def test_without_scripts_the_static_figures_stay(browser, published_book):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((published_book.html / "run" / "06_inflation.html").as_uri())
    assert page.locator('figure[data-figure="06_dose_response"] img').is_visible()
    assert not page.locator("[data-explore]").first.is_visible()
    context.close()


def test_print_makes_one_pdf_whose_links_lead_on_inside(published_book, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book")
    import print_pdf

    text = print_pdf.joined(published_book.html, ["intro", "run/results", "methods"])
    assert 'href="#run-results"' in text and 'id="run-results"' in text
    assert 'href="#methods--sealed-test"' in text and 'id="methods--sealed-test"' in text
    # Pages that are not printed, and files, are words.
    assert "limitations.html" not in text and "predictions/" not in text
    # In a process of its own, since a browser of this one is open.
    command = "import sys, print_pdf; from pathlib import Path; html, out, *pages = sys.argv[1:]; "
    command += "print_pdf.print_pdf(Path(html), Path(out), pages)"
    arguments = [str(published_book.html), str(tmp_path / "book.pdf"), "references", "cluster"]
    subprocess.run([sys.executable, "-c", command, *arguments], cwd=ROOT / "book", check=True)
    pdf = (tmp_path / "book.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"file://" not in pdf
    assert not list(published_book.html.glob(".print-*"))
    assert print_pdf.main([str(tmp_path), str(tmp_path / "none.pdf")]) == 2
    assert capsys.readouterr().err == "book: page intro was not built\n"
    assert not (tmp_path / "none.pdf").exists()
