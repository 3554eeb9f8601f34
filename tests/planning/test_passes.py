"""Weights that stream, in numbers: which blocks stay, what that holds and takes, and how near the planner comes to the
best there is."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import LEVELS, BlockBytes, BlockPasses, Found, PhaseRun
from i2v.planning.pipeline import held_bytes, pass_seconds, stays
from i2v.planning.planner import Planner, candidates
from i2v.planning.work import NO_WORK, Work
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.planning.support import WEIGHTS, card, job, made_up, unused

SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=60).map(tuple)
TIMES = st.floats(0.001, 10)


@given(SIZES, st.integers(0, 60_000), st.integers(0, 60_000))
def test_more_room_keeps_what_less_room_kept(sizes, room, more):
    less, much = (stays(sizes, size) for size in sorted((room, more)))
    assert less <= much
    assert sum(sizes[number] for number in less) <= min(room, more)
    assert stays(sizes, sum(sizes)) == frozenset(range(len(sizes)))


@given(st.integers(2, 200), st.floats(0.1, 0.9))
def test_what_stays_is_spread_evenly(count, share):
    """Between two blocks that stay there are at most three times as many others as there would be at best."""
    kept = sorted(stays((1,) * count, int(count * share)))
    if len(kept) > 1:
        assert max(b - a for a, b in pairwise(kept)) <= 3 * count / len(kept) + 1


@given(SIZES, st.integers(0, 60_000), st.integers(1, 3))
def test_what_streams_holds_its_slots_and_what_stays(sizes, room, slots):
    kept = stays(sizes, room)
    left = [size for number, size in enumerate(sizes) if number not in kept]
    held = held_bytes(sizes, room, slots)
    assert held <= sum(sizes[number] for number in kept) + slots * max(left, default=0)
    assert held >= sum(sizes[number] for number in kept) + max(left, default=0)


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=30), st.integers(0, 30), st.integers(1, 3))
@settings(max_examples=200)
def test_a_pass_takes_no_less_than_computing_and_copying_and_no_more_than_both(blocks, keep, slots):
    compute, copy = [a for a, _ in blocks], [b for _, b in blocks]
    kept = stays((1,) * len(blocks), keep)
    copied = sum(seconds for number, seconds in enumerate(copy) if number not in kept)
    took = pass_seconds(compute, copy, kept, slots)
    assert took <= sum(compute) + copied + 1e-6
    if slots > 1 and len(blocks) - len(kept) >= slots:
        assert took >= 0.99 * max(sum(compute), copied) - 1e-6
    assert took >= sum(compute) - 1e-6
    assert pass_seconds(compute, copy, kept, slots + 1) <= took + 1e-6


def test_two_slots_hide_what_one_can_not():
    """Sixty blocks that are copied in the time they are computed in."""
    compute = copy = [1.0] * 60
    assert pass_seconds(compute, copy, (), 1) == pytest.approx(120, rel=0.02)
    assert pass_seconds(compute, copy, (), 2) == pytest.approx(60, rel=0.02)


def test_blocks_that_stay_in_turn_beat_the_first_ones():
    compute, copy, share = [1.0] * 60, [1.5] * 60, 20
    spread = pass_seconds(compute, copy, stays((1,) * 60, share), 2)
    first = pass_seconds(compute, copy, range(share), 2)
    assert spread == pytest.approx(60, rel=0.08)
    assert first > 1.2 * spread


def test_where_a_pass_waits_for_copies_blocks_that_stay_save_time():
    """A small job, whose computing hides little of them."""
    planner, request = Planner(card(80), made_up), job(256, 256, 8)
    (found, _), size = made_up(request, BASE), WEIGHTS["unet"]
    plan = replace(BASE, places=everywhere("streamed"), cfg="split", decode_frames=1)
    took = []
    for kept in (0, size // 2, size):
        places = (*plan.places, Placement("unet", "streamed", kept))
        took.append(planner.forced(request, replace(plan, places=places)).phases[1].seconds)
    copies = sum(found.blocks["unet"].sizes) / card(80).rates.link * 2 * request.num_inference_steps
    assert took[0] - took[2] > 0.5 * copies
    assert min(took[0] - took[1], took[1] - took[2]) > 0.1 * copies


@pytest.mark.parametrize("free_gib", [2.2, 2.5, 2.8, 3.1])
def test_what_is_free_is_filled_with_blocks(free_gib: float):
    """To less than another block."""
    planned = Planner(card(free_gib), made_up).plan(job(256, 256, 8), BASE)
    prediction, blocks = planned.prediction, made_up(job(), BASE)[0].blocks["unet"]
    kept = planned.plan.place("unet").kept_bytes
    assert planned.plan.offload == "streamed"
    assert 0 < kept < sum(blocks.sizes)
    spare = prediction.budget_bytes - prediction.margin_bytes - prediction.phases[1].peak_bytes
    assert 0 <= spare < max(blocks.sizes)


# Four kinds of models: bytes of blocks, work of a pass, and which phases need what.
def blocks(count: int, gib: float, heavy: float = 1.0) -> BlockBytes:
    """`count` blocks; those in the middle are `heavy` times as large as the outer ones."""
    parts = [1 + (heavy - 1) * (1 - abs(2 * number / (count - 1) - 1)) for number in range(count)]
    sizes = tuple(int(gib * GIB * part / sum(parts)) // 256 * 256 for part in parts)
    return BlockBytes(sizes, 2**24)


MODELS = {
    "a UNet": {"unet": (blocks(80, 2.6, 4.0), 1.0), "text_encoder": (blocks(24, 0.6), 0.01)},
    "a transformer": {"transformer": (blocks(60, 23.0, 1.5), 8.0), "text_encoder": (blocks(32, 14.0), 0.02)},
    "two transformers": {
        "high": (blocks(40, 26.0), 6.0), "low": (blocks(40, 26.0), 6.0), "text_encoder": (blocks(24, 10.6), 0.02),
    },
    "a large text encoder": {"transformer": (blocks(28, 3.6), 0.5), "text_encoder": (blocks(48, 22.0), 0.05)},
}  # fmt: skip


@cache
def source_of(name: str):
    """Dry runs of such a model: chunks lower what it holds and cost launches."""
    parts = MODELS[name]
    weights = {one: sum(size.sizes) + size.outside for one, (size, _) in parts.items()}

    @cache
    def run(name: str, frames: int, pixels: int, chunk: int, passes: int) -> PhaseRun:
        size, pflop = parts[name]
        held = int(frames * pixels * (900 + 40_000 / (1 + 8 * bool(chunk) * 4096 / max(1, chunk)) * (passes == 1)))
        work = Work.of(pflop * 1e15 * frames * pixels / (16 * 4096), 0) + Work(launches=2000.0 * (1 + 8 * bool(chunk)))
        shares = BlockPasses(passes, LEVELS[-1] * len(size.sizes) + LEVELS[1])
        is_text = name == "text_encoder"
        once = work if is_text else Work(transfer_bytes=weights[name])
        return PhaseRun(
            "text" if is_text else f"denoise.{name}" if "high" in parts else "denoise", (name,), held, 0, 0,
            *unused(held), once, NO_WORK if is_text else work, {name: shares},
        )  # fmt: skip

    def look(request: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
        pixels, passes = request.width * request.height // 64, 2 if plan.cfg == "split" else 1
        order = sorted(parts, reverse=True)  # the text encoder runs first
        phases = tuple(run(one, request.num_frames, pixels, plan.chunk_pixels, passes) for one in order)
        return Found(phases, weights, {one: size for one, (size, _) in parts.items()}), True

    return look


BASE = Plan(device="cuda", precision="float16")
FREE = st.floats(1.5, 80)


@pytest.mark.parametrize("name", MODELS)
@given(free=FREE, side=st.sampled_from((512, 768)), frames=st.sampled_from((16, 48)))
@settings(max_examples=25, deadline=None)
def test_the_plan_is_within_three_percent_of_the_best_there_is(name, free, side, frames):
    """Against every number of blocks that stay, of every component alike and of each as the room has it, on every rung
    of the chunks."""
    request, planner = job(side, side, frames), Planner(card(free), source_of(name))
    planned = planner.plan(request, BASE, look_around=False)
    best = min(
        (one.seconds for one in everything(planner, request, name) if one.verdict == "fits"), default=float("inf")
    )
    if best < float("inf"):
        assert planned.prediction.verdict == "fits"
        assert planned.prediction.seconds <= 1.03 * best


def everything(planner: Planner, request: GenerationRequest, name: str):
    for plan in candidates(BASE, ()):
        if plan.offload != "streamed":
            yield planner.forced(request, plan)
            continue
        denoisers = [one for one in MODELS[name] if one != "text_encoder"]
        for kept in _kept(MODELS[name][denoisers[0]][0]):
            for text in (0, 10**12):
                places = [Placement(one, "streamed", kept) for one in denoisers]
                places.append(Placement("text_encoder", "streamed" if text == 0 else "staged"))
                yield planner.forced(request, replace(plan, places=(*plan.places, *places)))


def _kept(one: BlockBytes) -> list[int]:
    """Room for one block more each time, in the order in which they are kept."""
    rooms, total = {0}, sum(one.sizes)
    for part in accumulate(sorted(one.sizes)):
        rooms.add(min(part, total))
    return sorted(rooms)[:: max(1, len(rooms) // 12)]


@pytest.mark.parametrize("name", MODELS)
@given(free=FREE, more=FREE, side=st.sampled_from((512, 768)), frames=st.sampled_from((16, 48)))
@settings(max_examples=25, deadline=None)
def test_more_memory_is_never_slower(name, free, more, side, frames):
    request = job(side, side, frames)
    small, large = (
        Planner(card(gib), source_of(name)).plan(request, BASE, look_around=False).prediction
        for gib in sorted((free, more))
    )
    order = ("wont_fit", "tight", "fits")
    assert order.index(large.verdict) >= order.index(small.verdict)
    if small.verdict == large.verdict == "fits":
        assert large.seconds <= small.seconds * (1 + 1e-9)
