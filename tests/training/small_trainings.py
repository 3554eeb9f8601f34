"""Small trainings: a folder of made-up clips, and requests for the small checkpoints of every family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from i2v.training.request import Stepped, TrainingEvent, TrainingPlan, TrainingRequest
from i2v.training.train import train

SIDE, FRAMES, FPS = 128, 5, 8
CAPTIONS = ("a square goes right", "a square goes left")
FAMILIES = ("nano", "i2vgen_xl", "hunyuan_video", "hunyuan_video_i2v")


def make_clips(folder: Path, count: int = 2, frames: int = FRAMES) -> Path:
    """`count` folders of pictures, in each of which a square moves over noise; a caption beside each."""
    drawn = np.random.default_rng(0)
    for number in range(count):
        inside = folder / f"clip{number}"
        inside.mkdir(parents=True)
        still = drawn.integers(0, 100, (SIDE, SIDE, 3), np.uint8)
        for frame in range(frames):
            picture = still.copy()
            at = 30 + (4 if number % 2 == 0 else -4) * frame
            picture[40:80, at : at + 40] = 200
            Image.fromarray(picture).save(inside / f"{frame:03d}.png")
        (folder / f"clip{number}.txt").write_text(CAPTIONS[number % 2], encoding="utf-8")
    return folder


def small_request(family: str, model: Path, clips: Path, work: Path, **changes: object) -> TrainingRequest:
    asked = TrainingRequest(
        model=family, family=family, model_folder=str(model), clips=str(clips), work=str(work),
        file=str(work / "made.safetensors"), width=SIDE, height=SIDE, num_frames=FRAMES, fps=FPS, seed=3, rank=2,
        steps=2, batch=2, learning_rate=1e-2, warmup_steps=1, save_seconds=3600.0,
    )  # fmt: skip
    return replace(asked, **changes)


def trained(
    request: TrainingRequest, plan: TrainingPlan | None = None, until: int | None = None
) -> list[TrainingEvent]:
    """Everything that a training tells; laid down after `until` steps of this call, if it is to be."""
    told: list[TrainingEvent] = []

    def stop() -> bool:
        return until is not None and sum(isinstance(event, Stepped) for event in told) >= until

    train(request, plan or TrainingPlan(micro_batch=request.batch), told.append, stop)
    return told


def losses(told: list[TrainingEvent]) -> list[tuple[int, float]]:
    return [(event.step, event.loss) for event in told if isinstance(event, Stepped)]
