"""The games of "Would you have been fooled?": what they show is what was drawn and what the tables say."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred

with deferred:
    from leakfree.audit.checks.overlap import expected_overlap
    from leakfree_study.book import fooled

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "artifacts" / "chest_xray"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FOUND = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def asked():
    return fooled.pairs()


@pytest.fixture(scope="module")
def measured():
    return fooled.leaks(RUN)


def table(name):
    with (RUN / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_half_of_the_pairs_are_of_one_patient_and_no_picture_comes_twice(asked):
    assert len(asked) == fooled.PAIRS and sum(pair["same"] for pair in asked) == fooled.PAIRS / 2
    pictures = [picture for pair in asked for picture in pair["images"]]
    assert len(set(pictures)) == 2 * fooled.PAIRS
    for picture in pictures:
        data = base64.b64decode(picture.removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (fooled.SIDE, fooled.SIDE) and np.asarray(image).std() > 20
    assert sum(map(len, pictures)) < 150_000, "they travel with the page"
    assert asked == fooled.pairs(), "the same in every build"


def test_the_machine_is_no_oracle_and_no_coin_that_is_always_wrong(asked):
    right = sum(pair["machine"] == pair["same"] for pair in asked)
    assert fooled.PAIRS / 2 < right < fooled.PAIRS
    assert len({pair["machine"] for pair in asked}) == 2


def test_scores_are_those_of_the_tables(measured):
    of_leak = {
        (fooled.TASKS[row["task"]], row["model"], float(row["dose"]), row["protocol"]): row
        for row in table("inflation")
        if row["metric"] == "roc_auc" and row["primary"] == "True"
    }
    scores = {row["predictions"]: row for row in table("inflation_arms") if row["metric"] == "roc_auc"}
    protocols = {
        "Exact copies": "exact",
        "Near-duplicates": "near",
        "The same patient on both sides": "siblings",
    }
    shown = [one for one in measured if one["cohort"] == "chest X-rays of children"]
    assert len(shown) == 36, "three leaks, three tasks, four models"
    for one in shown:
        assert [dose for dose, *_ in one["doses"]] == [0.25, 0.5, 0.75, 1]
        for dose, *reported in one["doses"]:
            row = of_leak[one["task"], one["model"], dose, protocols[one["leak"]]]
            for values, predictions in ((reported, "predictions"), (one["true"], "clean_predictions")):
                of_table = scores[row[predictions]]
                assert values == [float(of_table[name]) for name in ("estimate", "low", "high")]
            assert one["patients"] == int(row["n_patients"])


def test_drawn_patients_are_those_of_the_control(measured):
    control = table("06_control")
    drawn = [one for one in measured if one["cohort"].startswith("drawn patients")]
    assert sum(len(one["doses"]) for one in drawn) == len(control)
    for row in control:
        cohort = f"drawn patients, likeness {float(row['identity']):g}, disease {float(row['disease']):g}"
        (one,) = [one for one in drawn if (one["cohort"], one["model"]) == (cohort, row["model"])]
        (dose,) = [dose for dose in one["doses"] if dose[0] == float(row["dose"])]
        assert one["true"][0] == float(row["clean_auc"])
        assert dose[1] == pytest.approx(float(row["clean_auc"]) + float(row["estimate"]), abs=1e-6)


def test_tables_that_contradict_each_other_stop_the_book(tmp_path):
    (tmp_path / "tables").mkdir()
    assert fooled.leaks(tmp_path) == [] and "nothing to slide" in fooled.section("leaks", tmp_path)
    inflation, arms = (pd.read_csv(RUN / "tables" / name) for name in fooled.TABLES)
    inflation.to_csv(tmp_path / "tables" / fooled.TABLES[0], index=False)
    arms.to_csv(tmp_path / "tables" / fooled.TABLES[1], index=False)
    assert len(fooled.leaks(tmp_path)) == 36, "without a control there are no drawn patients"
    wrong = inflation.assign(estimate=inflation["estimate"] + 0.001)
    wrong.to_csv(tmp_path / "tables" / fooled.TABLES[0], index=False)
    with pytest.raises(ValueError, match="do not agree on predictions/06/"):
        fooled.leaks(tmp_path)
    inflation.to_csv(tmp_path / "tables" / fooled.TABLES[0], index=False)
    arms[arms["arm"] != "exact-50"].to_csv(tmp_path / "tables" / fooled.TABLES[1], index=False)
    with pytest.raises(ValueError, match=r"has no row of predictions/06/.*exact-50"):
        fooled.leaks(tmp_path)


# In a browser


@pytest.fixture(scope="module")
def browser():
    if FOUND is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The games alone, with the book's script and style: the book itself takes a minute to build."""
    folder = tmp_path_factory.mktemp("fooled")
    for name in ("fooled.js", "book.css"):
        shutil.copyfile(ROOT / "book" / "_static" / name, folder / name)
    games = "".join(fooled.section(name, RUN) for name in ("pairs", "leaks", "study"))
    (folder / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="book.css"><script src="fooled.js"></script>'
        f'<article class="bd-article">{games}</article>',
        encoding="utf-8",
    )
    return folder / "page.html"


