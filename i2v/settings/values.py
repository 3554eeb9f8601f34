"""What a single value may be: each kind parses what people write and refuses the rest in words they can act on.

Values come from YAML, environment variables, flags and JSON, so a number may arrive as text: `12`, `12.0`, `"12"`.
Every `parse(value, name)` returns the typed value or raises UserError; `name` is what the person would look for,
such as `config.yaml: port`, `CHUNK_SIZE` or `--steps`. None and "auto" are the caller's affair.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Protocol

from i2v.messages import UserError
from i2v.vae_window import LEAST, MOST, OWN, VaeWindow

_SHOWN_CHARS = 60
_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")


class Kind(Protocol):
    """One kind of value."""

    def parse(self, value: Any, name: str) -> Any:
        """The typed value; raises UserError naming `name`, the value and what is allowed."""
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`; `auto` says in the error text that "auto" would do as well."""

    low: int
    high: int
    auto: bool = False

    def parse(self, value: Any, name: str) -> int:
        number = whole(value)
        if number is None or not self.low <= number <= self.high:
            message_id = "settings.bad_whole_or_auto" if self.auto else "settings.bad_whole"
            raise UserError(message_id, name=name, value=shown(value), low=self.low, high=self.high)
        return number


@dataclass(frozen=True)
class Number:
    """A finite number from `low` to `high`."""

    low: float
    high: float
    auto: bool = False

    def parse(self, value: Any, name: str) -> float:
        number = _number(value)
        if number is None or not self.low <= number <= self.high:
            message_id = "settings.bad_number_or_auto" if self.auto else "settings.bad_number"
            raise UserError(message_id, name=name, value=shown(value), low=f"{self.low:g}", high=f"{self.high:g}")
        return number


@dataclass(frozen=True)
class Area:
    """A count of pixels, as a whole number or as `WIDTHxHEIGHT`."""

    low: int
    high: int
    auto: bool = False

    def parse(self, value: Any, name: str) -> int:
        if isinstance(value, str) and "x" in value.lower():
            sides = [whole(side) or 0 for side in value.lower().split("x")]
            area = math.prod(sides) if len(sides) == 2 and min(sides) > 0 else None
        else:
            area = whole(value)
        if area is None or not self.low <= area <= self.high:
            message_id = "settings.bad_area_or_auto" if self.auto else "settings.bad_area"
            raise UserError(message_id, name=name, value=shown(value), low=self.low, high=self.high)
        return area


@dataclass(frozen=True)
class Window:
    """The window of an autoencoder of videos, as `i2v.vae_window` writes it."""

    auto: bool = False

    def parse(self, value: Any, name: str) -> str:
        if isinstance(value, str) and value.strip().lower() == OWN:
            return OWN
        window = VaeWindow.read(value) if isinstance(value, str) else None
        if window is None:
            message_id = "settings.bad_window_or_auto" if self.auto else "settings.bad_window"
            raise UserError(message_id, name=name, value=shown(value))
        if not window.works:
            least = VaeWindow(*LEAST)
            raise UserError("settings.window_range", name=name, value=shown(value), low=str(least), high=MOST)
        return str(window)


@dataclass(frozen=True)
class Choice:
    """One of `options`, or one of the `aliases` people write for them; case does not matter."""

    options: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    auto: bool = False

    def parse(self, value: Any, name: str) -> str:
        if isinstance(value, str):
            written = value.strip()
            for option in self.options:
                if option.lower() == written.lower():
                    return option
            if written.lower() in self.aliases:
                return self.aliases[written.lower()]
        allowed = [*self.options, *(["auto"] if self.auto else [])]
        near = nearest(value, allowed)
        if near:
            raise UserError(
                "settings.bad_choice_near", name=name, value=shown(value), options=listed(allowed), near=near
            )
        raise UserError("settings.bad_choice", name=name, value=shown(value), options=listed(allowed))


@dataclass(frozen=True)
class Switch:
    """Yes or no."""

    def parse(self, value: Any, name: str) -> bool:
        written = str(value).strip().lower() if isinstance(value, str | bool | int) else ""
        if written in _ON:
            return True
        if written in _OFF:
            return False
        raise UserError("settings.bad_switch", name=name, value=shown(value))


@dataclass(frozen=True)
class Text:
    """Text that is not empty. Numbers are refused: YAML reads an unquoted 0123 as 83."""

    def parse(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise UserError("settings.bad_text", name=name, value=shown(value))
        return value.strip()


@dataclass(frozen=True)
class CardId:
    """A card's index or UUID."""

    def parse(self, value: Any, name: str) -> str:
        index = whole(value)
        if index is not None and index >= 0:
            return str(index)
        if index is None and isinstance(value, str) and value.strip():
            return value.strip()
        raise UserError("settings.bad_gpu", name=name, value=shown(value))


@dataclass(frozen=True)
class Url:
    """The address of a web service."""

    def parse(self, value: Any, name: str) -> str:
        written = value.strip() if isinstance(value, str) else ""
        if not written.startswith(("http://", "https://")):
            raise UserError("settings.bad_url", name=name, value=shown(value))
        return written.rstrip("/")


@dataclass(frozen=True)
class Folder:
    """A folder, existing or not; `~` is the home folder."""

    def parse(self, value: Any, name: str) -> Path:
        if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
            raise UserError("settings.bad_folder", name=name, value=shown(value))
        try:
            return Path(value).expanduser()
        except RuntimeError:
            raise UserError("settings.bad_folder", name=name, value=shown(value)) from None


@dataclass(frozen=True)
class Folders:
    """Folders, existing or not: a list, or a text with the system's mark between them (":"; on Windows ";")."""

    def parse(self, value: Any, name: str) -> tuple[Path, ...]:
        listed_here = value.split(os.pathsep) if isinstance(value, str) else value
        if not isinstance(listed_here, list | tuple):
            raise UserError("settings.bad_folders", name=name, value=shown(value), mark=os.pathsep)
        return tuple(dict.fromkeys(Folder().parse(one, name) for one in listed_here))


@dataclass(frozen=True)
class File:
    """A file, existing or not; `~` is the home folder."""

    def parse(self, value: Any, name: str) -> Path:
        try:
            return Folder().parse(value, name)
        except UserError:
            raise UserError("settings.bad_file", name=name, value=shown(value)) from None


def whole(value: Any) -> int | None:
    """The whole number that `value` writes, or None: 12, 12.0, "12" and "12.0" do; True, 12.5 and NaN do not."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _number(value: Any) -> float | None:
    """The finite number that `value` writes, or None."""
    if isinstance(value, bool) or not isinstance(value, Real | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def shown(value: Any) -> str:
    """`value` as it can stand in a message: printable, short."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python refuses to write out an int of thousands of digits
        text = type(value).__name__
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: _SHOWN_CHARS + 1])
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def nearest(value: Any, options: Iterable[str]) -> str | None:
    """The option that `value` probably meant, or None."""
    if not isinstance(value, str):
        return None
    by_lower = {option.lower(): option for option in options}
    matches = get_close_matches(value.strip().lower()[:_SHOWN_CHARS], by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def listed(options: Iterable[str]) -> str:
    """The options as they stand in a message."""
    return ", ".join(options)
