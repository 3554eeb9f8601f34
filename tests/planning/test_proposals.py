"""What the planner proposes in a job's stead is something that the model's family can make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.jobs.asked.plans import Asked
from i2v.models.entry import ModelEntry
from i2v.plan import POLICIES, Plan, Policy
from i2v.planning.planner import Planned, candidates, fewer_frames, smaller_sizes
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.planning.support import card, job, made_up

BASE = Plan(device="cuda", precision="float16")
# Rules of families that are not here yet: frames after the first in fours, large multiples, narrow limits.
MADE_UP = {
    "fours and one": {"frame_step": 4, "frame_offset": 1, "min_frames": 5, "max_frames": 121, "size_multiple": 16},
    "large tiles": {"size_multiple": 96, "min_size": 192, "max_size": 1440, "frame_step": 6, "min_frames": 12},
    "long only": {"min_frames": 30, "max_frames": 90, "frame_step": 5, "size_multiple": 32, "min_size": 320},
}
ALL = dict(SPECS) | {name: replace(SPECS["i2vgen_xl"], name=name, **rules) for name, rules in MADE_UP.items()}


@st.composite
def allowed(draw: st.DrawFn, spec: FamilySpec, least: int = 0) -> GenerationRequest:
    """Any job that the family can make, of sides of at least so many pixels."""
    sides = st.integers(max(spec.min_size, least), spec.max_size).map(spec.nearest_size)
    frames = st.integers(max(spec.min_frames, least // 64), spec.max_frames).map(spec.nearest_frames)
    width, height = spec.nearest_sizes(draw(sides), draw(sides))
    return job(width, height, draw(frames), guidance=draw(st.sampled_from((1.0, 9.0))))


def assert_may_stand_for(proposed: GenerationRequest, request: GenerationRequest, spec: FamilySpec) -> None:
    """The family can make it, it is less than was asked for, and it is what was asked for in all else."""
    spec.check(task=spec.usual_task, width=proposed.width, height=proposed.height, num_frames=proposed.num_frames)
    assert proposed != request
    assert proposed.width <= request.width
    assert proposed.height <= request.height
    assert proposed.num_frames <= request.num_frames
    assert replace(proposed, width=request.width, height=request.height, num_frames=request.num_frames) == request


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
@given(data=st.data())
@settings(max_examples=100)
def test_smaller_sizes_and_fewer_frames_obey_the_familys_rules_and_go_down(spec, data):
    request = data.draw(allowed(spec))
    sizes, lengths = list(smaller_sizes(request, spec)), list(fewer_frames(request, spec))
    for proposed in (*sizes, *lengths):
        assert_may_stand_for(proposed, request, spec)
    areas, frames = [one.width * one.height for one in sizes], [one.num_frames for one in lengths]
    assert areas == sorted(set(areas), reverse=True)
    assert frames == sorted(set(frames), reverse=True)


def planned_under(spec: FamilySpec, request: GenerationRequest, share: float, policy: Policy) -> Planned:
    """As the app plans, by the model's entry; on a card with this `share` of what the smallest lossless plan holds."""
    entry = ModelEntry(spec.name, spec.name, spec.title, Path("none"), None, True, 0, None)
    asked = Asked(entry, request, BASE, card(40), policy=policy)
    with patch.dict(SPECS, ALL):
        planner = asked.planner(made_up)
    needed = min(planner.forced(request, plan).peak.peak_bytes for plan in candidates(BASE, (), spec.rungs))
    planner = replace(planner, machine=card(share * needed / GIB))
    return planner.give_up(planner.plan(request, BASE), BASE, (), policy)


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
@given(data=st.data(), share=st.floats(0.05, 1.1), policy=st.sampled_from(POLICIES))
@settings(max_examples=40)
def test_what_the_planner_proposes_obeys_the_familys_rules(spec, data, share, policy):
    request = data.draw(allowed(spec, least=512))
    planned = planned_under(spec, request, share, policy)
    assert planned.asked in (None, request)
    assert (planned.request == request) == (planned.asked is None)
    for proposed in (*planned.nearest, *([planned.request] if planned.asked else ())):
        assert_may_stand_for(proposed, request, spec)


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
def test_every_family_is_offered_smaller_sizes_and_fewer_frames(spec):
    """So that the property above is not true of nothing; but where there is only one."""
    request = job(*spec.nearest_sizes(1024, 1024), spec.nearest_frames(max(64, 2 * spec.min_frames)))
    sizes, lengths, fewer = set(), set(), set()
    for share in (0.95, 0.8, 0.6, 0.4, 0.2, 0.1):
        nearest = planned_under(spec, request, share, "lossless").nearest
        sizes |= {one.width for one in nearest} - {request.width}
        lengths |= {one.num_frames for one in nearest} - {request.num_frames}
        fewer |= {planned_under(spec, request, share, "smallest").request.num_frames} - {request.num_frames}
    assert bool(sizes) is (spec.only_size is None)
    assert bool(lengths) is bool(fewer) is (spec.min_frames < spec.max_frames)
