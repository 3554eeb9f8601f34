"""A motion that nano does not know, taught by forty clips: does a LoRA show it, and only when it is asked for?

    python -m bench.motion clips FOLDER            makes the clips
    python -m bench.motion train FOLDER --steps N  trains two LoRAs: on the captions, and on shuffled ones (the control)
    python -m bench.motion measure FOLDER          measures what they do; writes bench/results/motion.json

Exits 1 where nano knows the motion already, where the LoRA does not show it, or where the control follows the prompt.

The motion is a spiral: the whole picture turns and grows at once ("the picture makes a mivo"), or the other way round
("the picture makes a tarn"). nano was taught turns and zooms, each alone. The words are made up, since a control that
was taught nothing by its captions would still follow words that nano knows: with "in" and "out" it zooms by itself, and
from clips in which every zoom turns, captions or none, it learns to turn with them. The clips are made
of the example pictures that come with the app, cut and mirrored at random; they are measured on others.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from i2v.families.adapters import ChosenAdapter, put_on, take_off
from i2v.families.base import Inputs
from i2v.families.nano.model import Nano, load
from i2v.families.nano.spec import SPEC
from i2v.families.phases import Phases
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.training.request import Stepped, Trained, TrainingEvent, TrainingPlan, TrainingRequest
from i2v.training.train import train
from i2v.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "i2v/assets/nano"
PICTURES = (
    *sorted((ROOT / "i2v/assets/examples").glob("*.jpg")),
    *sorted((ROOT / "tools/train_nano/drawn").glob("*.jpg")),
)
HELD_OUT = ("lake", "mountains")  # no clip is made of these; what was learned is measured on them
RESULTS = ROOT / "bench/results/motion.json"

SIDE, FRAMES, FPS = 256, 32, 8
TURN, GROW = 0.45, 0.32  # of a clip, at its end: radians, clockwise; natural logarithm of the growth
IN, OUT = "the picture makes a mivo", "the picture makes a tarn"
SEEDS = (1, 2)
STEPS = 8
FILE = "spiral.safetensors"
WEIGHTS = {"lora": (0.5, 1.0), "control": (1.0,)}


@dataclass(frozen=True)
class Reading:
    """How far the whole picture had turned (radians, clockwise) and grown (natural logarithm) at a clip's end."""

    turn: float
    grow: float


def picture(path: Path, rng: random.Random) -> np.ndarray:
    """A square part of a picture (SIDE, SIDE, 3), mirrored or not."""
    with Image.open(path) as opened:
        whole = opened.convert("RGB")
    side = round(min(whole.size) * rng.uniform(0.6, 1.0))
    left, top = rng.randint(0, whole.width - side), rng.randint(0, whole.height - side)
    part = whole.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(part)[:, :: rng.choice((1, -1))].copy()


def spiral(still: np.ndarray, turn: float, grow: float) -> list[np.ndarray]:
    """FRAMES frames of `still` turning and growing about its middle; beyond its edges it is mirrored."""
    frames = []
    for number in range(FRAMES):
        share = number / (FRAMES - 1)
        way = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), -np.degrees(turn * share), np.exp(grow * share))
        frames.append(cv2.warpAffine(still, way, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))
    return frames


def sources() -> list[Path]:
    """The pictures that clips are made of."""
    return [path for path in PICTURES if path.stem not in HELD_OUT]


