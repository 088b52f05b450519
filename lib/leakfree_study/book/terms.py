"""Words of the glossary in the pages: the first use on a page is a link to what the word means.

``python -m leakfree_study.book.terms book/methods.md`` writes the links that a page lacks.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from leakfree.base.files import write_text

#: Term of the glossary to the forms that prose has. Words that mean other things too are linked by hand.
FORMS = {
    "cohort": r"cohorts?",
    "patient scope": r"patient scopes?",
    "linked group": r"linked groups?",
    "framing": r"framing",
    "phantom": r"phantoms?",
    "split manifest": r"split manifests?|manifests?",
    "ledger": r"ledgers?",
    "protocol": r"protocols?",
    "inflation": r"inflation",
    "donor": r"donors?",
    "reserve": r"reserves?",
    "dose": r"doses?",
    "ROC AUC": r"ROC AUC",
    "macro F1": r"macro F1",
    "calibration error": r"calibration error",
    "prediction set": r"prediction sets?",
    "embedding": r"embeddings?",
}
#: What is no prose: code, what stands in front, comments, roles, links, headings, directives, HTML, labels.
_NO_PROSE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^(?P=fence)[ ]*$|\A---\n.*?^---$|<!--.*?-->"
    r"|\{[\w:-]+\}`[^`]*`|`[^`\n]*`|!?\[[^\]]*\]\([^)]*\)"
    r"|^#[^\n]*$|^[ ]*:[^\n]*$|^[ ]*<[^\n]*$|<[^>\n]*>|^\([\w-]+\)=$",
    re.MULTILINE | re.DOTALL,
)


def linked(text: str) -> str:
    """Return the text of a page with the first use of each term as a link to the glossary.

    Parameters
    ----------
    text : str
        A page in MyST Markdown. A term that it links to already is left alone.

    Returns
    -------
    str

    Examples
    --------
    >>> linked("The ledgers and a ledger.")
    'The {term}`ledgers <ledger>` and a ledger.'
    """
    for term, form in FORMS.items():
        if re.search(rf"\{{term\}}`(?:{re.escape(term)}|[^`<]*<{re.escape(term)}>)`", text):
            continue
        prose = _NO_PROSE.sub(lambda hidden: "\0" * len(hidden[0]), text)
        if found := re.search(rf"(?<![\w-])(?:{form})(?![\w-])", prose):
            said = found[0]
            role = f"{{term}}`{said}`" if said == term else f"{{term}}`{said} <{term}>`"
            text = text[: found.start()] + role + text[found.end() :]
    return text


def main(pages: list[str]) -> int:
    """Write the links that pages lack."""
    for page in map(Path, pages):
        write_text(page, linked(page.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
