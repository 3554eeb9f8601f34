"""The search: nothing faster that fits is missed, and more memory, a smaller job or a correction never make it odd."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from i2v.plan import Plan
from i2v.planning.ledger import Correction, Entry, PhaseMeasured, Setup, correction_from
from i2v.planning.planner import Planner, candidates, choose
from i2v.units import GIB
from tests.planning.support import card, job, made_up

BASE = Plan(device="cuda", precision="float16")
SIZES = st.sampled_from((256, 384, 512, 640, 768, 1024, 1280))
FRAMES = st.integers(2, 64)
FREE = st.floats(0.5, 40)
PHASES = ("text", "denoise", "decode")


@st.composite
def corrections(draw) -> Correction:
    """What any ledger may say: measured more or less than predicted, by anything."""
    sizes, times = st.integers(1, 30 * GIB), st.floats(1e-4, 1e4)
    entries = [
        Entry(
            Setup("made up", "float16", "card", "2.13.0"),
            {},
            tuple(PhaseMeasured(n, draw(sizes), draw(sizes), draw(times), draw(times)) for n in PHASES),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    return correction_from(entries)


@given(FREE, SIZES, SIZES, FRAMES, st.sampled_from((1.0, 9.0)))
@settings(max_examples=60, deadline=None)
def test_nothing_faster_that_fits_is_missed(free, width, height, frames, guidance):
    """On costs in which the number of chunks alone takes time, against every plan there is."""
    request, machine = job(width, height, frames, guidance=guidance), card(free)
    planned = Planner(machine, made_up).plan(request, BASE)
    assume(planned.prediction.verdict == "fits")
    for plan in candidates(BASE, ()):
        other = Planner(machine, made_up).forced(request, plan)
        assert other.verdict != "fits" or planned.prediction.seconds <= other.seconds


@given(FREE, FREE, SIZES, SIZES, FRAMES, corrections())
@settings(max_examples=80, deadline=None)
def test_more_memory_is_never_slower_and_still_fits(free, more, width, height, frames, correction):
    request = job(width, height, frames)
    small, large = (
        Planner(card(gib), made_up, correction).plan(request, BASE).prediction for gib in sorted((free, more))
    )
    order = ("wont_fit", "tight", "fits")
    assert order.index(large.verdict) >= order.index(small.verdict)
    if small.verdict == large.verdict == "fits":
        assert large.seconds <= small.seconds


@given(FREE, SIZES, SIZES, FRAMES, SIZES, SIZES, FRAMES, st.sampled_from(tuple(candidates(BASE, ()))), corrections())
@settings(max_examples=80, deadline=None)
def test_a_larger_job_never_holds_less_under_the_same_plan(free, w, h, f, more_w, more_h, more_f, plan, correction):
    planner = Planner(card(free), made_up, correction)
    small = planner.forced(job(min(w, more_w), min(h, more_h), min(f, more_f)), plan)
    large = planner.forced(job(max(w, more_w), max(h, more_h), max(f, more_f)), plan)
    assert small.peak.peak_bytes <= large.peak.peak_bytes


@given(FREE, SIZES, SIZES, FRAMES)
@settings(max_examples=40, deadline=None)
def test_looking_at_few_rungs_finds_what_looking_at_all_does(free, width, height, frames):
    """The search that runs dry only what it must, from nothing and from a guess, ends where the whole search ends."""
    request, planner = job(width, height, frames), Planner(card(free), made_up)
    whole = planner.plan(request, BASE, look_around=False)
    assume(whole.prediction.verdict == "fits")
    for start in (None, *candidates(BASE, ())):
        assert planner.plan_exactly(request, BASE, start=start).prediction.seconds == whole.prediction.seconds


def test_the_search_runs_few_jobs_dry():
    asked = []

    def source(request, plan):
        asked.append(replace(plan, offload="staged"))
        return made_up(request, plan)

    Planner(card(6), source).plan_exactly(job(), BASE)
    assert len(set(asked)) <= 4


def test_what_a_person_fixed_stays():
    base = replace(BASE, cfg="batch", chunk_frames=3)
    planned = Planner(card(3), made_up).plan(job(1024, 1024, 32), base, fixed=("cfg", "chunk_frames"))
    assert {(one.plan.cfg, one.plan.chunk_frames) for one in planned.considered} == {("batch", 3)}


def test_the_ladder_goes_down():
    planned = Planner(card(11), made_up).plan(job(768, 768, 24), BASE)
    peaks = [planned.prediction.peak.peak_bytes, *(one.prediction.peak.peak_bytes for one in planned.ladder)]
    assert len(peaks) > 3
    assert peaks == sorted(set(peaks), reverse=True)


def test_where_nothing_fits_the_nearest_settings_do():
    planner = Planner(card(4.2), made_up)
    planned = planner.plan(job(1280, 1280, 64), BASE)
    assert planned.prediction.verdict == "wont_fit"
    assert planned.nearest
    for nearest in planned.nearest:
        assert planner.plan(nearest, BASE).prediction.verdict == "fits"


@pytest.mark.parametrize(("policy", "frames"), [("lossless", 64), ("balanced", 48), ("smallest", 48)])
def test_only_a_lossy_policy_gives_up_frames(policy, frames):
    planner = Planner(card(4.1), made_up)
    planned = planner.give_up_frames(planner.plan(job(768, 768, 64), BASE), BASE, (), policy)
    assert planned.request.num_frames == frames
    assert planned.plan.lossless == (policy == "lossless")
    assert (planned.prediction.verdict == "wont_fit") == (policy == "lossless")


def test_a_balanced_policy_keeps_half_of_the_frames():
    planner = Planner(card(3.6), made_up)
    whole = planner.plan(job(768, 768, 64), BASE)
    assert planner.give_up_frames(whole, BASE, (), "balanced") == whole
    assert planner.give_up_frames(whole, BASE, (), "smallest").request.num_frames == 24


@pytest.mark.parametrize("resource", ["ram_free_bytes", "disk_free_bytes"])
def test_ram_and_disk_count_as_the_card_does(resource):
    planned = Planner(replace(card(24), **{resource: 2**20}), made_up).plan(job(), BASE)
    assert planned.prediction.verdict == "wont_fit"


def test_a_model_still_to_be_downloaded_needs_its_disk():
    machine = replace(card(24), disk_free_bytes=4 * GIB)
    assert Planner(machine, made_up).plan(job(), BASE).prediction.verdict == "fits"
    assert Planner(machine, made_up, download_bytes=5 * GIB).plan(job(), BASE).prediction.verdict == "wont_fit"


def test_zero_memory_fits_nothing():
    planned = Planner(card(0), made_up).plan(job(), BASE)
    assert planned.prediction.verdict == "wont_fit"
    assert choose(planned.considered).plan == planned.plan
