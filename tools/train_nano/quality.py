"""Measure the weights that ship on the example pictures, and keep the numbers with what they were measured on.

    python -m tools.train_nano.quality   two minutes; writes bench/results/nano_quality.json

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
from tools.train_nano import measures
from tools.train_nano.clips import Maker, Settings
from tools.train_nano.prompts import phrase

ROOT = Path(__file__).parents[2]
COMMAND = "python -m tools.train_nano.quality"
RESULTS = ROOT / "bench" / "results" / "nano_quality.json"
NANO, EXAMPLES = ROOT / "i2v" / "assets" / "nano", ROOT / "i2v" / "assets" / "examples"
# What a clip goes through between picture and frames, and what measures it.
FAMILY = ("nano/*.py", "guidance.py", "pixels.py", "schedulers.py", "text.py")
MEASURING = ("quality.py", "measures.py", "clips.py", "motions.py", "prompts.py")
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "opencv-python-headless")

SIDE = 256
QUICK = Settings(side=SIDE, frames=12, steps=8, guidance=1.0)
LAKE_SHORE, ROSE = 0.6, (0.5, 0.44, 0.26)  # row of the water's edge; centre and radius of the flower, shares of a side
CAMERA_PICTURES = {"en": "lamp", "zh": "lake"}
BLOOMS = "the flower blooms"
UNKNOWN = ("xqzw vrrt plmm", "鲲鹏展翅", "the quarterly report is late")
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip


class Clips:
    """Clips of the example pictures, each made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, int], np.ndarray] = {}

    @cached_property
    def _maker(self) -> Maker:
        return Maker(NANO)

    def clip(self, name: str, prompt: str, seed: int = 1) -> np.ndarray:
        """(F, H, W, 3) uint8 of the example picture `name`."""
        key = (name, prompt, seed)
        if key not in self._made:
            self._made[key] = self._maker.clip(picture(name), prompt, seed, QUICK)
        return self._made[key]


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
    opened = Image.open(EXAMPLES / f"{name}.jpg").convert("RGB")
    return opened.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


# --- what is asked ---


def _camera(motion: str, language: str) -> Iterator[Question]:
    """A motion, in a wording never trained on."""
    text = phrase(motion, "normal", language, random.Random(motion + language), held_out=True)[0]
    asked = f"camera, {motion.replace('_', ' ')}, {language}"

    def reading(clips: Clips) -> measures.CameraReading:
        return measures.camera(clips.clip(CAMERA_PICTURES[language], text))

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
        sizes = [measures.camera(clips.clip("lamp", text)).size_of("zoom_in") for text in (weaker, stronger)]
        return sizes[0] / sizes[1]

    return Question(f"strength, {weaker} as a share of {stronger}", share, (Bound("<", 0.8),))


def _brightness(text: str, bound: Bound) -> Question:
    def share(clips: Clips) -> float:
        level = clips.clip("lake", text).astype(np.float32).mean((1, 2, 3))
        return float(level[-1] / level[0])

    return Question(f"light, {text}: brightness at the end as a share of that before", share, (bound,))


def _unknown(text: str, short: bool) -> Question:
    """A sentence of no known words moves a picture gently."""

    def moved(clips: Clips) -> float:
        frames = clips.clip("lamp", text)
        return float(np.linalg.norm(measures.flow(frames[0], frames[-1]), axis=-1).mean() / SIDE)

    bounds = (Bound(">", 0.002, short), Bound("<", 0.08))
    return Question(f"unknown, {text}: mean movement, shares of the side", moved, bounds)


def _values_that_differ(clips: Clips) -> float:
    return float((clips.clip("lake", "zoom in")[0] != np.asarray(picture("lake"))).sum())


def _water(clips: Clips) -> float:
    water = np.zeros((SIDE, SIDE), np.float32)
    water[int(SIDE * LAKE_SHORE) :] = 1
    return measures.region_ratio(clips.clip("lake", "the water ripples"), water)


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
    yield Question("flower: movement inside as a multiple of that outside", _flower, (Bound(">=", 3),))
    yield Question("flower: mean movement outwards", _outwards, (Bound(">", 0),))
    yield _brightness("night falls", Bound("<", 0.7))
    yield _brightness("天亮起来", Bound(">", 1.05))
    for text in UNKNOWN:
        yield _unknown(text, short=text == UNKNOWN[0])  # it hardly moves this picture, as the model card says
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
    code += [Path(__file__).with_name(name) for name in MEASURING]
    weights = [path for path in NANO.glob("*/*") if path.is_file()]
    questions = [*EXAMPLES.glob("*.jpg"), Path(__file__).with_name("wordings.yaml")]
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
