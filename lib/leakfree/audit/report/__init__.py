"""Renderings of the report of an audit: terminal, JSON, JUnit XML, SARIF and one HTML page."""

from leakfree.audit.report.exchange import load_json, write_json, write_junit
from leakfree.audit.report.page import write_html
from leakfree.audit.report.sarif import write_sarif
from leakfree.audit.report.terminal import print_reading, print_report
from leakfree.audit.report.words import Verdict, verdict

__all__ = [
    "Verdict",
    "load_json",
    "print_reading",
    "print_report",
    "verdict",
    "write_html",
    "write_json",
    "write_junit",
    "write_sarif",
]
