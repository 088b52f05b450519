"""The report as one HTML page that asks for nothing from outside: styles and pictures are inside it."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape
from PIL import Image

from leakfree.audit.checks.findings import CHECKS, Check, Report
from leakfree.audit.report.words import (
    WHY,
    found,
    not_checked,
    number,
    percent,
    plain,
    real,
    reasons,
    scope_status,
    scopes,
    verdict,
)
from leakfree.base.escape import one_line
from leakfree.base.files import write_text
from leakfree.data.reading.report import reading_lines

#: Longest side of an embedded picture in pixels.
SIDE = 160
#: Findings of a check with pictures, and pictures of one finding.
MAX_EXAMPLES = 8
MAX_PICTURES = 6
#: Groups, and entries of any other list of details, that the page shows.
MAX_GROUPS = 20
_DEPTH = 4
_COLUMNS = 6
_SYMBOLS = {"PASS": "✓", "FAIL": "✗", "WARN": "!", "INCONCLUSIVE": "?", "NOT RUN": "–"}


def write_html(
    report: Report,
    path: Path,
    picture: Callable[[str], Image.Image | None],
    describe: Callable[[str], str] | None = None,
) -> Path:
    """Write the report as one self-contained HTML page, atomically.

    Parameters
    ----------
    report : Report
        What the audit found.
    path : path-like
        Where the page goes.
    picture : callable
        Image id to its grey picture, of any size. None, or any error, leaves a placeholder.
    describe : callable, optional
        Image id to what stands below its name, such as part and label.
    """
    gallery = _Gallery(picture, describe)
    content = _template().render(
        report=report,
        total=sum(report.images.values()),
        reading=reading_lines(report.reading),
        verdict=verdict(report),
        sections=[_section(check, gallery) for check in report.checks.values()],
        unchecked=not_checked(report),
        reasons=reasons(report),
        made={"Settings": plain(report.settings), "Provenance": plain(report.provenance)},
    )
    return write_text(path, content)


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    environment.filters.update(number=number, percent=percent, real=real, code=_code)
    environment.globals.update(
        symbols=_SYMBOLS, max_groups=MAX_GROUPS, depth=_DEPTH, as_text=_as_text, alike=_alike, flat=_flat
    )
    text = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text)


def _code(text: str) -> Markup:
    """Escape a text, and show as code what stands in backticks."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(_printable(text)))))


class _Gallery:
    """Small pictures as data URIs, each image read once."""

    def __init__(self, picture: Callable, describe: Callable | None) -> None:
        self._picture = picture
        self._describe = describe
        self._known: dict[str, dict[str, Any]] = {}

    def entry(self, image_id: str) -> dict[str, Any]:
        if image_id not in self._known:
            source, width, height = self._embed(image_id)
            about = self._about(image_id)
            entry = {"name": image_id, "about": about, "source": source, "width": width, "height": height}
            self._known[image_id] = entry
        return self._known[image_id]

    def _embed(self, image_id: str) -> tuple[str, int, int]:
        # One unreadable picture must not cost the page that reports on it.
        try:
            image = self._picture(image_id)
            if image is None:
                return "", SIDE, SIDE
            image = image.convert("L")
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=80, optimize=True)
        except Exception:
            return "", SIDE, SIDE
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        # Small images are blown up, so that pairs of 28 px can be compared too.
        scale = SIDE / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        return f"data:image/jpeg;base64,{data}", width, height

    def _about(self, image_id: str) -> str:
        try:
            return str(self._describe(image_id) or "") if self._describe else ""
        except Exception:
            return ""


def _section(check: Check, gallery: _Gallery) -> dict[str, Any]:
    """Return what the template shows of one check; details without a form of their own go to ``rest``."""
    rest = {str(key): plain(value) for key, value in check.details.items()}
    by_scope = {}
    if check.name == "patients":
        entries = scopes(check).items()
        by_scope = {name: {**plain(entry), "status": scope_status(entry)} for name, entry in entries}
        nested = rest.pop("scopes", {})
        rest |= nested if isinstance(nested, dict) else {"scopes": nested}
        rest = {key: value for key, value in rest.items() if key not in by_scope}
    chart, rest = _chart(rest)
    groups = rest.pop("groups", None)
    if groups is not None and not isinstance(groups, list):
        rest["groups"], groups = groups, None
    examples = [
        {
            "pictures": [gallery.entry(image_id) for image_id in example[:MAX_PICTURES]],
            "more": max(0, len(example) - MAX_PICTURES),
        }
        for example in check.examples[:MAX_EXAMPLES]
    ]
    return {
        "check": check,
        "count": found(check),
        "question": CHECKS[check.name],
        "why": WHY[check.name],
        "scopes": by_scope,
        "chart": chart,
        "groups": groups,
        "examples": examples,
        "more_examples": max(0, len(check.examples) - MAX_EXAMPLES),
        "rest": rest,
    }


