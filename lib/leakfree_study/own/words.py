"""What a study on one's own images calls an image, in the text of notebooks and figures."""

from __future__ import annotations

import re

_FILM = re.compile(r"(?<![\w/.-])(?:([Aa])(\s+))?(films?|Films?)(?![\w/-]|\.\w)")
#: What a page holds besides text: pictures, and links to files.
_KEPT = re.compile(r"(data:[^\"')]*|href=\"[^\"]*\"|`[^`]*`)")


def in_words(text: str, image: str) -> str:
    """Call images what a study calls its images; names of files and pictures stay.

    Examples
    --------
    >>> in_words("Films of a draw, one film each; see 06_films.csv.", "photo")
    'Photos of a draw, one photo each; see 06_films.csv.'
    """
    many = plural(image)

    def word(found: re.Match) -> str:
        article, space, film = found.groups(default="")
        said = many if film.endswith("s") else image
        said = said[0].upper() + said[1:] if film[0] == "F" else said
        return f"{article}{'n' if article and image[0] in 'aeiou' else ''}{space}{said}"

    parts = _KEPT.split(text)
    return "".join(part if place % 2 else _FILM.sub(word, part) for place, part in enumerate(parts))


def plural(word: str) -> str:
    """Return the plural of what a study calls one image."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"
