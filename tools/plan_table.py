"""Make the table of dry runs that ships with the app: common sizes of every family, every rung of the ladder.

    python -m tools.plan_table           write it, minutes
    python -m tools.plan_table --check   run every row again and compare, as long
    python -m tools.plan_table --family nano   make this family's rows again, the others stay

The app takes the table as it is. The tests run a few of its rows again, its witnesses: where they fail, what dry runs
find has changed, and the table has to be made again.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import product

from i2v.families import SPECS
from i2v.plan import Plan, Weights, everywhere
from i2v.planning.code_key import library_versions
from i2v.planning.known import DIGITS, PHASES, TABLE, Found, Known, PhaseRun, Question, dump
from i2v.planning.planner import LOSSY_WEIGHTS
from i2v.request import GenerationRequest, Task

Job = tuple[str, GenerationRequest, Plan, str]
"""Family, request, plan and phase of a row."""

HUNYUAN_15 = ("hunyuan_video_15", "hunyuan_video_15_i2v", "hunyuan_video_15_distilled")
LARGE_WANS = ("wan_14b", "wan_i2v", "wan_flf2v", "wan22", "wan22_i2v")
COGVIDEOX = ("cogvideox", "cogvideox_5b", "cogvideox_5b_i2v")
COGVIDEOX_15 = ("cogvideox_15", "cogvideox_15_i2v")
FRAMEPACKS = ("framepack", "framepack_f1")
SIZES = {
    "nano": ((512, 512), (768, 512), (512, 768), (1024, 1024)),
    "i2vgen_xl": ((512, 512), (768, 512), (512, 768), (768, 768), (1280, 704), (1024, 1024)),
    "svd": ((1024, 576), (576, 1024)),
    "hunyuan_video": ((512, 384), (960, 544), (1280, 720), (720, 1280)),
    "hunyuan_video_i2v": ((512, 384), (960, 544), (1280, 720), (720, 1280)),
    **dict.fromkeys(HUNYUAN_15, ((848, 480), (480, 848), (1280, 720), (720, 1280))),
    **dict.fromkeys(FRAMEPACKS, ((640, 640), (832, 480), (480, 832))),
    "wan": ((832, 480), (480, 832), (1280, 720), (720, 1280)),
    **dict.fromkeys(LARGE_WANS, ((832, 480), (480, 832), (1280, 720), (720, 1280))),
    "wan22_5b": ((1280, 704), (704, 1280)),
    **dict.fromkeys(("cogvideox", "cogvideox_5b"), ((720, 480), (480, 720))),
    "cogvideox_5b_i2v": ((720, 480),),
    **dict.fromkeys(COGVIDEOX_15, ((768, 768), (1360, 768), (768, 1360))),
    "ltx": ((704, 512), (512, 704), (1216, 704), (704, 1216)),
    "ltx_13b": ((704, 512), (512, 704), (1216, 704), (704, 1216)),
    "ltx2": ((768, 512), (512, 768), (1280, 768), (768, 1280)),
    "minimax_h3": ((864, 480), (480, 864), (1344, 768), (768, 1344)),
}
# Of I2VGen-XL clips that are made at once, and those with two windows, which tell of all longer ones.
FRAMES = {
    "nano": (96, 240), "i2vgen_xl": (16, 28), "svd": (14, 25), "hunyuan_video": (129,), "hunyuan_video_i2v": (129,),
    "wan": (81,), **dict.fromkeys(HUNYUAN_15, (121,)),
    **dict.fromkeys(FRAMEPACKS, (145,)),
    **dict.fromkeys(LARGE_WANS, (81,)), **dict.fromkeys(("wan22_5b", "ltx", "ltx_13b", "ltx2"), (121,)),
    **dict.fromkeys(COGVIDEOX, (49,)), **dict.fromkeys(COGVIDEOX_15, (81,)),
    "minimax_h3": (124, 243),
}  # fmt: skip
# Of these the table also knows the denoiser's weights in eight bits, for policies that allow them: nano fits as it is.
EIGHT_BITS = ("i2vgen_xl",)
# (precision, guidance_scale): nano runs in float32 on a processor and in half on a card, with guidance or without.
WAYS = {
    "nano": (("float32", 1.0), ("float32", 2.0), ("float16", 1.0), ("float16", 2.0)),
    "i2vgen_xl": (("float16", 9.0),),
    "svd": (("float16", 3.0),),
    "hunyuan_video": (("bfloat16", 6.0),),
    "hunyuan_video_i2v": (("bfloat16", 6.0),),
    **{name: (("bfloat16", SPECS[name].defaults.guidance_scale),) for name in HUNYUAN_15},
    **dict.fromkeys(FRAMEPACKS, (("bfloat16", 10.0),)),
    "wan": (("bfloat16", 5.0),),
    **{
        name: (("bfloat16", SPECS[name].defaults.guidance_scale),)
        for name in (*LARGE_WANS, "wan22_5b", "ltx", "ltx_13b", *COGVIDEOX, *COGVIDEOX_15)
    },
    "ltx2": (("bfloat16", 3.0),),
    "minimax_h3": (("bfloat16", SPECS["minimax_h3"].defaults.guidance_scale),),
}


def jobs() -> Iterator[Job]:
    """All rows; those that share a question come once."""
    seen = set()
    for family, sizes in SIZES.items():
        stores = ("full", LOSSY_WEIGHTS[0]) if family in EIGHT_BITS else ("full",)
        spec = SPECS[family]
        rows = product(WAYS[family], sizes, FRAMES[family], spec.inputs, stores, range(len(spec.rungs)), PHASES)
        for (precision, guidance), (width, height), frames, task, weights, rung, phase in rows:
            made = job(family, precision, guidance, width, height, frames, rung, weights, phase, task)
            if question_of(made) not in seen:
                seen.add(question_of(made))
                yield made


def job(
    family: str, precision: str, guidance: float, width: int, height: int, frames: int, rung: int, weights: Weights,
    phase: str, task: Task | None = None,
) -> Job:  # fmt: skip
    """One row: a phase of a size on a rung of the ladder; of the family's usual task without another."""
    request = GenerationRequest(
        model=family, prompt="", width=width, height=height, num_frames=frames, fps=SPECS[family].defaults.fps,
        num_inference_steps=3, guidance_scale=guidance, seed=0, task=task or SPECS[family].usual_task,
    )  # fmt: skip
    plan = Plan(
        precision=precision, places=everywhere("staged"), weights=weights, lossless=weights == "full",
        **SPECS[family].rungs[rung],
    )  # fmt: skip
    return family, request, plan, phase


