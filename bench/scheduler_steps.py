"""How many steps of each scheduler nano wants: how far what it denoises is from where very many steps end.

    python -m bench.scheduler_steps [--write]

Of three pictures and sentences, the relative distance of the latents to those of 100 steps of UniPC from the same
noise. Schedulers that draw noise in each step end elsewhere and are left out. Prints a table of the worst of the
three; --write keeps it in bench/results/scheduler_steps.json. A quarter of an hour on two slow cores.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from i2v.families.base import Conditioning, Inputs
from i2v.families.nano.model import Nano, load
from i2v.families.phases import Phases
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "i2v" / "assets"
RESULTS = ROOT / "bench" / "results" / "scheduler_steps.json"
CASES = (
    ("brook.jpg", "the water flows, slow zoom in"),
    ("mountains.jpg", "clouds drift to the left"),
    ("dandelion.jpg", "sways in the wind, pan right"),
)
SCHEDULERS = ("ddim", "euler", "dpmpp_2m", "unipc")
STEPS = (4, 6, 8, 10, 15, 25)
REFERENCE = ("unipc", 100)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    model = load(ASSETS / "nano", torch.float32)
    worst: dict[str, dict[int, float]] = {name: dict.fromkeys(STEPS, 0.0) for name in SCHEDULERS}
    for file, prompt in CASES:
        request = GenerationRequest(
            model="nano", prompt=prompt, width=256, height=256, num_frames=24, fps=24, num_inference_steps=1,
            guidance_scale=1.0, seed=1,
        )  # fmt: skip
        picture = Image.open(ASSETS / "examples" / file).convert("RGB").resize((256, 256))
        conditioning = encoded(model, request, picture)
        far = ended(model, request, conditioning, *REFERENCE)
        for name in SCHEDULERS:
            for steps in STEPS:
                apart = ended(model, request, conditioning, name, steps) - far
                worst[name][steps] = max(worst[name][steps], float(apart.norm() / far.norm()))
    print("steps".ljust(10) + "".join(f"{steps:>8}" for steps in STEPS))
    for name, distances in worst.items():
        print(name.ljust(10) + "".join(f"{distance:8.3f}" for distance in distances.values()))
    if args.write:
        rows = {name: {str(steps): round(one, 4) for steps, one in row.items()} for name, row in worst.items()}
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def encoded(model: Nano, request: GenerationRequest, picture: Image.Image) -> Conditioning:
    """All that encode makes."""
    conditioning: Conditioning = {}
    with torch.no_grad():
        for _, made in Phases(model, HostCard(), request, Plan()).encode(Inputs({0: picture})):
            conditioning |= made
    return conditioning


def ended(model: Nano, request: GenerationRequest, conditioning: Conditioning, name: str, steps: int) -> Tensor:
    """The latents after so many steps of this scheduler."""
    request = replace(request, scheduler=name, num_inference_steps=steps)
    with torch.no_grad():
        *_, latents = Phases(model, HostCard(), request, Plan()).denoise(conditioning)
    return latents


if __name__ == "__main__":
    raise SystemExit(main())
