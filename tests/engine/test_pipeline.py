"""The whole run against diffusers' I2VGenXLPipeline on the same weights, noise and picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import I2VGenXLPipeline
from PIL import Image
from transformers import CLIPTextModel

from i2v.engine.checkpoint import load_latents
from i2v.engine.engine import Engine
from i2v.events import Done, Event, MemorySampled, PhaseStarted, PreviewReady, StepFinished
from i2v.families.i2vgen_xl.model import PICTURE_SEED_OFFSET
from i2v.memory.card import HostCard
from i2v.models.catalogue import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.picture import fit_picture

PLANS = [
    Plan(cfg="batch", decode_frames=0),
    Plan(cfg="split", decode_frames=1),
    Plan(cfg="batch", chunk_frames=1, chunk_pixels=7),
    Plan(cfg="split", chunk_frames=2, chunk_pixels=16, offload="staged", decode_frames=2),
    Plan(cfg="split", chunk_frames=5, chunk_pixels=1, decode_frames=5),
]


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path):
    """diffusers' own, mended for transformers >= 5.6, where the text encoder lost its inner `text_model`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLIPTextModel, "text_model", property(lambda self: self), raising=False)
        pipe = I2VGenXLPipeline.from_pretrained(checkpoint, local_files_only=True)
        pipe.set_progress_bar_config(disable=True)
        yield pipe


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


@dataclasses.dataclass
class Ran:
    latents: torch.Tensor
    events: list[Event]
    folder: Path
    video: Path


@pytest.fixture
def run(checkpoint: Path, photo: Image.Image, tmp_path: Path):
    def run(request: GenerationRequest, plan: Plan) -> Ran:
        photo.save(tmp_path / "input.png")
        entry = ModelEntry("small", "i2vgen_xl", "small", checkpoint, None, True, False, 0, None)
        events: list[Event] = []
        video = Engine().run(
            request, plan, entry=entry, job_folder=tmp_path, emit=events.append, cancelled=lambda: False
        )
        return Ran(load_latents(tmp_path / "latents.safetensors"), events, tmp_path, video)

    return run


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.cfg}-{p.chunk_frames}-{p.chunk_pixels}-{p.offload}")
def test_latents_agree_with_the_stock_pipeline(run, pipeline, photo, request_, plan):
    theirs = stock(pipeline, request_, fit_picture(photo, 72, 88, "crop"), "latent")
    ours = run(request_, plan).latents
    assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-5


@pytest.mark.parametrize(
    "change",
    [{"guidance_scale": 1.0}, {"num_frames": 1}, {"width": 64, "height": 64}, {"width": 128, "height": 72}],
    ids=["no-guidance", "one-frame", "square", "wide"],
)
def test_other_requests_agree_too(run, pipeline, photo, request_, change):
    request = dataclasses.replace(request_, **change)
    picture = fit_picture(photo, request.width, request.height, "crop")
    theirs = stock(pipeline, request, picture, "latent")
    ours = run(request, Plan(cfg="split", chunk_frames=1, chunk_pixels=16)).latents
    assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-5


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_half_precision_run_is_no_further_from_float32_than_stock(
    run, pipeline, checkpoint, photo, request_, precision
):
    picture = fit_picture(photo, 72, 88, "crop")
    exact = stock(pipeline, request_, picture, "latent")
    half = I2VGenXLPipeline.from_pretrained(checkpoint, dtype=getattr(torch, precision), local_files_only=True)
    half.set_progress_bar_config(disable=True)
    theirs = stock(half, request_, picture, "latent")
    ours = run(request_, Plan(precision=precision, cfg="split", chunk_frames=2, chunk_pixels=16)).latents
    assert ours.dtype == theirs.dtype == getattr(torch, precision)
    assert (ours.float() - exact).norm() <= 1.2 * (theirs.float() - exact).norm()


def test_decoded_frames_agree_with_the_stock_pipeline(pipeline, family, photo, request_):
    picture = fit_picture(photo, 72, 88, "crop")
    theirs = [np.asarray(frame) for frame in stock(pipeline, request_, picture, "pil")[0]]
    latents = stock(pipeline, request_, picture, "latent")
    for decode_frames in (1, 2, 0):
        with torch.no_grad():
            ours = [
                f.numpy() for f in family.decode(HostCard(), {}, latents, request_, Plan(decode_frames=decode_frames))
            ]
        assert len(ours) == len(theirs)
        # The same float, rounded: a chunk of another size may move a value across one half.
        assert max(np.abs(a.astype(int) - b).max() for a, b in zip(ours, theirs, strict=True)) <= 1
        assert np.mean([np.mean(a != b) for a, b in zip(ours, theirs, strict=True)]) < 1e-3


def test_same_request_same_bytes_other_seed_other_video(run, request_):
    first, again = run(request_, Plan()).latents, run(request_, Plan()).latents
    assert torch.equal(first, again)
    assert not torch.allclose(first, run(dataclasses.replace(request_, seed=8), Plan()).latents, atol=1e-2)


def test_every_setting_of_the_request_reaches_the_model(run, request_):
    base = run(request_, Plan()).latents
    for change in ({"prompt": "clouds drift"}, {"negative_prompt": "blue"}, {"fps": 24}, {"guidance_scale": 3.0}):
        assert not torch.equal(base, run(dataclasses.replace(request_, **change), Plan()).latents), change


def test_events_tell_the_whole_run(run, request_):
    ran = run(request_, Plan())
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
