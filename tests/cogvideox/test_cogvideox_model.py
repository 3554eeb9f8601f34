"""Whole runs of CogVideoX against diffusers' own pipelines on the same weights and noise, for all versions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXDPMScheduler, DiffusionPipeline
from torch import Tensor

from i2v.engine.cancel import GenerationPaused
from i2v.events import Resumed
from i2v.families import SPECS
from i2v.families.base import Inputs
from i2v.families.cogvideox.model import CogVideoX
from i2v.families.guidance import scale_at
from i2v.families.phases import Phases
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.models.kinds import spec_of
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest
from tests.cogvideox_checkpoints import job_of, picture, pipeline_of, stock
from tests.faulty_cards import FaultyInPhases
from tests.going_on import encoded, gone_on_with
from tests.hunyuan_runs import FAULTS, FAULTY_PLANS, PLANS, Runs, made_once, relative

Theirs = Callable[[GenerationRequest], Tensor]


def only(*families: str) -> pytest.MarkDecorator:
    """Of these alone, which differ from the others in what is proved."""
    return pytest.mark.parametrize("family", families, indirect=True)


SECOND_ORDER = "cogvideox_5b_i2v"  # whose checkpoint names that scheduler
FREE = "cogvideox", "cogvideox_5b", "cogvideox_15", "cogvideox_15_i2v"  # of any size and length


@pytest.fixture
def run(family: str, checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs(family, checkpoint, tmp_path)


@pytest.fixture(scope="module")
def model(family: str, checkpoint: Path) -> CogVideoX:
    return import_module(f"i2v.families.{family}.model").load(checkpoint, torch.float32)


@pytest.fixture(scope="module")
def pipeline(family: str, checkpoint: Path) -> DiffusionPipeline:
    return pipeline_of(family, checkpoint)


@pytest.fixture(scope="module")
def theirs(pipeline: DiffusionPipeline) -> Theirs:
    return made_once(lambda request: stock(pipeline, request))


def conditioned(model: CogVideoX, request: GenerationRequest) -> dict[str, Tensor]:
    return encoded(model, request, Inputs({0: picture(request)} if request.inputs else {}))


def test_latents_are_diffusers_own(run, theirs, family):
    run(job_of(family), PLANS["chunks"])
    assert relative(run.latents(), theirs(job_of(family))) < 1e-5


@only("cogvideox", "cogvideox_15_i2v")
@pytest.mark.parametrize("plan", [one for one in PLANS if one != "chunks"])
def test_latents_are_diffusers_own_wherever_weights_are(run, theirs, family, plan):
    run(job_of(family), PLANS[plan])
    assert relative(run.latents(), theirs(job_of(family))) < 1e-5


@only(*FREE)
def test_another_size_and_length_is_diffusers_own(run, theirs, family):
    request = job_of(family, width=96, num_frames=17, num_inference_steps=2)
    run(request, Plan(chunk_tokens=33))
    assert relative(run.latents(), theirs(request)) < 1e-5


@only("cogvideox_15_i2v")
@pytest.mark.parametrize(
    "change",
    [
        {"guidance_scale": 1.0},
        {"prompt": "  clouds drift \n", "negative_prompt": ""},
        {"prompt": "water ripples and the light of a street lamp flickers " * 40},
    ],
    ids=["without guidance", "white space", "too long"],
)
def test_every_kind_of_request_is_diffusers_own(run, theirs, family, change):
    request = job_of(family, **change)
    run(request, Plan(chunk_tokens=33))
    assert relative(run.latents(), theirs(request)) < 1e-5


@only("cogvideox_5b")
def test_guidance_may_follow_a_curve(run, pipeline, family):
    """As strong in each step as the curve says: what `use_dynamic_cfg` is for, which reads another number."""
    request = job_of(family, guidance_curve="cosine", num_inference_steps=4)
    run(request, Plan())

    def next_scale(pipe, index, _timestep, given):
        pipe._guidance_scale = scale_at(request.guidance_scale, request, index + 1)
        return given

    wanted = pipeline(
        prompt=request.prompt, negative_prompt=request.negative_prompt, width=request.width, height=request.height,
        num_frames=request.num_frames, num_inference_steps=4, output_type="latent",
        guidance_scale=scale_at(request.guidance_scale, request, 0),
        generator=torch.Generator().manual_seed(request.seed), callback_on_step_end=next_scale,
    ).frames  # fmt: skip
    assert relative(run.latents(), wanted) < 1e-5


@only("cogvideox_5b")
def test_the_scheduler_of_second_order_is_diffusers_own(run, family, checkpoint):
    request = job_of(family, scheduler="cogvideox_dpm", num_inference_steps=4)
    run(request, Plan(chunk_tokens=50))
    assert relative(run.latents(), stock(pipeline_of(family, checkpoint), request)) < 1e-5


@only("cogvideox", "cogvideox_15_i2v")
def test_frames_are_diffusers_own(family, pipeline, model, theirs):
    request = job_of(family)
    latents = theirs(request)
    with torch.no_grad():
        frames = torch.stack(list(Phases(model, HostCard(), request, Plan(decode_frames=2)).decode({}, latents)))
    wanted = stock(pipeline, request, "pt")[0].permute(0, 2, 3, 1)
    assert frames.shape == wanted.shape == (request.num_frames, request.height, request.width, 3)
    assert (frames.float() / 255 - wanted).abs().max() <= 0.5 / 255 + 1e-5  # rounded to a byte, and to nothing else


@only("cogvideox", "cogvideox_15_i2v")
def test_half_precision_is_no_further_from_float32_than_diffusers(run, family, checkpoint, theirs):
    request = job_of(family)
    run(request, Plan(precision="bfloat16", chunk_tokens=100))
    half = pipeline_of(family, checkpoint, torch_dtype=torch.bfloat16)
    assert relative(run.latents(), theirs(request)) < 1.1 * relative(stock(half, request), theirs(request))


@only(SECOND_ORDER)
def test_a_paused_run_goes_on_as_if_it_never_was(run, family):
    request = job_of(family)
    run(request, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(request, Plan(), "paused", stop_at=2)
    events = run(request, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


@only(SECOND_ORDER)
@pytest.mark.parametrize("places", FAULTY_PLANS)
def test_faults_in_every_phase_and_step_of_one_run_heal(run, family, places):
    """The job has three steps."""
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(job_of(family), FAULTY_PLANS[places], places, card) == list(FAULTS)


@only("cogvideox_15_i2v", SECOND_ORDER)
def test_it_goes_on_after_any_step(model, family, tmp_path):
    request = job_of(family)
    assert isinstance(model.scheduler, CogVideoXDPMScheduler) is (family == SECOND_ORDER)
    gone_on_with(model, request, conditioned(model, request), tmp_path)


@only(SECOND_ORDER)
def test_a_run_remembers_nothing_of_the_one_before(model, family):
    """Its scheduler is told of the step before."""
    request = job_of(family)
    conditioning = conditioned(model, request)
    with torch.no_grad():
        first, second = (
            [latents.clone() for latents in Phases(model, HostCard(), request, Plan()).denoise(conditioning)]
            for _ in range(2)
        )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_no_weights_are_read_to_begin(family, checkpoint):
    model = import_module(f"i2v.families.{family}.model").load(checkpoint, torch.float32)
    model.prepare(job_of(family), Plan(), {})
    assert model.modules.loaded == ()


def test_a_preview_is_a_small_clip_without_what_is_denoised_beside_it(model, family):
    latents = model.prepare(job_of(family), Plan(), {})
    assert latents.shape[1] == (4 if "15" in family else 3)
    assert model.preview(latents, {}).shape == (3, 8, 8, 3)


def test_versions_are_told_apart_by_their_configurations(family, checkpoint):
    assert spec_of(checkpoint) is SPECS[family]
    verify_folder(checkpoint, SPECS[family])


@only("cogvideox")
def test_another_scheduler_is_refused(family, checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "one")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": "DDIMScheduler"}))
    with pytest.raises(UserError) as refused:
        verify_folder(folder, SPECS[family])
    assert refused.value.message.id == "models.wrong_scheduler"


def test_what_has_learned_one_size_makes_no_other():
    spec = SPECS["cogvideox_5b_i2v"]
    spec.check(task="i2v", width=720, height=480, num_frames=49)
    for change in ({"width": 480, "height": 720}, {"num_frames": 41}):
        with pytest.raises(UserError) as refused:
            spec.check(**{"task": "i2v", "width": 720, "height": 480, "num_frames": 49, **change})
        assert refused.value.message.id == ("family.frames_range" if "num_frames" in change else "family.only_size")
    assert spec.nearest_sizes(100, 1000) == (720, 480)


@pytest.mark.parametrize("family", SPECS, ids=str)
def test_sizes_that_are_near_are_allowed(family):
    spec = SPECS[family]
    width, height = spec.nearest_sizes(spec.defaults.width - 33, spec.defaults.height + 40)
    spec.check(task=spec.usual_task, width=width, height=height, num_frames=spec.nearest_frames(50))


@only("cogvideox", "cogvideox_15")
def test_a_step_of_a_stretch_of_frames_is_as_a_whole(model, family):
    """Tokens are made of some latent frames at a time."""
    request = job_of(family)
    conditioning = conditioned(model, request)
    whole, parts = (
        next(iter(Phases(model, HostCard(), replace(request, num_inference_steps=1), plan).denoise(conditioning)))
        for plan in (Plan(), Plan(chunk_tokens=1))
    )
    assert relative(parts, whole) < 1e-5
