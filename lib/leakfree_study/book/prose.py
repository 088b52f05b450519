"""Check, and renew, the numbers and figures of a run that Markdown files outside the book show.

They stand between comments that name them, so that a reader of the plain file sees the number:
``<!-- quote:selected_accuracy -->0.976<!-- /quote -->`` and ``<!-- figure:06_forest -->...<!-- /figure -->``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from leakfree.base.escape import Arguments, say
from leakfree.base.files import write_text
from leakfree_study.book.quotes import Quotes
from leakfree_study.book.quoting import QuoteError

#: The published run, beside the file that quotes it.
PUBLISHED = Path("artifacts", "chest_xray")
_MARK = re.compile(r"(<!-- (quote|figure):(\w[\w-]*) -->)(.*?)(<!-- /\2 -->)", re.DOTALL)
_OPEN = re.compile(r"<!-- (?:quote|figure):")


def renew(text: str, quotes: Quotes, folder: Path) -> tuple[str, list[str]]:
    """Put what a run says into the marked places of a text.

    Parameters
    ----------
    text : str
        Markdown.
    quotes : Quotes
    folder : Path
        Folder of the file that holds the text; paths of figures are relative to it.

    Returns
    -------
    str
        The text as it should be.
    list of str
        One line for each place that says something else.

    Raises
    ------
    QuoteError
        A name is unknown, the run lacks what it names, or a mark is not closed.
    """
    differences = []

    def put(match: re.Match) -> str:
        opening, kind, name, stands, closing = match.groups()
        wanted = _figure(name, quotes.run, folder) if kind == "figure" else _number(name, quotes)
        if stands != wanted:
            line = text.count("\n", 0, match.start()) + 1
            differences.append(f"line {line}: {name} is {wanted!r}, not {stands!r}")
        return f"{opening}{wanted}{closing}"

    whole = len(_MARK.findall(text))
    if whole != len(_OPEN.findall(text)):
        raise QuoteError("a quote or figure is not closed, or its name is none")
    return _MARK.sub(put, text), differences


def _number(name: str, quotes: Quotes) -> str:
    found = quotes[name]
    if not found.present:
        raise QuoteError(f"quote {name}: the run {quotes.run.name} lacks it")
    return found.text


def _figure(name: str, run: Path, folder: Path) -> str:
    try:
        entry = json.loads((run / "figures" / "index.json").read_text(encoding="utf-8"))[name]
        file, alt = run / "figures" / entry["files"][0], entry.get("alt") or entry["caption"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise QuoteError(f"figure {name}: the run {run.name} has none ({error!r})") from None
    if not file.is_file():
        raise QuoteError(f"figure {name}: the run {run.name} has no figures/{file.name}")
    return f"![{alt}]({Path(os.path.relpath(file, folder)).as_posix()})"


def main(arguments: list[str] | None = None) -> int:
    """Check files, or renew them with ``--write``.

    Returns
    -------
    int
        0 if all agree or were renewed, 1 if one does not, 2 if one cannot be checked.
    """
    parser = Arguments(prog="python -m leakfree_study.book.prose", description=__doc__.split("\n\n")[0])
    parser.add_argument("file", nargs="+", type=Path, help="Markdown files such as README.md")
    parser.add_argument(
        "--run", type=Path, help=f"run folder (default: {PUBLISHED.as_posix()} beside the file)"
    )
    parser.add_argument("--write", action="store_true", help="renew the files instead")
    options = parser.parse_args(arguments)
    differ = False
    for file in options.file:
        try:
            text = file.read_text(encoding="utf-8")
            quotes = Quotes((options.run or file.parent / PUBLISHED).resolve())
            renewed, differences = renew(text, quotes, file.parent.resolve())
        except (OSError, UnicodeDecodeError, QuoteError) as error:
            say(f"{file}: {error}", file=sys.stderr)
            return 2
        for line in differences:
            say(f"{file}, {line}" + (" (renewed)" if options.write else ""))
        if differences and options.write:
            write_text(file, renewed)
        differ = differ or bool(differences)
    return int(differ and not options.write)


if __name__ == "__main__":
    sys.exit(main())
