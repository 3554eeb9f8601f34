"""Suite `autoencoders`: what a card makes of an autoencoder that is kept in float32, as diffusers keeps Wan's.

It decodes with all bits of float32, with convolutions in TensorFloat-32, and in half precision: diffusers' own module
and loop, random weights, a clip of a few frames.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from bench.gpu.contenders import relative_difference
from bench.gpu.family_model import draw
from bench.gpu.record import Clock, Record
from bench.gpu.suite import Bench
from i2v.families.wan.skeleton import CONFIGS as WAN
from i2v.families.wan22_5b.skeleton import CONFIGS as WAN_22

# The precision of weights and latents, and whether cuDNN may use TensorFloat-32.
WAYS = {
    "float32": (torch.float32, False),
    "TensorFloat-32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
    "float16": (torch.float16, False),
}


@dataclass(frozen=True)
class Case:
    """A configuration, and the latents that are decoded: (1, C, T, h, w)."""

    family: str
    latents: tuple[int, ...]

    @property
    def config(self) -> dict[str, object]:
        folder = WAN_22 if self.family == "wan22_5b" else WAN
        return json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))


CASES = (Case("wan22_5b", (1, 48, 3, 44, 80)), Case("wan", (1, 16, 4, 60, 104)))
SMALL_CASES = (Case("wan", (1, 16, 2, 4, 4)),)
SMALL = {"base_dim": 8}


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """Each autoencoder in every way. Raises OutOfTime."""
    small, device = bench.scale.small, bench.rig.device
    for case in SMALL_CASES if small else CASES:
        bench.need(clock, 20)
        torch.manual_seed(0)
        with init_empty_weights(include_buffers=False):
            vae = AutoencoderKLWan.from_config({**case.config, **(SMALL if small else {})})
        draw(vae.eval(), device)
        latents = torch.randn(case.latents)
        exact: Tensor | None = None
        for way, (dtype, tf32) in WAYS.items():
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
                frames, seconds, extra_bytes = _decoded(bench, vae.to(device, dtype), latents)
            exact = frames if exact is None else exact
            record.put(
                f"{case.family} {way}",
                {
                    "family": case.family, "way": way, "seconds": seconds, "extra_bytes": extra_bytes,
                    "latents": case.latents, "from_float32": relative_difference(frames, exact), "error": "",
                },
            )  # fmt: skip
        del vae


def _decoded(bench: Bench, vae: nn.Module, latents: Tensor) -> tuple[Tensor, float, int]:
    """The frames on the host, the seconds of the second time, and the bytes that it held beside weights and latents."""
    given = latents.to(bench.rig.device, next(vae.parameters()).dtype)
    with torch.no_grad():
        vae.decode(given, return_dict=False)
        bench.rig.reset_peak()
        before = bench.rig.peak().allocated_bytes
        bench.rig.synchronize()
        began = time.perf_counter()
        made = vae.decode(given, return_dict=False)[0]
        bench.rig.synchronize()
        seconds, held = time.perf_counter() - began, bench.rig.peak().allocated_bytes
    return made.float().cpu(), seconds, held - before