@pytest.fixture
def open_page(browser, page_file):
    contexts, problems = [], []

    def opened(after="", **options):
        context = browser.new_context(**options)
        context.route(
            lambda url: not url.startswith("file://"), lambda route: problems.append(route.request.url)
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(page_file.as_uri() + after)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def game(page, name):
    return page.locator(f'[data-fooled="{name}"]')


def test_pairs_are_played_with_the_keyboard_alone(open_page, asked):
    page = open_page()
    panel = game(page, "pairs")
    page.keyboard.press("Tab")
    yours = machines = 0
    for number, pair in enumerate(asked, start=1):
        assert (
            panel.locator("img").evaluate_all("images => images.map((image) => image.src)") == pair["images"]
        )
        # "One child" has the focus; the other one is a step further. Every third time the answer is wrong.
        answer = pair["same"] if number % 3 else not pair["same"]
        if not answer:
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        yours, machines = yours + (answer == pair["same"]), machines + (pair["machine"] == pair["same"])
        said = panel.locator(".fooled-says").inner_text()
        assert said.startswith("Right" if answer == pair["same"] else "Wrong")
        truth, machine = ("one child" if same else "two children" for same in (pair["same"], pair["machine"]))
        assert said.endswith(f"it is {truth}. The machine said {machine}.")
        count = panel.locator(".fooled-count").inner_text()
        assert count.endswith(f"you {yours} of {number}, the machine {machines} of {number}.")
        page.keyboard.press("Enter")  # the next pair, or the game again
    assert panel.locator(".fooled-count").inner_text() == f"Pair 1 of {len(asked)}."


def test_the_slider_shows_the_measured_scores_and_the_true_one_stays(open_page, measured):
    page = open_page()
    panel = game(page, "leaks")
    slider, numbers = panel.locator("input[type=range]"), panel.locator(".fooled-number")
    first = {name: panel.locator(f"select[name={name}]").input_value() for name in ("task", "leak", "model")}
    assert first == {
        "task": "bacterial against viral",
        "leak": "Exact copies",
        "model": "1-nn on pixels",
    }, "the case that shows most"
    some = [measured[0], measured[17], measured[35], measured[40]]
    for one in some:
        for name in ("cohort", "task", "leak", "model"):
            panel.locator(f"select[name={name}]").select_option(one[name])
        for place, (dose, score) in enumerate([(0, one["true"][0]), *((d[0], d[1]) for d in one["doses"])]):
            slider.fill(str(place))
            assert numbers.all_inner_texts() == [f"{score:.3f}", f"{one['true'][0]:.3f}"]
            width = panel.locator(".fooled-reported i").evaluate("bar => parseFloat(bar.style.width)")
            assert width == pytest.approx(100 * min(1, max(0, 2 * score - 1)), abs=0.01)
            said = panel.locator(".fooled-says").inner_text()
            assert said.startswith(f"{dose:.0%}".replace("%", " %")) and f"says {score:.3f}" in said
        panel.locator("summary").click()
        rows = panel.locator("tbody tr").evaluate_all(
            "rows => rows.map((r) => [...r.cells].map((c) => c.innerText))"
        )
        assert [float(row[1]) for row in rows] == [
            pytest.approx(score, abs=5.1e-4)
            for score in (one["true"][0], *(dose[1] for dose in one["doses"]))
        ]
        panel.locator("summary").click()


@pytest.mark.parametrize(
    ("patients", "images", "test"), [(500, 1200, 20), (30, 30, 50), (7, 100, 33), (2, 3, 99)]
)
def test_patients_on_both_sides_are_those_of_the_formula(open_page, patients, images, test):
    page = open_page(f"#patients={patients}&images={images}&test={test}")
    said = game(page, "study").locator(".fooled-says").inner_text().replace(",", "")
    size, more = divmod(images, patients)
    groups = np.repeat(np.arange(patients), [size + (patient < more) for patient in range(patients)])
    tested = min(images - 1, max(1, int(images * test / 100 + 0.5)))
    shared, share = expected_overlap(groups, tested)
    found = re.search(r"(\d+) of them .* expect (\d+) of the .* and (\d+) % of", said)
    assert int(found[1]) == tested
    assert int(found[2]) == pytest.approx(shared, abs=0.5001)
    assert int(found[3]) == pytest.approx(100 * share, abs=0.5001)
    link = game(page, "study").locator("input[readonly]").input_value()
    assert link.endswith(f"page.html#patients={patients}&images={images}&test={test}")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"patients": "100", "images": "50"}, "as many images as patients"), ({"images": ""}, "whole numbers"),
     ({"patients": "-1"}, "whole numbers"), ({"patients": "2.5"}, "whole numbers")],
)  # fmt: skip
def test_numbers_that_no_study_has_are_said(open_page, fields, reason):
    panel = game(open_page("#patients=<b>&images=12e99"), "study")
    assert "expect" in panel.locator(".fooled-says").inner_text(), (
        "a link that is no link of ours changes nothing"
    )
    for name, value in fields.items():
        panel.locator(f"input[name={name}]").fill(value)
    assert reason in panel.locator(".fooled-says").inner_text()


def test_a_phone_has_room_and_without_scripts_it_is_said(open_page):
    page = open_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    heights = page.locator("button:visible, select, input:visible").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 38, "a finger meets them"
    assert "needs JavaScript" in open_page(java_script_enabled=False).locator("article").inner_text()


def test_the_data_ends_no_element():
    text = fooled.section("leaks", RUN)
    inside = text.partition('json">')[2].partition("</script>")[0]
    assert "<" not in inside and len(json.loads(inside)) == len(fooled.leaks(RUN))
