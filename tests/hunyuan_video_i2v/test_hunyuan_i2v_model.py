"""Whole runs of HunyuanVideo from a picture against diffusers' own pipeline on the same weights and noise, for both
kinds of transformers."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoImageToVideoPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from i2v.dryrun.runner import blank_inputs
from i2v.engine.cancel import GenerationPaused
from i2v.events import Resumed, StepFinished
from i2v.families.base import Inputs
from i2v.families.hunyuan_video.model import flow_shift
from i2v.families.hunyuan_video_i2v.model import load
from i2v.families.hunyuan_video_i2v.spec import SPEC
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.video.picture import fit_picture, load_picture
from tests.going_on import encoded, gone_on_with
from tests.hunyuan_runs import PLANS, Runs, Theirs, made_once, pipeline_of, relative, stock
from tests.hunyuan_schedulers import flow_scheduler
from tests.photos import photograph
from tests.step_caches import cached, told


def extra(pipeline: HunyuanVideoImageToVideoPipeline) -> int:
    """How many latent frames the pipeline makes and leaves out."""
    return 1 if pipeline.transformer.config.image_condition_type == "latent_concat" else 0


def from_picture(pipeline: HunyuanVideoImageToVideoPipeline, request: GenerationRequest, output: str) -> Tensor:
    picture = fit_picture(load_picture(Path(request.inputs[0].path)), request.width, request.height, request.fit)
    return stock(pipeline, request, output, image=picture, num_frames=request.num_frames + 4 * extra(pipeline))


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs("hunyuan_video_i2v", checkpoint, tmp_path)


@pytest.fixture(scope="module")
def theirs(pipeline: HunyuanVideoImageToVideoPipeline) -> Theirs:
    return made_once(lambda request: from_picture(pipeline, request, "latent"))


@pytest.fixture
def apart(run, theirs, pipeline) -> Callable[[GenerationRequest], float]:
    """How far the latents of the last run are from diffusers'."""
    return lambda request: relative(run.latents()[:, :, extra(pipeline) :], theirs(request))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_latents_are_diffusers_own(run, apart, job, plan):
    run(job, plan)
    assert apart(job) < 1e-5


def test_steps_are_cut_short_as_by_diffusers(run, pipeline, job):
    request, share = replace(job, num_frames=5, num_inference_steps=4), 0.9
    # This pipeline of diffusers leaves out to name its passes, and fails with a cache.
    with cached([pipeline.transformer], share), pipeline.transformer.cache_context("wanted"):
        theirs = from_picture(pipeline, request, "latent")
    assert told(run(request, Plan(step_cache=share, chunk_tokens=33))) == (3, 4)
    assert relative(run.latents()[:, :, extra(pipeline) :], theirs) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "clouds drift", "guidance_scale": 1.0},
        {"prompt": ""},
        {"true_guidance_scale": 3.0, "negative_prompt": "a garden"},
        {"num_frames": 5, "width": 288, "inputs": (Input("image", str(photograph("tower.jpg"))),)},
        {"prompt": "water ripples and the light of a street lamp flickers " * 50},
    ],
    ids=["short", "empty", "true-guidance", "windows", "too-long"],
)
def test_every_kind_of_request_is_diffusers_own(run, apart, job, change):
    request = replace(job, num_inference_steps=2, **change)
    run(request, Plan(chunk_tokens=100))
    assert apart(request) < 1e-5


@pytest.mark.parametrize("name", SPEC.scheduler_steps)
def test_every_scheduler_is_diffusers_own_and_goes_on_after_any_step(
    pipeline, checkpoint, job, tmp_path, monkeypatch, name
):
    request = replace(job, num_inference_steps=3, scheduler=name)
    own, shift = pipeline.scheduler.config, flow_shift(request, 7.0)
    monkeypatch.setattr(pipeline, "scheduler", flow_scheduler(name, own, shift))
    wanted = from_picture(pipeline, request, "latent")
    picture = fit_picture(load_picture(Path(request.inputs[0].path)), request.width, request.height, request.fit)
    model = load(checkpoint, torch.float32)
    latents = gone_on_with(model, request, encoded(model, request, Inputs({0: picture})), tmp_path)
    assert relative(latents[:, :, extra(pipeline) :], wanted) < 1e-4


def test_frames_are_diffusers_own(run, pipeline, job):
    request = replace(job, width=128, num_frames=5, num_inference_steps=1)
    run(request, Plan())
    video = torch.from_numpy(from_picture(pipeline, request, "np")[0])
    model = load(run.entry.folder, torch.float32)
    frames = torch.stack(list(model.decode(HostCard(), {}, run.latents(), request, Plan())))
    assert frames.shape == video.shape == (5, 160, 128, 3)
    assert (frames.float() / 255 - video).abs().max() < 1e-2
    assert model.preview(run.latents(), {}).shape == (2, 20, 16, 3)


def test_half_precision_is_no_further_from_float32_than_diffusers(run, theirs, apart, job):
    exact = theirs(job)
    run(job, Plan(precision="bfloat16", chunk_tokens=100))
    ours = apart(job)
    # One of its own: what was rounded once would stay so for the tests that follow.
    half = pipeline_of(HunyuanVideoImageToVideoPipeline, run.entry.folder).to(torch.bfloat16)
    assert 0 < ours < 1.2 * relative(from_picture(half, job, "latent"), exact)


def test_a_paused_run_goes_on_as_if_it_never_was(run, job):
    run(job, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(job, Plan(), "paused", stop_at=2)
    events = run(job, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert [event.index for event in events if isinstance(event, StepFinished) and event.phase == "denoise"] == [3]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


def test_weights_under_the_names_of_the_published_files_are_the_same(checkpoint, tmp_path, caplog, monkeypatch):
    """transformers had a level more when these were written, and its own files have it still for the language model.
    It has nothing to say of them."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    folder = shutil.copytree(checkpoint, tmp_path / "published")
    file = folder / "text_encoder" / "model.safetensors"
    published = {_published(name): tensor for name, tensor in load_file(file).items()}
    assert {"language_model.model.norm.weight", "language_model.lm_head.weight"} < published.keys()
    save_file(published, file, {"format": "pt"})
    ours, theirs = (load(one, torch.float32).modules["text_encoder"].state_dict() for one in (folder, checkpoint))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any("lm_head" in name or "layers.2" in name for name in ours)
    assert caplog.text == ""


def _published(name: str) -> str:
    return re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name)


def test_a_transformer_that_takes_no_picture_is_refused(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "other")
    file = folder / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_condition_type": None}))
    with pytest.raises(UserError) as refused:
        load(folder, torch.float32)
    assert refused.value.message.id == "family.takes_no_picture"


def test_a_mark_of_pictures_in_the_sentence_is_left_out(checkpoint, job):
    """diffusers' pipeline makes room for another picture, and loses its count of the words behind."""
    model = load(checkpoint, torch.float32)

    def read(prompt: str) -> Tensor:
        request, made = replace(job, prompt=prompt), {}
        with torch.inference_mode():
            model.encode_stages(request, blank_inputs(request), Plan())[0].run(HostCard(), made)
        return made["prompt"]

    assert torch.equal(read(job.prompt.replace("over", "<image> over")), read(job.prompt))
    assert not torch.equal(read(job.prompt.replace("over", "hills over")), read(job.prompt))
