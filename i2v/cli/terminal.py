"""What a terminal shows: widths of text, a progress bar, sizes and times as people read them."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable, Mapping
from typing import TextIO

from i2v.messages import DEFAULT_LOCALE, best_locale

BAR_CELLS = 24


def terminal_locale(environ: Mapping[str, str] = os.environ) -> str:
    """The language of the person at the terminal: Chinese where the system is set to it, else English."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environ.get(variable):
            return best_locale(environ[variable].replace("_", "-"))
    return DEFAULT_LOCALE


def width_of(text: str) -> int:
    """The cells that `text` takes: two for each East Asian wide character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def padded(text: str, cells: int) -> str:
    """`text` followed by spaces up to `cells` cells."""
    return text + " " * max(cells - width_of(text), 0)


def cut(text: str, cells: int) -> str:
    """`text`, or as much of it as `cells` cells hold."""
    while width_of(text) > cells:
        text = text[:-1]
    return text


def bar(done: int, total: int, cells: int = BAR_CELLS) -> str:
    """A bar that is `done` / `total` full."""
    full = cells * done // total if total else 0
    return "█" * full + "░" * (cells - full)


def clock(seconds: float) -> str:
    """0:31, 12:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def gib(size_bytes: float | None) -> str:
    """The size in GiB with one decimal, "?" where unknown."""
    return "?" if size_bytes is None else f"{size_bytes / 2**30:.1f}"


class StatusLine:
    """One line at the bottom of a terminal that is written over again and again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False

    def show(self, text: str) -> None:
        """Put `text` in place of what stood there."""
        columns = shutil.get_terminal_size().columns
        self._stream.write(f"\r\x1b[K{cut(text, columns - 1)}")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take it away, so that a whole line can be written."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def bytes_shown(line: StatusLine | None, name: str, total_bytes: int) -> Callable[[int], None]:
    """Takes how many bytes more are done and shows on `line`, if there is one, how far all of it is."""
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        if line is not None:
            line.show(f"{name}  {bar(done, total_bytes)}  {gib(done)} / {gib(total_bytes)} GiB")

    return add
