"""Names that attack what they are written into, and a look at what came of them."""

import unicodedata
from html.parser import HTMLParser

#: What the template would write, where it ran.
PWNED = "PWNED"
TEMPLATE = f"{{{{cycler.__init__.__globals__.os.system('touch {PWNED}')}}}}"
IMAGE = "<img src=x onerror=alert(1)>"
OUT_OF_CODE = f"a` {IMAGE} `b"
#: They can be labels and titles.
PRINTABLE = (
    TEMPLATE,
    IMAGE,
    "<script>alert(1)<!--",
    "</title><script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "{quote}`images` {py:func}`x`",
    "`a` **b** _c_ ~~d~~ [e](javascript:alert(1)) ![f](x)",
    "| a || b |\\| c",
    "\\",
    "# a #",
    ":::{note}",
    "```{eval-rst}",
    "% a",
    "+++",
    "---",
    "- a",
    "1. a",
    "(a)=",
    "&lt;b&gt; &amp; &#60;",
    "$\\frac{a$ and \\(b\\) $$c$$",
    "=HYPERLINK(1)",
    "+1+1",
    "@SUM(1)",
    "-2",
    "[red]a[/red] :smile:",
    "{0} {label} %s %(a)s",
    "__init__ a_b _c",
    "http://example.org/a",
    "שלום سلام",
    "😀 𝕏 漢",
    "null",
    "yes",
    "1e3",
    "nan",
    OUT_OF_CODE,
)
#: They can be names of files, and are shown as escapes.
UNPRINTABLE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "two\nlines\r",
    "\x9b31m",
    "a\u202egnp.exe",
    "\u2066a\u2069\u200f",
    "\ufeff\u200b",
    "\x7f\x08\t",
    "\ud800",
)
EVERY = PRINTABLE + UNPRINTABLE


class _Page(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.elements, self.text, self._open = [], "", ""

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open not in ("script", "style"):
            self.text += data


def read_page(html):
    """Return the elements of a page, and its text with single spaces."""
    page = _Page()
    page.feed(html)
    page.close()
    return page.elements, " ".join(page.text.split())


def attacks(html):
    """Return the elements that a name has put into a page: code that it would run, its picture, its link."""
    elements, _ = read_page(html)
    return [
        f"<{tag} {name}={value}>"
        for tag, attributes in elements
        for name, value in attributes.items()
        if (name.startswith("on") and "alert" in str(value)) or str(value).startswith("javascript:alert")
        or (name in ("src", "href") and value == "x")
    ]  # fmt: skip


def controls(text, allowed="\n"):
    """Return the characters of a text that a terminal would obey, or that turn the direction of reading."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - set(allowed)