def question_of(job: Job) -> Question:
    """What the row answers."""
    return Question.of(*job)


def groups(rows: Iterable[Job]) -> list[list[Job]]:
    """Rows of one size in one precision and storage together: what one of them learns of layers serves the others."""
    together: dict[tuple[object, ...], list[Job]] = {}
    for family, request, plan, phase in rows:
        shape = request.width, request.height, request.num_frames, request.guidance_scale
        together.setdefault((family, plan.precision, plan.weights, *shape), []).append((family, request, plan, phase))
    return sorted(together.values(), key=lambda rows: question_of(rows[0]).volume, reverse=True)


def run(rows: Sequence[Job]) -> list[tuple[Question, Found]]:
    """Rows, run dry."""
    return [(question_of(one), _found(*one)) for one in rows]


def _found(family: str, request: GenerationRequest, plan: Plan, phase: str) -> Found:
    return _runner(family, plan.precision, plan.weights).run(request, plan, (phase,))


@cache
def _runner(family: str, precision: str, weights: Weights):
    from i2v.dryrun.runner import DryRunner

    return DryRunner(family, None, precision, weights)


def differences(kept: Found | None, now: Found) -> list[str]:
    """In what a row of the table is not what a dry run finds now: bytes exactly, work in the digits that are kept."""
    if kept is None:
        return ["not in the table"]
    said = []
    if dict(kept.weights) != dict(now.weights):
        said.append(f"weights {dict(kept.weights)}, now {dict(now.weights)}")
    if len(kept.phases) != len(now.phases):
        said.append(f"{len(kept.phases)} phases, now {len(now.phases)}")
    for old, new in zip(kept.phases, now.phases, strict=False):
        if _exact(old) != _exact(new):
            said.append(f"{old.name} {_exact(old)}, now {_exact(new)}")
        if not all(_same_digits(a, b) for a, b in zip(_rounded(old), _rounded(new), strict=True)):
            said.append(f"{old.name} work {_rounded(old)}, now {_rounded(new)}")
    return said


def _exact(phase: PhaseRun) -> tuple[object, ...]:
    transfers = phase.once.transfer_bytes, phase.each.transfer_bytes
    beside = phase.copies_bytes, phase.cudnn_bytes, phase.unused_bytes, phase.unused_segments_bytes
    return phase.name, phase.components, phase.activations_bytes, *beside, *transfers


def _rounded(phase: PhaseRun) -> tuple[float, ...]:
    works = (replace(work, transfer_bytes=0) for work in (phase.once, phase.each))
    return tuple(number for work in works for number in work.to_json())


def _same_digits(kept: float, now: float) -> bool:
    """Whether `now` is rounded to `kept`. A little more than half of the last digit: the order of a sum is free."""
    if not kept or not now:
        return kept == now
    return abs(kept - now) <= 0.501 * 10 ** (math.floor(math.log10(abs(kept))) + 1 - DIGITS)


def check(rows: Sequence[tuple[Question, Found]], known: Known) -> int:
    """How many rows are not as in the table, or in it and made no more; what differs is told."""
    found = {question: differences(known.get(question), now) for question, now in rows}
    found |= {question: ["made no more"] for question in known if question not in found}
    stale = {question: said for question, said in found.items() if said}
    for question, said in stale.items():
        print(f"not as in the table: {question}", *said, sep="\n  ", file=sys.stderr)
    return len(stale)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, say which rows differ")
    parser.add_argument("--family", choices=tuple(SIZES), help="only this family's rows")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    args = parser.parse_args(argv)
    began = time.monotonic()
    wanted = [one for one in jobs() if args.family in (None, one[0])]
    # diffusers warns of configurations that are older than it is.
    quietly = {"initializer": logging.disable, "initargs": (logging.WARNING,)}
    with ProcessPoolExecutor(args.processes, **quietly) as pool:
        rows = [row for made in pool.map(run, groups(wanted)) for row in made]
    took = f"{len(rows)} rows in {time.monotonic() - began:.0f} s"
    known = Known()
    if args.family:
        rows += [(one, known.get(one)) for one in known if one.family != args.family]
    if args.check:
        stale = check(rows, known)
        print(f"{took}, {stale} differ")
        return 1 if stale else 0
    TABLE.write_text(dump(dict(rows), {"made_with": library_versions()}), encoding="utf-8")
    print(f"{took}, {TABLE.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
