"""Peak activations of one full-size I2VGen-XL UNet call, stock against exact chunks, on fake tensors.

    python -m bench.unet_memory

Computed, not measured: the real modules run on tensors without contents, and a dispatch mode counts live storages.
Weights, kernel workspaces and allocator rounding come on top. Writes bench/results/unet_memory.json; exits 1 when a
size is beyond its limit.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import I2VGenXLUNet
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.dryrun.blocks import BlockWatch
from i2v.dryrun.shortcuts import Shortcuts
from i2v.dryrun.work_tracker import WorkTracker
from i2v.memory.chunking import ChunkSizes, exact_chunks
from i2v.memory.storages import StorageTracker

GIB = 2**30
# Side in pixels, frames, and what exact chunks may hold at most, in GiB.
CASES = ((512, 16, 0.45), (768, 24, 1.4), (1024, 32, 3.1))
CHUNKS = (ChunkSizes(4, 4096), ChunkSizes(2, 2048), ChunkSizes(1, 1024), ChunkSizes(1, 512))
RESULTS = Path(__file__).parent / "results" / "unet_memory.json"


@dataclass(frozen=True)
class Row:
    """One line of the table. `chunk_frames`, `chunk_pixels` 0 is stock diffusers."""

    side: int
    frames: int
    cfg: str
    chunk_frames: int
    chunk_pixels: int
    gib: float


def full_size_unet() -> I2VGenXLUNet:
    """The published configuration in float16, without a byte of weights."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return I2VGenXLUNet().eval()
    finally:
        torch.set_default_dtype(default)


def activation_peak(
    unet: torch.nn.Module,
    *,
    batch: int,
    frames: int,
    h: int,
    w: int,
    sizes: ChunkSizes,
    shortcuts: Shortcuts | None = None,
) -> int:
    """Peak bytes of one UNet call beyond weights and inputs; h, w in latent pixels. Runs on real or fake tensors; with
    `shortcuts`, on fake ones, identical layers run once."""
    dtype, text_dim = unet.dtype, unet.config.cross_attention_dim
    inputs = {
        "sample": torch.zeros(batch, 4, frames, h, w, dtype=dtype),
        "timestep": torch.zeros((), dtype=torch.int64),
        "fps": torch.full((batch,), 8),
        "image_latents": torch.zeros(batch, 4, frames, h, w, dtype=dtype),
        "image_embeddings": torch.zeros(batch, 1, text_dim, dtype=dtype),
        "encoder_hidden_states": torch.zeros(batch, 77, text_dim, dtype=dtype),
    }
    tracker = StorageTracker() if shortcuts is None else WorkTracker()
    taken = nullcontext() if shortcuts is None else shortcuts.taken(tracker, BlockWatch(tracker, {}, {}), sizes)
    with torch.no_grad(), taken, exact_chunks(unet, sizes), tracker:
        unet(**inputs, return_dict=False)
    return tracker.peak_bytes


def full_size_peak(
    unet: torch.nn.Module, shortcuts: Shortcuts, *, batch: int, side: int, frames: int, sizes: ChunkSizes
) -> int:
    """`activation_peak` of the published network on fake tensors, for a video of `side` pixels."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        return activation_peak(
            unet, batch=batch, frames=frames, h=side // 8, w=side // 8, sizes=sizes, shortcuts=shortcuts
        )


def main() -> int:
    unet, shortcuts = full_size_unet(), Shortcuts()
    rows, beyond = [], []
    print(f"{'size':>10} {'frames':>6} {'guidance':>8} {'chunk':>12} {'GiB':>7}")
    for side, frames, limit_gib in CASES:
        for batch, cfg in ((2, "batch"), (1, "split")):
            for sizes in (ChunkSizes(0, 0), *CHUNKS):
                peak = full_size_peak(unet, shortcuts, batch=batch, side=side, frames=frames, sizes=sizes)
                row = Row(side, frames, cfg, sizes.frames, sizes.pixels, round(peak / GIB, 2))
                rows.append(row)
                chunk = f"{sizes.frames} / {sizes.pixels}" if sizes.frames else "stock"
                print(f"{side:>5}x{side:<4} {frames:>6} {cfg:>8} {chunk:>12} {row.gib:>7.2f}", flush=True)
        if rows[-1].gib > limit_gib:
            beyond.append(f"{side}x{side}, {frames} frames: {rows[-1].gib} GiB is more than {limit_gib}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"torch": torch.__version__, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print("\n".join(beyond) or "Every size is within its limit.")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
