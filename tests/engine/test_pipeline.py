"""The whole run against diffusers' I2VGenXLPipeline on the same weights, noise and picture."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import I2VGenXLPipeline
from PIL import Image
from transformers import CLIPTextModel

from i2v.engine.engine import Engine
from i2v.events import Done, Event, MemorySampled, Noted, PhaseStarted, PreviewReady, StepFinished
from i2v.families import SPECS
from i2v.families.base import Inputs
from i2v.families.i2vgen_xl.model import PICTURE_SEED_OFFSET, I2VGenXL, load
from i2v.families.phases import Phases
from i2v.families.schedulers import STEP_SEED_OFFSET
from i2v.memory.card import HostCard
from i2v.messages import UserError, message
from i2v.models.catalogue import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.request import GenerationRequest
from i2v.video.picture import fit_picture
from tests.latents import load_latents

PLANS = [
    Plan(cfg="batch", decode_frames=0),
    Plan(cfg="split", decode_frames=1),
    Plan(cfg="batch", chunk_frames=1, chunk_pixels=7),
    Plan(cfg="split", chunk_frames=2, chunk_pixels=16, places=everywhere("staged"), decode_frames=2),
    Plan(cfg="split", chunk_frames=5, chunk_pixels=5, decode_frames=5),
]


@contextmanager
def stock_pipeline(checkpoint: Path):
    """diffusers' own, mended for transformers >= 5.6, where the text encoder lost its inner `text_model`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLIPTextModel, "text_model", property(lambda self: self), raising=False)
        pipe = I2VGenXLPipeline.from_pretrained(checkpoint, local_files_only=True)
        pipe.set_progress_bar_config(disable=True)
        yield pipe


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path):
    with stock_pipeline(checkpoint) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def light(light_checkpoint: Path):
    """The lighter checkpoint, in diffusers' pipeline and here."""
    with stock_pipeline(light_checkpoint) as pipe:
        yield pipe, load(light_checkpoint, torch.float32)


@pytest.fixture(scope="module")
def theirs(pipeline: I2VGenXLPipeline, photo: Image.Image):
    """`theirs(request)`: the latents that diffusers' pipeline makes of it, each made once."""

    @cache
    def theirs(request: GenerationRequest) -> torch.Tensor:
        return stock(pipeline, request, fit_picture(photo, request.width, request.height, "crop"), "latent")

    return theirs


def stock(pipeline: I2VGenXLPipeline, request: GenerationRequest, picture: Image.Image, output: str):
    # The pipeline draws the picture's latents from the global state and takes the noise from outside.
    torch.manual_seed(request.seed + PICTURE_SEED_OFFSET)
    shape = (1, 4, request.num_frames, request.height // 8, request.width // 8)
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        image=picture,
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        target_fps=request.fps,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        latents=torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)).to(pipeline.unet.dtype),
        output_type=output,
    ).frames


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@dataclasses.dataclass
class Ran:
    latents: torch.Tensor
    events: list[Event]
    folder: Path
    video: Path


@pytest.fixture(scope="module")
def run(checkpoint: Path, photo: Image.Image, tmp_path_factory: pytest.TempPathFactory):
    """`run(request, plan)`: a whole run in a folder of its own, by an engine that may have made others before."""
    entry = ModelEntry("small", "i2vgen_xl", "small", checkpoint, None, True, 0, None)
    shared = Engine()

    def run(request: GenerationRequest, plan: Plan, engine: Engine = shared) -> Ran:
        folder = tmp_path_factory.mktemp("job")
        photo.save(folder / "input.png")
        events: list[Event] = []
        video = engine.run(request, plan, entry=entry, job_folder=folder, emit=events.append, cancelled=lambda: False)
        return Ran(load_latents(folder / "latents.safetensors"), events, folder, video)

    return run


@pytest.fixture(scope="module")
def plain(run, request_: GenerationRequest) -> Ran:
    """A new engine's first run."""
    return run(request_, Plan(), Engine())


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.cfg}-{p.chunk_frames}-{p.chunk_pixels}-{p.offload}")
def test_latents_agree_with_the_stock_pipeline(run, theirs, request_, plan):
    assert relative_difference(run(request_, plan).latents, theirs(request_)) < 1e-5


