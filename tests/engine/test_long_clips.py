"""Clips longer than a model was trained on: how they are cut into windows, what the windows share, and that memory
does not grow with the length."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from i2v.engine.cancel import GenerationCancelled, GenerationPaused
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.events import Event, Healed, Resumed, WindowFinished
from i2v.families import SPECS
from i2v.families.anchors import Anchors
from i2v.families.base import Inputs
from i2v.families.fused import fused
from i2v.families.i2vgen_xl.model import I2VGenXL, load
from i2v.families.long_clips import SIXTEEN_FRAMES, LongClips
from i2v.families.phases import Phases
from i2v.memory.card import HostCard, SimulatedCard
from i2v.models.catalogue import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.request import GenerationRequest, first_image
from i2v.units import GIB
from i2v.video.metadata import probe_video
from i2v.video.picture import fit_picture
from tests.engine.test_pipeline import stock, stock_pipeline
from tests.faulty_cards import steps
from tests.latents import load_latents

WHOLE = Plan(cfg="batch", decode_frames=0, places=everywhere("staged"))
SMALL = Plan(cfg="split", chunk_frames=3, chunk_pixels=5, decode_frames=1, places=everywhere("staged"))


@given(st.integers(2, 40), st.data(), st.integers(1, 700))
def test_windows_cover_a_clip_evenly_and_overlap_enough(native, data, frames):
    """Each as long as the model makes at once, and one fewer would not do."""
    long = LongClips(native, data.draw(st.integers(0, native - 1)))
    windows = long.windows(frames)
    assert (windows[0].start, windows[-1].stop) == (0, frames)
    assert all(one.stop - one.start == min(native, frames) for one in windows)
    overlaps = [before.stop - after.start for before, after in itertools.pairwise(windows)]
    assert all(long.overlap_frames <= one < native for one in overlaps)
    assert max(overlaps, default=0) - min(overlaps, default=0) <= 1
    if len(windows) > 1:
        fewer = len(windows) - 1
        assert fewer * native - (fewer - 1) * long.overlap_frames < frames
    assert len(long.windows(long.dry_frames(frames))) == min(2, len(windows))


def test_the_family_and_its_model_cut_alike():
    assert SPECS["i2vgen_xl"].longer == I2VGenXL.longer


def fuse(clip: torch.Tensor, network) -> torch.Tensor:
    return fused(HostCard(), SIXTEEN_FRAMES, clip, lambda window: network(clip[:, :, window], window))


def test_answers_that_agree_are_handed_on_as_they_are():
    clip = torch.randn(1, 2, 61, 3, 3)
    torch.testing.assert_close(fuse(clip, lambda part, window: part * 2), clip * 2)


def test_from_one_window_to_the_next_in_even_steps():
    """Of windows that answer 0 and 1, the fused answer goes up by the same step over the frames that they share."""
    long = SIXTEEN_FRAMES
    clip = torch.zeros(1, 1, long.dry_frames(99), 1, 1)
    answer = fuse(clip, lambda part, window: torch.full_like(part, float(window.start > 0))).flatten()
    shared = long.overlap_frames
    expected = torch.tensor([0.0] * 12 + [place / (shared + 1) for place in range(1, shared + 1)] + [1.0] * 12)
    torch.testing.assert_close(answer, expected)


def test_half_precision_is_summed_in_single():
    clip = torch.full((1, 1, 100, 1, 1), 1001.0, dtype=torch.float16)
    assert torch.equal(fuse(clip, lambda part, window: part), clip)


@pytest.fixture(scope="module")
def light(light_checkpoint: Path):
    return load(light_checkpoint, torch.float32)


def job(frames: int, **more: object) -> GenerationRequest:
    values: dict[str, object] = {
        "model": "small", "prompt": "a garden rose sways", "negative_prompt": "static", "width": 32, "height": 40,
        "num_frames": frames, "fps": 8, "num_inference_steps": 2, "guidance_scale": 6.0, "seed": 7,
    }  # fmt: skip
    return GenerationRequest(**{**values, **more})


def denoised(model: I2VGenXL, request: GenerationRequest, picture: Image.Image, plan: Plan = WHOLE) -> torch.Tensor:
    card = HostCard()
    with card.running():
        phases, made = Phases(model, card, request, plan), {}
        for _, entries in phases.encode(Inputs({0: fit_picture(picture, request.width, request.height, "crop")})):
            made |= entries
        for stepped in phases.denoise(made):
            latents = stepped
        return latents


def without_time(unet: nn.Module) -> None:
    """From now on every frame is treated alone: what looks over time adds nothing to what went in."""
    encoder = unet.image_latents_temporal_encoder
    adding = [encoder.attn1.to_out[0], encoder.ff.net[-1]]
    adding += [module.proj_out for module in unet.modules() if isinstance(module, TransformerTemporalModel)]
    adding += [module.conv4[-1] for module in unet.modules() if isinstance(module, TemporalConvLayer)]
    for layer in adding:
        for weight in layer.parameters():
            weight.data.zero_()


def test_of_a_network_that_treats_frames_alone_windows_are_what_diffusers_makes_at_once(light_checkpoint, photo):
    model, request = load(light_checkpoint, torch.float32), job(37)
    without_time(model.unet)
    with stock_pipeline(light_checkpoint) as pipeline:
        without_time(pipeline.unet)
        theirs = stock(pipeline, request, fit_picture(photo, request.width, request.height, "crop"), "latent")
    torch.testing.assert_close(denoised(model, request, photo), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheduler", ["HeunDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_of_schedulers_with_a_memory_or_two_calls_too(light_checkpoint, photo, scheduler):
    import diffusers

    model, request = load(light_checkpoint, torch.float32), job(20, num_inference_steps=3)
    without_time(model.unet)
    with stock_pipeline(light_checkpoint) as pipeline:
        without_time(pipeline.unet)
        made = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config, rescale_betas_zero_snr=False)
        pipeline.scheduler = made
        model.scheduler = type(made).from_config(made.config)
        picture = fit_picture(photo, request.width, request.height, "crop")
        steps_asked = dataclasses.replace(request, num_inference_steps=3)
        theirs = stock(pipeline, steps_asked, picture, "latent")
    torch.testing.assert_close(denoised(model, request, photo), theirs, rtol=1e-3, atol=1e-4)


def test_every_plan_makes_the_same_long_clip(light, photo):
    request = job(20)
    whole, small = (denoised(light, request, photo, plan) for plan in (WHOLE, SMALL))
    assert ((whole - small).norm() / whole.norm()).item() < 1e-5


def test_a_window_attends_to_the_anchor_as_if_it_were_one_of_its_frames(light):
    """Attention asks for each frame alone, so frames that attend to an anchor too are the last of a longer clip."""
    layer = light.unet.transformer_in.transformer_blocks[0].attn1
    frames = torch.randn(6, 17, layer.to_q.in_features)
    anchors = Anchors(HostCard(), light.unet, 1)
    with torch.no_grad():
        with anchors.shared(keeps=True):
            begins = layer(frames[:, :9])
        with anchors.shared(keeps=False):
            later = layer(frames[:, 1:])
        assert torch.equal(begins, layer(frames[:, :9]))
        torch.testing.assert_close(later, layer(frames)[:, 1:])


def test_later_windows_see_the_photograph(light, photo, monkeypatch):
    """Of two clips that begin with other pictures, whose later windows are given the same: by the anchors
    alone."""
    monkeypatch.setattr(light, "_beginning_with", lambda picture: nullcontext())
    seen: list[torch.Tensor] = []
    predict = light._predict_at_once

    def listening(card, conditioning, sample, *rest):
        answer = predict(card, conditioning, torch.ones_like(sample), *rest)
        seen.append(answer)
        return answer

    monkeypatch.setattr(light, "_predict_at_once", listening)
    request = job(28, num_inference_steps=1)
    denoised(light, request, photo)
    denoised(light, request, photo.transpose(Image.Transpose.ROTATE_180))
    _, later, _, other = seen
    # Nothing else differs: without both the answers are the same.
    assert (later - other).abs().max() > 1e-4 * later.abs().max()


def peaks(model: I2VGenXL, frames: int, plan: Plan, picture: Image.Image) -> dict[str, int]:
    """The most bytes that each part of a run holds on a simulated card."""
    card, request, made, held = SimulatedCard(GIB), job(frames, num_inference_steps=1), {}, {}
    with card.running():
        phases = Phases(model, card, request, plan)
        for stage, entries in phases.encode(Inputs({0: fit_picture(picture, request.width, request.height, "crop")})):
            made |= entries
            held[stage.name] = card.read_memory().peak_allocated_bytes
            card.reset_peak()
        for stepped in phases.denoise(made):
            latents = card.to_host(stepped)
        del stepped
        held["denoise"] = card.read_memory().peak_allocated_bytes
        card.reset_peak()
        assert sum(1 for _ in phases.decode(made, latents)) == frames
        held["decode"] = card.read_memory().peak_allocated_bytes
    return held


@pytest.mark.parametrize(("plan", "most"), [(WHOLE, 256), (SMALL, 64)], ids=["whole", "small"])
def test_memory_does_not_grow_with_the_length(light, photo, plan, most):
    """To the byte from the first length that has windows; against a clip made at once there is the picture's own frame
    beside each later window."""
    peaks(light, 2, plan, photo)  # what a first run leaves in caches of its own
    native, shortest, longest = (peaks(light, frames, plan, photo) for frames in (16, 17, most))
    assert shortest == longest
    assert all(longest[part] <= native[part] * 1.01 for part in native)


@pytest.fixture
def run(light_checkpoint, photo, tmp_path):
    """`run(request, plan, ...)`, always in the same folder; `run.events` are the last run's, also where it failed."""
    entry = ModelEntry("small", "i2vgen_xl", "small", light_checkpoint, None, True, 0, None)
    photo.save(tmp_path / "input.png")

    def run(request, *, card=None, cancelled=lambda: False, ladder=(), **orders) -> torch.Tensor:
        run.events = []
        plan = dataclasses.replace(WHOLE, device="simulated", memory_cap_bytes=GIB)
        Engine(lambda plan: card or SimulatedCard(GIB)).run(
            request, plan, entry=entry, job_folder=tmp_path, emit=run.events.append, cancelled=cancelled,
            orders=Orders(ladder=ladder, **orders),
        )  # fmt: skip
        return load_latents(tmp_path / "latents.safetensors")

    run.folder = tmp_path
    return run


