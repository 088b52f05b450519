import base64
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.audit.checks.findings import CHECKS, FAIL_ON, SCHEMA, STATUSES, Check, Report, not_run
from leakfree.audit.report import load_json, print_report, verdict, write_html, write_json, write_junit
from leakfree.audit.report.exchange import MAX_FILES
from leakfree.audit.report.words import WHY

with deferred:
    from leakfree_study.figures.plots import OKABE_ITO

SCRIPT = "train/<script>alert(1)</script>.png"
#: Names that a file system can hold: a byte that is no UTF-8, controls, quotes, direction marks, non-ASCII.
ODD = (
    "train/bytes_\udcff\udc80.png",
    "train/new\nline\ttab\r.png",
    "train/bell\x07escape\x1b[31mred\x1b[0m.png",
    "train/nul\x00ffff\uffff.png",
    "train/[bold]markup[/bold] :smile: {{ 7*7 }}.png",
    "train/quote\"'&amp;]]>.png",
    "train/right\u202eto\u2028left.png",
    "train/Röntgen_胸部_🫁.png",
    "train/" + 300 * "long" + ".png",
    SCRIPT,
)


def checks(**changed):
    """All checks passed, but for those that are given."""
    passed = {name: Check(name, "PASS", f"Nothing found by {name}.") for name in CHECKS}
    return passed | changed


def report_of(checks, **changed):
    return Report("films", {"train": 5216, "val": 16, "test": 624}, checks, **changed)


@pytest.fixture
def rich_report():
    """Every status, all kinds of details, and odd names in every place."""
    train = tuple(f"train/person{i}_1.png" for i in range(30))
    test = tuple(f"test/person{i}_2.png" for i in range(30))
    groups = [list(pair) for pair in zip(train, test, strict=True)]
    scopes = {
        "series": {"count": 214, "status": "FAIL", "share_of_test_images_with_sibling": 0.6213},
        "person": {"count": 230, "severity": "leak", "share_of_test_images_with_sibling": math.nan},
        "merged": {"count": np.int64(0), "status": "INCONCLUSIVE"},
    }
    features = [
        {"name": "file size", "auc": np.float64(0.83), "low": 0.78, "high": 0.87},
        {"name": "width", "auc": 0.7123, "low": None, "high": math.nan, "unit": "px"},
        {"name": "broken"},
    ]
    shuffled = {"mean": 0.5, "high": 0.56, "draws": 200}
    pair = {"parts": ["train", "test"], "auc": 0.74, "low": 0.7, "high": 0.77, "labels": {"NORMAL": 0.27}}
    return report_of(
        checks(
            exact_duplicates=Check(
                "exact_duplicates",
                "FAIL",
                "30 groups of files hold the same pixels.",
                "Keep every group in one part.",
                30,
                tuple(sorted({*train, *test, *ODD})),
                "leak",
                (train[:2], (SCRIPT, *ODD), train[:9]),
                {"groups": groups, "found in": {"bytes", "pixels"}},
            ),
            patients=Check("patients", "FAIL", "214 patients.", "Split anew.", 214, (), "leak", (), scopes),
            linked_groups=Check("linked_groups", "INCONCLUSIVE", "Some files could not be read."),
            shortcuts=Check(
                "shortcuts",
                "WARN",
                "File size predicts the label.",
                "Encode all images alike.",
                1,
                severity="warning",
                details={"features": features, "auc": 0.86, "permutation": shuffled, "target": "PNEUMONIA"},
            ),
            shift=Check("shift", "WARN", "Told apart.", details={"pairs": [pair, 7], "odd": {"a": [[{}]]}}),
            parts=not_run("parts", "Skipped by --skip parts."),
        ),
        problems=[{"file": name, "reason": "empty file"} for name in ODD],
        unchecked=["DICOM headers: the target holds PNG only"],
        settings={"seed": 7, "fail_on": FAIL_ON, ODD[0]: ODD[1]},
        provenance={"seconds": {"shortcuts": 1.25}, "versions": {"numpy": "2"}, "data": "ab" * 32},
    )


def grey(image_id):
    return Image.fromarray(np.linspace(0, 255, 300 * 400).reshape(300, 400).astype(np.uint8))


