"""What is asked of the held-out photographs: which motion of which photograph, in which words, and how it is made."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tools.train_nano.labels import Photograph
from tools.train_nano.measures import TAUGHT
from tools.train_nano.prompts import phrase

# What a living motion moves. Sky and clouds are one sheet: only where a photograph has both are they told apart.
MOVED = {
    "water": ("water",),
    "clouds": ("sky", "clouds"),
    "sway": ("plants", "tree"),
    "petals": ("flower",),
    "breathing": ("animal",),
}
LIGHTS = ("night", "day", "flicker")
BRUSHED, FOUND, BEFORE, BY_HAND, FROZEN = "brushed", "found", "before", "by hand", "frozen"
LIVING_MADE = (BRUSHED, FOUND, BEFORE, BY_HAND, FROZEN)
CAMERA_MADE = (FOUND, BEFORE, FROZEN)
LIGHT_MADE = (FOUND, BEFORE)
SHARE = (0.02, 0.95)  # of a photograph that a region must cover to be asked for


@dataclass(frozen=True)
class Question:
    """One clip: `part` is living, camera or light; `made` how the clip comes about."""

    part: str
    scene: str
    motion: str
    made: str
    seed: int
    prompt: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.scene, self.motion, self.made, self.seed


def questions(photographs: Iterable[Photograph], seeds: int, *, every: bool) -> Iterator[Question]:
    """For each seed all photographs in the order of their digests, so that a run cut off has a fair share of each kind.

    Without `every` a photograph gets one living motion, two of the camera's and every third one of light, by its place
    in that order; a second seed then asks for the next ones."""
    ordered = sorted(photographs, key=lambda photograph: photograph.sha256)
    for seed in range(seeds):
        for index, photograph in enumerate(ordered):
            able = [motion for motion, kinds in MOVED.items() if photograph.kinds & set(kinds)]
            cameras, lights = list(TAUGHT), list(LIGHTS)
            if not every:
                turn = index + seed
                able = able[turn % len(able) :][:1] if able else []
                cameras = [cameras[(2 * turn + step) % len(cameras)] for step in (0, 1)]
                lights = [LIGHTS[turn // 3 % 3]] if turn % 3 == 0 else []
            for part, motions, ways in (
                ("living", able, LIVING_MADE),
                ("camera", cameras, CAMERA_MADE),
                ("light", lights, LIGHT_MADE),
            ):
                for motion in motions:
                    prompt = words(motion, index)
                    for made in ways:
                        yield Question(part, photograph.scene, motion, made, seed, prompt)


def words(motion: str, index: int) -> str:
    """A wording never trained on, English and Chinese in turn, without a word for how strongly."""
    rng = random.Random(1000 + index)
    while True:
        text, said = phrase(motion, "normal", "en" if index % 2 == 0 else "zh", rng, held_out=True)
        if said == "normal":
            return text
