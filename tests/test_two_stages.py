"""Whether a video is made in two stages: what a person says, what the model's files can, and what suits them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2v.families import SPECS
from i2v.jobs.asked.two_stages import said_of, stages_notes, two_stages
from i2v.jobs.job.again import values_of
from i2v.messages import LOCALES, UserError, message
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.planning.planner import Planner, smaller_sizes
from i2v.planning.why import why
from i2v.request import Adapter, GenerationRequest
from tests.planning.support import card, job, made_up

LTX2 = SPECS["ltx2"]
JOB = GenerationRequest(
    model="mine", task="t2v", prompt="waves", width=1280, height=768, num_frames=121, fps=24, num_inference_steps=8,
    guidance_scale=1.0, seed=1,
)  # fmt: skip


@pytest.fixture
def entry(tmp_path: Path) -> ModelEntry:
    (tmp_path / "latent_upsampler").mkdir()
    (tmp_path / "latent_upsampler" / "config.json").write_text("{}")
    return ModelEntry("mine", "ltx2", "LTX-2.3", tmp_path, None, True, 0, None)


@pytest.fixture
def without(entry: ModelEntry, tmp_path: Path) -> ModelEntry:
    (tmp_path / "without").mkdir()
    return replace(entry, folder=tmp_path / "without")


@pytest.mark.parametrize(
    ("asked", "change", "expected"),
    [
        (None, {}, True),
        (None, {"guidance_scale": 3.0}, None),
        (None, {"num_inference_steps": 30}, None),
        (None, {"width": 1248}, None),
        ("on", {"guidance_scale": 3.0, "num_inference_steps": 30}, True),
        (True, {"num_inference_steps": 30}, True),
        ("off", {}, False),
        ("OFF", {"num_inference_steps": 30}, None),
    ],
)
def test_they_are_taken_where_asked_for_or_where_they_suit(entry, asked, change, expected):
    assert two_stages(asked, replace(JOB, **change), entry, LTX2) is expected


def test_a_checkpoint_without_the_component_has_one_stage_and_says_what_is_missing(without):
    assert two_stages(None, JOB, without, LTX2) is None
    with pytest.raises(UserError) as refused:
        two_stages("on", JOB, without, LTX2)
    assert refused.value.message.id == "family.two_stages_no_component"
    assert str(without.folder) in str(refused.value)


def test_a_size_that_has_no_half_is_refused_with_the_nearest(entry):
    with pytest.raises(UserError) as refused:
        two_stages("on", replace(JOB, width=1248, height=736), entry, LTX2)
    assert "1280x768" in str(refused.value) or "1216x704" in str(refused.value)


def test_other_families_and_other_words_are_refused(entry):
    for spec in SPECS.values():
        if spec.two_stages is None:
            assert two_stages(None, JOB, entry, spec) is two_stages("off", JOB, entry, spec) is None
            with pytest.raises(UserError):
                two_stages("on", JOB, entry, spec)
    with pytest.raises(UserError):
        two_stages("perhaps", JOB, entry, LTX2)


@given(st.sampled_from([True, False, None]))
def test_a_retry_asks_for_the_same(has):
    request = replace(JOB, two_stages=has)
    assert GenerationRequest.from_json(request.to_json()) == request
    assert values_of(request).get("two_stages") == said_of(request)


def test_all_steps_are_counted():
    for spec in SPECS.values():
        own = spec.steps_in_all(JOB)
        more = spec.two_stages.more_steps if spec.two_stages else 0
        assert spec.steps_in_all(replace(JOB, two_stages=True)) == own + more


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"two_stages": True}, []),
        ({"two_stages": True, "guidance_scale": 3.0}, ["request.hint_two_stages"]),
        ({"two_stages": True, "num_inference_steps": 30}, ["request.hint_two_stages"]),
        ({"two_stages": True, "num_inference_steps": 30, "adapters": (Adapter("distilled", 1.0),)}, []),
        ({"width": 1248}, ["request.hint_one_stage"]),
        ({"width": 1248, "two_stages": False}, []),
        ({"width": 1248, "num_inference_steps": 30}, []),
    ],
)
def test_a_person_learns_what_stands_against_two_stages(entry, change, told):
    assert [one.id for one in stages_notes(replace(JOB, **change), entry, LTX2)] == told


def test_nothing_is_said_of_two_stages_where_there_can_be_none(without, entry):
    for spec, one in ((LTX2, without), (SPECS["wan"], entry)):
        assert list(stages_notes(replace(JOB, width=1248), one, spec)) == []


@pytest.mark.parametrize(("stages", "said"), [(True, True), (False, False), (None, False)])
def test_a_plan_says_in_how_many_stages_it_is(stages, said):
    planned = Planner(card(40), made_up).plan(replace(job(steps=8), two_stages=stages), Plan(device="cuda"))
    told = {one.id: one.params for one in why(planned)}
    assert ("planning.two_stages" in told) is said
    if said:
        assert told["planning.two_stages"] == {"steps": 8, "half": "256x256", "whole": "512x512"}


@pytest.mark.parametrize("locale", LOCALES)
def test_the_help_says_when_two_stages_are_taken_by_themselves(locale):
    told = message("ui.two_stages_help").render(locale)
    assert LTX2.two_stages is not None
    assert str(LTX2.two_stages.distilled_steps) in told
    assert str(2 * LTX2.size_multiple) in told


def test_smaller_sizes_that_are_proposed_have_a_half():
    assert LTX2.two_stages is not None
    proposed = list(smaller_sizes(replace(JOB, two_stages=True), LTX2))
    assert proposed
    for one in proposed:
        assert one.two_stages
        assert LTX2.two_stages.halves(one.width, one.height, LTX2.size_multiple)
