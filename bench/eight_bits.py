"""What weights in eight bits save, and what they do to the picture.

    python -m bench.eight_bits

Bytes are those of I2VGen-XL's UNet, computed on fake tensors. The picture is the bundled model's, whose weights are
trained: 20 steps on an example photograph in float32, against whole weights. Half a minute; prints a table and writes
bench/results/eight_bits.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from i2v.dryrun.runner import DryRunner
from i2v.families.base import Inputs, change_weights
from i2v.families.nano.model import load
from i2v.families.phases import Phases
from i2v.memory.card import HostCard
from i2v.plan import Plan, Precision, Weights
from i2v.request import GenerationRequest
from i2v.units import GIB

ASSETS = Path(__file__).parents[1] / "i2v/assets"
RESULTS = Path(__file__).parent / "results" / "eight_bits.json"
REQUEST = GenerationRequest(
    model="nano", prompt="zoom in, the water ripples", width=256, height=256, num_frames=16, fps=8,
    num_inference_steps=20, guidance_scale=2.0, seed=1,
)  # fmt: skip
WAYS: tuple[tuple[Precision, Weights], ...] = (
    *(("float32", "full"), ("bfloat16", "full")),
    *(("float32", "float8"), ("float32", "int8")),
)


def clip(precision: Precision, weights: Weights, picture: Image.Image) -> tuple[Tensor, Tensor]:
    """The clean latents, and the frames (F, H, W, 3) from 0 to 255."""
    model, card = load(ASSETS / "nano", getattr(torch, precision)), HostCard()
    change_weights(model, weights)
    with card.running():
        phases = Phases(model, card, REQUEST, Plan(precision=precision, weights=weights))
        conditioning = {name: one for _, made in phases.encode(Inputs({0: picture})) for name, one in made.items()}
        *_, latents = phases.denoise(conditioning)
        frames = torch.stack(list(phases.decode(conditioning, latents)))
    return latents.double(), frames.double()


def main() -> None:
    path = sorted((ASSETS / "examples").glob("*.jpg"))[0]
    picture = Image.open(path).convert("RGB").resize((REQUEST.width, REQUEST.height))
    expected_latents, expected_frames = clip(*WAYS[0], picture)
    rows = []
    for precision, weights in WAYS[1:]:
        latents, frames = clip(precision, weights, picture)
        error = (latents - expected_latents).norm() / expected_latents.norm()
        psnr = 10 * torch.log10(255**2 / (frames - expected_frames).square().mean())
        unet = DryRunner("i2vgen_xl", None, "float16", weights).weights_bytes["unet"]
        rows.append(
            {
                "precision": precision,
                "weights": weights,
                "latents_error": round(error.item(), 4),
                "psnr_db": round(psnr.item(), 1),
                "i2vgen_xl_unet_gib": round(unet / GIB, 3),
            }
        )
        print(rows[-1])
    RESULTS.write_text(json.dumps({"picture": path.name, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