@pytest.mark.parametrize(
    "change",
    [{"guidance_scale": 1.0}, {"num_frames": 1}, {"width": 64, "height": 64}, {"width": 128, "height": 72}],
    ids=["no-guidance", "one-frame", "square", "wide"],
)
def test_other_requests_agree_too(run, theirs, request_, change):
    request = dataclasses.replace(request_, num_inference_steps=2, **change)
    ours = run(request, Plan(cfg="split", chunk_frames=1, chunk_pixels=16)).latents
    assert relative_difference(ours, theirs(request)) < 1e-5


def test_what_a_model_says_of_the_sentence_is_told_once_before_the_first_step(run, request_, monkeypatch):
    said = message("nano.nothing_asked")
    monkeypatch.setattr(I2VGenXL, "said", lambda self, request, conditioning: (said,))
    events = run(dataclasses.replace(request_, num_inference_steps=1), Plan()).events
    told = [index for index, event in enumerate(events) if event == Noted("info", said)]
    denoise = events.index(PhaseStarted("denoise"))
    assert len(told) == 1
    assert told[0] < denoise


def test_what_a_model_says_of_the_motion_is_told_before_the_first_frame(run, request_, monkeypatch):
    shown = message("nano.view", percent=86)
    seen = []

    def told_of(self, request, conditioning, latents):
        seen.append((latents.device.type, bool(torch.isfinite(latents).all())))
        return (shown,)

    monkeypatch.setattr(I2VGenXL, "shown", told_of)
    events = run(dataclasses.replace(request_, num_inference_steps=1), Plan()).events
    assert seen == [("cpu", True)]
    told = events.index(Noted("info", shown))
    assert events.index(PhaseStarted("denoise")) < told < events.index(PhaseStarted("decode"))


def handed_our_noise(scheduler):
    """The scheduler, drawing in each step the noise that it draws here: diffusers' pipeline has one stream for all."""
    own, position = scheduler.step, itertools.count()

    def step(output, timestep, sample, generator=None, **options):
        generator = torch.Generator().manual_seed(7 + STEP_SEED_OFFSET * (next(position) + 1))
        return own(output, timestep, sample, generator=generator, **options)

    if "generator" in inspect.signature(own).parameters:
        step.__signature__ = inspect.signature(own)
        scheduler.step = step
    return scheduler


@pytest.mark.parametrize("name", SPECS["i2vgen_xl"].schedulers)
def test_every_scheduler_that_is_let_in_agrees_too(light, photo, request_, name):
    """Those of second order too, which call the network about twice in a step."""
    pipe, ours = light
    config = ours.scheduler.config
    request = dataclasses.replace(request_, width=64, height=64, num_frames=2, num_inference_steps=4)
    picture, cls = fit_picture(photo, 64, 64, "crop"), getattr(diffusers, name)
    pipe.scheduler = handed_our_noise(cls.from_config(config))
    wanted = stock(pipe, request, picture, "latent")
    ours.scheduler = cls.from_config(config)
    phases, conditioning = Phases(ours, HostCard(), request, Plan(cfg="split")), {}
    with torch.no_grad():
        for _, made in phases.encode(Inputs({0: picture})):
            conditioning |= made
        *_, latents = phases.denoise(conditioning)
    assert relative_difference(latents, wanted) < 1e-5