LONG = job(30, inputs=first_image("input.png"))


def windows(events: list[Event]) -> list[int]:
    return [event.index for event in events if isinstance(event, WindowFinished)]


def test_a_long_clip_is_told_of_window_by_window_and_has_all_of_its_frames(run):
    run(LONG)
    assert windows(run.events) == [1, 2, 3, 1, 2, 3]
    assert {event.total for event in run.events if isinstance(event, WindowFinished)} == {3}
    assert steps(run.events) == [1, 2]
    assert probe_video(run.folder / "video.mp4").frames == 30


def second_window_of_the_second_step(run) -> bool:
    return windows(run.events)[3:] == [1, 2]


def test_a_run_is_cancelled_between_two_windows(run):
    with pytest.raises(GenerationCancelled) as stopped:
        run(LONG, cancelled=lambda: second_window_of_the_second_step(run))
    assert (stopped.value.step, windows(run.events)) == (1, [1, 2, 3, 1, 2])


def test_a_run_that_is_laid_down_between_two_windows_goes_on_from_its_last_whole_step(run, light, photo):
    with pytest.raises(GenerationPaused):
        run(LONG, paused=lambda: second_window_of_the_second_step(run))
    resumed = run(LONG)
    assert [event.step for event in run.events if isinstance(event, Resumed)] == [1]
    assert (steps(run.events), windows(run.events)) == ([2], [1, 2, 3])
    assert torch.equal(resumed, denoised(light, LONG, photo))


def test_a_run_heals_in_the_middle_of_a_step(run, light, photo):
    class FailingOnce(SimulatedCard):
        failed = False

        def _allow(self, live_bytes: int, new_bytes: int) -> None:
            if not self.failed and second_window_of_the_second_step(run):
                self.failed = True
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            super()._allow(live_bytes, new_bytes)

    healed = run(LONG, card=FailingOnce(GIB))
    assert [(event.phase, event.step) for event in run.events if isinstance(event, Healed)] == [("denoise", 1)]
    assert windows(run.events) == [1, 2, 3, 1, 2, 1, 2, 3]
    wanted = denoised(light, LONG, photo)
    assert ((healed - wanted).norm() / wanted.norm()).item() < 1e-5
