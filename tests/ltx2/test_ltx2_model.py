"""Whole runs of LTX-2 against diffusers' own pipelines on the same weights and noise, for all versions: pictures and
sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES, resolve_default_image_crf
from torch import Tensor

from i2v.engine.cancel import GenerationPaused
from i2v.events import Resumed
from i2v.families.base import Inputs
from i2v.families.ltx2.model import Ltx2, load
from i2v.families.ltx2.spec import SPEC
from i2v.families.phases import Phases
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.picture import fit_picture, load_picture
from tests.faulty_cards import FaultyInPhases
from tests.going_on import encoded, gone_on_with
from tests.hunyuan_runs import FAULTS, FAULTY_PLANS, PLANS, Runs, made_once, relative
from tests.ltx2_checkpoints import BETWEEN, JOB, LAST, VERSIONS, stock
from tests.photos import photograph
from tests.video_support import RATE, heard

RATES = {"2.0": 24000, "2.3": 48000, "2.5": 48000}
Both = tuple[Tensor, Tensor]
"""Pictures and sound."""
Theirs = Callable[[GenerationRequest], Both]


def inputs() -> Inputs:
    """Those of JOB, as the engine reads them."""
    return Inputs({0: fit_picture(load_picture(photograph()), JOB.width, JOB.height, JOB.fit)})


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs("ltx2", checkpoint, tmp_path)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Ltx2:
    return load(checkpoint, torch.float32)


@pytest.fixture(scope="module")
def theirs(pipelines: dict[str, DiffusionPipeline], version: str) -> Theirs:
    def theirs(request: GenerationRequest) -> Both:
        return stock(pipelines["last" if len(request.inputs) > 1 else request.task], request, "latent", version)

    return made_once(theirs)


@pytest.fixture
def apart(theirs: Theirs, model: Ltx2) -> Callable[[Tensor, GenerationRequest], tuple[float, float]]:
    """How far latents are from diffusers', or from others, pictures and sound."""

    def apart(latents: Tensor, request: GenerationRequest, others: Both | None = None) -> tuple[float, float]:
        layout = model.layout(request)
        tokens, sounds = layout.parted(latents)
        pictures, vae = layout.as_pictures(tokens), model.modules["audio_vae"]
        pictures = pictures * model.vae.latents_std.view(1, -1, 1, 1, 1) + model.vae.latents_mean.view(1, -1, 1, 1, 1)
        wanted, wanted_sound = others or theirs(request)
        sound = layout.as_sound(sounds * vae.latents_std + vae.latents_mean)
        assert (pictures.shape, sound.shape) == (wanted.shape, wanted_sound.shape)
        return relative(pictures, wanted), relative(sound, wanted_sound)

    return apart


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_pictures_and_sound_are_diffusers_own(run, apart, plan):
    run(JOB, plan)
    assert max(apart(run.latents(), JOB)) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"task": "t2v", "inputs": ()},
        {"inputs": (*JOB.inputs, LAST)},
        {"inputs": (*JOB.inputs, LAST), "guidance_scale": 1.0, "num_frames": 9},
        {"inputs": (*JOB.inputs, BETWEEN, LAST), "num_frames": 25},
        {"inputs": (*JOB.inputs, BETWEEN), "guidance_scale": 1.0},
        {"guidance_scale": 1.0},
        {"num_frames": 9, "fps": 7, "width": 160},
        {"prompt": "  clouds drift \n", "negative_prompt": ""},
        {"prompt": "water ripples and the light of a street lamp flickers " * 130},
    ],
    ids=[
        "from a sentence",
        "last frame",
        "last of few",
        "between",
        "between alone",
        "without guidance",
        "another rate",
        "white space",
        "too long",
    ],
)
def test_every_kind_of_request_is_diffusers_own(run, apart, change):
    request = replace(JOB, **change)
    run(request, Plan(chunk_tokens=33))
    assert max(apart(run.latents(), request)) < 1e-5


def test_eight_steps_without_guidance_are_those_of_distilled_weights(run, pipelines, apart, version):
    request = replace(JOB, num_inference_steps=8, guidance_scale=1.0)
    run(request, Plan(chunk_tokens=33))
    pipeline, own = pipelines["i2v"], pipelines["i2v"].scheduler
    pipeline.scheduler = type(own).from_config(own.config, use_dynamic_shifting=False, shift_terminal=None)
    try:
        wanted = stock(pipeline, request, "latent", version, sigmas=DISTILLED_SIGMA_VALUES)
    finally:
        pipeline.scheduler = own
    assert max(apart(run.latents(), request, wanted)) < 1e-5


def test_frames_and_sound_are_diffusers_own(model, pipelines, version):
    pictures, sound = stock(pipelines["i2v"], JOB, "np", version)
    with torch.no_grad():
        phases = Phases(model, HostCard(), JOB, Plan(decode_rows=1))
        conditioning = encoded(model, JOB, inputs())
        *_, latents = phases.denoise(conditioning)
        heard: list = []
        frames = torch.stack(list(phases.decode(conditioning, latents, hear=heard.append)))
    video = torch.from_numpy(pictures[0])
    assert frames.shape == video.shape
    assert (frames.float() / 255 - video).abs().max() <= 0.5 / 255 + 1e-5  # rounded to a byte, and to nothing else
    assert relative(torch.as_tensor(heard[0].samples), sound[0]) < 1e-5
    assert heard[0].rate == RATES[version]


