"""Make the table of dry runs that ships with the app: common sizes of every family, every rung of the ladder.

    python -m tools.plan_table           write it, minutes
    python -m tools.plan_table --check   run a few rows again and compare, half a minute

The table is keyed by a digest of the code that dry runs execute, so it is made again when that changes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product

from i2v.plan import Plan, Weights
from i2v.planning.known import TABLE, Found, Known, Question, dump
from i2v.planning.planner import LOSSY_WEIGHTS, RUNGS
from i2v.request import GenerationRequest

SAMPLED = 67
SIZES = {
    "nano": ((512, 512), (768, 512), (512, 768), (1024, 1024)),
    "i2vgen_xl": ((512, 512), (768, 512), (512, 768), (768, 768), (1280, 704), (1024, 1024)),
}
FRAMES = {"nano": (16, 32), "i2vgen_xl": (16, 24, 32)}
# Of these the table also knows the denoiser's weights in eight bits, for policies that allow them: nano fits as it is.
EIGHT_BITS = ("i2vgen_xl",)
# (precision, guidance_scale): nano runs in float32 on a processor and in half on a card, with guidance or without.
WAYS = {
    "nano": (("float32", 1.0), ("float32", 2.0), ("float16", 1.0), ("float16", 2.0)),
    "i2vgen_xl": (("float16", 9.0),),
}


def jobs() -> Iterator[tuple[str, GenerationRequest, Plan]]:
    """Family, request and plan of every row; jobs that share a question come once."""
    seen = set()
    for family, sizes in SIZES.items():
        for precision, guidance in WAYS[family]:
            for width, height in sizes:
                for frames in FRAMES[family]:
                    request = GenerationRequest(
                        model=family, prompt="", width=width, height=height, num_frames=frames, fps=8,
                        num_inference_steps=3, guidance_scale=guidance, seed=0,
                    )  # fmt: skip
                    stores = ("full", LOSSY_WEIGHTS[0]) if family in EIGHT_BITS else ("full",)
                    for (cfg, chunk_frames, chunk_pixels, decode_frames), weights in product(RUNGS, stores):
                        plan = Plan(
                            precision=precision, cfg=cfg, chunk_frames=chunk_frames, chunk_pixels=chunk_pixels,
                            decode_frames=decode_frames, offload="staged", weights=weights, lossless=weights == "full",
                        )  # fmt: skip
                        question = Question.of(family, request, plan)
                        if question not in seen:
                            seen.add(question)
                            yield family, request, plan


def run(job: tuple[str, GenerationRequest, Plan]) -> tuple[Question, Found]:
    """One row."""
    family, request, plan = job
    return Question.of(family, request, plan), _runner(family, plan.precision, plan.weights).run(request, plan)


@cache
def _runner(family: str, precision: str, weights: Weights):
    import logging

    logging.disable(logging.WARNING)
    from i2v.planning.dryrun import DryRunner

    return DryRunner(family, None, precision, weights)


def differs(known: Found | None, found: Found) -> bool:
    """Whether a row is not what a dry run finds now, to the byte."""
    if known is None or known.weights != dict(found.weights):
        return True
    return _bytes(known) != _bytes(found)


def _bytes(found: Found) -> list[tuple[object, ...]]:
    return [(p.name, p.components, p.activations_bytes, p.copies_bytes) for p in found.phases]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args(argv)
    began, everything = time.monotonic(), list(jobs())
    if args.check:
        known = Known()
        stale = [question for question, found in map(run, everything[::SAMPLED]) if differs(known.get(question), found)]
        for question in stale:
            print(f"not as in the table: {question}", file=sys.stderr)
        print(f"{len(everything[::SAMPLED])} of {len(everything)} rows run again, {len(stale)} differ")
        return 1 if stale else 0
    with ProcessPoolExecutor(args.processes) as pool:
        rows = dict(pool.map(run, everything))
    TABLE.write_text(dump(rows), encoding="utf-8")
    print(f"{len(rows)} rows in {time.monotonic() - began:.0f} s, {TABLE.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
