"""The view in a notebook names what fails, and nothing in a name is markup."""

from leakfree.audit.checks.findings import CHECKS, Check, Report, not_run
from leakfree.audit.report.view import show


def report(name):
    checks = {check: not_run(check, "Not asked for.") for check in CHECKS}
    checks["patients"] = Check(
        "patients",
        "FAIL",
        f"1 patient in several parts, such as {name}.",
        "Split by patient.",
        1,
        (name,),
        "leak",
    )
    return Report(name, {"train": 3, name: 2}, checks)


def test_a_leak_is_named_with_what_to_do():
    page = show(report("a.png"))._repr_html_()
    assert "LEAK FOUND: patients (1)" in page and "Split by patient." in page and "Not asked for." in page


def test_names_are_no_markup():
    page = show(report("<script>alert(1)</script>"))._repr_html_()
    assert "<script" not in page and "&lt;script&gt;" in page
