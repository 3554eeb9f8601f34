"""Parts of the page that open on demand. The browser remembers which a person has opened and which closed, over new
answers and new visits (`folds.js`); until then each stands as it is made here."""

from __future__ import annotations

from html import escape

SMALL_SHARE = 0.2
"""Memory that stays below this part of its budget is nobody's worry, and its drawing is folded."""


def folded(title: str, body: str, name: str, *, open: bool = False) -> str:
    """`body`, which is HTML, under its title. `name`: by which the browser remembers it."""
    return (
        f'<details class="i2v-details" data-fold="{escape(name)}"{" open" if open else ""}>'
        f"<summary>{escape(title)}</summary>{body}</details>"
    )