def test_steps_that_a_scheduler_does_not_do_are_refused_in_words(light, request_):
    _, ours = light
    ours.scheduler = diffusers.LCMScheduler.from_config(ours.scheduler.config)
    with pytest.raises(UserError) as refused:
        ours.prepare(dataclasses.replace(request_, num_inference_steps=60), Plan(), {})
    assert refused.value.message.id == "models.scheduler_steps"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_half_precision_run_is_no_further_from_float32_than_stock(
    run, theirs, pipeline, checkpoint, photo, request_, precision
):
    request = dataclasses.replace(request_, num_frames=3, num_inference_steps=2)
    exact = theirs(request)
    half = I2VGenXLPipeline.from_pretrained(checkpoint, dtype=getattr(torch, precision), local_files_only=True)
    half.set_progress_bar_config(disable=True)
    its = stock(half, request, fit_picture(photo, 72, 88, "crop"), "latent")
    ours = run(request, Plan(precision=precision, cfg="split", chunk_frames=2, chunk_pixels=16)).latents
    assert ours.dtype == its.dtype == getattr(torch, precision)
    assert (ours.float() - exact).norm() <= 1.2 * (its.float() - exact).norm()


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_models_own_schedule_stays_finite_in_half_precision(light_checkpoint, photo, request_, spacing):
    """As it was trained: velocities, and a last timestep of noise alone, where trailing steps begin."""
    ours = load(light_checkpoint, torch.float16)
    config = ours.scheduler.config
    told = (config["beta_schedule"], config["rescale_betas_zero_snr"], config["prediction_type"])
    assert told == ("squaredcos_cap_v2", True, "v_prediction")
    ours.scheduler = type(ours.scheduler).from_config(config, timestep_spacing=spacing)
    request = dataclasses.replace(
        request_, width=64, height=64, num_frames=2, num_inference_steps=2, guidance_scale=1.0
    )
    phases, conditioning = Phases(ours, HostCard(), request, Plan(cfg="split", precision="float16")), {}
    with torch.no_grad():
        for _, made in phases.encode(Inputs({0: fit_picture(photo, 64, 64, "crop")})):
            conditioning |= made
        for latents in phases.denoise(conditioning):
            assert torch.isfinite(latents).all()
            assert torch.isfinite(phases.predicted).all()
            assert latents.float().std() < 5  # as large as the noise that it began as


def test_decoded_frames_agree_with_the_stock_pipeline(theirs, pipeline, family, photo, request_):
    picture = fit_picture(photo, 72, 88, "crop")
    stocks = [np.asarray(frame) for frame in stock(pipeline, request_, picture, "pil")[0]]
    latents = theirs(request_)
    for decode_frames in (1, 2, 0):
        with torch.no_grad():
            ours = [
                f.numpy() for f in family.decode(HostCard(), {}, latents, request_, Plan(decode_frames=decode_frames))
            ]
        assert len(ours) == len(stocks)
        # The same float, rounded: a chunk of another size may move a value across one half.
        assert max(np.abs(a.astype(int) - b).max() for a, b in zip(ours, stocks, strict=True)) <= 1
        assert np.mean([np.mean(a != b) for a, b in zip(ours, stocks, strict=True)]) < 1e-3


def test_same_request_same_bytes_other_seed_other_video(run, plain, request_):
    assert torch.equal(plain.latents, run(request_, Plan()).latents)
    assert not torch.allclose(plain.latents, run(dataclasses.replace(request_, seed=8), Plan()).latents, atol=1e-2)


def test_every_setting_of_the_request_reaches_the_model(run, request_):
    request = dataclasses.replace(request_, num_frames=2, num_inference_steps=1)
    base = run(request, Plan()).latents
    for change in ({"prompt": "clouds drift"}, {"negative_prompt": "blue"}, {"fps": 24}, {"guidance_scale": 3.0}):
        assert not torch.equal(base, run(dataclasses.replace(request, **change), Plan()).latents), change


def test_events_tell_the_whole_run(plain, request_):
    ran = plain
    assert [e.phase for e in ran.events if isinstance(e, PhaseStarted)] == ["load", "encode", "denoise", "decode"]
    steps = [e for e in ran.events if isinstance(e, StepFinished) and e.phase == "denoise"]
    assert [(e.index, e.total) for e in steps] == [(1, 3), (2, 3), (3, 3)]
    assert steps[-1].seconds_left == 0
    assert steps[0].seconds_left > 0
    samples = [e for e in ran.events if isinstance(e, MemorySampled) and e.phase == "denoise"]
    assert [e.step for e in samples] == [1, 2, 3]
    assert all(e.source == "process" and e.process_rss_bytes > 10**8 for e in samples)
    assert any(isinstance(e, PreviewReady) for e in ran.events)
    with Image.open(ran.folder / "preview.webp") as preview:
        assert preview.n_frames == request_.num_frames
    assert isinstance(ran.events[-1], Done)
    assert ran.video.stat().st_size > 500
