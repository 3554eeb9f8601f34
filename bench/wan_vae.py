"""What Wan's autoencoder holds at full size, and what it computes, in strips of rows and as diffusers has it.

    python -m bench.wan_vae

Computed on fake tensors in float32, in which it always runs: live tensors beside the weights; with the copies that
cuDNN makes of what a convolution reads and gives; operations against diffusers' own coding of the whole clip. The same
pixels come out whatever the strips (tests/wan/test_wan_vae.py). A minute; prints tables and writes
bench/results/wan_vae.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.dryrun.work_tracker import WorkTracker
from i2v.families.wan.vae_strips import decode, encode
from i2v.memory.card import Card
from i2v.memory.chunking import sampled_chunks
from i2v.memory.windows import Part
from i2v.units import GIB

FAKE = FakeTensorMode()
RESULTS = Path(__file__).parent / "results" / "wan_vae.json"
ROWS = (0, 32, 16, 8)  # of latents in a strip, as the planner may take them; 0 for all
STOCK = -1
# The published configurations, as far as they differ from the class's defaults.
MODELS: dict[str, dict[str, Any]] = {
    "2.1": {},
    "2.2": {
        "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12,
        "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
    },
}  # fmt: skip


@dataclass(frozen=True)
class ClipSize:
    """Of a clip, and whose it is."""

    model: str
    frames: int
    height: int
    width: int


CLIPS = {
    "480p": ClipSize("2.1", 81, 480, 832),
    "720p": ClipSize("2.1", 81, 720, 1280),
    "2.2": ClipSize("2.2", 121, 704, 1280),
}


@dataclass(frozen=True)
class Coded:
    """What one way of coding a clip holds, and how many operations it takes."""

    peak_bytes: int
    on_card_bytes: int  # with what cuDNN holds beside tensors
    operations: float  # of convolutions: all but a thousandth


def tracked(run: Callable[[], object]) -> Coded:
    """What `run` holds and does on tensors without contents."""
    tracker = WorkTracker()
    with FAKE, torch.no_grad(), tracker:
        run()
    work = tracker.work()
    return Coded(tracker.peak_bytes, tracker.beside_peaks_bytes[1], work.convolution_flops)


@cache
def full_size(model: str) -> AutoencoderKLWan:
    """The published layers, without a byte of weights."""
    with FAKE:
        return AutoencoderKLWan(**MODELS[model]).eval().requires_grad_(False)


def coded(clip: ClipSize) -> tuple[Callable[[int], Coded], Callable[[int], Coded]]:
    """Decoding and encoding `clip` with so many rows in a strip; STOCK for diffusers' own. Latents count in decoding,
    pixels in encoding as far as they are asked for at once."""
    vae = full_size(clip.model)
    scale = vae.spatial_compression_ratio
    latents = 1, vae.config.z_dim, (clip.frames + 3) // 4, clip.height // scale, clip.width // scale

    def pixels(part: Part) -> Tensor:
        frames, seen, _ = part
        return torch.empty(1, 3, frames.stop - frames.start, seen.stop - seen.start, clip.width)

    def to_host(frames: Tensor) -> Tensor:
        with Card.on_host():
            return frames.to(torch.uint8)

    def decoded(rows: int) -> None:
        with sampled_chunks():
            for frame in decode(vae, torch.empty(latents), rows, to_host):
                del frame

    def encoded(rows: int) -> None:
        with sampled_chunks():
            encode(vae, (clip.frames, clip.height, clip.width), pixels, rows)

    def stock_decoded() -> object:
        return vae.decode(torch.empty(latents))

    def stock_encoded() -> object:
        return vae.encode(torch.empty(1, 3, clip.frames, clip.height, clip.width))

    return (
        lambda rows: tracked(stock_decoded if rows == STOCK else lambda: decoded(rows)),
        lambda rows: tracked(stock_encoded if rows == STOCK else lambda: encoded(rows)),
    )


def main() -> None:
    made = []
    for name, clip in CLIPS.items():
        for way, run in zip(("decode", "encode"), coded(clip), strict=True):
            stock = run(STOCK)
            for rows in (STOCK, *ROWS):
                found = stock if rows == STOCK else run(rows)
                row = {
                    "clip": f"Wan {clip.model}, {clip.width}x{clip.height}, {clip.frames} frames",
                    "size": name,
                    "way": way,
                    "rows": "diffusers" if rows == STOCK else rows or "all",
                    "tensors_gib": round(found.peak_bytes / GIB, 2),
                    "on_card_gib": round(found.on_card_bytes / GIB, 2),
                    "work": round(found.operations / stock.operations, 2),
                }
                made.append(row)
                print(row, flush=True)
    RESULTS.write_text(json.dumps({"rows": made}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
