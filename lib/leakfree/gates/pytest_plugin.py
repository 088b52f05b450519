"""A pytest plugin: the fixture ``assert_no_leak`` audits images, or a split of them, inside a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def assert_no_leak() -> Callable[..., Any]:
    """Return a function that audits a target and fails the test where it leaks.

    ``assert_no_leak(target, manifest=None, **settings)`` takes what `leakfree.audit.auditor.AuditSettings`
    takes. It fails, too, where files cannot be read or a check that should fail the audit has no answer:
    what was not looked at is not clean. Name such checks in ``skip`` to do without them.
    """
    from leakfree.audit.auditor import AuditSettings, audit_images, unusable
    from leakfree.audit.report import verdict

    def check(target: Any, **settings: Any) -> Any:
        __tracebackhide__ = True
        chosen = AuditSettings(**settings)
        report = audit_images(target, chosen)
        if report.leaks:
            lines = [
                f"{c.name}: {c.summary} {', '.join(c.files[:6])}" for c in report.checks.values() if c.fails
            ]
            pytest.fail("\n".join([f"{report.target}: {verdict(report).headline}", *lines]), pytrace=False)
        if lost := unusable(report):
            pytest.fail(
                f"{report.target}: {len(lost)} files could not be read, such as {lost[0]}", pytrace=False
            )
        unanswered = [
            f"{c.name}: {c.summary}"
            for c in report.checks.values()
            if c.status in ("INCONCLUSIVE", "NOT RUN")
            and c.name in chosen.fail_on
            and c.name not in chosen.skip
        ]
        if unanswered:
            pytest.fail(
                "\n".join([f"{report.target}: not everything was checked", *unanswered]), pytrace=False
            )
        return report

    return check
