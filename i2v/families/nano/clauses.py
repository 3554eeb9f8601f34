"""A sentence taken apart at commas, full stops, "and", "while" and the like: each part is judged by itself."""

from __future__ import annotations

import re

MOST_CLAUSES = 7
_BETWEEN = re.compile(
    r"[,;!?\n，。；！？、]+|\.(?=\s|$)|\b(?:and|while|then|but|meanwhile)\b|然后|同时|并且|接着|而且|但是",
    re.IGNORECASE,
)


def clauses(text: str) -> tuple[str, ...]:
    """The parts of `text` in order, at most MOST_CLAUSES: what comes after is part of the last one. None where there
    are no words."""
    found, end = [], 0
    for match in _BETWEEN.finditer(text):
        if len(found) == MOST_CLAUSES - 1:
            break
        _take(text[end : match.start()], found)
        end = match.end()
    _take(text[end:], found)
    return tuple(found)


def _take(part: str, found: list[str]) -> None:
    part = part.strip().removesuffix("的").strip(" .")
    if part:
        found.append(part)
