"""Machines, jobs and a cost model made up for the planner's tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from i2v.families import SPECS
from i2v.plan import Plan, Weights, everywhere
from i2v.planning.known import LEVELS, BlockBytes, BlockPasses, Found, PhaseRun
from i2v.planning.machine import Machine, card_machine
from i2v.planning.planner import Source
from i2v.planning.rates import find_card, host_rates
from i2v.planning.work import Work
from i2v.request import GenerationRequest
from i2v.units import GIB

NANO = Path(__file__).parents[2] / "i2v/assets/nano"
SPEC = SPECS["i2vgen_xl"]
WEIGHTS = {"text_encoder": 2 * GIB // 3, "unet": 5 * GIB // 2, "vae": GIB // 6}


@cache
def runner(family: str, folder: Path, precision: str, weights: Weights):
    """The dry runner of a model: what it learned under one plan, and in one test, serves the next."""
    from i2v.dryrun.runner import DryRunner

    return DryRunner(family, folder, precision, weights)


@cache
def dry_source(family: str, folder: Path) -> Source:
    """The exact source, each question run dry once, whichever test asks."""

    @cache
    def look(request: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
        return runner(family, folder, "float32", plan.weights).run(request, plan), True

    return lambda request, plan: look(request, replace(plan, places=everywhere("staged"), memory_cap_bytes=None))


def simulated_machine(card_bytes: int) -> Machine:
    """A simulated card of so many bytes, and room enough beside it."""
    return Machine("simulated", host_rates(2), card_bytes, 64 * GIB, 64 * GIB)


def job(width: int = 512, height: int = 512, frames: int = 16, steps: int = 50, guidance: float = 9.0):
    return GenerationRequest(
        model="made up", prompt="", width=width, height=height, num_frames=frames, fps=8,
        num_inference_steps=steps, guidance_scale=guidance, seed=0,
    )  # fmt: skip


def card(free_gib: float, name: str = "RTX 3060") -> Machine:
    return card_machine(find_card(name), int(free_gib * GIB), 64 * GIB, 500 * GIB)


def unused(held: int) -> tuple[int, int]:
    """What an allocator may need beside so many bytes, with expandable segments and without."""
    return max(20 * 2**20, held * 3 // 100), max(20 * 2**20, held * 35 // 100)


def made_up(request: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
    """A network that holds its chunk of the clip and a floor; every chunk costs launches and nothing else."""
    pixels = request.width * request.height // 64
    passes = 2 if request.guidance_scale > 1 else 1
    frames = min(plan.chunk_frames or request.num_frames, request.num_frames)
    at_once = min(plan.chunk_pixels or pixels, pixels)
    chunks = -(-request.num_frames // frames) + -(-pixels // at_once)
    together = passes if plan.cfg == "batch" else 1
    floor = pixels * request.num_frames * 2000
    held = floor + together * (frames * pixels + at_once * request.num_frames) * 3000
    flops = pixels * request.num_frames * 4e7 * passes
    step = Work.of(flops, 0) + Work(launches=300 * chunks * passes / together)
    weights = WEIGHTS if plan.weights == "full" else {**WEIGHTS, "unet": WEIGHTS["unet"] // 2}
    if plan.weights != "full":
        step += Work(launches=200 * chunks * passes / together)  # widening
    decode = min(plan.decode_frames or request.num_frames, request.num_frames) * pixels * 60_000
    decoding = Work.of(flops / 100, 0) + Work(launches=100.0 * request.num_frames)
    return Found(
        (
            PhaseRun("text", ("text_encoder",), 2**20, 0, 0, *unused(2**20), Work.of(1e11, 1e9), passes=TEXT_PASSES),
            PhaseRun(
                "denoise", ("unet",), held, 0, 0, *unused(held), Work(transfer_bytes=weights["unet"]), step,
                {"unet": BlockPasses(passes if plan.cfg == "split" else 1, SHARES)},
            ),
            PhaseRun("decode", ("vae",), decode, 0, 0, *unused(decode), decoding),
        ),
        weights,
        {name: blocks_of(weights[name], count) for name, count in (("text_encoder", 24), ("unet", 40))},
    ), True  # fmt: skip


def in_one_piece(request: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
    """The same network, whose weights can not stream."""
    found, exact = made_up(request, plan)
    return replace(found, blocks={}), exact


# A UNet whose middle is heavy and quickly computed, with a thirtieth in no block.
SHARES = "".join(LEVELS[-1 - abs(number % 40 - 20)] for number in range(20, 60)) + LEVELS[2]
TEXT_PASSES = {"text_encoder": BlockPasses(2, LEVELS[-1] * 24 + LEVELS[1])}


@cache
def blocks_of(size: int, count: int) -> BlockBytes:
    """`size` bytes in blocks, of which the middle ones are three times as large as the first and last."""
    parts = [1 + 2 * (1 - abs(2 * number / (count - 1) - 1)) for number in range(count)]
    sizes = tuple(int(size * 29 / 30 * part / sum(parts)) // 256 * 256 for part in parts)
    return BlockBytes(sizes, size - sum(sizes))