def printed(report):
    stream = io.StringIO()
    print_report(report, stream)
    return stream.getvalue()


def page(report, tmp_path, picture=grey, **options):
    return write_html(report, tmp_path / "report.html", picture, **options).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Start tags with attributes, text, and the balance of tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(autouse=True)
def no_forced_colours(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_every_check_says_why_it_matters():
    assert list(WHY) == list(CHECKS)


@pytest.mark.parametrize(
    ("changed", "more", "kind", "headline"),
    [
        ({}, {}, "clean", "No leak found in what was checked"),
        ({"patients": ("FAIL", "leak", 3)}, {}, "leak", "LEAK FOUND: patients (3)"),
        # A check that --fail-on leaves out is still a leak.
        ({"patients": ("WARN", "leak", 3)}, {}, "leak", "LEAK FOUND: patients (3)"),
        ({"shortcuts": ("FAIL", "warning", 1)}, {}, "failed", "no leak was found: shortcuts (1)"),
        ({"shortcuts": ("WARN", "warning", 1)}, {}, "warning", "No leak found in what was checked"),
        ({"shift": ("NOT RUN", "none", 0)}, {}, "warning", "No leak found in what was checked"),
        ({"patients": ("NOT RUN", "none", 0)}, {}, "open", "but not everything could be checked"),
        ({"near_duplicates": ("INCONCLUSIVE", "none", 0)}, {}, "open", "but not everything could be checked"),
        ({}, {"problems": [{"file": "a", "reason": "b"}]}, "warning", "No leak found in what was checked"),
        ({}, {"images": {}}, "open", "NOTHING WAS CHECKED"),
        ({name: ("NOT RUN", "none", 0) for name in CHECKS}, {}, "open", "NOTHING WAS CHECKED"),
    ],
)  # fmt: skip
def test_the_verdict_promises_no_more_than_was_checked(changed, more, kind, headline, tmp_path):
    made = {n: Check(n, s, "…", count=c, severity=bad) for n, (s, bad, c) in changed.items()}
    report = dataclasses.replace(report_of(checks(**made)), **more)
    outcome = verdict(report)
    assert outcome.kind == kind
    assert headline in outcome.headline
    assert ("found in what" in outcome.headline) <= (not report.leaks)
    for name, (status, _, _) in changed.items():
        if status != "FAIL" and "LEAK" not in outcome.headline:
            assert name in outcome.text
    assert outcome.headline in " ".join(printed(report).splitlines()[-4:])
    assert outcome.headline in page(report, tmp_path)


def test_terminal_output_in_a_pipe(rich_report):
    text = printed(rich_report)
    assert "\x1b" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert set(STATUSES) <= {s for s in STATUSES if re.search(rf"\b{s}\b", text)}
    for name in CHECKS:
        assert re.search(rf"^{name} ", text, re.MULTILINE)
    assert re.search(r"^  series +FAIL +214 +62.1 % of test images", text, re.MULTILINE)
    assert re.search(r"^  person +leak +230", text, re.MULTILINE)
    assert "train 5,216" in text
    for advice in ("exact_duplicates: Keep every", "patients: Split anew.", "shortcuts: Encode all"):
        assert f"- {advice}" in text
    assert "- 10 x empty file" in text
    assert "and 5 more, all in the JSON" in text
    assert text.index("Not checked:") < text.index("- DICOM headers: the target") < text.index("LEAK FOUND")
    assert "- parts (NOT RUN): Skipped by --skip parts." in text
    assert "- linked_groups (INCONCLUSIVE): Some files" in text
    assert "[bold]markup[/bold] :smile:" in text


def test_a_line_of_the_audit_on_an_unanswered_check_is_not_said_twice():
    report = report_of(
        checks(parts=not_run("parts", "no labels"), shift=not_run("shift", "one part only")),
        unchecked=["parts: not run, no labels", "what tells parts apart: one part only"],
    )
    text = printed(report).partition("Not checked:")[2]
    assert text.count("no labels") == 1
    assert text.count("one part only") == 1


def test_a_terminal_gets_colours():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    print_report(report_of(checks(parts=Check("parts", "FAIL", "Empty."))), stream)
    assert re.search(r"\x1b\[[0-9;]*31m *FAIL", stream.getvalue())


def test_a_stream_without_unicode(rich_report):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_report(dataclasses.replace(rich_report, target="Röntgen"), stream)
    stream.flush()
    assert b"Leakage audit of R\\xf6ntgen\n" in raw.getvalue().replace(b"\r", b"")
    assert b"LEAK FOUND" in raw.getvalue()


def test_json_round_trip(rich_report, tmp_path):
    path = write_json(rich_report, tmp_path / "report.json")
    text = path.read_text(encoding="ascii")
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(content)[:2] == ["schema", "target"]
    assert list(content["checks"]) == list(CHECKS)
    assert list(content["images"]) == ["train", "val", "test"]
    assert content["checks"]["patients"]["person"]["share_of_test_images_with_sibling"] is None
    assert content["checks"]["exact_duplicates"]["found in"] == ["bytes", "pixels"]
    assert {problem["file"] for problem in content["problems"]} == set(ODD)
    again = load_json(path)
    assert again.checks["exact_duplicates"].files == rich_report.checks["exact_duplicates"].files
    assert again.checks["exact_duplicates"].examples == rich_report.checks["exact_duplicates"].examples
    assert again.leaks
    assert printed(again) == printed(rich_report)
    assert write_json(again, tmp_path / "again.json").read_text() == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no schema"),
        ('{"schema": "leakfree-audit/0"}', "'leakfree-audit/0', expected 'leakfree-audit/1'"),
        (json.dumps({"schema": SCHEMA}), "'target' is missing"),
        (json.dumps({"schema": SCHEMA, "target": "a", "images": 3}), "not a valid report"),
        (
            json.dumps({"schema": SCHEMA, "target": "a", "images": {}, "checks": {"x\ny": {}}}),
            "no such check",
        ),
    ],
)
def test_what_is_no_report_gets_one_line(text, reason, tmp_path):
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        load_json(path)
    assert "report.json: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_junit(rich_report, tmp_path):
    suite = ElementTree.parse(write_junit(rich_report, tmp_path / "report.xml")).getroot()
    assert (suite.tag, suite.get("name")) == ("testsuite", "leakfree-audit")
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert list(cases) == list(CHECKS)
    for attribute, tag in {"tests": "testcase", "failures": "failure", "skipped": "skipped"}.items():
        assert int(suite.get(attribute)) == len(list(suite.iter(tag))) > 0
    assert suite.get("errors") == "0"
    assert len(suite.findall("*/failure")) == sum(check.fails for check in rich_report.checks.values())
    failure = cases["exact_duplicates"].find("failure")
    assert failure.get("message") == "30 groups of files hold the same pixels."
    assert "train/person3_1.png" in failure.text.splitlines()
    assert "train/new\\nline\\ttab\\r.png" in failure.text.splitlines()
    assert cases["parts"].find("skipped").get("message") == "NOT RUN: Skipped by --skip parts."
    assert cases["linked_groups"].find("skipped").get("message").startswith("INCONCLUSIVE: ")
    assert [child.tag for child in cases["shortcuts"]] == ["system-out"]
    assert cases["shortcuts"].get("time") == "1.250"
    assert len(cases["same_file"]) == 0
    assert "DICOM headers" in suite.find("system-out").text


