"""How steady a clip is: what was measured from frame to frame, and what it comes to. Pure arithmetic.

The numbers are this app's own. They are no scores of a public benchmark and are not to be compared with any.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
"""Of what is written down: reports of another version are measured anew."""

Level = Literal["none", "slight", "strong"]
Finding = Literal["flickers", "drifts", "cuts", "seams", "wobbles"]
FINDINGS: tuple[Finding, ...] = ("flickers", "drifts", "cuts", "seams", "wobbles")

# Below the first a measure is "none", from the second on "strong".
LEVELS: Mapping[str, tuple[float, float]] = {
    "flicker": (0.005, 0.015),
    "drift": (2.3, 5.0),  # 2.3 is the difference in CIE Lab that is just seen
    "warping_error": (0.03, 0.06),
    "seam_ratio": (1.25, 2.0),
}
_LEAST_LUMA = 0.05  # a nearly black clip is not said to flicker by its noise
_LEAST_UNLIKE = 0.25  # what a cut has at least, as 1 - likeness
_CUT_TIMES = 4.0  # and how far it is above its neighbours
_CUT_NEIGHBOURS = 4  # on either side
_SMOOTHED_SECONDS = 0.5
_LEAST_STEPS = {"error": 0.005, "motion_change": 0.001, "colour_change": 0.5}  # below these all steps are alike
_DIGITS = 6


@dataclass(frozen=True)
class FrameMeasure:
    """One frame, and what has changed since the frame before it; all changes of the first frame are 0.

    `luma`: the mean of the whole frame, 0 to 1. `lightness`, `a`, `b`: its mean in CIE Lab. Everything below is
    measured along the motion, where both frames show the same thing, so that what moves or comes into view does not
    count.
    `luma_change`, `lightness_change`, `a_change`, `b_change`: how the means have changed. `error`: root of the mean
    squared difference of the colours, each 0 to 1. `shown`: the part of the frame, 0 to 1, that the frame before shows
    as well. `motion`: the mean length of the motion, and `motion_change` of its change since the pair of frames before,
    in parts of the frame's longer side. `likeness`: of the whole frame to the frame before moved along, 1 for alike
    and about 0 for two pictures that have nothing in common."""

    luma: float
    lightness: float
    a: float
    b: float
    luma_change: float = 0.0
    lightness_change: float = 0.0
    a_change: float = 0.0
    b_change: float = 0.0
    error: float = 0.0
    shown: float = 1.0
    motion: float = 0.0
    motion_change: float = 0.0
    likeness: float = 1.0


@dataclass(frozen=True)
class Steadiness:
    """What a clip's frames come to.

    `flicker`: the standard deviation of brightness from frame to frame, in parts of the mean brightness. It is taken
    from the second difference, so that a brightness that rises or falls evenly does not count. `drift`: how far the
    colours have moved away from those of the first frame at most, smoothed over half a second, in CIE Lab.
    `warping_error`: the mean of `FrameMeasure.error`. `motion`: parts of the longer side that the picture moves in a
    second. `cuts`: the frames, counted from 0, with which another picture begins; what changes there counts for nothing
    else. `seams`: the frames with which another window of a longer clip begins, as the meter was told. `seam_ratio`:
    how large the steps are there, against those elsewhere; None without seams. `method`: what measured the motion.
    `source`: the frames as they were made, or a video file, which has lost something by its coding."""

    fps: float
    flicker: float
    drift: float
    warping_error: float
    motion: float
    cuts: tuple[int, ...]
    seams: tuple[int, ...]
    seam_ratio: float | None
    method: str
    source: Literal["frames", "video"]
    frames: tuple[FrameMeasure, ...]

    def level(self, name: str) -> Level:
        """How much of it there is, of a name in LEVELS."""
        return level_of(name, getattr(self, name))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be seen in it that was hardly wanted; empty for a steady clip."""
        found = {
            "flickers": self.level("flicker") == "strong",
            "drifts": self.level("drift") == "strong",
            "cuts": bool(self.cuts),
            "seams": self.level("seam_ratio") == "strong",
            "wobbles": self.level("warping_error") == "strong",
        }
        return tuple(name for name in FINDINGS if found[name])

    @property
    def unsteadiness(self) -> float:
        """One number to put clips in order by: the largest measure, 1 where it is strong, and 1 for every cut."""
        measures = [(getattr(self, name) or 0.0) / strong for name, (_, strong) in LEVELS.items()]
        return max(measures) + len(self.cuts)

    @property
    def summary(self) -> dict[str, Any]:
        """All but the single frames, as plain JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "frames"}
        return {**values, "cuts": list(self.cuts), "seams": list(self.seams), "findings": list(self.findings)}

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values: the frames as one list for each measure."""
        measures = {
            one.name: [round(getattr(frame, one.name), _DIGITS) for frame in self.frames]
            for one in fields(FrameMeasure)
        }
        return {"version": VERSION, **self.summary, "frames": measures}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Steadiness:
        """What `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        if values["version"] != VERSION:
            raise ValueError(f"a report of version {values['version']}")
        names = [one.name for one in fields(FrameMeasure)]
        rows = zip(*(values["frames"][name] for name in names), strict=True)
        return replace(cls.from_summary(values), frames=tuple(FrameMeasure(*map(float, row)) for row in rows))

    @classmethod
    def from_summary(cls, values: Mapping[str, Any]) -> Steadiness:
        """What `summary` gave, without frames. Raises ValueError, KeyError or TypeError for anything else."""
        numbers = {name: float(values[name]) for name in ("fps", "flicker", "drift", "warping_error", "motion")}
        seam_ratio = None if values["seam_ratio"] is None else float(values["seam_ratio"])
        cuts, seams = (tuple(map(int, values[name])) for name in ("cuts", "seams"))
        words = {name: values[name] for name in ("method", "source")}
        return cls(**numbers, seam_ratio=seam_ratio, cuts=cuts, seams=seams, **words, frames=())

    def csv(self) -> str:
        """A line for each frame, with its number and its time in seconds."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("frame", "seconds", *(one.name for one in fields(FrameMeasure)), "drift", "cut", "seam"))
        drifts = drift_of(self.frames, self.fps, self.cuts)
        for index, (frame, drift) in enumerate(zip(self.frames, drifts, strict=True)):
            values = [f"{value:.6g}" for value in (index / self.fps, *asdict(frame).values(), drift)]
            writer.writerow((index, *values, int(index in self.cuts), int(index in self.seams)))
        return text.getvalue()


