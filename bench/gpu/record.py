"""A suite's time and its result file, which is whole after every case."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from i2v.families import SPECS
from i2v.planning.code_key import code_key
from i2v.whole_file import write_whole

Row = dict[str, Any]


class Clock:
    """So many minutes from now. Suites ask before each case whether there is room for it."""

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = now() + 60 * minutes

    @property
    def left_seconds(self) -> float:
        return max(0.0, self._end - self._now())

    def room_for(self, seconds: float) -> bool:
        """Whether a case that is expected to take so long would end in time."""
        return self.left_seconds > seconds

    def share(self, part: float) -> Clock:
        """A clock that ends when this part of the time that is left has passed."""
        return Clock(self.left_seconds * part / 60, self._now)


class Record:
    """`FOLDER/<suite>.json`: what was measured on, notes of the whole suite, and one row for each case.

    Written to a file beside and renamed after every change, so that whatever ends the process leaves valid rows.
    `earlier` holds files of an earlier run: its rows are taken over where machine and program are the same."""

    def __init__(self, folder: Path, suite: str, machine: Row, earlier: Path | None = None) -> None:
        self.path = folder / f"{suite}.json"
        self._began = time.monotonic()
        self._content: Row = {
            "suite": suite,
            **machine,
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "ended": "broken off",  # until `end` says otherwise
            "seconds": 0.0,
            "notes": {},
            "rows": [],
        }
        folder.mkdir(parents=True, exist_ok=True)
        if earlier is not None:
            self._take_over(earlier / f"{suite}.json", machine)
        self._write()

    @property
    def notes(self) -> Row:
        """What was noted so far."""
        return self._content["notes"]

    def rows(self) -> list[Row]:
        """Every case so far."""
        return list(self._content["rows"])

    def has(self, case: str) -> bool:
        """Whether this case is there already."""
        return self.get(case) is not None

    def get(self, case: str) -> Row | None:
        """The row of a case."""
        return next((row for row in self._content["rows"] if row["case"] == case), None)

    def put(self, case: str, row: Row) -> None:
        """Add a case's row, or put it in the place of what it had."""
        rows = self._content["rows"]
        place = next((index for index, one in enumerate(rows) if one["case"] == case), len(rows))
        rows[place : place + 1] = [{"case": case, **row}]
        self._write()

    def note(self, **values: Any) -> None:
        """Something that holds for the whole suite."""
        self.notes.update(values)
        self._write()

    def end(self, how: str) -> None:
        """The suite is over: "whole", "out of time", or an error's words."""
        self._content["ended"] = how
        self._write()

    def _take_over(self, path: Path, machine: Row) -> None:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if all(before[name] == machine[name] for name in ("card", "torch", "program", "small")):
                self._content |= {"rows": before["rows"], "notes": before["notes"]}
        except (OSError, ValueError, KeyError) as error:
            print(f"Nothing is taken over from {path}: {error}", flush=True)

    def _write(self) -> None:
        self._content["seconds"] = round(time.monotonic() - self._began, 1)
        text = json.dumps(self._content, indent=1, allow_nan=False) + "\n"
        write_whole(self.path, text)


def software() -> Row:
    """The versions that a figure depends on, and the keys of the code that was measured."""
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "diffusers": _version("diffusers"),
        "transformers": _version("transformers"),
        "program": " ".join(map(code_key, SPECS)),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