def test_junit_says_how_many_files_it_leaves_out(tmp_path):
    files = tuple(f"{i:05}.png" for i in range(MAX_FILES + 7))
    report = report_of(checks(same_file=Check("same_file", "FAIL", "Twice.", count=1, files=files)))
    text = write_junit(report, tmp_path / "report.xml").read_text()
    assert files[MAX_FILES - 1] in text
    assert files[MAX_FILES] not in text
    assert "and 7 more files, all in the JSON report" in text


def test_html_is_whole_and_asks_for_nothing_from_outside(rich_report, tmp_path):
    text = page(rich_report, tmp_path, describe=lambda image_id: f"of {image_id}")
    found = Elements(text)
    assert not found.open
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        address = attributes.get("src", attributes.get("href", "#"))
        assert address.startswith(("data:", "#")), address
        if tag == "a":
            assert address[1:] in ids
        assert attributes.get("aria-labelledby", ids[0]) in ids
    assert "url(" not in text and "@import" not in text and "://" not in text
    policy = next(a["content"] for _, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_html_says_everything(rich_report, tmp_path):
    found = Elements(page(rich_report, tmp_path, describe=lambda image_id: "a label"))
    for status in STATUSES:
        assert status in found.text
    for name, check in rich_report.checks.items():
        assert ("h2", {"id": name}) in found.tags
        assert check.summary in found.text and check.advice in found.text and WHY[name] in found.text
    for expected in (
        "LEAK FOUND: exact_duplicates (30), patients (214)",
        "DICOM headers: the target holds PNG only",
        "parts (NOT RUN): Skipped by --skip parts.",
        "62.1 %",
        "and 10 more in the JSON report",  # 30 groups, 20 shown
        "and 3 more in the JSON report",  # 9 pictures of a finding, 6 shown
        "0.780 to 0.870",
        "shuffled: mean 0.500, up to 0.560",
        "PNEUMONIA",
        "draws",
        "train / test",
        "ab" * 32,
        "a label",
    ):
        assert expected in found.text
    for file in rich_report.checks["exact_duplicates"].files:
        if file.isprintable():
            assert file in found.text


def test_html_shows_the_first_groups(rich_report, tmp_path):
    text = page(rich_report, tmp_path)
    (groups,) = re.findall(r'<ol class="groups">(.*?)</ol>', text, re.DOTALL)
    assert groups.count("<li>") == 20
    assert "train/person19_1.png" in groups


def test_names_cannot_become_markup(rich_report, tmp_path):
    text = page(rich_report, tmp_path, describe=lambda image_id: SCRIPT)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in text
    assert "{{ 7*7 }}" in text
    assert "\\x1b[31mred" in text and "\x1b" not in text
    assert "\\udcff" in text


@pytest.mark.parametrize("place", ["target", "summary", "advice", "unchecked", "part", "scope", "detail"])
@pytest.mark.parametrize("name", ODD)
def test_odd_text_in_any_place_crashes_no_writer(place, name, tmp_path):
    details = {name: {"count": 3, name: name}} if place == "scope" else {}
    if place == "detail":
        details = {name: [name, {name: name}], "groups": [[name]], "features": [{"name": name, "auc": 0.7}]}
    check = Check(
        "patients",
        "FAIL",
        name if place == "summary" else "Found.",
        name if place == "advice" else "",
        details=details,
    )
    report = dataclasses.replace(
        report_of(checks(patients=check), unchecked=[name] if place == "unchecked" else []),
        **({"target": name} if place == "target" else {"images": {name: 3}} if place == "part" else {}),
    )
    text = printed(report)
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 80
    again = load_json(write_json(report, tmp_path / "report.json"))
    assert again.as_json() == json.loads(json.dumps(report.as_json()))
    ElementTree.parse(write_junit(report, tmp_path / "report.xml"))
    assert not Elements(page(report, tmp_path)).open


def test_pictures_are_small_and_the_same_shape(rich_report, tmp_path):
    asked = []

    def picture(image_id):
        asked.append(image_id)
        return grey(image_id)

    found = Elements(page(rich_report, tmp_path, picture))
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 2 + 6 + 6
    assert len(asked) == len(set(asked)), "each image is read once"
    for attributes in images:
        embedded = Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2])))
        assert (embedded.format, embedded.mode, embedded.size) == ("JPEG", "L", (160, 120))
        assert (attributes["width"], attributes["height"]) == ("160", "120")
        assert attributes["alt"]


