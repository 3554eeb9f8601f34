"""Measure the weights that ship on the example pictures, and keep the numbers with what they were measured on.

    python -m tools.train_nano.quality   three minutes; writes bench/results/nano_quality.json

Exits 1 where a number breaks its bound. The tests read the file, so it is made again whenever the weights, the code or
the questions change. `evaluate` measures more, but needs photographs that are not in this repository.
"""

from __future__ import annotations

import hashlib
import json
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from tools.code_digest import code_digest
from tools.train_nano import measures, photo_measures
from tools.train_nano.clips import Brushed, Maker, Settings, Take
from tools.train_nano.prompts import phrase

ROOT = Path(__file__).parents[2]
COMMAND = "python -m tools.train_nano.quality"
RESULTS = ROOT / "bench" / "results" / "nano_quality.json"
NANO, DRAWN = ROOT / "i2v" / "assets" / "nano", Path(__file__).with_name("drawn")
# What a clip goes through between picture and frames, and what measures it.
FAMILY = ("nano/*.py", "guidance.py", "pixels.py", "schedulers.py", "text.py")
MEASURING = ("quality.py", "measures.py", "photo_measures.py", "clips.py", "motions.py", "prompts.py")
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "opencv-python-headless")

SIDE = 256
QUICK = Settings(frames=12, fps=3, steps=8)
LAKE_SHORE, ROSE = 0.6, (0.5, 0.44, 0.26)  # row of the water's edge; centre and radius of the flower, shares of a side
CAMERA_PICTURES = {"en": "lamp", "zh": "lake"}
BLOOMS, WATER = "the flower blooms", "the water ripples"
UNKNOWN = ("xqzw vrrt plmm", "鲲鹏展翅", "the quarterly report is late")
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip


class Clips:
    """Clips of the example pictures, each made once, and drawn only as far as they are looked at."""

    def __init__(self) -> None:
        self._takes: dict[tuple[str, str, int, bool], Take] = {}
        self._clips: dict[tuple[str, str, int, bool], np.ndarray] = {}

    @cached_property
    def _maker(self) -> Maker:
        return Maker(NANO)

    def take(self, name: str, prompt: str, seed: int = 1, *, brushed: bool = False) -> Take:
        """Of the example picture `name`; with its `region` brushed, or without a brush."""
        key = (name, prompt, seed, brushed)
        if key not in self._takes:
            brush = Brushed(region(name)) if brushed else None
            self._takes[key] = self._maker.take(picture(name), prompt, seed, QUICK, brush)
        return self._takes[key]

    def clip(self, name: str, prompt: str, seed: int = 1, *, brushed: bool = False) -> np.ndarray:
        """(F, H, W, 3) uint8."""
        key = (name, prompt, seed, brushed)
        if key not in self._clips:
            self._clips[key] = self.take(name, prompt, seed, brushed=brushed).clip()
        return self._clips[key]

    def camera(self, name: str, prompt: str) -> measures.CameraReading:
        """What the camera does; only the two frames are drawn that this is read from."""
        take = self.take(name, prompt)
        middle = round(QUICK.frames * measures.READ_AT)
        return measures.camera(take.frame(0), take.frame(middle), QUICK.seconds)


@dataclass(frozen=True)
class Bound:
    """What a number must keep. `short` tells that it is known not to: then keeping it is news, and a fault here."""

    sign: str
    limit: float
    short: bool = False

    def kept_by(self, number: float) -> bool:
        return SIGNS[self.sign](number, self.limit)

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


@dataclass(frozen=True)
class Question:
    """One number of the shipped weights, and its bounds."""

    what: str
    measure: Callable[[Clips], float]
    bounds: tuple[Bound, ...]


def picture(name: str) -> Image.Image:
    """The example picture `name`, SIDE pixels a side."""
    opened = Image.open(DRAWN / f"{name}.jpg").convert("RGB")
    return opened.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def region(name: str) -> np.ndarray:
    """What lives in the example picture `name`, (SIDE, SIDE) 0..1: the lake's water, the rose's flower."""
    if name == "rose":
        return _rose()[0]
    water = np.zeros((SIDE, SIDE), np.float32)
    water[int(SIDE * LAKE_SHORE) :] = 1
    return water


