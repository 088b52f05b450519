"""What came from outside, made harmless where it is written: in Markdown, HTML, a terminal, a spreadsheet.

Names of files, folders and columns, labels, and every text of ``study.yaml`` or of a table can hold
anything: markup, a template, a role of MyST, a formula, a control character. They are kept as they are, and
pass through one of these functions where they are put into something that others read.
"""

from __future__ import annotations

import html as _html
import logging
import re
import sys
from argparse import ArgumentParser
from typing import NoReturn, TextIO

# A dollar sign begins a formula and a backslash an escape in more dialects than one, so they are entities.
_ENTITIES = {"\\": "&#92;", "$": "&#36;"}
# An underscore inside a word means nothing.
_MARKUP = re.compile(r"[\\$`*{}\[\]<>|&#~^]|(?<![^\W_])_|_(?![^\W_])")
# What means something at the beginning of a line alone: a list, a rule, a fence, a comment, a target.
_STARTS = re.compile(r"^(?:[-+](?!\w)|[=:%(])")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BREAKS = re.compile(r"[\r\n]+")


def one_line(value: object) -> str:
    r"""Return text on one line, with what cannot be printed (or encoded) written as an escape.

    Control characters, line breaks and marks that turn the direction of reading are no printable characters.

    Examples
    --------
    >>> one_line("red\x1b[31m\nnext")
    'red\\x1b[31m\\nnext'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value))


def markdown(value: object) -> str:
    r"""Return text for a line or a table cell of a Markdown page, where it is shown and means nothing.

    Examples
    --------
    >>> markdown("{quote}`x` <b>|")
    '\\{quote\\}\\`x\\` \\<b\\>\\|'
    """
    text = one_line(value).strip()
    text = _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), text)
    # Some readers make a link of a bare address.
    text = text.replace("://", ":&#47;/")
    return _NUMBERED.sub(r"\1\\\2", _STARTS.sub(lambda found: f"\\{found[0]}", text))


def code(value: object) -> str:
    """Return text as code in a line of a Markdown page, not in a table: a bar would end the cell.

    Examples
    --------
    >>> code("a`b")
    '``a`b``'
    """
    text = one_line(value) or " "
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    room = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{room}{text}{room}{fence}"


def html(value: object) -> str:
    """Return text for HTML, also inside an attribute in quotes.

    Examples
    --------
    >>> html("<b>")
    '&lt;b&gt;'
    """
    return _html.escape(one_line(value), quote=True)


def spreadsheet(value: str) -> str:
    """Return text for a CSV that is made to be opened in a spreadsheet, which takes some text for a formula.

    The apostrophe in front is how spreadsheets mark a text. Tables of a run do not have it: they are read
    back, and a name must stay what it is.

    Examples
    --------
    >>> spreadsheet("=1+1")
    "'=1+1"
    """
    return f"'{value}" if value.startswith(_FORMULA) else value


def terminal(value: object, stream: TextIO) -> str:
    """Return text on one line, with what the stream cannot print or encode written as an escape."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return one_line(value).encode(encoding, "backslashreplace").decode(encoding)


def say(text: object = "", file: TextIO | None = None) -> None:
    """Print one line above any progress bar, on standard output unless told otherwise."""
    file = file or sys.stdout
    line = terminal(text, file)
    if "tqdm" in sys.modules:  # else there is no bar to write above
        from tqdm import tqdm

        tqdm.write(line, file=file)
    else:
        file.write(f"{line}\n")


class LineFormatter(logging.Formatter):
    """Writes a message of the log as one line; what a notebook printed keeps its lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message."""
        text = super().format(record)
        if not record.name.startswith("papermill"):
            return one_line(text)
        return "\n".join(one_line(line) for line in _BREAKS.split(text) if line)


def log_lines(*, force: bool = False) -> None:
    """Send warnings of the log to standard error, a line each; `force` takes the place of other handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=force)


class Arguments(ArgumentParser):
    """Reads a command line, and refuses one in one line, whatever stands in it."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        super().error(one_line(message))
