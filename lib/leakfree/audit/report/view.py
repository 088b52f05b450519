"""A report in a notebook: one table, without widgets or scripts."""

from __future__ import annotations

from leakfree.audit.checks.findings import Report
from leakfree.audit.report.words import found, not_checked, number, verdict
from leakfree.base.escape import html

_COLOURS = {"FAIL": "#b00020", "WARN": "#8a5a00", "PASS": "#1b6e3c", "INCONCLUSIVE": "#7a2a8a"}


class View:
    """What a notebook shows of a report when it is the last thing in a cell.

    Parameters
    ----------
    report : Report
    """

    def __init__(self, report: Report) -> None:
        self.report = report

    def _repr_html_(self) -> str:
        outcome, rows = verdict(self.report), []
        for check in self.report.checks.values():
            colour = _COLOURS.get(check.status, "inherit")
            cells = (check.name, f'<b style="color:{colour}">{html(check.status)}</b>', number(found(check)))
            advice = f"<br><i>{html(check.advice)}</i>" if check.advice and check.status != "PASS" else ""
            rows.append(
                f"<tr><td>{html(cells[0])}</td><td>{cells[1]}</td><td>{html(cells[2])}</td>"
                f'<td style="text-align:left">{html(check.summary)}{advice}</td></tr>'
            )
        images = ", ".join(f"{html(part)} {number(n)}" for part, n in self.report.images.items())
        gaps = "".join(f"<li>{html(line)}</li>" for line in not_checked(self.report))
        return (
            f"<p><b>{html(outcome.headline)}.</b> {html(outcome.text)}</p>"
            f"<p>{html(self.report.target)}: {images}</p>"
            "<table><thead><tr><th>check</th><th>status</th><th>count</th><th>summary</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
            f"<details><summary>Not checked</summary><ul>{gaps}</ul></details>"
        )


def show(report: Report) -> View:
    """Return the view of a report: the last line of a cell.

    Examples
    --------
    >>> from leakfree.audit.checks.findings import Report
    >>> "NOTHING WAS CHECKED" in show(Report("images", {}, {}))._repr_html_()
    True
    """
    return View(report)