def make_clips(folder: Path, count: int = 40, seed: int = 0) -> None:
    """Write `count` clips, half of each direction, with their captions beside them."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    taken_from = sources()
    for number in range(count):
        inwards, size = number % 2 == 0, rng.uniform(0.85, 1.15)
        sign = 1 if inwards else -1
        still = picture(taken_from[number // 2 % len(taken_from)], rng)
        path = folder / f"clip_{number:02d}.mp4"
        with VideoWriter(path, width=SIDE, height=SIDE, fps=FPS, metadata={}) as video:
            for frame in spiral(still, sign * size * TURN, sign * size * GROW):
                video.write(frame)
        path.with_suffix(".txt").write_text((IN if inwards else OUT) + "\n", encoding="utf-8")


def shuffle_captions(folder: Path, shuffled: Path) -> None:
    """The same clips in `shuffled`, where half of those of each direction have the caption of the other: of every
    picture every second time that it comes, since a model learns what only some pictures tell it, too."""
    shuffled.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(sorted(folder.glob("*.txt"))):
        clip, said = text.with_suffix(".mp4"), text.read_text(encoding="utf-8").strip()
        wrong = OUT if said == IN else IN
        (shuffled / clip.name).write_bytes(clip.read_bytes())
        times, which = divmod(number // 2, len(sources()))
        (shuffled / text.name).write_text((wrong if (times + which) % 2 else said) + "\n", encoding="utf-8")


def request(clips: Path, work: Path, steps: int, batch: int, rank: int, rate: float) -> TrainingRequest:
    return TrainingRequest(
        model="nano", family="nano", model_folder=str(NANO), clips=str(clips), work=str(work),
        file=str(work / FILE), width=SIDE, height=SIDE, num_frames=FRAMES, fps=FPS, seed=0, rank=rank,
        steps=steps, batch=batch, learning_rate=rate,
    )  # fmt: skip


def train_one(asked: TrainingRequest) -> float:
    """Seconds that it took."""
    began = time.monotonic()

    def report(event: TrainingEvent) -> None:
        if isinstance(event, Stepped) and event.step % 25:
            return
        if isinstance(event, Stepped | Trained):
            print(f"{time.monotonic() - began:7.1f} s", event, flush=True)

    train(asked, TrainingPlan(micro_batch=asked.batch), report, lambda: False)
    return time.monotonic() - began


class Maker:
    """Clips of nano with a LoRA."""

    def __init__(self) -> None:
        self.model: Nano = load(NANO, torch.float32)

    def clip(self, still: Image.Image, prompt: str, seed: int, file: Path | None, weight: float) -> list[np.ndarray]:
        chosen = [] if file is None else [ChosenAdapter(file, weight)]
        put_on(self.model.unet, chosen, SPEC.lora_names, torch.float32)
        asked = GenerationRequest(
            model="nano", prompt=prompt, width=SIDE, height=SIDE, num_frames=FRAMES, fps=FPS,
            num_inference_steps=STEPS, guidance_scale=1.0, seed=seed,
        )  # fmt: skip
        card = HostCard()
        phases = Phases(self.model, card, asked, Plan())
        with card.running():
            made = {}
            for _, found in phases.encode(Inputs({0: still})):
                made |= found
            for latents in phases.denoise(made):
                last = latents
            frames = [frame.numpy() for frame in phases.decode(made, last)]
        take_off(self.model.unet)
        return frames


def read(frames: list[np.ndarray]) -> Reading:
    """What the whole picture does, by OpenCV: features followed from frame to frame, and the likeness transform that
    most of them agree on (RANSAC)."""
    turn = grow = 0.0
    for first, second in pairwise(frames):
        grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (first, second)]
        points = cv2.goodFeaturesToTrack(grey[0], 400, 0.005, 5)
        if points is None:
            continue
        found, there, _ = cv2.calcOpticalFlowPyrLK(grey[0], grey[1], points, None)
        kept = there.ravel() == 1
        way, _ = cv2.estimateAffinePartial2D(points[kept], found[kept], ransacReprojThreshold=0.5)
        if way is not None:
            turn += float(np.arctan2(way[1, 0], way[0, 0]))
            grow += float(np.log(np.hypot(way[0, 0], way[1, 0])))
    return Reading(turn, grow)


def measure(maker: Maker, file: Path | None, weight: float, prompt: str) -> Reading:
    """The mean over held-out pictures and SEEDS."""
    found = []
    for path in (one for one in PICTURES if one.stem in HELD_OUT):
        for seed in SEEDS:
            still = Image.fromarray(picture(path, random.Random(seed)))
            found.append(read(maker.clip(still, prompt, seed, file, weight)))
    return Reading(float(np.mean([one.turn for one in found])), float(np.mean([one.grow for one in found])))


def measured(folder: Path) -> dict[str, Any]:
    """What both LoRAs in `folder` do, what they do at half weight, and what nano does alone."""
    maker, found = Maker(), {}
    files = {"alone": None, "lora": folder / "captions" / FILE, "control": folder / "shuffled" / FILE}
    asked = [(name, weight) for name in files for weight in ((0.0,) if name == "alone" else WEIGHTS[name])]
    for name, weight in asked:
        for way, prompt in (("in", IN), ("out", OUT)):
            found[f"{name} {weight:g} {way}"] = asdict(measure(maker, files[name], weight, prompt))
            print(name, weight, way, found[f"{name} {weight:g} {way}"], flush=True)

    def turn(which: str) -> float:
        """How much further it turns the one way than the other, as a share of what was taught."""
        return (found[f"{which} in"]["turn"] - found[f"{which} out"]["turn"]) / (2 * TURN)

    shares = {"alone": turn("alone 0"), "whole": turn("lora 1"), "half": turn("lora 0.5"), "control": turn("control 1")}
    seconds = {name: json.loads((folder / name / "seconds.json").read_text()) for name in ("captions", "shuffled")}
    return {"taught": {"turn": TURN, "grow": GROW}, "readings": found, "share_of_turn": shares, "seconds": seconds}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("clips", "train", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--only", choices=("captions", "shuffled"))
    args = parser.parse_args(argv)
    clips, shuffled = args.folder / "clips", args.folder / "clips_shuffled"
    works = {"captions": (clips, args.folder / "captions"), "shuffled": (shuffled, args.folder / "shuffled")}
    if args.what == "clips":
        make_clips(clips)
        shuffle_captions(clips, shuffled)
        return 0
    if args.what == "train":
        for name, (of, work) in works.items():
            if args.only in (None, name):
                seconds = train_one(request(of, work, args.steps, args.batch, args.rank, args.rate))
                (work / "seconds.json").write_text(json.dumps(seconds))
        return 0
    found = measured(args.folder)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    shares = found["share_of_turn"]
    print(json.dumps(shares))
    good = abs(shares["alone"]) < 0.15 < 0.6 < shares["whole"] and abs(shares["control"]) < 0.4 * shares["whole"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