def _chart(details: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Take the scores out of details: rows of an interval plot, and the details that are left."""
    rest = dict(details)
    scores = []
    if real(rest.get("auc")):
        scores.append(("all together", details))
        rest = _unplotted(details)
    for key, entry in details.items():
        if isinstance(entry, dict) and real(entry.get("auc")):
            scores.append((key, entry))
            rest[key] = _unplotted(entry)
            if not rest[key]:
                del rest[key]
    for key in ("families", "features", "pairs"):
        entries = rest.get(key)
        if not isinstance(entries, list):
            continue
        scored = [entry for entry in entries if isinstance(entry, dict) and real(entry.get("auc"))]
        scores += [(_name(entry), entry) for entry in scored]
        left: Any = [entry for entry in entries if entry not in scored]
        if more := {
            _name(entry): further
            for entry in scored
            if (further := _unplotted(entry, "name", "family", "parts"))
        }:
            left = [*left, more] if left else more
        rest[key] = left
        if not left:
            del rest[key]
    if not scores:
        return None, rest
    values = [entry[key] for _, entry in scores for key in ("auc", "low", "high") if real(entry.get(key))]
    start = max(0.0, min(0.4, int(min(values) * 10) / 10))
    ticks = [start, 0.5, 0.75, 1.0]

    def at(value: float) -> str:
        return f"{100 * min(max((value - start) / (1 - start), 0), 1):.2f}%"

    rows = [{"name": name, **_row(entry, at)} for name, entry in scores]
    return {
        "rows": rows,
        "ticks": [(at(tick), f"{tick:g}") for tick in ticks],
        "chance": at(0.5),
        "shuffled": any(row["shuffled"] for row in rows),
    }, rest


def _row(entry: Mapping[str, Any], at: Callable[[float], str]) -> dict[str, Any]:
    permutation = entry.get("permutation")
    permutation = permutation if isinstance(permutation, Mapping) else {}
    mean, high = permutation.get("mean"), permutation.get("high")
    interval = real(entry.get("low")) and real(entry.get("high"))
    return {
        "auc": at(entry["auc"]),
        "interval": (at(entry["low"]), at(entry["high"])) if interval else None,
        "shuffled": at(high) if real(high) else None,
        "value": f"{entry['auc']:.3f}",
        "between": f"{entry['low']:.3f} to {entry['high']:.3f}" if interval else "",
        "chance": ", ".join(f"{word} {x:.3f}" for word, x in (("mean", mean), ("up to", high)) if real(x)),
    }


def _unplotted(entry: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return what the row of an entry does not show."""
    rest = {key: value for key, value in entry.items() if key not in ("auc", "low", "high", *names)}
    if isinstance(shuffled := rest.get("permutation"), Mapping):
        rest["permutation"] = {key: value for key, value in shuffled.items() if key not in ("mean", "high")}
        if not rest["permutation"]:
            del rest["permutation"]
    return rest


def _name(entry: Mapping[str, Any]) -> str:
    parts = entry.get("parts")
    if isinstance(parts, list):
        return " / ".join(map(str, parts))
    name = str(entry.get("name", "unnamed"))
    return f"{entry['family']}: {name}" if "family" in entry else name


def _alike(entries: list[object]) -> list[str]:
    """Return the columns of a list of mappings that all have the same few names, else nothing."""
    names = list(entries[0]) if isinstance(entries[0], Mapping) else []
    same = all(isinstance(entry, Mapping) and set(entry) == set(names) for entry in entries)
    return names if same and len(names) <= _COLUMNS else []


def _flat(value: Mapping[str, Any]) -> bool:
    return not any(isinstance(entry, (Mapping, list)) for entry in value.values())


def _as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _printable(value: object) -> object:
    """Escape what no page can hold, such as halves of surrogate pairs; markup is left alone."""
    return one_line(value) if type(value) is str else value
