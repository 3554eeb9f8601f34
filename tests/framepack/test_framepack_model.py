"""Whole runs of FramePack against diffusers' own pipeline on the same weights and noise, of both kinds; a run that
stopped in any section goes on there; what is shown of a run is what it has made."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_framepack import calculate_shift
from PIL import Image
from torch import Tensor

from i2v.engine.cancel import GenerationPaused
from i2v.engine.checkpoint import CHECKPOINT, read_progress
from i2v.events import Healed, Resumed, StepFinished
from i2v.families import SPECS
from i2v.families.adapters import ChosenAdapter, put_on
from i2v.families.framepack import model as framepack
from i2v.families.framepack.layout import sections
from i2v.families.framepack_f1 import model as framepack_f1
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.video.picture import fit_picture, load_picture
from tests.faulty_cards import FaultyInPhases, steps
from tests.hunyuan_runs import PLANS, SIMULATED, Runs, pipeline_of, relative
from tests.jobs_support import settings_in
from tests.lora_files import lora_file
from tests.photos import photograph
from tests.planning.phase_peaks import run as phases_of

WAYS = {"framepack": "inverted_anti_drifting", "framepack_f1": "vanilla"}
MODELS = {"framepack": framepack, "framepack_f1": framepack_f1}
EQUAL = 1e-5
BOTH = pytest.mark.parametrize("kind", WAYS)
LAST = Input("image", str(photograph("tower.jpg")), -1)
CHANGES = {
    "one section": {"num_frames": 37},
    "three sections": {"num_frames": 109},
    "far from the picture": {"num_frames": 1 + 36 * 5, "num_inference_steps": 1},
    "true guidance": {"true_guidance_scale": 3.0, "negative_prompt": "a garden", "guidance_scale": 1.0},
}


@pytest.fixture
def job() -> GenerationRequest:
    """Two sections."""
    return GenerationRequest(
        model="small", task="i2v", prompt="water ripples on a lake", width=32, height=48, num_frames=73, fps=30,
        num_inference_steps=2, guidance_scale=10.0, seed=7, inputs=(Input("image", str(photograph())),),
    )  # fmt: skip


@pytest.fixture
def runs(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Runs]:
    return lambda kind: Runs(kind, checkpoints[kind], tmp_path)


@pytest.fixture(scope="module")
def theirs(checkpoints: dict[str, Path]) -> Callable[..., list[Tensor]]:
    """What diffusers makes of a request: the latents after each section, or the frames."""
    pipelines = {kind: pipeline_of(HunyuanVideoFramepackPipeline, folder) for kind, folder in checkpoints.items()}
    return cache(lambda kind, request, output="latent": made_by(pipelines[kind], kind, request, output))


def made_by(
    pipeline: HunyuanVideoFramepackPipeline, kind: str, request: GenerationRequest, output: str
) -> list[Tensor]:
    """Of a picture the most likely latents, where the pipeline would draw some."""
    pictures = {one.at: picture_of(one, request) for one in request.inputs}
    with patch.object(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode()):
        return pipeline(
            image=pictures[0], last_image=pictures.get(-1), prompt=request.prompt,
            negative_prompt=request.negative_prompt, true_cfg_scale=request.true_guidance_scale,
            width=request.width, height=request.height,
            num_frames=33 * sections(request.num_frames),  # so the pipeline counts
            num_inference_steps=request.num_inference_steps, guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed), output_type=output, sampling_type=WAYS[kind],
        ).frames  # fmt: skip


def picture_of(one: Input, request: GenerationRequest) -> Image.Image:
    return fit_picture(load_picture(Path(one.path)), request.width, request.height, request.fit)


@pytest.mark.parametrize("name", PLANS)
def test_latents_are_diffusers_own(runs, theirs, job, name):
    run = runs("framepack")
    run(job, PLANS[name])
    assert relative(run.latents(), theirs("framepack", job)[-1]) < EQUAL


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *product(["framepack"], CHANGES),
        *product(["framepack_f1"], ["one section", "three sections", "true guidance"]),
        ("framepack", "a last picture"),
    ],
)
def test_every_kind_of_request_is_diffusers_own(runs, theirs, job, kind, name):
    request = replace(job, **CHANGES.get(name, {"num_frames": 109, "inputs": (*job.inputs, LAST)}))
    run = runs(kind)
    run(request, Plan(chunk_tokens=100))
    assert relative(run.latents(), theirs(kind, request)[-1]) < EQUAL


@BOTH
def test_frames_are_diffusers_own(runs, theirs, job, kind):
    request = replace(job, num_frames=109, num_inference_steps=1)
    run = runs(kind)
    run(request, Plan())
    video = torch.from_numpy(theirs(kind, request, "np")[0])
    model = MODELS[kind].load(run.entry.folder, torch.float32)
    frames = torch.stack(list(model.decode(HostCard(), {}, run.latents(), request, Plan())))
    assert frames.shape == video.shape == (109, 48, 32, 3)
    assert (frames.float() / 255 - video).abs().max() < 1e-2


@pytest.mark.parametrize(("kind", "scheduler"), [("framepack", None), ("framepack_f1", "flow_unipc")])
def test_a_run_that_stopped_in_a_section_goes_on_there(runs, job, kind, scheduler):
    request, run = replace(job, scheduler=scheduler), runs(kind)
    run(request, Plan(), "straight")
    for stop in (1, 2, 3):  # in the first section, between both, in the last
        name = f"stopped {stop}"
        with pytest.raises(GenerationPaused):
            run(request, Plan(), name, stop_at=stop)
        events = runs(kind)(request, Plan(), name)  # in another engine, which knows nothing of the first
        assert [event.step for event in events if isinstance(event, Resumed)] == [stop]
        steps = [event for event in events if isinstance(event, StepFinished) and event.phase == "denoise"]
        assert [(event.index, event.total) for event in steps] == [(step, 4) for step in range(stop + 1, 5)]
        assert torch.equal(run.latents(name), run.latents("straight"))


@BOTH
def test_what_is_shown_is_what_is_made(runs, theirs, job, kind):
    """The picture, the finished sections, and the one that is being made; of finished ones what diffusers' has then."""
    request, run = replace(job, num_frames=109), runs(kind)
    model = MODELS[kind].load(run.entry.folder, torch.float32)
    after = theirs(kind, request)
    for step in range(1, 6):
        with pytest.raises(GenerationPaused):
            run(request, Plan(), stop_at=step)
        progress, _ = read_progress(run.jobs / "job" / CHECKPOINT)
        begun, finished = (step + 1) // 2, step // 2
        assert len(model.preview(progress.predicted, {})) == 1 + 9 * begun
        if finished:
            own = 9 * finished
            end = after[finished - 1][:, :, -own:]
            made = progress.latents[:, :, 1 : 1 + own] if model.forward else progress.latents[:, :, -own:]
            assert relative(made, end) < EQUAL