def test_a_small_picture_is_shown_large(rich_report, tmp_path):
    found = Elements(page(rich_report, tmp_path, lambda image_id: Image.new("RGB", (28, 14))))
    sizes = {(a["width"], a["height"]) for tag, a in found.tags if tag == "img"}
    assert sizes == {("160", "80")}


def no_picture(image_id):
    return None


def broken_picture(image_id):
    raise OSError("truncated")


@pytest.mark.parametrize(
    "picture", [no_picture, broken_picture, lambda i: "text", lambda i: Image.new("L", (0, 5))]
)
def test_a_missing_picture_leaves_a_placeholder(picture, rich_report, tmp_path):
    text = page(rich_report, tmp_path, picture, describe=broken_picture)
    assert "<img" not in text
    assert text.count('<div class="none">no picture</div>') == 2 + 6 + 6


@pytest.mark.parametrize(
    "details",
    [
        {"features": None, "auc": "high"},
        {"features": [], "pairs": {}, "groups": {}},
        {"features": [{}], "auc": 0.2, "low": -1, "high": 2, "permutation": [0.5]},
        {"pairs": [{"auc": 1.0, "parts": None}, {"auc": 0.0, "permutation": {"mean": None}}]},
        {"groups": [["a"], {"images": ["b"]}, 3, []], "scopes": 4},
        {"scopes": {"series": {"count": 1}, "other": 2}},
        {"deep": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, "tuple": ((1, 2), (3, 4)), "empty": ()},
        {"array": np.arange(40), "flag": np.bool_(True), "none": None, 3: object()},
    ],
)
def test_unknown_details_are_shown_and_crash_nothing(details, tmp_path):
    for name in ("shortcuts", "shift", "patients", "near_duplicates"):
        report = report_of(checks(**{name: Check(name, "WARN", "Found.", details=details)}))
        printed(report)
        assert not Elements(page(report, tmp_path)).open
        write_junit(report, tmp_path / "report.xml")
        load_json(write_json(report, tmp_path / "report.json"))


