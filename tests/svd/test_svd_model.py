"""Whole runs of Stable Video Diffusion against diffusers' own pipeline on the same weights and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from i2v.engine.cancel import GenerationPaused
from i2v.engine.checkpoint import Identity
from i2v.engine.encoded import EncodedCache
from i2v.events import Resumed
from i2v.families import SPECS
from i2v.families.base import Inputs
from i2v.families.phases import Phases
from i2v.families.svd.model import Svd, load
from i2v.families.svd.vae import decoded
from i2v.memory.card import HostCard
from i2v.models.kinds import spec_of
from i2v.models.verify import verify_folder
from i2v.plan import Plan, everywhere
from i2v.request import GenerationRequest
from tests.faulty_cards import FaultyInPhases
from tests.going_on import encoded, gone_on_with
from tests.hunyuan_runs import FAULTS, SIMULATED, Runs, made_once, relative
from tests.svd_checkpoints import JOB, picture, pipeline_of, stock

PLANS = {
    "whole": Plan(cfg="batch"),
    "split": Plan(cfg="split", decode_frames=2),
    "chunks": Plan(cfg="batch", chunk_frames=2, chunk_pixels=24, decode_frames=1),
    "small chunks": Plan(cfg="split", chunk_frames=1, chunk_pixels=7, decode_frames=1),
    "staged": replace(SIMULATED, places=everywhere("staged"), cfg="split", chunk_frames=3, chunk_pixels=50),
    "streamed": replace(SIMULATED, places=everywhere("streamed"), cfg="split", chunk_pixels=50),
}


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs("svd", checkpoint, tmp_path)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Svd:
    return load(checkpoint, torch.float32)


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> StableVideoDiffusionPipeline:
    return pipeline_of(checkpoint)


@pytest.fixture(scope="module")
def theirs(pipeline: StableVideoDiffusionPipeline) -> Callable[[GenerationRequest], Tensor]:
    return made_once(lambda request: stock(pipeline, request, "latent"))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_latents_are_diffusers_own(run, theirs, plan):
    run(JOB, plan)
    assert relative(run.latents(), theirs(JOB)) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"guidance_scale": 1.0},
        {"guidance_scale": 5.5, "fps": 12},
        {"num_frames": 2, "seed": 8, "width": 192},
        {"motion_bucket_id": 0},
        {"noise_aug_strength": 0.5},
        {"min_guidance_scale": 2.0},
        {"motion_bucket_id": 255, "noise_aug_strength": 0.0, "min_guidance_scale": 6.0},
    ],
    ids=[
        "without guidance",
        "strong guidance at another rate",
        "two frames",
        "little motion",
        "noise on the picture",
        "guidance of the first frame",
        "its own settings",
    ],
)
def test_every_kind_of_request_is_diffusers_own(run, theirs, change):
    request = replace(JOB, **change)
    run(request, Plan(cfg="split", chunk_frames=2, chunk_pixels=24))
    assert relative(run.latents(), theirs(request)) < 1e-5


def test_with_settings_of_its_own_a_run_goes_on_after_any_step(model, theirs, tmp_path):
    request = replace(JOB, motion_bucket_id=200, noise_aug_strength=0.1, min_guidance_scale=1.5)
    latents = gone_on_with(model, request, encoded(model, request, Inputs({0: picture(request)})), tmp_path)
    assert relative(latents, theirs(request)) < 1e-5


def test_a_picture_with_other_noise_is_encoded_anew(model, tmp_path):
    whose = Identity("", ("the picture",), "", "", "")

    def told_by(request: GenerationRequest, *, keep: bool = False) -> dict[str, bool]:
        """Which stages have made the same before."""
        cache = EncodedCache(tmp_path, request, Plan(), whose)
        stages = model.encode_stages(request, Inputs(), Plan())
        for stage in stages if keep else ():
            cache.put(stage, {stage.name: torch.zeros(1)})
        return {stage.name: cache.has(stage) for stage in stages}

    assert told_by(JOB, keep=True) == {"image": True, "latents": True}
    assert told_by(replace(JOB, motion_bucket_id=3, min_guidance_scale=2.0)) == {"image": True, "latents": True}
    assert told_by(replace(JOB, noise_aug_strength=0.3)) == {"image": True, "latents": False}


@pytest.mark.parametrize("at_once", [0, 1, 2])
def test_few_frames_at_a_time_are_diffusers_clip_decoded_as_one(model, at_once):
    vae = model.modules["vae"]
    latents = torch.randn(5, 4, 8, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = vae.decode(latents, num_frames=5).sample
        assert relative(torch.stack(list(decoded(vae.decoder, latents.clone(), at_once))), wanted) < 1e-5
        assert relative(torch.cat([vae.decode(one[None], num_frames=1).sample for one in latents]), wanted) > 1e-2


def test_frames_are_diffusers_own(model, pipeline):
    with torch.no_grad():
        conditioning = encoded(model, JOB, Inputs({0: picture(JOB)}))
        phases = Phases(model, HostCard(), JOB, Plan(cfg="batch", decode_frames=2))
        *_, latents = phases.denoise(conditioning)
        kept = latents.clone()
        frames = torch.stack(list(phases.decode({}, latents)))
    assert torch.equal(latents, kept)
    wanted = stock(pipeline, JOB, "pt")[0].permute(0, 2, 3, 1)
    assert (frames.float() / 255 - wanted).abs().max() <= 0.5 / 255 + 1e-4  # rounded to a byte, and to nothing else


def test_half_precision_is_no_further_from_float32_than_diffusers(run, checkpoint, theirs):
    run(JOB, Plan(precision="bfloat16", cfg="split", chunk_frames=2, chunk_pixels=24))
    half = pipeline_of(checkpoint, dtype=torch.bfloat16)
    exact = theirs(JOB)
    assert relative(run.latents(), exact) < 1.3 * relative(stock(half, JOB, "latent"), exact)


def test_a_paused_run_goes_on_as_if_it_never_was(run):
    run(JOB, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(JOB, Plan(), "paused", stop_at=2)
    events = run(JOB, Plan(), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


def test_faults_in_every_phase_and_step_of_one_run_heal(run):
    """JOB has three steps. It begins at 700 times the noise of its end, so that rounding in any order of sums is 3e-6:
    diffusers' network says as much of two clips in one batch and of one after the other."""
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(JOB, replace(SIMULATED, places=everywhere("staged")), "staged", card, within=1e-5) == list(FAULTS)


def test_it_goes_on_after_any_step(model, tmp_path):
    gone_on_with(model, JOB, encoded(model, JOB, Inputs({0: picture(JOB)})), tmp_path)


def test_no_weights_are_read_to_begin(checkpoint):
    model = load(checkpoint, torch.float32)
    latents = model.prepare(JOB, Plan(), {})
    assert model.modules.loaded == ()
    assert latents.numel() == SPECS["svd"].latent_numbers(JOB.width, JOB.height, JOB.num_frames)
    assert model.preview(latents, {}).shape == (5, 8, 16, 3)


def test_its_checkpoints_are_known(checkpoint):
    assert spec_of(checkpoint) is SPECS["svd"]
    verify_folder(checkpoint, SPECS["svd"])