@pytest.mark.parametrize(("read_from", "kind"), [("FramePack_F1", "framepack_f1"), ("FramePackI2V_HY", "framepack")])
def test_a_checkpoint_is_told_by_where_its_transformer_was_read(checkpoints, tmp_path, read_from, kind):
    """Put together as the model's page says: diffusers writes down where it has read a network from."""
    folder = tmp_path / "mine"
    shutil.copytree(checkpoints["framepack"], folder)
    shutil.copytree(folder / "transformer", tmp_path / read_from)
    transformer = HunyuanVideoFramepackTransformer3DModel.from_pretrained(tmp_path / read_from)
    transformer.save_pretrained(folder / "transformer")
    assert find_model(str(folder), settings_in(tmp_path)[0]).family == kind


def test_only_one_of_them_takes_a_last_picture(job):
    inputs = (*job.inputs, LAST)
    SPECS["framepack"].check_inputs("i2v", inputs)
    with pytest.raises(UserError) as refused:
        SPECS["framepack_f1"].check_inputs("i2v", inputs)
    assert refused.value.message.id == "family.not_taken_last_image"


def test_schedules_by_size_are_those_of_diffusers(checkpoints, job, monkeypatch):
    """A checkpoint may have its shift computed from the size: then it is diffusers' to the last digit but rounding."""
    for size in ((64, 96), (640, 640)):
        request = replace(job, width=size[0], height=size[1], num_inference_steps=5)
        parts = framepack.seeing_parts(checkpoints["framepack"], torch.float32)
        dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        model = framepack.FramePack(**{**parts, "scheduler": dynamic})
        tokens = 9 * size[0] // 8 * size[1] // 8 / 4
        mu = min(calculate_shift(tokens), math.log(7))
        dynamic.set_timesteps(sigmas=np.linspace(1.0, 0.0, 6)[:-1], mu=mu)
        model._begin_section(request)
        assert torch.allclose(model._stepping.sigmas, dynamic.sigmas, rtol=1e-5)


def test_a_lora_is_what_diffusers_makes_of_it(checkpoints, job, tmp_path):
    """One for HunyuanVideo's layers, which are this transformer's as well."""
    folder, black = checkpoints["framepack"], tmp_path / "black.png"
    Image.new("RGB", (job.width, job.height)).save(black)
    request = replace(job, inputs=(Input("image", str(black)),), num_inference_steps=1)
    pipeline = pipeline_of(HunyuanVideoFramepackPipeline, folder)
    plain = made_by(pipeline, "framepack", request, "latent")[-1]
    file = lora_file(tmp_path / "one.safetensors", pipeline.transformer)
    pipeline.load_lora_weights(file, adapter_name="one")
    pipeline.set_adapters(["one"], [0.5])
    wanted = made_by(pipeline, "framepack", request, "latent")[-1]
    model = framepack.load(folder, torch.float32)
    put_on(model.transformer, [ChosenAdapter(file, 0.5)], SPECS["framepack"].lora_names, torch.float32)
    made, _ = phases_of(model, request, Plan(device="simulated", chunk_tokens=100))
    assert relative(made, wanted) < EQUAL
    assert relative(made, plain) > 0.01


@BOTH
def test_a_card_that_is_full_heals_in_any_section(runs, job, kind):
    run, faults = runs(kind), [("encode", 0), ("denoise", 1), ("denoise", 2), ("denoise", 3), ("decode", 4)]
    run(job, SIMULATED, "unharmed")
    card = FaultyInPhases(lambda: run.events, faults)
    run(job, SIMULATED, "healed", card)
    assert card.left == []
    assert [(event.phase, event.step) for event in run.events if isinstance(event, Healed)] == faults
    assert steps(run.events) == [1, 2, 3, 4]
    assert relative(run.latents("healed"), run.latents("unharmed")) < EQUAL


@BOTH
def test_steps_that_are_cut_short_are_never_the_first_of_a_section(checkpoints, kind, job):
    """What the section before has left is forgotten: under any change at all, all but one step of each are cut."""
    request, model = replace(job, num_inference_steps=3), MODELS[kind].load(checkpoints[kind], torch.float32)
    found = {share: phases_of(model, request, Plan(device="simulated", step_cache=share))[0] for share in (0.0, 1e9)}
    assert (model.step_cache.passes, model.step_cache.shortened) == (6, 4)
    assert relative(found[1e9], found[0.0]) > 1e-4
    never, _ = phases_of(model, request, Plan(device="simulated", step_cache=1e-12))
    assert model.step_cache.shortened == 0
    assert relative(never, found[0.0]) < 1e-6
