"""Sentences for motions, in English and Chinese, from the wordings in `wordings.yaml`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

STRENGTHS = {"weak": 0.5, "normal": 1.0, "strong": 1.8}
_SYLLABLES = ("ba", "ri", "lo", "men", "tas", "qui", "ver", "sho", "an", "ti", "gra", "ple", "nor", "ex", "um", "wick")


@cache
def wordings() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("wordings.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Asked:
    """What a sentence asks for: up to one camera motion and one living motion, each with a strength, or neither."""

    text: str
    camera: str | None = None
    camera_strength: float = 1.0
    living: str | None = None
    living_strength: float = 1.0


def phrase(motion: str, strength: str, language: str, rng: random.Random, *, held_out: bool = False) -> tuple[str, str]:
    """One wording of `motion` and the strength it really says ("normal" where the wording has no place for one)."""
    key = f"held_out_{language}" if held_out else language
    text = rng.choice(wordings()["motions"][motion][key])
    if not held_out:
        text = _another_camera(text, motion, language, rng)
    if "{" not in text:
        return text, "normal"
    words = wordings()["strengths"][language]
    return text.format(a=rng.choice(words["a"][strength]), d=rng.choice(words["d"][strength])), strength


def sentence(
    camera: str | None,
    living: str | None,
    rng: random.Random,
    *,
    held_out: bool = False,
    language: str | None = None,
    nonsense: bool = True,
) -> Asked:
    """A sentence for these motions in a random wording and strength; with neither, one that says nothing of motion.
    With `nonsense`, words that mean nothing stand in some."""
    language = language or ("en" if rng.random() < 0.6 else "zh")
    texts, said = {}, {"camera": 1.0, "living": 1.0}
    for part, motion in (("camera", camera), ("living", living)):
        if motion is not None:
            strength = rng.choices(list(STRENGTHS), weights=(0.28, 0.47, 0.25))[0]
            texts[part], strength = phrase(motion, strength, language, rng, held_out=held_out)
            said[part] = STRENGTHS[strength]
    if len(texts) == 2:
        moving = rng.choice(wordings()["joins"][language]).format(**texts)
    elif texts:
        moving = next(iter(texts.values()))
    else:
        return Asked(_unknown(language, rng) if nonsense else _subject(language, rng))
    text = rng.choice(wordings()["frames"][language]).format(
        m=moving, s=_subject(language, rng), style=_style(language, rng)
    )
    if nonsense and rng.random() < 0.12:
        text = f"{text} {_nonsense(rng)}" if rng.random() < 0.5 else f"{_nonsense(rng)} {text}"
    return Asked(text, camera, said["camera"], living, said["living"])


def _another_camera(text: str, motion: str, language: str, rng: random.Random) -> str:
    """The wording with another word for the camera, unless that would make it one of those held out."""
    cameras = wordings()["cameras"][language]
    other = text.replace(cameras[0], rng.choice(cameras), 1) if rng.random() < 0.5 else text
    kept = {_bare(wording) for wording in wordings()["motions"][motion][f"held_out_{language}"]}
    return text if _bare(other) in kept else other


def _bare(wording: str) -> str:
    """The wording without its words of strength."""
    return wording.format(a="", d="")


def _subject(language: str, rng: random.Random) -> str:
    return rng.choice(wordings()["subjects"][language])


def _style(language: str, rng: random.Random) -> str:
    return rng.choice(wordings()["styles"][language])


def _nonsense(rng: random.Random) -> str:
    """Words nobody has seen, so that the unknown is learned as saying nothing."""
    if rng.random() < 0.25:
        return "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(rng.randint(1, 5)))
    return " ".join("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 3)))


def _unknown(language: str, rng: random.Random) -> str:
    pieces = [_subject(language, rng)]
    if rng.random() < 0.4:
        pieces.append(_style(language, rng))
    if rng.random() < 0.4:
        pieces.append(_nonsense(rng))
    if rng.random() < 0.15:
        pieces = [_nonsense(rng)]
    rng.shuffle(pieces)
    return ("，" if language == "zh" else ", ").join(pieces)