# --- what is asked ---


def _camera(motion: str, language: str) -> Iterator[Question]:
    """A motion, in a wording never trained on."""
    text = phrase(motion, "normal", language, random.Random(motion + language), held_out=True)[0]
    asked = f"camera, {motion.replace('_', ' ')}, {language}"

    def reading(clips: Clips) -> measures.CameraReading:
        return clips.camera(CAMERA_PICTURES[language], text)

    if motion == "still":
        bound = Bound("<", measures.STILL_SHARE)
        yield Question(f"{asked}: largest motion", lambda clips: reading(clips).besides(motion), (bound,))
        return
    bound = Bound(">=", measures.STILL_SHARE)
    yield Question(f"{asked}: size", lambda clips: reading(clips).towards(motion), (bound,))
    yield Question(
        f"{asked}: size beyond any other motion's",
        lambda clips: reading(clips).towards(motion) - reading(clips).besides(motion),
        (Bound(">", 0),),
    )


def _strength(weaker: str, stronger: str) -> Question:
    def share(clips: Clips) -> float:
        sizes = [clips.camera("lamp", text).size_of("zoom_in") for text in (weaker, stronger)]
        return sizes[0] / sizes[1]

    return Question(f"strength, {weaker} as a share of {stronger}", share, (Bound("<", 0.8),))


def _brightness(text: str, bound: Bound) -> Question:
    def share(clips: Clips) -> float:
        level = clips.clip("lake", text).astype(np.float32).mean((1, 2, 3))
        return float(level[-1] / level[0])

    return Question(f"light, {text}: brightness at the end as a share of that before", share, (bound,))


def _steps(text: str) -> Question:
    def evenness(clips: Clips) -> float:
        return photo_measures.light_evenness(clips.clip("lake", text))

    return Question(f"light, {text}: the largest step as a multiple of the smallest", evenness, (Bound("<", 1.5),))


def _unknown(text: str) -> Question:
    """A sentence of no known words moves a picture gently."""

    def moved(clips: Clips) -> float:
        take = clips.take("lamp", text)
        first, last = take.frame(0), take.frame(QUICK.frames - 1)
        return float(np.linalg.norm(measures.flow(first, last), axis=-1).mean() / SIDE)

    return Question(f"unknown, {text}: mean movement, shares of the side", moved, (Bound(">", 0.002), Bound("<", 0.08)))


def _values_that_differ(clips: Clips) -> float:
    return float((clips.take("lake", "zoom in").frame(0) != np.asarray(picture("lake"))).sum())


def _water(clips: Clips) -> float:
    return measures.region_ratio(clips.clip("lake", WATER), region("lake"))


def _brushed(name: str, prompt: str, what: str) -> Iterator[Question]:
    """With the region brushed: how much more moves in it, how far the rest strays, and how the clip loops."""

    def moved(clips: Clips) -> photo_measures.RegionMotion:
        take = clips.take(name, prompt, brushed=True)
        return photo_measures.region_motion(clips.clip(name, prompt, brushed=True), take.shown(region(name)))

    def loop(clips: Clips) -> float:
        return photo_measures.loop_difference(clips.clip(name, prompt, brushed=True))

    asked = f"{what}, brushed"
    least, most, fair = Bound(">=", 5), Bound("<", 0.003), Bound("<=", 1.05)
    yield Question(
        f"{asked}: movement inside as a multiple of that outside", lambda clips: moved(clips).ratio, (least,)
    )
    yield Question(
        f"{asked}: how far the outside strays, shares of the side", lambda clips: moved(clips).outside_95, (most,)
    )
    yield Question(f"{asked}: share of the inside that moves", lambda clips: moved(clips).filled, (Bound(">", 0.6),))
    if name == "lake":  # a flower that has opened is not closed at the end
        yield Question(f"{asked}: last frame to first as a multiple of neighbours' most", loop, (fair,))


def _rose() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the flower is, and x and y from its centre, in shares of the side."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    x, y = x - ROSE[0], y - ROSE[1]
    return (np.hypot(x, y) < ROSE[2]).astype(np.float32), x, y


def _flower(clips: Clips) -> float:
    flower, _, _ = _rose()
    return measures.region_ratio(clips.clip("rose", BLOOMS), cv2.GaussianBlur(flower, (0, 0), 2))


