"""nano's phases: the same picture however they are planned, another for another seed, the photograph first."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from i2v.families.base import Inputs
from i2v.families.nano.model import PREVIEW_FRAMES, load
from i2v.families.nano.spec import SPEC
from i2v.memory.card import HostCard, SimulatedCard
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.region import written

GIB = 2**30


@pytest.fixture(scope="module")
def model(folder):
    return load(folder, torch.float32)


@pytest.fixture(scope="module")
def plain(model):
    """Latents, frames and last step of the run that the others are compared with."""
    return run(model)


def picture(width=96, height=64):
    rows = np.linspace(30, 220, height)[:, None, None] + np.linspace(0, 30, width)[None, :, None]
    return Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))


REQUEST = GenerationRequest(
    model="nano", prompt="zoom in", width=96, height=64, num_frames=5, fps=12, num_inference_steps=2,
    guidance_scale=2.0, seed=11,
)  # fmt: skip


def conditioning_of(model, request=REQUEST):
    """All that encode makes."""
    conditioning = {}
    with torch.no_grad():
        for stage in model.encode_stages(request, Inputs({0: picture(request.width, request.height)}), Plan()):
            stage.run(HostCard(), conditioning)
    return conditioning


def run(model, request=REQUEST, plan=None, card=None):
    """Latents and frames of a whole run."""
    plan, card = plan or Plan(), card or HostCard()
    conditioning = {}
    with card.running():
        for stage in model.encode_stages(request, Inputs({0: picture(request.width, request.height)}), plan):
            for name in stage.components:
                card.place(model.modules[name])
            stage.run(card, conditioning)
        card.place(model.modules["unet"])
        latents = card.to_card(model.prepare(request, plan, conditioning))
        for index in range(request.num_inference_steps):
            output = model.denoise_step(card, conditioning, latents, index, request, plan)
            latents = output.latents
        frames = [frame.numpy() for frame in model.decode(card, conditioning, latents, request, plan)]
        latents = card.to_host(latents)
    card.evict_all()
    return latents, frames, output


def test_frames_have_the_requests_size_and_begin_with_a_part_of_the_picture(plain):
    latents, frames, output = plain
    assert len(frames) == REQUEST.num_frames
    assert all(frame.shape == (64, 96, 3) and frame.dtype == np.uint8 for frame in frames)
    rows = frames[0].mean((1, 2))
    assert 30 <= rows[0] < rows[-1] <= 250
    assert (np.diff(rows) > -0.5).all()
    torch.testing.assert_close(output.predicted, latents, rtol=1e-3, atol=1e-3)


def test_the_same_seed_gives_the_same_and_another_seed_another(model, plain):
    assert torch.equal(plain[0], run(model)[0])
    assert not torch.allclose(plain[0], run(model, replace(REQUEST, seed=12))[0])


def test_prompt_negative_prompt_and_guidance_each_change_the_result(model, plain):
    for change in ({"prompt": "pan left"}, {"negative_prompt": "pan left"}, {"guidance_scale": 3.0}):
        assert not torch.allclose(plain[0], run(model, replace(REQUEST, **change))[0], atol=1e-4), change


def test_a_brush_and_its_stroke_each_change_the_result(model, plain):
    upper = Image.fromarray(np.repeat(np.uint8([255, 0]), 32)[:, None].repeat(96, 1))
    brushed = replace(REQUEST, region=written(upper))
    results = [plain[0], run(model, brushed)[0], run(model, replace(brushed, way=(0.0, 1.0)))[0]]
    assert not any(torch.allclose(one, other, atol=1e-4) for one, other in itertools.combinations(results, 2))


@pytest.mark.parametrize(
    "plan",
    [
        Plan(cfg="split"),
        Plan(chunk_frames=2),
        Plan(chunk_pixels=25),
        Plan(cfg="split", chunk_frames=1, chunk_pixels=31),
    ],
)
def test_plans_change_memory_and_never_the_result(model, plain, plan):
    error = (run(model, plan=plan)[0] - plain[0]).norm() / plain[0].norm()
    assert error < 1e-5


def test_a_simulated_card_gives_the_same_frames(model, plain):
    simulated = run(model, card=SimulatedCard(2 * GIB))[1]
    assert all(np.array_equal(a, b) for a, b in zip(plain[1], simulated, strict=True))


def test_half_precision_runs_and_stays_close(folder, plain):
    full, half = plain[0], run(load(folder, torch.bfloat16))[0]
    assert half.dtype == torch.bfloat16
    assert (full - half.float()).abs().mean() < 0.15 * full.abs().mean()


def test_the_preview_needs_no_network(model, plain):
    _latents, _frames, output = plain
    shown = model.preview(output.predicted, conditioning_of(model))
    assert shown.dtype == torch.uint8
    assert shown.shape[0] == PREVIEW_FRAMES
    assert max(shown.shape[1:3]) <= 160
    assert abs(float(shown[0].float().mean()) - np.asarray(picture()).mean()) < 2


def test_components_are_those_the_spec_names(folder, model):
    assert set(*model.denoise_stages.values()) | set(model.decode_components) <= set(model.modules)
    for component, files in SPEC.components.items():
        for name in files:
            assert (folder / component / name).is_file()


def test_weights_are_read_from_safetensors_only(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load(copy, torch.float32)
