"""Suite `convolutions`: what cuDNN holds beside input, weights and output, and the rate of a convolution, by shape and
by the layout of what it is given.

The planner counts a copy of each of the three for kernels of more than one pixel (`dryrun.work_tracker`).
"""

from __future__ import annotations

import time
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from bench.gpu.record import Clock, Record, Row
from bench.gpu.suite import Bench

# The input's shape, output channels and kernel: I2VGen-XL's decoder by frames at once, its UNet in space and time,
# HunyuanVideo's decoder by window.
DECODER = ((256, 256), (256, 128), (128, 128), (128, 3))
DECODER_SIDES = ((4, 512), (4, 768), (2, 768), (1, 768), (1, 512), (1, 1024))
UNET = ((960, 64, 320), (640, 64, 640), (320, 64, 320), (1280, 8, 1280))
WINDOWS = ((128, 128, 18, 258), (256, 128, 18, 258), (256, 256, 18, 130), (512, 512, 6, 34))
SHAPES = (
    *(
        ((frames, given, side, side), out, (3, 3), "float16")
        for (frames, side), (given, out) in product(DECODER_SIDES, DECODER)
    ),
    *(((32, given, side, side), out, (3, 3), "float16") for given, side, out in UNET),
    ((4, 256, 512, 512), 128, (1, 1), "float16"),
    ((2, 320, 16, 4096), 320, (3, 1), "float16"),
    *(((1, given, frames, side, side), out, (3, 3, 3), "bfloat16") for given, out, frames, side in WINDOWS),
    ((1, 256, 512, 512), 256, (3, 3), "float32"),
)
SMALL_SHAPES = (((1, 8, 16, 16), 8, (3, 3), "float32"),)
LAYOUTS = ("channels first", "channels last")
REPEATS = 5


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """Every shape in both layouts. Raises OutOfTime."""
    for (shape, out, kernel, precision), layout in product(SMALL_SHAPES if bench.scale.small else SHAPES, LAYOUTS):
        case = f"{precision} {'x'.join(map(str, shape))} to {out}, kernel {'x'.join(map(str, kernel))}, {layout}"
        if not record.has(case):
            bench.need(clock, 1)
            record.put(case, _measured(bench, shape, out, kernel, getattr(torch, precision), layout))


def _measured(
    bench: Bench, shape: tuple[int, ...], out: int, kernel: tuple[int, ...], dtype: torch.dtype, layout: str
) -> Row:
    last = torch.channels_last if len(kernel) == 2 else torch.channels_last_3d
    order = last if layout == LAYOUTS[1] else torch.contiguous_format
    convolve = functional.conv2d if len(kernel) == 2 else functional.conv3d
    with bench.rig.card() as card, card.running():
        given = card.to_card(torch.randn(shape).to(dtype)).contiguous(memory_format=order)
        weight = card.to_card(torch.randn(out, shape[1], *kernel).to(dtype) * 0.02).contiguous(memory_format=order)

        def run() -> Tensor:
            return convolve(given, weight, padding=tuple(size // 2 for size in kernel))

        made = run()
        out_bytes, flops = made.nbytes, 2 * made.numel() * weight[0].numel()
        del made
        bench.rig.reset_peak()
        held = given.nbytes + weight.nbytes
        run()
        beside = max(0, bench.rig.peak().allocated_bytes - held - out_bytes)
        bench.rig.synchronize()
        began = time.perf_counter()
        for _ in range(REPEATS):
            run()
        bench.rig.synchronize()
        seconds = (time.perf_counter() - began) / REPEATS
        told: Row = {"input_bytes": given.nbytes, "weight_bytes": weight.nbytes, "output_bytes": out_bytes}
    return {**told, "beside_bytes": beside, "seconds": seconds, "flops_per_second": flops / seconds}
