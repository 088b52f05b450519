"""The page in a browser: an image in, an answer out, every refusal said, nothing asked of anybody else."""

import io
import json
import re
import shutil
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from flask import request
from PIL import Image
from werkzeug.serving import make_server

from deferred import deferred
from leakfree.data.intake import Limits
from leakfree.data.sources.phantom_image import draw_image
from leakfree.serving.settings import ServiceSettings

with deferred:
    from leakfree.predict.classifier import WARNING, Classifier
    from leakfree.serving.app import create_app

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


@pytest.fixture(scope="module")
def service(repository):
    """The application with the published model: its address, a client without a browser, starts of bodies."""
    model = repository / "artifacts" / "chest_xray" / "models"
    app = create_app(Classifier.load(model), ServiceSettings(model=model))
    app.extensions["batcher"].start()
    bodies = []
    app.before_request(lambda: bodies.append(request.get_data()[:300]))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    running = threading.Thread(target=server.serve_forever)
    running.start()
    yield f"http://127.0.0.1:{server.server_port}/", app.test_client(), bodies
    server.shutdown()
    running.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f"no browser of the system: none of {', '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, service):
    """A function that opens the page; afterwards nothing may have left the origin, or been complained of."""
    address, *_ = service
    asked, complaints, contexts = [], [], []

    def hear(message):
        # The browser itself notes a refused upload; the page is to say it to people.
        refused = message.location["url"].endswith("/predict") and "Failed to load" in message.text
        if message.type in ("error", "warning") and not refused:
            complaints.append(message.text)

    def open_with(**options):
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda asking: asked.append(asking.url))
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield open_with
    for context in contexts:
        context.close()
    assert asked and [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert complaints == []


@pytest.fixture
def page(open_page):
    return open_page()


def encoded(seed=0, format="PNG", size=(280, 210)):
    """A phantom image; no real one is needed to look at a page."""
    buffer = io.BytesIO()
    image = draw_image(256, "bacterial", 1.0, 1.0, (1, 0, seed), (1, 1, seed))
    Image.fromarray(image).resize(size).save(buffer, format)
    return buffer.getvalue()


FILM = encoded()


def choose(page, data=FILM, name="film.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})


def answered(page):
    page.wait_for_selector("main[data-state=answered]")
    return page


def failed(page):
    page.wait_for_selector("main[data-state=failed]")
    return page.get_by_role("alert")


def text(page, selector):
    return " ".join(page.locator(selector).inner_text().split())


def loaded(page, selector):
    """Width of a picture in pixels once it is decoded; 0 where it is broken."""
    return page.locator(selector).evaluate("image => image.decode().then(() => image.naturalWidth, () => 0)")


def let_go(page, kind, count=1, size=None):
    """Drop or paste files that are made in the browser."""
    page.evaluate(
        """([kind, count, size, bytes]) => {
            const transfer = new DataTransfer();
            const data = new Uint8Array(size ?? bytes);
            for (let i = 0; i < count; i++) transfer.items.add(new File([data], `${kind}${i}.png`));
            const about = { bubbles: true, cancelable: true };
            const target = document.querySelector(kind === "drop" ? "footer" : "body");
            target.dispatchEvent(kind === "drop"
                ? new DragEvent("drop", { ...about, dataTransfer: transfer })
                : new ClipboardEvent("paste", { ...about, clipboardData: transfer }));
        }""",
        [kind, count, size, list(FILM)],
    )


@contextmanager
def answering(page, status=200, **body):
    """Answer uploads in place of the service; yields the list of those that came."""
    came = []

    def answer(route):
        came.append(route.request)
        route.fulfill(status=status, content_type="application/json", body=json.dumps(body))

    page.route("**/predict", answer)
    yield came
    page.unroute("**/predict")


@pytest.fixture(scope="module")
def answer(service):
    """What the service says of `FILM`, without a browser."""
    sent = {"image": (io.BytesIO(FILM), "film"), "overlay": "true"}
    return service[1].post("/predict", data=sent).json


def test_the_warning_is_that_of_every_answer_and_stays_in_sight(page):
    warning = page.locator("#warning")
    assert text(page, "#warning") == WARNING
    choose(page)
    answered(page)
    page.mouse.wheel(0, 10_000)
    expect(page.locator("footer")).to_be_in_viewport()
    expect(warning).to_be_in_viewport(ratio=1)


def test_what_was_measured_is_said_without_numbers_of_its_own(page):
    said = text(page, "#measured")
    assert "official test" in said and not re.search(r"\d", said)


def test_an_image_is_answered_with_all_that_the_service_says(page, answer):
    choose(page)
    answered(page)
    assert text(page, "h2") == answer["diagnosis"]
    shown = [" ".join(bar.split()) for bar in page.locator("#bars li").all_inner_texts()]
    assert len(shown) == 2
    for bar, (name, probability) in zip(shown, answer["probabilities"].items(), strict=True):
        assert bar.startswith(name)
        assert abs(float(re.search(r"[\d.]+", bar)[0]) / 100 - probability) <= 0.001
    widths = page.locator("#bars .share").evaluate_all(
        "all => all.map(bar => parseFloat(bar.getAttribute('width')))"
    )
    assert widths == pytest.approx([100 * p for p in answer["probabilities"].values()], abs=0.01)
    assert text(page, "#set").startswith("At 90 % coverage ")
    assert page.locator("#warnings li").all_inner_texts() == answer["warnings"]
    source = text(page, "#facts")
    model = answer["model"]
    for said in ("film.png", model["name"], model["weights_sha256"][:12], model["preprocessing"]):
        assert said in source
    assert model["weights_sha256"] not in source
    assert loaded(page, "#film") == 280 and loaded(page, "#overlay") == 280
    assert answer["diagnosis"] in text(page, "#explained") and "does not show" in text(page, "#explained")
    # Read out too, without a look at the page.
    assert answer["diagnosis"] in page.get_by_role("status").inner_text()
    expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize(
    ("names", "coverage", "said"),
    [
        (["Normal", "Pneumonia"], 0.9, "At 90 % coverage neither class can be ruled out."),
        (["Pneumonia"], 0.95, "At 95 % coverage only Pneumonia remains."),
        ([], 0.9, "At 90 % coverage no class fits."),
        (None, None, "This model has no prediction sets."),
    ],
)
def test_the_set_is_one_plain_sentence(page, answer, names, coverage, said):
    with answering(page, **(answer | {"prediction_set": names, "coverage": coverage})):
        choose(page)
        answered(page)
    assert text(page, "#set") == said


def test_a_class_of_a_picture_that_is_no_image_is_not_to_be_believed(page, answer):
    warnings = ["This does not look like a chest X-ray.", "Nor like <b>anything</b>."]
    with answering(page, **(answer | {"novelty": 3.25, "warnings": warnings})):
        choose(page)
        answered(page)
    assert page.locator("#warnings li").all_inner_texts() == warnings
    assert "not to be believed" in text(page, "#lead") and "3.25" in text(page, "#facts")
    assert all(warning in page.get_by_role("status").inner_text() for warning in warnings)
    with answering(page, **(answer | {"novelty": None, "warnings": []})):
        choose(page)
        expect(page.locator("#facts")).to_contain_text("not measured")
    assert page.locator("#warnings li").count() == 0 and "believed" not in text(page, "#lead")


@pytest.mark.parametrize("said", ["this image", "a copy"])
def test_an_image_that_was_trained_on_proves_nothing(page, answer, said):
    warnings = ["This image was in my training set: my answer proves nothing."]
    with answering(page, **(answer | {"in_training_set": said, "novelty": 0.5, "warnings": warnings})):
        choose(page)
        answered(page)
    assert page.locator("#warnings li").all_inner_texts() == warnings
    assert "proves nothing" in text(page, "#lead") and "Trained on it yes" in text(page, "#facts")
    expect(page.locator("#said")).to_have_class(re.compile("doubted"))
    for found, shown in (("not found", "not found"), (None, "nobody knows")):
        with answering(page, **(answer | {"in_training_set": found, "novelty": 0.5, "warnings": []})):
            choose(page)
            expect(page.locator("#facts")).to_contain_text(f"Trained on it{shown}")
        assert text(page, "#lead") == "Most probable class"


def test_each_example_is_answered_with_one_click_and_none_is_a_file_of_anyone(page, repository):
    buttons = page.locator("[data-example]")
    assert buttons.count() == 3
    for button in buttons.all():
        assert loaded(page, f"[data-example='{button.get_attribute('data-example')}'] img") == 224
        button.click()
        expect(page.locator("#facts")).to_contain_text(button.get_attribute("data-example"))
    assert "do not believe" in text(page, "#warnings")  # of the page of text
    folder = repository / "lib" / "leakfree" / "serving" / "page" / "examples"
    for name, label, seed in (("drawn-normal", "normal", 9), ("drawn-pneumonia", "bacterial", 4)):
        drawn = draw_image(224, label, 1.0, 1.0, (2018, 0, seed), (2018, 1, seed))
        with Image.open(folder / f"{name}.jpg") as kept:
            assert np.abs(np.asarray(kept, np.int16) - drawn).max() < 40, "encoded as JPEG"


def test_the_page_leads_to_the_card_and_to_the_book_where_they_are(service, repository):
    client = service[1]
    card = repository / "artifacts" / "chest_xray" / "models" / "MODEL_CARD.md"
    assert client.get("/card").data == card.read_bytes()
    assert client.get("/card").content_type.startswith("text/plain")
    page = client.get("/").text
    assert '<a href="card">' in page and "The book of the study" not in page


def test_certainty_is_never_shown(page, answer):
    probabilities = {"Normal": 0.00001, "Pneumonia": 0.99999}
    with answering(page, **(answer | {"probabilities": probabilities})):
        choose(page)
        answered(page)
    assert "< 0.1 %" in text(page, "#bars") and "> 99.9 %" in text(page, "#bars")


def test_a_file_that_is_no_image_gets_the_line_of_the_service(page, service):
    line = service[1].post("/predict", data={"image": (io.BytesIO(b"hello"), "f")}).json["error"]
    choose(page, b"hello", "<img src=x onerror=alert(1)>.txt")
    alert = failed(page)
    expect(alert).to_contain_text(line.removeprefix("image: "))
    expect(alert).to_contain_text("<img src=x onerror=alert(1)>.txt")
    expect(alert).to_contain_text("Choose one chest X-ray")
    assert alert.locator("img").count() == 0
    expect(page.locator("#said")).to_be_hidden()
    expect(page.locator("#figure")).to_be_hidden()
    # The next image clears it.
    choose(page)
    answered(page)
    expect(alert).to_be_empty()


@pytest.mark.parametrize(
    ("status", "line", "said"),
    [
        (429, "128 images wait: come again in a second", "in a moment"),
        (500, "an error of the service", "r-7"),
    ],
)
def test_a_service_that_cannot_answer_now_can_be_asked_again(page, status, line, said):
    with answering(page, status, error=line, request_id="r-7") as came:
        choose(page)
        alert = failed(page)
        expect(alert).to_contain_text(line)
        expect(alert).to_contain_text(said)
        expect(page.locator("#figure")).to_be_hidden()
        assert page.locator("#film").get_attribute("src") is None, "it would appear once it is decoded"
    alert.get_by_role("button", name="Try again").click()
    answered(page)
    assert len(came) == 1


def test_a_service_that_is_gone_is_said(page):
    page.route("**/predict", lambda route: route.abort())
    choose(page)
    expect(failed(page)).to_contain_text("does not answer")
    page.unroute("**/predict")
    # What a proxy says is no JSON.
    page.route("**/predict", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text("status 502")


def test_too_large_a_file_is_refused_before_it_is_sent(page):
    most, sent = Limits().bytes, []
    page.on("request", lambda asking: sent.append(asking.url.endswith("/predict")))
    let_go(page, "drop", size=most + 1)
    alert = failed(page)
    expect(alert).to_contain_text(f"over the limit of {most / 1e6:g} MB")
    assert not any(sent)
    let_go(page, "drop", size=most)  # is the service's to judge
    expect(alert).to_contain_text("not an image")
    assert any(sent)
    assert f"up to {most / 1e6:g} MB" in page.locator("#accepted").text_content()


def test_an_image_can_be_dropped_anywhere_and_pasted(page):
    for kind in ("drop", "paste"):
        let_go(page, kind)
        expect(page.locator("#facts")).to_contain_text(f"{kind}0.png")
    answered(page)
    let_go(page, "drop", count=3)
    expect(failed(page)).to_contain_text("one image at a time")
    let_go(page, "paste", count=0)
    expect(page.get_by_role("alert")).to_contain_text("no picture")


def test_the_keyboard_is_enough(page):
    # Without a listener playwright turns its interception on and off, and a key can come in between.
    page.on("filechooser", lambda chooser: None)
    page.keyboard.press("Tab")
    expect(page.locator("#choose")).to_be_focused()
    assert page.locator("#choose").evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    for key in ("Enter", "Space"):
        with page.expect_file_chooser() as chooser:
            page.keyboard.press(key)
        chooser.value.set_files({"name": f"{key}.png", "mimeType": "image/png", "buffer": FILM})
        expect(page.locator("#facts")).to_contain_text(f"{key}.png")
    overlay = page.locator("#overlay")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(overlay).to_have_css("opacity", "0")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(overlay).to_have_css("opacity", "0.1")
    slider = page.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", "overlay at 10 %")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(overlay).to_have_css("opacity", "1")
    expect(slider).to_have_value("100")


def test_a_second_image_replaces_the_first_and_a_late_answer_is_dropped(page, answer):
    held = []
    page.route("**/predict", lambda route: held.append(route))
    choose(page, name="first.png")
    expect(page.get_by_role("status")).to_contain_text("first.png")
    expect(page.locator("#said")).to_be_hidden()
    choose(page, encoded(1), name="second.png")
    expect(page.get_by_role("status")).to_contain_text("second.png")
    while len(held) < 2:
        page.wait_for_timeout(20)
    held[1].continue_()
    answered(page)
    late = json.dumps(answer | {"diagnosis": "Late"})
    with suppress(sync_api.Error):  # the page may have hung up
        held[0].fulfill(status=200, content_type="application/json", body=late)
    page.wait_for_timeout(100)
    assert "second.png" in text(page, "#facts") and "first.png" not in text(page, "main")
    assert text(page, "h2") != "Late"


def test_the_name_of_a_file_is_shown_as_text_and_not_sent(page, service):
    name = "<img src=x onerror=alert(1)> Jane.png"
    choose(page, name=name)
    answered(page)
    assert name in text(page, "#facts")
    assert page.locator("#facts img").count() == 0
    sent = service[2][-1]
    assert b"filename=" in sent and b"Jane" not in sent


def test_a_format_that_browsers_do_not_show_is_drawn_by_the_service(page):
    choose(page, encoded(format="TIFF"), "film.tif")
    answered(page)
    expect(page.locator("#unseen")).to_be_visible()
    expect(page.locator("#film")).to_be_hidden()
    expect(page.locator("#fade")).to_be_hidden()
    assert loaded(page, "#overlay") == 280
    choose(page)
    expect(page.locator("#film")).to_be_visible()
    expect(page.locator("#unseen")).to_be_hidden()


def test_a_phone_never_scrolls_sideways(open_page):
    page = open_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)

    def width():
        return page.evaluate("document.documentElement.scrollWidth")

    assert width() == 360
    choose(page, name="a" * 90 + ".png")
    answered(page)
    assert width() == 360
    expect(page.locator("h2")).to_be_in_viewport()
    choose(page, b"x", name="b" * 90 + ".png")
    failed(page)
    assert width() == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_schemes(open_page, scheme):
    page = open_page(color_scheme=scheme)
    choose(page)
    answered(page)
    colours = page.evaluate(
        """() => {
            const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
            return [of("body", "backgroundColor"), ...["body", ".soft", "a"].map(ink => of(ink, "color"))];
        }"""
    )
    ground, *inks = [luminance(colour) for colour in colours]
    assert (ground < 0.05) == (scheme == "dark")
    for ink in inks:
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, "WCAG AA"


def luminance(colour):
    """Relative luminance as WCAG defines it, of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("wish", "name"), [("no-preference", "turn"), ("reduce", "none")])
def test_waiting_is_seen_and_moves_only_where_motion_is_welcome(open_page, wish, name):
    page = open_page(reduced_motion=wish)
    held = []
    page.route("**/predict", lambda route: held.append(route))
    choose(page)
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.locator("#film")).to_be_visible()
    turning = "line => getComputedStyle(line, '::before').animationName"
    assert page.get_by_role("status").evaluate(turning) == name


def test_paper_has_the_answer_both_pictures_and_the_warning(open_page):
    page = open_page(color_scheme="dark")
    choose(page)
    answered(page)
    page.get_by_role("button", name="Image", exact=True).click()
    page.emulate_media(media="print")
    for seen in ("#warning", "h2", "#bars", "#film", "#overlay", "#facts"):
        expect(page.locator(seen)).to_be_visible()
    expect(page.locator("#overlay")).to_have_css("opacity", "1")
    image, overlay = page.locator("#film").bounding_box(), page.locator("#overlay").bounding_box()
    assert image["x"] + image["width"] <= overlay["x"]
    for gone in ("#choose", "#fade"):
        expect(page.locator(gone)).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_page_has_nothing_inline_and_names_no_other_address(repository):
    folder = repository / "lib" / "leakfree" / "serving" / "page"
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    assert re.search(r'<html lang="en', html) and "<title>" in html and 'name="viewport"' in html
    for file in filter(Path.is_file, folder.iterdir()):
        addresses = re.findall(r"https?:[^\s\"']*", file.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, file.name
