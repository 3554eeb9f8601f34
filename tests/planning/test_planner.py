"""The search: nothing faster that fits is missed, and more memory, a smaller job or a correction never make it odd."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from i2v.families.spec import VaeWindows
from i2v.plan import POLICIES, Plan, everywhere
from i2v.planning.ledger import Correction, Entry, PhaseMeasured, Setup, correction_from
from i2v.planning.planner import (
    LOSSY_WEIGHTS,
    Planned,
    Planner,
    candidates,
    choose,
    fewer_frames,
    pixels_of,
    smaller_sizes,
    stored,
)
from i2v.planning.why import why
from i2v.units import GIB
from i2v.vae_window import OWN
from tests.planning.support import SPEC, card, in_one_piece, job, made_up

ROUNDING = 1 + 1e-12  # sums of the same times in another order
BASE = Plan(device="cuda", precision="float16")
SIZES = st.sampled_from((256, 384, 512, 640, 768, 1024, 1280))
FRAMES = st.integers(2, 64)
FREE = st.floats(0.5, 40)
SHORT = st.floats(1, 6)  # where most of these jobs are about to fit
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
        asked.append(replace(plan, places=everywhere("staged")))
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
    planner = Planner(card(4.2), in_one_piece, spec=SPEC)
    planned = planner.plan(job(1280, 1280, 64), BASE)
    assert planned.prediction.verdict == "wont_fit"
    assert planned.nearest
    for nearest in planned.nearest:
        assert planner.plan(nearest, BASE).prediction.verdict == "fits"


def test_where_neither_fewer_frames_nor_a_smaller_size_is_enough_both_are_proposed():
    """Held against every combination there is."""
    planner, request = Planner(card(3.4), in_one_piece, spec=SPEC), job(1280, 1280, 64)
    assert not any(map(fits(planner), [*fewer_frames(request, SPEC), *smaller_sizes(request, SPEC)]))
    (nearest,) = planner.plan(request, BASE).nearest
    both = [less for smaller in smaller_sizes(request, SPEC) for less in fewer_frames(smaller, SPEC)]
    assert pixels_of(nearest) == max(map(pixels_of, filter(fits(planner), both)))


def test_where_nothing_is_known_of_smaller_jobs_one_that_fits_is_found_with_few_dry_runs():
    asked = set()

    def source(request, plan):
        asked.add(request)
        return in_one_piece(request, plan)

    planner, request = Planner(card(3.4), source, spec=SPEC), job(1280, 1280, 64)
    near = planner.near_exactly(request, BASE)
    assert len(asked) <= 4
    assert fits(planner)(near)
    assert (near.width, near.num_frames) == (512, 16)
    assert not fits(planner)(job(640, 640, 24))  # the one before
    assert planner.near_exactly(job(64, 64, 8), BASE) is None  # there is nothing smaller
    assert Planner(card(0), source, spec=SPEC).near_exactly(request, BASE) is None


def fits(planner):
    return lambda job: planner.plan(job, BASE, look_around=False).prediction.verdict == "fits"


@given(SHORT, SIZES, SIZES, FRAMES, st.sampled_from(POLICIES))
@settings(max_examples=80, deadline=None)
def test_precision_is_given_up_only_where_no_lossless_plan_fits(free, width, height, frames, policy):
    """Against every lossless plan there is; and under "lossless" never."""
    request, planner = job(width, height, frames), Planner(card(free), made_up, spec=SPEC)
    planned = planner.give_up(planner.plan(request, BASE), BASE, (), policy)
    lossless = {planner.forced(request, plan).verdict for plan in candidates(BASE, ())}
    if policy == "lossless" or lossless != {"wont_fit"}:
        assert (planned.plan.weights, planned.plan.lossless, planned.asked) == ("full", True, None)
    elif planned.prediction.verdict != "wont_fit":
        assert not planned.plan.lossless
        assert (planned.plan.weights in LOSSY_WEIGHTS) or planned.asked is not None


@given(SHORT, SHORT, SIZES, SIZES, FRAMES, st.sampled_from(("balanced", "smallest")), corrections())
@settings(max_examples=80, deadline=None)
def test_more_memory_never_gives_up_more(free, more, width, height, frames, policy, correction):
    """Whole weights and all frames, then eight bits and all frames, then fewer and fewer; and of two plans that give
    up the same, the one with more memory is as fast or faster."""

    def under(gib: float) -> Planned:
        planner = Planner(card(gib), made_up, correction, spec=SPEC)
        return planner.give_up(planner.plan(job(width, height, frames), BASE), BASE, (), policy)

    small, large = (under(gib) for gib in sorted((free, more)))
    fits = [planned.prediction.verdict != "wont_fit" for planned in (small, large)]
    assert fits[1] or not fits[0]
    if not fits[0]:
        return
    assert large.request.num_frames >= small.request.num_frames
    if large.request.num_frames == small.request.num_frames:
        assert large.plan.weights == "full" or small.plan.weights != "full"
        same = large.plan.weights == small.plan.weights
        if same and large.prediction.verdict == small.prediction.verdict == "fits":
            assert large.prediction.seconds <= small.prediction.seconds * ROUNDING


@given(st.floats(0.05, 0.9), SIZES, SIZES, FRAMES)
@settings(max_examples=40, deadline=None)
def test_the_exact_search_for_eight_bits_ends_where_the_whole_one_does(short, width, height, frames):
    """On cards that are `short` GiB too small for the smallest lossless plan."""
    request, planner = job(width, height, frames), Planner(card(40), in_one_piece)
    smallest = min(planner.forced(request, plan).peak.peak_bytes for plan in candidates(BASE, ()))
    planner = Planner(card(smallest / GIB - short), in_one_piece)
    planned = planner.plan(request, BASE, look_around=False)
    whole = planner.give_up_precision(planned, BASE, (), "balanced")
    assume(whole.prediction.verdict == "fits" and not whole.plan.lossless)
    exact = planner.give_up_precision(planner.plan_exactly(request, BASE), BASE, (), "balanced", exactly=True)
    assert (exact.plan.weights, exact.prediction.seconds) == (whole.plan.weights, whole.prediction.seconds)


def test_a_lossless_plan_that_is_tight_is_kept():
    planner = Planner(card(4.4), in_one_piece)
    planned = planner.plan(job(768, 768, 64), BASE)
    assert planned.prediction.verdict == "tight"
    assert planner.give_up(planned, BASE, (), "smallest") == planned


def test_what_is_stored_in_eight_bits_is_never_lossless():
    planned = Planner(card(4.2), in_one_piece).plan(job(768, 768, 64), BASE)
    given_up = Planner(card(4.2), in_one_piece).give_up(planned, BASE, (), "balanced")
    assert {one.plan.lossless for one in given_up.ladder} <= {False}
    for one in given_up.considered:
        assert one.plan.lossless == (one.plan.weights == "full")
    assert given_up.plan == stored(replace(given_up.plan, weights="full", lossless=True), LOSSY_WEIGHTS[0])
    assert [text.params["weights"] for text in why(given_up) if text.id == "planning.weights"] == [LOSSY_WEIGHTS[0]]
    assert not [text for text in why(planned) if text.id == "planning.weights"]


@pytest.mark.parametrize(
    ("free", "policy", "frames", "fits"),
    [
        (4.1, "lossless", 64, False),
        (4.1, "balanced", 64, True),
        (2.7, "balanced", 40, True),
        (2.3, "balanced", 64, False),
        (2.3, "smallest", 24, True),
    ],
)
def test_frames_go_after_precision_and_half_of_them_stay_under_balanced(free, policy, frames, fits):
    planner = Planner(card(free), in_one_piece, spec=SPEC)
    whole = planner.plan(job(768, 768, 64), BASE)
    planned = planner.give_up(whole, BASE, (), policy)
    assert planned.request.num_frames == frames
    assert (planned.prediction.verdict != "wont_fit") == fits
    assert planned.plan.lossless == (not fits)
    if not fits:
        assert planned == whole


def test_ram_holds_the_whole_weights_before_they_are_stored():
    """Eight bits need no more RAM than whole weights do, and no less: they are loaded whole."""
    planner = Planner(card(24), made_up)
    full, eight = (planner.forced(job(), plan) for plan in (BASE, stored(BASE, "int8")))
    assert eight.peak.peak_bytes < full.peak.peak_bytes
    assert eight.ram_peak_bytes == pytest.approx(full.ram_peak_bytes, rel=1e-6)


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


def test_nothing_is_asked_twice_while_a_size_is_looked_for_that_fits():
    """Of fewer frames and of smaller sizes only the last ones fit here, which are asked about first."""
    asked = Counter()

    def source(request, plan):
        asked[request, plan] += 1
        return in_one_piece(request, plan)

    for free, wanted, last in (
        (3.3, job(512, 512, 32), job(128, 128, 32)),
        (3.5, job(768, 768, 64), job(768, 768, 8)),
    ):
        asked.clear()
        assert last in list(Planner(card(free), source, spec=SPEC)._nearest(wanted, BASE, ()))
        assert set(asked.values()) == {1}


WINDOWED = replace(
    SPEC,
    windows=VaeWindows("5x32x32", {"5x24x24": 41.0, "5x16x16": 35.0}),
    knobs={**SPEC.knobs, "decode": ("decode_frames", "vae_window")},
)
DECODE_SHARES = {OWN: 1.0, "5x24x24": 0.6, "5x16x16": 0.3}


def in_windows(request, plan):
    """The network in one piece, whose decoder holds four GiB in its own window."""
    found, exact = in_one_piece(request, plan)
    held = int(4 * GIB * DECODE_SHARES[plan.vae_window])
    return replace(found, phases=(*found.phases[:-1], replace(found.phases[-1], activations_bytes=held))), exact


def given_up(free: float, policy: str, fixed: tuple[str, ...] = (), *, exactly: bool = False) -> Planned:
    planner = Planner(card(free), in_windows, spec=WINDOWED)
    planned = planner.plan(job(), BASE, fixed, look_around=False)
    return planner.give_up_precision(planned, BASE, fixed, policy, exactly=exactly)


@given(st.floats(1.5, 6), st.sampled_from(POLICIES), st.sampled_from([(), ("vae_window",)]), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_window_is_given_up_before_precision_and_no_smaller_one_than_need_be(free, policy, fixed, exactly):
    """Against every plan that there is."""
    planner, planned = Planner(card(free), in_windows, spec=WINDOWED), given_up(free, policy, fixed, exactly=exactly)
    windows = (OWN,) if "vae_window" in fixed else tuple(DECODE_SHARES)
    ways = [(weights, window) for weights in ("full", LOSSY_WEIGHTS[0]) for window in windows]
    if policy == "lossless":
        ways = ways[:1]
    bases = [replace(BASE, weights=weights, vae_window=window) for weights, window in ways]
    fitting = [
        (base.weights, base.vae_window)
        for base in bases
        if any(planner.forced(job(), plan).verdict != "wont_fit" for plan in candidates(base, ()))
    ]
    if not fitting:
        assert planned.prediction.verdict == "wont_fit"
        assert (planned.plan.weights, planned.plan.vae_window, planned.plan.lossless) == ("full", OWN, True)
        return
    assert (planned.plan.weights, planned.plan.vae_window) == fitting[0]
    assert planned.plan.lossless == (fitting[0] == ("full", OWN))
    assert {one.plan.vae_window for one in planned.ladder} <= {planned.plan.vae_window}
    said = [text for text in why(planned) if text.id == "planning.window"]
    psnr = WINDOWED.windows.others.get(planned.plan.vae_window)
    assert [text.params for text in said] == ([{"window": planned.plan.vae_window, "psnr": str(psnr)}] if psnr else [])


def test_windows_are_not_looked_at_where_another_phase_is_too_large():
    asked = []

    def source(request, plan):
        asked.append(plan.vae_window)
        return in_windows(request, plan)

    planner = Planner(card(1), source, spec=WINDOWED)
    planner.give_up_precision(planner.plan(job(), BASE, look_around=False), BASE, (), "balanced")
    assert set(asked) == {OWN}