def test_the_video_has_its_sound_and_says_so(run, version):
    run(JOB, Plan())
    video = run.jobs / "job" / "video.mp4"
    rate = RATES[version]
    assert (probe_video(video).frames, probe_video(video).sound_hz) == (JOB.num_frames, rate)
    assert read_metadata(video)["sound"] == {"rate_hz": rate, "channels": 2}


def test_sound_is_decoded_again_and_kept_by_finishing(run, version):
    run(JOB, Plan())
    run(replace(JOB, finish=replace(JOB.finish, interpolate=2, upscale=2)), Plan(), work="decode")
    video = probe_video(run.jobs / "job" / "video.mp4")
    assert (video.frames, video.width) == (2 * JOB.num_frames - 1, 2 * JOB.width)
    assert video.sound_hz == RATES[version]


def test_what_goes_on_from_a_video_has_the_sound_of_both(run):
    run(JOB, Plan(), "earlier")
    (run.jobs / "later").mkdir()
    shutil.copy(run.jobs / "earlier" / "video.mp4", run.jobs / "later" / "before.mp4")
    run(replace(JOB, before="before.mp4"), Plan(), "later")
    both = run.jobs / "later" / "video.mp4"
    assert probe_video(both).frames == 2 * JOB.num_frames - 1
    seconds = (2 * JOB.num_frames - 1) / JOB.fps
    assert heard(both).shape[1] / RATE == pytest.approx(seconds, abs=1 / JOB.fps)


def test_pictures_are_compressed_as_those_that_a_version_learned_from(model, pipelines):
    assert model.crf == resolve_default_image_crf(pipelines["i2v"].text_encoder)


def test_half_precision_is_no_further_from_float32_than_diffusers(run, pipelines, theirs, apart, version):
    run(JOB, Plan(precision="bfloat16", chunk_tokens=100))
    half = type(pipelines["i2v"]).from_pretrained(run.entry.folder, torch_dtype=torch.bfloat16, local_files_only=True)
    half.set_progress_bar_config(disable=True)
    for ours, one, exact in zip(
        apart(run.latents(), JOB), stock(half, JOB, "latent", version), theirs(JOB), strict=True
    ):
        assert ours < 1.2 * relative(one, exact)


def test_a_paused_run_goes_on_as_if_it_never_was(run):
    run(JOB, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(JOB, Plan(), "paused", stop_at=2)
    events = run(JOB, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


@pytest.mark.parametrize("places", FAULTY_PLANS)
def test_faults_in_every_phase_and_step_of_one_run_heal(folders, tmp_path, places):
    """JOB has three steps; its decoding begins with the sound."""
    run = Runs("ltx2", folders("2.3"), tmp_path)
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(JOB, FAULTY_PLANS[places], places, card) == list(FAULTS)
    assert probe_video(run.jobs / places / "video.mp4").sound_hz == 48000


def test_it_goes_on_after_any_step(model, tmp_path):
    conditioning = encoded(model, JOB, inputs())
    gone_on_with(model, JOB, conditioning, tmp_path)


def test_the_first_frame_stays_the_picture(model):
    conditioning = encoded(model, JOB, inputs())
    with torch.no_grad():
        *_, latents = Phases(model, HostCard(), JOB, Plan()).denoise(conditioning)
    layout = model.layout(JOB)
    assert torch.equal(layout.parted(latents)[0][:, : layout.each_frame], conditioning["picture"])


def test_a_single_step_is_refused(model):
    """Its schedule would have no numbers: the one step would be stretched from 1 to the schedule's end."""
    with pytest.raises(UserError) as refused:
        model.prepare(replace(JOB, num_inference_steps=1), Plan(), {})
    assert refused.value.message.id == "models.scheduler_steps"


def test_a_preview_is_a_small_clip(model):
    latents = model.prepare(JOB, Plan(), {"picture": torch.zeros(1, 20, 16)})
    assert model.preview(latents, {}).shape == (3, 5, 4, 3)


def test_a_checkpoint_in_the_real_layout_is_taken(checkpoint):
    verify_folder(checkpoint, SPEC)


@pytest.mark.parametrize(
    ("component", "what"),
    [
        ("text_encoder", {"model_type": "gemma5"}),
        ("vae", {"timestep_conditioning": True}),
        ("vae", {"decoder_inject_noise": [False, True, False, False, False]}),
        ("connectors", {"video_connector_num_learnable_registers": None}),
        ("vocoder", {"_class_name": "Another"}),
    ],
)
def test_another_version_is_refused_and_not_run_wrongly(folders, tmp_path, component, what):
    later = shutil.copytree(folders("2.3"), tmp_path / "later")
    config = later / component / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | what))
    with pytest.raises(UserError) as refused:
        load(later, torch.float32)
    assert refused.value.message.id == "family.ltx2_other_version"


def test_the_versions_are_made_of_different_parts():
    """Else one of them would prove nothing that the other does not."""
    assert VERSIONS["2.0"]["transformer"] != VERSIONS["2.3"]["transformer"]
    assert VERSIONS["2.0"]["vae"] != VERSIONS["2.3"]["vae"]
    assert VERSIONS["2.3"]["transformer"] != VERSIONS["2.5"]["transformer"]
