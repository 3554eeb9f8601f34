"""What computing blocks again in the backward pass saves of memory and costs of time.

    python -m bench.training nano            measured: real steps of the model that comes with the app, on a processor
    python -m bench.training i2vgen_xl       counted: whole steps of the real network on tensors without contents
    python -m bench.training hunyuan_video   likewise; a few minutes
    python -m bench.training all             all of them

Writes bench/results/training.json, a part for each. Three ways are compared: no block, "some" (those that hold most for
the time they take, a fifth of a step at most), all. Memory is what a step holds beside weights and the optimiser's
memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from i2v.dryrun.training import DryTrainer, TrainingFound
from i2v.dryrun.training_plan import recomputed_blocks
from i2v.hardware.host import read_ram
from i2v.plan import Plan, Precision
from i2v.planning.cost import seconds
from i2v.planning.machine import Machine, card_machine
from i2v.planning.rates import find_card, host_rates
from i2v.training.request import RECOMPUTES, Recompute, Stepped, TrainingEvent, TrainingPlan, TrainingRequest
from i2v.training.train import train

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results/training.json"
CARD = "RTX 4090"  # whose time is counted for the large networks
NANO = ROOT / "i2v/assets/nano"
STEPS, ROUNDS = 2, 3  # of real training for each way, the first of them not counted; taken in turn
GIB = 2**30


@dataclass(frozen=True)
class Size:
    """What the large networks are trained on: width, height, frames; in which precision; the LoRA's rank."""

    bucket: tuple[int, int, int]
    precision: Precision
    rank: int = 16


SIZES: Mapping[str, Size] = {
    "nano": Size((256, 256, 32), "float32"),
    "i2vgen_xl": Size((512, 512, 16), "bfloat16"),
    "hunyuan_video": Size((960, 544, 33), "bfloat16"),
}


def request_for(family: str, size: Size) -> TrainingRequest:
    width, height, frames = size.bucket
    return TrainingRequest(
        model=family, family=family, model_folder=str(NANO), clips="", work="", file="", width=width, height=height,
        num_frames=frames, fps=8, seed=0, rank=size.rank, steps=STEPS, batch=1, warmup_steps=1,
    )  # fmt: skip


def counted(family: str, size: Size, machine: Machine) -> dict[Recompute, tuple[TrainingPlan, TrainingFound]]:
    """A step of each way, run dry."""
    dry = DryTrainer(family, None, size.precision)
    request, base = request_for(family, size), TrainingPlan(precision=size.precision)
    alone = dry.run(request, base, size.bucket)
    found = {}
    for way in RECOMPUTES:
        plan = replace(base, recomputed=recomputed_blocks(way, alone, dry.blocks, base, machine))
        found[way] = plan, alone if way == "none" else dry.run(request, plan, size.bucket)
        print(f"{family} {way}: {found[way][1].activations_bytes / GIB:.3f} GiB", flush=True)
    return found


def rows_of(
    found: Mapping[Recompute, tuple[TrainingPlan, TrainingFound]], times: Mapping[Recompute, float]
) -> dict[str, Any]:
    """What is written: of each way the bytes, the time, and both beside those of no block."""
    none = found["none"][1]
    return {
        way: {
            "blocks": len(plan.recomputed),
            "of": len(none.blocks),
            "activations_bytes": step.activations_bytes,
            "peak_bytes": step.peak_bytes,
            "seconds": round(times[way], 5),
            "less_memory": round(1 - step.activations_bytes / none.activations_bytes, 4),
            "more_time": round(times[way] / times["none"] - 1, 4),
        }
        for way, (plan, step) in found.items()
    }


def large(family: str) -> dict[str, Any]:
    """One of the large networks, counted."""
    size, machine = SIZES[family], card_machine(find_card(CARD), 24 * GIB, 64 * GIB, 500 * GIB)
    found = counted(family, size, machine)
    times = {way: seconds(step.work, Plan(precision=size.precision), machine) for way, (_, step) in found.items()}
    return {"bucket": size.bucket, "precision": size.precision, "rank": size.rank, "card": CARD} | rows_of(found, times)


def nano(clips: Path) -> dict[str, Any]:
    """The bundled model: bytes metered, and times taken in turn, so that a busy machine slows all ways alike."""
    size, machine = SIZES["nano"], Machine("cpu", host_rates(1), *(read_ram()[0],) * 3)
    found = counted("nano", size, machine)
    taken: dict[Recompute, list[float]] = {way: [] for way in RECOMPUTES}
    with tempfile.TemporaryDirectory() as folder:
        for _round in range(ROUNDS):
            for way, (plan, step) in found.items():
                work = Path(folder) / f"{way}{_round}"
                request = replace(
                    request_for("nano", size), clips=str(clips), work=str(work), file=str(work / "made.safetensors")
                )
                told: list[TrainingEvent] = []
                metered = replace(plan, device="simulated", memory_cap_bytes=2**40)
                if _round == 0:
                    train(request, metered, told.append, lambda: False)
                    peak = [one.peak_bytes for one in told if isinstance(one, Stepped)][-1]
                    assert peak == step.peak_bytes, f"foretold {step.peak_bytes}, metered {peak}"
                    told.clear()
                    request = replace(request, work=f"{work}_timed")
                train(request, plan, told.append, lambda: False)
                taken[way] += [one.seconds for one in told if isinstance(one, Stepped)][1:]
    return {"bucket": size.bucket, "precision": size.precision, "rank": size.rank, "card": "processor, one thread"} | (
        rows_of(found, {way: median(times) for way, times in taken.items()})
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=(*SIZES, "all"))
    parser.add_argument("--clips", type=Path, help="a folder of clips for nano; else made by bench.motion")
    args = parser.parse_args(argv)
    for family in SIZES if args.what == "all" else (args.what,):
        began, made_now = time.monotonic(), {}
        if family == "nano":
            with tempfile.TemporaryDirectory() as made:
                clips = args.clips or Path(made)
                if args.clips is None:
                    from bench.motion import make_clips

                    make_clips(clips, count=1)
                made_now = nano(clips)
        else:
            made_now = large(family)
        print(json.dumps(made_now, indent=1), f"{time.monotonic() - began:.0f} s", flush=True)
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        results[family] = made_now
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
