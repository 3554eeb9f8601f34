"""The form as it was filled in and not sent, which the browser keeps over a reload: its values, and a ticket for the
photograph, or the video, and the picture that the new video ends with.

The ticket names the uploads and whose they are, under a seal. Only who was given it gets them back: a path alone,
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
_BETWEEN = "\n"  # two uploads of a ticket: Gradio leaves no such sign in a name


@dataclass(frozen=True)
class Tickets:
    """Gives and reads tickets. `key` is known to the server alone."""

    key: str

    def give(self, who: str, picture: Path | None, last_picture: Path | None = None) -> str:
        """A ticket for `picture` and `last_picture`, which lie in the folder of uploads, or for a form without."""
        uploads = Path(get_upload_folder()).resolve()
        places = [one.relative_to(uploads).as_posix() if one else "" for one in (picture, last_picture)]
        # A name with such a sign would be read as two.
        place = _BETWEEN.join("" if _BETWEEN in one else one for one in places)
        return f"{self._seal(who, place)}:{place}"

    def is_of(self, ticket: Any, who: str) -> bool:
        """Whether `ticket` was given to `who`."""
        if not isinstance(ticket, str):
            return False
        seal, _, place = ticket.partition(":")
        return hmac.compare_digest(seal.encode(), self._seal(who, place).encode())

    def picture(self, ticket: Any, who: str) -> Path | None:
        """The upload that `ticket` is for; None where there is none, or no more, or it is not `who`'s."""
        return self._upload(ticket, who, 0)

    def last_picture(self, ticket: Any, who: str) -> Path | None:
        """The same of the picture that the video ends with."""
        return self._upload(ticket, who, 1)

    def _upload(self, ticket: Any, who: str, number: int) -> Path | None:
        if not self.is_of(ticket, who):
            return None
        place = [*ticket.partition(":")[2].split(_BETWEEN), ""][number]
        return Path(get_upload_folder()).resolve() / place if place and self._is_there(place) else None

    def _is_there(self, place: str) -> bool:
        """Whether an upload lies at this place, and not beside the folder of uploads."""
        uploads = Path(get_upload_folder()).resolve()
        path = (uploads / place).resolve()
        return path.is_relative_to(uploads) and path.is_file()

    def _seal(self, who: str, place: str) -> str:
        return hmac.new(self.key.encode(), f"{who}\0{place}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class KeptForm:
    """`values` by the names of FIELDS, those that could be read; `picture` and `last_picture`: the uploads, where they
    are still there."""

    values: Mapping[str, Any]
    picture: Path | None
    ticket: str
    last_picture: Path | None = None

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
        return cls(values, picture, ticket, tickets.last_picture(ticket, who))


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
