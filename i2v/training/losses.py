"""The table of losses in a training's work folder. No torch here: page and jobs read it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from i2v.whole_file import write_whole

FILE = "loss.csv"
COLUMNS = ("step", "loss", "learning_rate", "seconds", "peak_bytes")


@dataclass(frozen=True)
class LossRow:
    """One step: its loss, and the most that the card held in it."""

    step: int
    loss: float
    peak_bytes: int


class Losses:
    """The table while it is written: a line for every step up to now. It never says more than the progress on disk
    will make again."""

    def __init__(self, work: Path, steps_done: int) -> None:
        """Lines of steps after `steps_done`, which will be made again, are taken out. Raises OSError."""
        self._path = work / FILE
        kept = [",".join(COLUMNS)]
        if self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines()[1:]
            kept += [line for line in lines if _step_of(line) in range(1, steps_done + 1)]
        write_whole(self._path, "\n".join(kept) + "\n")

    def add(self, *values: object) -> None:
        """A line of COLUMNS. Raises OSError."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())


def read_losses(work: Path) -> tuple[LossRow, ...]:
    """Every line that is whole; none where there is no table."""
    path = work / FILE
    try:
        stat = path.stat()
        return _rows_in(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, KeyError):
        return ()


@lru_cache(maxsize=64)
def _rows_in(path: Path, _mtime_ns: int, _size_bytes: int) -> tuple[LossRow, ...]:
    """Every open page asks every two seconds, of trainings that have ended too: a table is read when it has changed."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            LossRow(int(row["step"]), float(row["loss"]), int(row["peak_bytes"]))
            for row in csv.DictReader(file)
            if row.get("peak_bytes")
        )


def _step_of(line: str) -> int:
    step, _, _ = line.partition(",")
    return int(step) if step.isdigit() and line.count(",") == len(COLUMNS) - 1 else -1
