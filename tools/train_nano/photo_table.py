"""The table of the model card from the rows of the held-out photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tools.train_nano.measures import TAUGHT, CameraReading
from tools.train_nano.photo_rows import Row
from tools.train_nano.questions import (
    BEFORE,
    BRUSHED,
    BY_HAND,
    CAMERA_MADE,
    FOUND,
    FROZEN,
    LIGHT_MADE,
    LIGHTS,
    LIVING_MADE,
    MOVED,
)

TITLES = {
    BRUSHED: "region brushed", FOUND: "found by itself", BEFORE: "the version before", BY_HAND: "a warp by hand",
    FROZEN: "a frozen frame",
}  # fmt: skip
RATIO, STRAYED, FILLED, BEND, CONTRAST, LOOP, LIGHT, SHARP = 5.0, 0.003, 0.6, 1.0, 0.8, 1.05, 1.5, 0.85
NOTHING = "-"
Cell = Callable[[Sequence[Row]], str]


def lines_of(rows: Sequence[Row]) -> list[str]:
    """Markdown: living motions, camera, light; each way of making a clip a column."""
    lines: list[str] = []
    for part, ways, cells in (
        ("living", LIVING_MADE, _living()),
        ("camera", CAMERA_MADE, _camera()),
        ("light", LIGHT_MADE, _light()),
    ):
        of_part = [row for row in rows if row["part"] == part]
        lines += [*_table(of_part, ways, cells), ""] if of_part else []
    return lines


def _living() -> list[tuple[str, str, Cell]]:
    cells: list[tuple[str, str, Cell]] = [
        ("clips", "", lambda rows: str(len(rows))),
        (
            f"moves {RATIO:g} x more inside than outside",
            "brushed >= 90 %, found >= 75 %",
            _share("ratio", lambda value: value >= RATIO),
        ),
    ]
    for motion in MOVED:
        of_motion = _only(motion, _share("ratio", lambda value: value >= RATIO, counted=True))
        cells.append((f"- {motion}", "", of_motion))
    strayed = _share("outside_95", lambda value: value < STRAYED)
    cells += [
        ("inside over outside (median)", "", _median("ratio", "{:.1f} x")),
        ("outside strays < 0.3 % of the side at the 95th percentile", "all", strayed),
        ("the same along the region's rim", "all", _share("rim_95", lambda value: value < STRAYED)),
        ("outside, rim (median, % of the side)", "", _both("outside_95", "rim_95")),
        (f"more than {FILLED:g} of the region moves", "", _share("filled", lambda value: value > FILLED)),
        ("of what it found, and of what lives, the share in both (median)", "", _both("precision", "recall", 1)),
        *_pictures(),
        (
            f"where the camera stands, last to first frame at most {LOOP:g} x the largest of neighbours",
            "all",
            _share("loop", lambda value: value <= LOOP),
        ),
        ("camera stands", "", _camera_stands),
    ]
    return cells


def _camera() -> list[tuple[str, str, Cell]]:
    cells: list[tuple[str, str, Cell]] = [("clips", "", lambda rows: str(len(rows)))]
    for motion in TAUGHT:
        cells.append((f"as asked: {motion.replace('_', ' ')}", "", _only(motion, _followed(counted=True))))
    cells += [
        ("as asked: all", ">= 95 %", _followed()),
        ("size as a share of that taught (10 %, median, 90 %)", "", _sizes),
        ("of the picture's sides seen (least, median)", "", _least_and_median("view")),
        ("lines drawn over it bend (median, worst)", "< 1 px of 512", _worst("drawn_bend", "{:.1f} px")),
        *_pictures(),
    ]
    return cells


def _light() -> list[tuple[str, str, Cell]]:
    cells: list[tuple[str, str, Cell]] = []
    for motion in LIGHTS:
        change = _median("change", "{:+.2f}")
        cells.append((f"{motion}: change of brightness (median)", "", _only(motion, change)))
    for motion in ("night", "day"):
        even = _only(motion, _worst("light", "{:.2f}"))
        cells.append((f"{motion}: largest over smallest step (median, worst)", f"< {LIGHT:g}", even))
    return cells


def _pictures() -> list[tuple[str, str, Cell]]:
    return [
        ("the photograph's straight lines bend (median, worst)", "< 1 px of 512", _worst("bend", "{:.1f} px")),
        ("bent by less than that", "all", _share("bend", lambda value: value < BEND)),
        ("uncovered: most of a frame (median, worst)", "", _worst("uncovered", "{:.1%}")),
        (
            f"uncovered: contrast at least {CONTRAST:.0%} of its surface's",
            "all",
            _share("contrast", lambda value: value >= CONTRAST),
        ),
        ("least sharp frame against the picture (median, least)", f">= {SHARP:g}", _least("sharpness", "{:.2f}")),
        ("first frame against what it shows of the picture (least)", ">= 40 dB", _lowest("first_db", "{:.0f} dB")),
    ]


def _table(rows: Sequence[Row], ways: Sequence[str], cells: Sequence[tuple[str, str, Cell]]) -> list[str]:
    lines = [f"| what | wanted | {' | '.join(TITLES[way] for way in ways)} |", "|---|---|" + "---|" * len(ways)]
    for what, wanted, cell in cells:
        results = [cell([row for row in rows if row["made"] == way]) for way in ways]
        if any(result != NOTHING for result in results):
            lines.append(f"| {what} | {wanted} | {' | '.join(results)} |")
    return lines


def _values(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if row.get(name) is not None], dtype=float)


def _share(name: str, good: Callable[[float], bool], *, counted: bool = False) -> Cell:
    def cell(rows: Sequence[Row]) -> str:
        held = [good(value) for value in _values(rows, name)]
        if not held:
            return NOTHING
        return f"{sum(held)} of {len(held)}" if counted else f"{np.mean(held):.0%} ({sum(held)} of {len(held)})"

    return cell


def _of(name: str, form: Callable[[np.ndarray], str]) -> Cell:
    def cell(rows: Sequence[Row]) -> str:
        values = _values(rows, name)
        return form(values) if len(values) else NOTHING

    return cell


def _median(name: str, form: str) -> Cell:
    return _of(name, lambda values: form.format(np.median(values)))


def _worst(name: str, form: str) -> Cell:
    return _of(name, lambda values: f"{form.format(np.median(values))}, {form.format(values.max())}")


def _least(name: str, form: str) -> Cell:
    return _of(name, lambda values: f"{form.format(np.median(values))}, {form.format(values.min())}")


def _lowest(name: str, form: str) -> Cell:
    return _of(name, lambda values: form.format(values.min()))


def _least_and_median(name: str) -> Cell:
    return _of(name, lambda values: f"{values.min():.0%}, {np.median(values):.0%}")


def _both(one: str, other: str, places: int = 2) -> Cell:
    def cell(rows: Sequence[Row]) -> str:
        values = [_values(rows, name) for name in (one, other)]
        if not all(map(len, values)):
            return NOTHING
        return ", ".join(f"{100 * np.median(part):.{places}f}" for part in values)

    return cell


def _only(motion: str, cell: Cell) -> Cell:
    return lambda rows: cell([row for row in rows if row["motion"] == motion])


def reading(row: Row) -> CameraReading:
    """What was read of the camera in this clip."""
    return CameraReading(**{name: row["camera_" + name] for name in CameraReading.__dataclass_fields__})


def _camera_stands(rows: Sequence[Row]) -> str:
    held = [reading(row).follows("still") for row in rows]
    return f"{np.mean(held):.0%} ({sum(held)} of {len(held)})" if held else NOTHING


def _followed(*, counted: bool = False) -> Cell:
    def cell(rows: Sequence[Row]) -> str:
        held = [reading(row).follows(str(row["motion"])) for row in rows]
        if not held:
            return NOTHING
        return f"{sum(held)} of {len(held)}" if counted else f"{np.mean(held):.0%} ({sum(held)} of {len(held)})"

    return cell


def _sizes(rows: Sequence[Row]) -> str:
    sizes = [reading(row).size_of(str(row["motion"])) for row in rows if row["motion"] != "still"]
    return ", ".join(f"{size:.2f}" for size in np.quantile(sizes, [0.1, 0.5, 0.9])) if sizes else NOTHING
