"""The form as it was filled in and not sent, which the browser keeps over a reload: its values, and a ticket for the
photograph.

The ticket names the upload and whose it is, under a seal. Only who was given it gets that upload back: a path alone,
which anybody can write, opens nothing, and neither does another person's ticket.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from i2v.ui.create.finish_fields import SWITCHES
from i2v.ui.create.form import FIELDS, NUMERIC, SEVERAL

PAINTED = ("region", "way")
LONGEST_VALUE = 100_000  # characters
MOST_VALUES = 100  # in a list


@dataclass(frozen=True)
class Tickets:
    """Gives and reads tickets. `key` is known to the server alone."""

    key: str

    def give(self, who: str, picture: Path | None) -> str:
        """A ticket for `picture`, which lies in the folder of uploads, or for a form without one."""
        place = picture.relative_to(Path(get_upload_folder()).resolve()).as_posix() if picture else ""
        return f"{self._seal(who, place)}:{place}"

    def is_of(self, ticket: Any, who: str) -> bool:
        """Whether `ticket` was given to `who`."""
        if not isinstance(ticket, str):
            return False
        seal, _, place = ticket.partition(":")
        return hmac.compare_digest(seal.encode(), self._seal(who, place).encode())

    def picture(self, ticket: Any, who: str) -> Path | None:
        """The upload that `ticket` is for; None where there is none, or no more, or it is not `who`'s."""
        if not self.is_of(ticket, who) or not (place := ticket.partition(":")[2]):
            return None
        path = Path(get_upload_folder()).resolve() / place
        return path if path.is_file() else None

    def _seal(self, who: str, place: str) -> str:
        return hmac.new(self.key.encode(), f"{who}\0{place}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class KeptForm:
    """`values` by the names of FIELDS, those that could be read; `picture`: the upload, where it is still there."""

    values: Mapping[str, Any]
    picture: Path | None
    ticket: str

    @classmethod
    def of(cls, kept: Any, who: str, tickets: Tickets) -> KeptForm | None:
        """What the browser of `who` kept; None where it kept nothing, or another person's form."""
        if not isinstance(kept, dict) or not isinstance(kept.get("values"), dict):
            return None
        ticket = kept.get("ticket")
        if not tickets.is_of(ticket, who):
            return None
        values = {name: kept["values"][name] for name in FIELDS if _can_be(name, kept["values"].get(name, ...))}
        picture = tickets.picture(ticket, who)
        if picture is None:  # what was painted belongs to it
            values = {name: value for name, value in values.items() if name not in PAINTED}
        return cls(values, picture, ticket)


def _can_be(name: str, value: Any) -> bool:
    """Whether the field can show `value`. Whether it can be asked for is said where it is."""
    if name in NUMERIC:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if name in SWITCHES:
        return isinstance(value, bool)
    if name in SEVERAL:
        return isinstance(value, list) and len(value) <= MOST_VALUES and all(map(_is_text, value))
    return _is_text(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_VALUE
