"""LTX-2 in two stages against diffusers' own chain of pipelines: half the size, latents made larger, a few steps at the
full size."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LTX2ConditionPipeline,
    LTX2ImageToVideoPipeline,
    LTX2LatentUpsamplePipeline,
    LTX2Pipeline,
)
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES, STAGE_2_DISTILLED_SIGMA_VALUES
from PIL import Image
from torch import Tensor

from i2v.engine.cancel import GenerationPaused
from i2v.engine.spill import SpillWatch
from i2v.events import Healed, Resumed, StepFinished
from i2v.families.base import Inputs, denoisers, idle
from i2v.families.ltx2.model import PICTURE_CRF, load
from i2v.families.ltx2.spec import SPEC
from i2v.families.ltx2.stages import DISTILLED_STEPS, FULL_STEPS
from i2v.families.ltx2.versions import doubles
from i2v.families.schedulers import STEP_SEED_OFFSET
from i2v.messages import UserError
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.video.compressed import compressed
from i2v.video.metadata import probe_video
from i2v.video.picture import fit_picture, load_picture
from tests.faulty_cards import FaultyInPhases
from tests.going_on import encoded, gone_on_with
from tests.hunyuan_runs import FAULTY_PLANS, PLANS, SIMULATED, Runs, relative
from tests.ltx2_checkpoints import JOB, LAST, add_upsampler, latent_frame, pipeline_of, stock

TWO = replace(JOB, width=128, height=192, num_frames=9, num_inference_steps=2, two_stages=True)
FROM_A_SENTENCE = replace(TWO, task="t2v", inputs=())


@pytest.fixture(scope="session")
def with_upsampler(folders, tmp_path_factory):
    """A checkpoint of a version that can do two stages."""
    made: dict[str, Path] = {}

    def with_upsampler(version: str) -> Path:
        if version not in made:
            folder = tmp_path_factory.mktemp("models") / f"two{version}"
            made[version] = add_upsampler(Path(shutil.copytree(folders(version), folder)), version)
        return made[version]

    return with_upsampler


def chain(folder: Path, request: GenerationRequest, version: str) -> tuple[Tensor, Tensor]:
    """Latents of pictures and sound, as diffusers' documentation chains its pipelines."""
    kinds = {0: LTX2Pipeline, 1: LTX2ImageToVideoPipeline}
    first = pipeline_of(kinds.get(len(request.inputs), LTX2ConditionPipeline), folder)
    half = replace(request, width=request.width // 2, height=request.height // 2, two_stages=False)
    shown = {one: seen(request, one) for one in request.inputs}
    crf = PICTURE_CRF["gemma4_unified" if version == "2.5" else "gemma3"]
    smaller = {
        one: compressed(image.resize((half.width, half.height), Image.LANCZOS), crf) for one, image in shown.items()
    }
    larger = {one: compressed(image, crf) for one, image in shown.items()}
    given: dict[str, Any] = {}
    if request.guidance_scale <= 1 and request.num_inference_steps == len(DISTILLED_SIGMA_VALUES):
        as_it_is(first)
        given = {"sigmas": DISTILLED_SIGMA_VALUES}
    if len(request.inputs) == 1:
        given |= {"image": smaller[request.inputs[0]], "image_crf": 0}
    elif request.inputs:
        given["conditions"] = conditions(smaller)
    video, sound = stock(first, replace(half, inputs=()), "latent", version, **given)

    upsampler = LTX2LatentUpsamplerModel.from_pretrained(folder / "latent_upsampler")
    upsampling = LTX2LatentUpsamplePipeline(vae=first.vae, latent_upsampler=upsampler)
    video = upsampling(latents=video, output_type="latent", return_dict=False)[0]

    kind = LTX2ConditionPipeline if request.inputs else LTX2Pipeline
    second = kind(**{name: part for name, part in first.components.items() if name in first.config})
    second.set_progress_bar_config(disable=True)
    as_it_is(second)
    full = replace(request, num_inference_steps=3, guidance_scale=1.0, inputs=(), two_stages=False)
    full = replace(full, seed=request.seed + STEP_SEED_OFFSET * (request.num_inference_steps + 1))
    given = {"conditions": conditions(larger)} if request.inputs else {}
    return stock(
        second, full, "latent", version, latents=video, audio_latents=sound, sigmas=STAGE_2_DISTILLED_SIGMA_VALUES,
        noise_scale=STAGE_2_DISTILLED_SIGMA_VALUES[0], **given,
    )  # fmt: skip


def as_it_is(pipeline: DiffusionPipeline) -> None:
    """Take sigmas as they are given."""
    own = pipeline.scheduler
    pipeline.scheduler = type(own).from_config(own.config, use_dynamic_shifting=False, shift_terminal=None)


def seen(request: GenerationRequest, one: Input) -> Image.Image:
    return fit_picture(load_picture(Path(one.path)), request.width, request.height, request.fit)


def conditions(pictures: dict[Input, Image.Image]) -> list[LTX2VideoCondition]:
    return [LTX2VideoCondition(image, latent_frame(one), 1.0, crf=0) for one, image in pictures.items()]


def apart(folder: Path, latents: Tensor, request: GenerationRequest, wanted: tuple[Tensor, Tensor]) -> float:
    """How far latents are from diffusers', pictures or sound."""
    model = load(folder, torch.float32)
    layout, audio = model.layout(request), model.modules["audio_vae"]
    tokens, sounds = layout.parted(latents)
    pictures = layout.as_pictures(tokens) * model.vae.latents_std.view(1, -1, 1, 1, 1)
    pictures += model.vae.latents_mean.view(1, -1, 1, 1, 1)
    sound = layout.as_sound(sounds * audio.latents_std + audio.latents_mean)
    assert (pictures.shape, sound.shape) == (wanted[0].shape, wanted[1].shape)
    return max(relative(pictures, wanted[0]), relative(sound, wanted[1]))


def test_stages_have_as_many_steps_as_diffusers_has_sigmas():
    assert (len(DISTILLED_SIGMA_VALUES), len(STAGE_2_DISTILLED_SIGMA_VALUES)) == (DISTILLED_STEPS, FULL_STEPS)


REQUESTS = {
    "from a sentence": FROM_A_SENTENCE,
    "distilled": replace(FROM_A_SENTENCE, guidance_scale=1.0, num_inference_steps=8),
    "from a photograph": TWO,
    "to a last one": replace(TWO, inputs=(*TWO.inputs, LAST)),
}
KINDS = [*(("2.3", kind) for kind in REQUESTS), ("2.0", "from a photograph"), ("2.0", "distilled"),
         ("2.5", "to a last one")]  # fmt: skip


@pytest.mark.parametrize(("version", "kind"), KINDS)
def test_two_stages_are_diffusers_own_chain(with_upsampler, tmp_path, version, kind):
    folder, request = with_upsampler(version), REQUESTS[kind]
    run = Runs("ltx2", folder, tmp_path)
    run(request, Plan(chunk_tokens=33))
    assert apart(folder, run.latents(), request, chain(folder, request, version)) < 1e-5


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_plan_makes_the_same(with_upsampler, tmp_path, plan):
    run = Runs("ltx2", with_upsampler("2.3"), tmp_path)
    run(TWO, Plan(), "usual")
    run(TWO, plan, "other")
    assert relative(run.latents("other"), run.latents("usual")) < 1e-6


def test_it_goes_on_after_any_step_of_either_stage(with_upsampler, tmp_path):
    model = load(with_upsampler("2.3"), torch.float32)
    pictures = Inputs({one.at: seen(TWO, one) for one in TWO.inputs})
    gone_on_with(model, TWO, encoded(model, TWO, pictures), tmp_path)


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_paused_run_counts_all_steps_and_goes_on(with_upsampler, tmp_path, stop_at):
    run = Runs("ltx2", with_upsampler("2.3"), tmp_path)
    with pytest.raises(GenerationPaused):
        run(TWO, Plan(), "paused", stop_at=stop_at)
    events = run(TWO, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [stop_at]
    steps = [(one.index, one.total) for one in events if isinstance(one, StepFinished) and one.phase == "denoise"]
    assert steps == [(index, 6) for index in range(stop_at + 1, 7)]
    run(TWO, Plan(), "straight")
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


@pytest.mark.parametrize("places", FAULTY_PLANS)
def test_faults_in_every_stage_heal(with_upsampler, tmp_path, places):
    """In the first one, in the step between them, and in the second."""
    run = Runs("ltx2", with_upsampler("2.3"), tmp_path)
    faults = (("denoise", 1), ("denoise", 2), ("denoise", 3), ("decode", 6))
    card = FaultyInPhases(lambda: run.events, faults)
    run(TWO, SIMULATED, "unharmed")
    run(TWO, FAULTY_PLANS[places], places, card)
    assert relative(run.latents(places), run.latents("unharmed")) < 1e-6
    assert [(one.phase, one.step) for one in run.events if isinstance(one, Healed)] == list(faults)


def test_what_the_first_stage_has_made_can_be_looked_at(with_upsampler, tmp_path):
    run = Runs("ltx2", with_upsampler("2.3"), tmp_path)
    with pytest.raises(GenerationPaused):
        run(TWO, Plan(), stop_at=1)
    run(TWO, Plan(), work="decode")
    video = probe_video(run.jobs / "job" / "video.mp4")
    assert (video.width, video.height, video.frames) == (TWO.width, TWO.height, TWO.num_frames)


def test_a_preview_has_the_size_of_its_stage(with_upsampler):
    model = load(with_upsampler("2.3"), torch.float32)
    latents = model.prepare(FROM_A_SENTENCE, Plan(), {})
    assert model.preview(latents, {}).shape == (2, 3, 2, 3)
    whole = torch.zeros(1, model.layout(FROM_A_SENTENCE).numbers)
    assert model.preview(whole, {}).shape == (2, 6, 4, 3)


def test_a_run_in_one_stage_reads_nothing_that_makes_larger(with_upsampler, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(with_upsampler("2.3"), folder)
    model = load(folder, torch.float32)
    assert idle(model, replace(TWO, two_stages=None)) == {"latent_upsampler"}
    assert idle(model, TWO) == set()
    assert denoisers(model) == {"transformer"}


def test_a_checkpoint_that_lost_its_upsampler_says_so(folders):
    with pytest.raises(UserError) as refused:
        load(folders("2.3"), torch.float32).prepare(FROM_A_SENTENCE, Plan(), {})
    assert refused.value.message.id == "family.upsampler_missing"


@pytest.mark.parametrize(
    ("config", "good"),
    [
        ({}, True),
        ({"use_rational_resampler": False, "rational_spatial_scale": 1.5}, True),
        ({"rational_spatial_scale": 1.5}, False),
        ({"temporal_upsample": True}, False),
        ({"spatial_upsample": False}, False),
    ],
)
def test_what_makes_other_than_twice_as_large_is_no_upsampler(config, good):
    assert doubles(config) is good


def test_an_upsampler_is_looked_at_as_other_components_are(with_upsampler, tmp_path):
    verify_folder(with_upsampler("2.3"), SPEC)
    folder = Path(shutil.copytree(with_upsampler("2.3"), tmp_path / "cut"))
    weights = folder / "latent_upsampler" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError) as refused:
        verify_folder(folder, SPEC)
    assert refused.value.message.id == "models.truncated"


def test_steps_of_another_stage_are_not_taken_for_slow_ones(with_upsampler, tmp_path, monkeypatch):
    """Those at the full size take several times as long: what is usual is learned anew in every stage."""
    watches = []

    class Counted(SpillWatch):
        def __init__(self) -> None:
            super().__init__()
            self.steps = 0
            watches.append(self)

        def step(self, seconds: float, used_bytes: int, total_bytes: int) -> float | None:
            self.steps += 1
            return super().step(seconds, used_bytes, total_bytes)

    monkeypatch.setattr("i2v.engine.run.SpillWatch", Counted)
    Runs("ltx2", with_upsampler("2.3"), tmp_path)(FROM_A_SENTENCE, Plan())
    assert [one.steps for one in watches if one.steps] == [2, 1, 3]
