"""Whole runs of Wan against diffusers' own pipeline on the same weights and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline, WanVideoToVideoPipeline

from i2v.engine.cancel import GenerationPaused
from i2v.engine.weights import find_tensors
from i2v.events import Resumed
from i2v.families.wan.model import load
from i2v.families.wan.spec import SPEC
from i2v.memory.card import HostCard
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.video.clip import read_clip
from tests.hunyuan_runs import PLANS, Runs, Theirs, made_once, relative
from tests.video_support import film
from tests.wan_checkpoints import JOB, stock


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs("wan", checkpoint, tmp_path)


@pytest.fixture(scope="module")
def theirs(pipeline: WanPipeline) -> Theirs:
    return made_once(lambda request: stock(pipeline, request, "latent"))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_latents_are_diffusers_own(run, theirs, plan):
    run(JOB, plan)
    assert relative(run.latents(), theirs(JOB)) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"guidance_scale": 1.0, "negative_prompt": ""},
        {"num_frames": 1},
        {"prompt": "  clouds \n drift ", "negative_prompt": ""},
        {"prompt": "snow &amp;amp; light&nbsp;falls", "negative_prompt": "&quot;hills&quot;"},
        {"prompt": "water ripples and the light of a street lamp flickers " * 60},
    ],
    ids=["without guidance", "one frame", "white space", "HTML", "too long"],
)
def test_every_kind_of_request_is_diffusers_own(run, theirs, change):
    request = replace(JOB, **change)
    run(request, Plan(chunk_tokens=100))
    assert relative(run.latents(), theirs(request)) < 1e-5


@pytest.mark.parametrize("rows", [0, 3])
def test_frames_are_diffusers_own(run, pipeline, theirs, rows):
    """Decoded one latent frame at a time, or a strip of rows, where diffusers joins them."""
    request = replace(JOB, num_frames=13)
    video = torch.from_numpy(stock(pipeline, request, "np")[0])
    frames = torch.stack(
        list(
            load(run.entry.folder, torch.float32).decode(
                HostCard(), {}, theirs(request), request, Plan(decode_rows=rows)
            )
        )
    )
    assert frames.shape == video.shape
    assert (frames.float() / 255 - video).abs().max() <= 0.5 / 255 + 1e-5  # rounded to a byte, and to nothing else


# --- from a video ---


@pytest.fixture
def from_clip(tmp_path: Path) -> Callable[[float], GenerationRequest]:
    film(tmp_path / "clip.mp4", rate="16", seconds=1)

    def from_clip(strength: float) -> GenerationRequest:
        return replace(JOB, task="v2v", inputs=(Input("video", "../clip.mp4", None, strength),))

    return from_clip


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("plan", ["chunks", "streamed"])
def test_from_a_video_latents_are_diffusers_own(run, pipeline, from_clip, plan, strength):
    """diffusers makes that share of its steps which strength leaves; ours are as many in all."""
    request = from_clip(strength)
    run(request, replace(PLANS[plan], decode_rows=3))
    clip = read_clip(run.jobs / "clip.mp4", request.width, request.height, request.num_frames, request.fps, "crop")
    of_videos = WanVideoToVideoPipeline(
        **{name: part for name, part in pipeline.components.items() if name != "transformer_2"}
    )
    of_videos.set_progress_bar_config(disable=True)
    # It cleans a sentence by a package of its own, without which it fails; `WanPipeline` does as well without.
    prompt, negative = pipeline.encode_prompt(request.prompt, request.negative_prompt, max_sequence_length=512)
    theirs = of_videos(
        video=clip, prompt_embeds=prompt, negative_prompt_embeds=negative, width=request.width,
        height=request.height, num_inference_steps=round(request.num_inference_steps / strength),
        guidance_scale=request.guidance_scale, strength=strength, output_type="latent",
        generator=torch.Generator().manual_seed(request.seed),
    ).frames  # fmt: skip
    assert relative(run.latents(), theirs) < 1e-5


def test_from_a_video_a_paused_run_goes_on_as_if_it_never_was(run, from_clip):
    request = from_clip(0.5)
    run(request, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(request, Plan(), "paused", stop_at=2)
    run(request, Plan(chunk_tokens=50), "paused")
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


def test_half_precision_is_no_further_from_float32_than_diffusers(run, theirs):
    exact = theirs(JOB)
    run(JOB, Plan(precision="bfloat16", chunk_tokens=100))
    half = WanPipeline.from_pretrained(run.entry.folder, torch_dtype=torch.bfloat16, local_files_only=True)
    half.set_progress_bar_config(disable=True)
    assert relative(run.latents(), exact) < 1.2 * relative(stock(half, JOB, "latent"), exact)


def test_a_paused_run_goes_on_as_if_it_never_was(run):
    run(JOB, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(JOB, Plan(), "paused", stop_at=2)
    events = run(JOB, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


def test_a_checkpoint_in_the_real_layout_is_taken(checkpoint):
    verify_folder(checkpoint, SPEC)
    for precision in ("float32", "bfloat16"):
        assert find_tensors(checkpoint, SPEC, precision)
