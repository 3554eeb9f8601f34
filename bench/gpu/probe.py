"""Suite `probe`: what NVML says of the card beside what torch says, and whether another process's memory is seen."""

from __future__ import annotations

import os

import torch

from bench.gpu.holder import Holder
from bench.gpu.record import Clock, Record, Row
from bench.gpu.suite import Bench
from i2v.hardware.nvml import Gpu

HELD_BYTES = 2 * 2**30
SMALL_BYTES = 2**20


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """With nothing allocated, with memory of our own, and with another's. Raises OutOfTime."""
    size = SMALL_BYTES if bench.scale.small else HELD_BYTES
    bench.need(clock, 5)
    record.put("context", {**_figures(bench), "context_bytes": bench.rig.context_bytes})
    with bench.rig.card() as card, card.running():
        before = _figures(bench)
        held = card.to_card(torch.zeros(size, dtype=torch.uint8))
        record.put("own memory", {"held_bytes": held.numel(), "before": before, **_figures(bench)})
        del held
    bench.need(clock, 15)
    with Holder(bench.rig.device) as holder:
        before = _figures(bench)
        holding = holder.take(size)
        after, gpu = _figures(bench), _card(bench)
        seen = [process.to_json() for process in gpu.processes] if gpu else []
        named = next((one for one in seen if one["pid"] == holder.pid), None)
        told: Row = {"held_bytes": holding, "before": before, **after, "pid": holder.pid, "named": named}
        record.put("another process", {**told, "processes": seen, "own_pid": os.getpid()})
        holder.free()
    print(f"probe: another process {'is named' if named else 'is not named'} by NVML", flush=True)


def _card(bench: Bench) -> Gpu | None:
    return next(iter(bench.rig.gpus()), None)


def _figures(bench: Bench) -> Row:
    """Free and total bytes, by NVML and by torch."""
    gpu = _card(bench)
    told: Row = {
        "nvml_free_bytes": gpu.free_bytes if gpu else None,
        "nvml_total_bytes": gpu.total_bytes if gpu else None,
    }
    if bench.rig.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(bench.rig.device)
        return {**told, "torch_free_bytes": free, "torch_total_bytes": total}
    return {**told, "torch_free_bytes": None, "torch_total_bytes": None}