def test_a_report_without_anything(tmp_path):
    report = Report("nothing", {}, {})
    assert "NOTHING WAS CHECKED" in printed(report)
    assert "NOTHING WAS CHECKED" in page(report, tmp_path)
    suite = ElementTree.parse(write_junit(report, tmp_path / "report.xml")).getroot()
    assert suite.get("tests") == "0"
    assert load_json(write_json(report, tmp_path / "report.json")).as_json() == report.as_json()


def test_scores_of_families_and_of_some_features_together_are_plotted(tmp_path):
    score = {"low": 0.6, "high": 0.8, "permutation": {"mean": 0.5, "high": 0.55}}
    details = {
        "families": [{"name": "shape", "auc": 0.701, **score}],
        "features": [{"name": "width", "family": "shape", "auc": 0.702, "low": 0.6, "high": 0.8}],
        "acquisition": {"auc": 0.703, **score},
        "auc": 0.704,
        **score,
    }
    shortcuts = Check("shortcuts", "WARN", "Found.", details=details)
    found = Elements(page(report_of(checks(shortcuts=shortcuts)), tmp_path))
    assert sum(attributes.get("class") == "dot" for _, attributes in found.tags) == 4
    assert sum(attributes.get("class") == "band" for _, attributes in found.tags) == 3
    for expected in ("shape: width", "acquisition", "all together", "0.701", "0.702", "0.703", "0.704"):
        assert expected in found.text
    labels = [attributes.get("aria-label") for _, attributes in found.tags]
    assert "Details of shortcuts" not in labels, "every score is in the plot"


def test_the_same_report_gives_the_same_bytes(rich_report, tmp_path):
    for write in (write_json, write_junit, lambda r, path: write_html(r, path, grey)):
        first = write(rich_report, tmp_path / "first").read_bytes()
        assert first == write(rich_report, tmp_path / "second").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_badges_have_colours_that_colour_blind_readers_tell_apart(rich_report, tmp_path):
    text = page(rich_report, tmp_path)
    badges = [status.lower().replace(" ", "-") for status in STATUSES]
    styles = [rf"\.badge\.{badge}[ ,{{][^}}]*background: (#\w+)" for badge in badges]
    colours = [re.search(style, text)[1] for style in styles]
    assert len(set(colours)) == len(STATUSES)
    assert set(colours) <= set(OKABE_ITO.values())


def test_commands_in_what_was_not_checked_are_code_and_names_are_escaped(tmp_path):
    told = "takes `leakfree verify`, not `<b>`"
    page = write_html(report_of({}, unchecked=[told]), tmp_path / "r.html", None)
    text = page.read_text(encoding="utf-8")
    assert "takes <code>leakfree verify</code>, not <code>&lt;b&gt;</code>" in text
