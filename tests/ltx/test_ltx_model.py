"""Whole runs of LTX-Video against diffusers' own pipelines on the same weights and noise, for all versions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, LTXConditionPipeline, LTXPipeline
from torch import Tensor

from i2v.engine.cancel import GenerationPaused
from i2v.events import Resumed
from i2v.families import SPECS
from i2v.families.base import Inputs
from i2v.families.ltx.model import Ltx
from i2v.families.ltx_13b.model import DISTILLED_TIMESTEPS
from i2v.families.ordinary import mean_and_std
from i2v.families.phases import Phases
from i2v.families.schedulers import STEP_SEED_OFFSET
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.models.kinds import spec_of
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest
from tests.faulty_cards import FaultyInPhases
from tests.going_on import encoded, gone_on_with
from tests.hunyuan_runs import FAULTS, FAULTY_PLANS, PLANS, Runs, made_once, relative
from tests.ltx_checkpoints import FAMILIES, JOB, LAST, picture, pipeline_of, stock

Theirs = Callable[[GenerationRequest], Tensor]
DENOISED = pytest.mark.parametrize("version", ["0.9.0", "0.9.7"], indirect=True)  # 0.9.1 is only decoded otherwise


def inputs() -> Inputs:
    """Those of JOB, as the engine reads them."""
    return Inputs({0: picture(JOB, JOB.inputs[0])})


@pytest.fixture
def run(family: str, checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs(family, checkpoint, tmp_path)


@pytest.fixture(scope="module")
def model(family: str, checkpoint: Path) -> Ltx:
    return loaded(family, checkpoint)


def loaded(family: str, checkpoint: Path) -> Ltx:
    return import_module(f"i2v.families.{family}.model").load(checkpoint, torch.float32)


@pytest.fixture(scope="module")
def theirs(pipelines: dict[str, DiffusionPipeline]) -> Theirs:
    return made_once(lambda request: stock(pipelines[request.task], request, "latent"))


def as_pictures(latents: Tensor, request: GenerationRequest) -> Tensor:
    """Latents of a pipeline that gives tokens, by their places."""
    if latents.ndim == 5:
        return latents
    return LTXPipeline._unpack_latents(
        latents, (request.num_frames - 1) // 8 + 1, request.height // 32, request.width // 32
    )


@DENOISED
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_latents_are_diffusers_own(run, theirs, plan):
    run(JOB, plan)
    assert relative(run.latents(), as_pictures(theirs(JOB), JOB)) < 1e-5


@DENOISED
@pytest.mark.parametrize(
    "change",
    [
        {"task": "t2v", "inputs": ()},
        {"guidance_scale": 1.0},
        {"num_frames": 9, "fps": 7, "width": 160, "guidance_rescale": 0.7},
        {"prompt": "  clouds drift \n", "negative_prompt": ""},
        {"prompt": "water ripples and the light of a street lamp flickers " * 40},
    ],
    ids=["from a sentence", "without guidance", "another rate", "white space", "too long"],
)
def test_every_kind_of_request_is_diffusers_own(run, theirs, change):
    request = replace(JOB, **change)
    run(request, Plan(chunk_tokens=33))
    assert relative(run.latents(), as_pictures(theirs(request), request)) < 1e-5


@pytest.mark.parametrize("change", [{}, {"guidance_scale": 1.0, "num_frames": 9}, {"guidance_rescale": 0.5}])
def test_a_last_frame_is_diffusers_own(folders, tmp_path, change):
    request = replace(JOB, inputs=(*JOB.inputs, LAST), **change)
    run = Runs("ltx_13b", folders("0.9.7"), tmp_path)
    run(request, Plan(chunk_tokens=33))
    wanted = stock(pipeline_of(LTXConditionPipeline, folders("0.9.7")), request, "latent")
    assert relative(run.latents(), wanted) < 1e-5


def test_eight_steps_without_guidance_are_those_of_distilled_weights(folders, tmp_path):
    request = replace(JOB, num_inference_steps=8, guidance_scale=1.0, num_frames=9)
    run = Runs("ltx_13b", folders("0.9.7"), tmp_path)
    run(request, Plan())
    pipeline = pipeline_of(LTXConditionPipeline, folders("0.9.7"))
    wanted = stock(pipeline, request, "latent", timesteps=list(DISTILLED_TIMESTEPS))
    assert relative(run.latents(), wanted) < 1e-5


def test_frames_are_diffusers_own(family, checkpoint, model):
    """Its decoder does the last step of denoising from 0.9.1 on, and that of 0.9.1 draws noise in it."""
    request = replace(JOB, task="t2v", inputs=(), num_frames=9)
    pipeline, noise = pipeline_of(LTXPipeline, checkpoint), STEP_SEED_OFFSET * (JOB.num_inference_steps + 1)
    latents = model._drawn(request)[0]
    generator = torch.Generator().manual_seed(JOB.seed + noise)
    with torch.no_grad():
        frames = torch.stack(list(Phases(model, HostCard(), request, Plan(decode_rows=1)).decode({}, latents)))
        mean, std = mean_and_std(model.vae, latents)
        found = latents * std + mean
        timestep = None
        if pipeline.vae.config.timestep_conditioning:
            found = 0.975 * found + 0.025 * torch.randn(found.shape, generator=generator)
            timestep = torch.tensor([0.05])
        torch.default_generator.set_state(generator.get_state())  # what the decoder itself draws from
        video = pipeline.vae.decode(found, timestep, return_dict=False)[0]
    wanted = pipeline.video_processor.postprocess_video(video, output_type="pt")[0].permute(0, 2, 3, 1)
    assert (frames.float() / 255 - wanted).abs().max() <= 0.5 / 255 + 1e-5  # rounded to a byte, and to nothing else


@DENOISED
def test_half_precision_is_no_further_from_float32_than_diffusers(run, pipelines, theirs):
    run(JOB, Plan(precision="bfloat16", chunk_tokens=100))
    half = type(pipelines["i2v"]).from_pretrained(run.entry.folder, torch_dtype=torch.bfloat16, local_files_only=True)
    half.set_progress_bar_config(disable=True)
    exact = as_pictures(theirs(JOB), JOB)
    assert relative(run.latents(), exact) < 1.3 * relative(as_pictures(stock(half, JOB, "latent"), JOB), exact)


@DENOISED
def test_a_paused_run_goes_on_as_if_it_never_was(run):
    run(JOB, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(JOB, Plan(), "paused", stop_at=2)
    events = run(JOB, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


@pytest.mark.parametrize("places", FAULTY_PLANS)
def test_faults_in_every_phase_and_step_of_one_run_heal(folders, tmp_path, places):
    """JOB has three steps."""
    run = Runs("ltx_13b", folders("0.9.7"), tmp_path)
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(JOB, FAULTY_PLANS[places], places, card) == list(FAULTS)


@DENOISED
def test_it_goes_on_after_any_step(model, tmp_path):
    gone_on_with(model, JOB, encoded(model, JOB, inputs()), tmp_path)


def test_a_picture_that_is_never_noisy_stays_the_first_frame(folders):
    model = loaded("ltx", folders("0.9.0"))
    conditioning = encoded(model, JOB, inputs())
    with torch.no_grad():
        *_, latents = Phases(model, HostCard(), JOB, Plan()).denoise(conditioning)
    assert torch.equal(latents[:, :, :1], conditioning["picture"])


def test_a_single_step_is_refused_where_it_has_no_numbers(folders):
    """The one step would be stretched from 1 to the schedule's end."""
    with pytest.raises(UserError) as refused:
        loaded("ltx", folders("0.9.0")).prepare(replace(JOB, num_inference_steps=1), Plan(), {})
    assert refused.value.message.id == "models.scheduler_steps"


def test_no_weights_are_read_to_begin(family, checkpoint):
    model = loaded(family, checkpoint)
    model.prepare(JOB, Plan(), {"picture": torch.zeros(1, 16, 1, 5, 4)})
    assert model.modules.loaded == ()


def test_a_preview_is_a_small_clip(model):
    latents = model.prepare(JOB, Plan(), {"picture": torch.zeros(1, 16, 1, 5, 4)})
    assert model.preview(latents, {}).shape == (3, 5, 4, 3)


@pytest.mark.parametrize("class_name", ["LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"])
def test_versions_are_told_apart_by_their_schedule(checkpoint, version, tmp_path, class_name):
    """0.9.5 was published under the class of 0.9.0."""
    folder = shutil.copytree(checkpoint, tmp_path / "one")
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": class_name}))
    family = spec_of(folder)
    if class_name == "LTXConditionPipeline" and version != "0.9.7":
        assert family is None
    else:
        assert family is SPECS[FAMILIES[version]]
        verify_folder(folder, family)