def level_of(name: str, value: float | None) -> Level:
    """How much `value` is of a name in LEVELS; None is nothing."""
    slight, strong = LEVELS[name]
    if value is None or value < slight:
        return "none"
    return "slight" if value < strong else "strong"


def summed_up(
    frames: Sequence[FrameMeasure],
    fps: float,
    *,
    method: str,
    seams: Collection[int] = (),
    source: Literal["frames", "video"] = "frames",
) -> Steadiness:
    """What the measures of all frames of a clip come to. `seams`: the first frames of windows, counted from 0; those
    that are no frame of the clip, or the first, are left out."""
    cuts = cuts_of(frames)
    inside = tuple(sorted(seam for seam in set(seams) if 0 < seam < len(frames)))
    pairs = [frame for index, frame in enumerate(frames) if index and index not in cuts]
    return Steadiness(
        fps=fps,
        flicker=flicker_of(frames, cuts),
        drift=float(drift_of(frames, fps, cuts).max(initial=0.0)),
        warping_error=_mean([frame.error for frame in pairs]),
        motion=_mean([frame.motion for frame in pairs]) * fps,
        cuts=cuts,
        seams=inside,
        seam_ratio=seam_ratio_of(frames, inside, cuts),
        method=method,
        source=source,
        frames=tuple(frames),
    )


def flicker_of(frames: Sequence[FrameMeasure], cuts: Collection[int] = ()) -> float:
    """As `Steadiness.flicker`. Independent changes of brightness of standard deviation s have a second difference of
    standard deviation s times the root of 6."""
    changes = [frame.luma_change for frame in frames]
    seconds = [
        changes[index + 1] - changes[index]
        for index in range(1, len(frames) - 1)
        if index not in cuts and index + 1 not in cuts
    ]
    if not seconds:
        return 0.0
    brightness = max(_mean([frame.luma for frame in frames]), _LEAST_LUMA)
    return float(np.sqrt(np.mean(np.square(seconds)) / 6)) / brightness


def drift_of(frames: Sequence[FrameMeasure], fps: float, cuts: Collection[int] = ()) -> NDArray[np.float64]:
    """For each frame how far its colours are from those of the first frame, in CIE Lab, without flicker."""
    if not frames:
        return np.zeros(0)
    steps = np.array([(frame.lightness_change, frame.a_change, frame.b_change) for frame in frames])
    steps[[0, *cuts]] = 0
    path = np.cumsum(steps, axis=0)
    # A third of a short clip at most: all of it would be one value.
    reach = max(0, min(round(_SMOOTHED_SECONDS * fps), len(frames) // 3) // 2)
    smooth = np.array([path[max(0, index - reach) : index + reach + 1].mean(axis=0) for index in range(len(frames))])
    return np.linalg.norm(smooth - smooth[0], axis=1)


def cuts_of(frames: Sequence[FrameMeasure]) -> tuple[int, ...]:
    """The frames that are unlike the one before, and far more so than their neighbours are."""
    unlike = [1 - frame.likeness for frame in frames]
    found = []
    for index in range(1, len(frames)):
        before = unlike[max(1, index - _CUT_NEIGHBOURS) : index]
        around = before + unlike[index + 1 : index + 1 + _CUT_NEIGHBOURS]
        usual = float(np.median(around)) if around else 0.0
        if unlike[index] > max(_LEAST_UNLIKE, _CUT_TIMES * usual):
            found.append(index)
    return tuple(found)


def seam_ratio_of(frames: Sequence[FrameMeasure], seams: Collection[int], cuts: Collection[int] = ()) -> float | None:
    """The mean step at `seams` over the mean step elsewhere: of the colours along the motion, of their means, of the
    motion, whichever stands out most. None without seams, or where nothing else is left to compare with."""
    steps = {
        "error": [frame.error for frame in frames],
        "motion_change": [frame.motion_change for frame in frames],
        "colour_change": [float(np.hypot(f.lightness_change, np.hypot(f.a_change, f.b_change))) for f in frames],
    }
    # The motion that leads over a cut is none, so neither is its change to the next.
    apart = {*seams, *cuts, *(cut + 1 for cut in cuts)}
    elsewhere = [index for index in range(1, len(frames)) if index not in apart]
    if not seams or not elsewhere:
        return None
    ratios = []
    for name, values in steps.items():
        usual = max(_mean([values[index] for index in elsewhere]), _LEAST_STEPS[name])
        ratios.append(max(_mean([values[index] for index in seams]), _LEAST_STEPS[name]) / usual)
    return max(ratios)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