def _outwards(clips: Clips) -> float:
    flower, x, y = _rose()
    frames = clips.clip("rose", BLOOMS)
    flow = measures.flow(frames[0], frames[-1]) / SIDE
    return float((flow[..., 0] * x + flow[..., 1] * y)[flower > 0.5].mean())


def _likeness_of_seeds(clips: Clips) -> float:
    one, other = (clips.clip("lake", "hand-held camera", seed) for seed in (1, 2))
    return measures.psnr(one[1:], other[1:])


def _questions() -> Iterator[Question]:
    for language in CAMERA_PICTURES:
        for motion in measures.TAUGHT:
            yield from _camera(motion, language)
    yield Question("first frame: values that are not the picture's", _values_that_differ, (Bound("==", 0),))
    yield _strength("slow zoom in", "zoom in")
    yield _strength("zoom in", "fast zoom in")
    yield Question("water: movement below the shore as a multiple of that above", _water, (Bound(">=", 3),))
    yield from _brushed("lake", WATER, "water")
    yield from _brushed("rose", BLOOMS, "flower")
    yield Question("flower: movement inside as a multiple of that outside", _flower, (Bound(">=", 3),))
    yield Question("flower: mean movement outwards", _outwards, (Bound(">", 0),))
    yield _brightness("night falls", Bound("<", 0.7))
    yield _brightness("天亮起来", Bound(">", 1.05))
    yield _steps("night falls")
    for text in UNKNOWN:
        yield _unknown(text)
    yield Question("seeds: PSNR between two, dB", _likeness_of_seeds, (Bound("<", 40),))


QUESTIONS = {question.what: question for question in _questions()}


# --- what is kept ---


def measured(what: str, clips: Clips) -> float:
    """The number of one question, as it is written."""
    return float(f"{QUESTIONS[what].measure(clips):.6g}")


def faults(numbers: Mapping[str, float]) -> Iterator[str]:
    """What is wrong with these numbers, one line each: missing, beyond a bound, or a shortfall that is none now."""
    for what, question in QUESTIONS.items():
        for bound in question.bounds:
            if what not in numbers:
                yield f"{what}: not measured"
            elif bound.kept_by(numbers[what]) == bound.short:
                wanted = f"no longer falls short of {bound}: take the mark away" if bound.short else f"must be {bound}"
                yield f"{what}: {numbers[what]:g}, {wanted}"


def digests() -> dict[str, str]:
    """Of everything that the numbers come from: weights, code, and the pictures and wordings of the questions."""
    code = [path for pattern in FAMILY for path in (ROOT / "i2v" / "families").glob(pattern)]
    code = [path for path in code if path.name != "training.py"]  # it makes no clip
    code += [Path(__file__).with_name(name) for name in MEASURING]
    weights = [path for path in NANO.glob("*/*") if path.is_file()]
    questions = [*DRAWN.glob("*.jpg"), Path(__file__).with_name("wordings.yaml")]
    return {"weights": _digest(weights), "code": code_digest(code), "questions": _digest(questions)}


def _digest(paths: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(path.relative_to(ROOT).as_posix().encode() + b"\n" + path.read_bytes())
    return whole.hexdigest()


def versions() -> dict[str, str]:
    """What computed the numbers. Only told: other versions may differ in the last digits."""
    return {name: version(name) for name in PACKAGES}


def read() -> dict[str, Any]:
    """The file: `digests`, `versions`, `numbers` by question."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def _measure_all() -> dict[str, float]:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # as the tests measure: the order of sums is the same on every machine
    clips, numbers = Clips(), {}
    for what, question in QUESTIONS.items():
        numbers[what] = measured(what, clips)
        bounds = " and ".join(f"{bound}{', falls short' if bound.short else ''}" for bound in question.bounds)
        print(f"{what}: {numbers[what]:g} ({bounds})", flush=True)
    return numbers


def main() -> int:
    numbers = _measure_all()
    kept = {"digests": digests(), "versions": versions(), "numbers": numbers}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong = list(faults(numbers))
    print("\n".join(wrong) or f"All {len(QUESTIONS)} numbers are as they should be.")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
