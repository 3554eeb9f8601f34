"""LTX-2.5 against diffusers' modular blocks of that name: from a photograph, and with the last frame too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTX2ImageToVideoPipeline
from diffusers.guiders.ltx2_guidance import LTX2Guidance
from diffusers.modular_pipelines.ltx2 import LTX25AutoBlocks
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition

from i2v.families.base import Inputs
from i2v.families.ltx2.model import Ltx2, load
from i2v.families.phases import Phases
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.picture import fit_picture, load_picture
from tests.going_on import encoded
from tests.hunyuan_runs import relative
from tests.ltx2_checkpoints import JOB, LAST, picture, pipeline_of


@pytest.fixture(scope="module")
def folder(folders: Callable[[str], Path]) -> Path:
    return folders("2.5")


@pytest.fixture(scope="module")
def model(folder: Path) -> Ltx2:
    return load(folder, torch.float32)


@pytest.fixture(scope="module")
def modular(folder: Path) -> Any:
    """diffusers' own, guided as it is by itself, but that the small network has no block 28."""
    pipeline, parts = LTX25AutoBlocks().init_pipeline(), pipeline_of(LTX2ImageToVideoPipeline, folder).components
    names = ("text_encoder", "tokenizer", "connectors", "vae", "transformer", "scheduler", "audio_vae", "vocoder")
    usual = {"stg_scale": 1.0, "modality_scale": 3.0, "guidance_rescale": 0.7}
    pipeline.update_components(
        guider=LTX2Guidance(guidance_scale=3.0, spatio_temporal_guidance_blocks=[3], **usual),
        audio_guider=LTX2Guidance(guidance_scale=7.0, **usual),
        **{name: parts[name] for name in names},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs(modular: Any, request: GenerationRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents of the pictures and of the sound."""
    seen = [picture(request, one, "2.5") for one in request.inputs]
    given: dict[str, Any] = {"image": seen[0], "image_crf": 0}
    if len(seen) > 1:
        places = zip(seen, request.inputs, strict=True)
        given = {"conditions": [LTX2VideoCondition(one, place.at or 0, 1.0, crf=0) for one, place in places]}
    made = modular(
        prompt=request.prompt, negative_prompt=request.negative_prompt, width=request.width, height=request.height,
        num_frames=request.num_frames, frame_rate=float(request.fps), num_inference_steps=request.num_inference_steps,
        generator=torch.Generator().manual_seed(request.seed), output_type="latent", output=["videos", "audio"],
        **given,
    )  # fmt: skip
    return made["videos"], made["audio"]


@pytest.mark.parametrize("request_", [JOB, replace(JOB, inputs=(*JOB.inputs, LAST))], ids=["first", "first and last"])
def test_pictures_and_sound_are_those_of_the_modular_blocks(model, modular, request_):
    images = {one.at: fit_picture(load_picture(Path(one.path)), JOB.width, JOB.height, JOB.fit)
              for one in request_.inputs}  # fmt: skip
    with torch.no_grad():
        conditioning = encoded(model, request_, Inputs(images))
        *_, latents = Phases(model, HostCard(), request_, Plan(chunk_tokens=33)).denoise(conditioning)
    layout, vae, audio = model.layout(request_), model.vae, model.modules["audio_vae"]
    tokens, sounds = layout.parted(latents)
    pictures = layout.as_pictures(tokens) * vae.latents_std.view(1, -1, 1, 1, 1) + vae.latents_mean.view(1, -1, 1, 1, 1)
    sound = layout.as_sound(sounds * audio.latents_std + audio.latents_mean)
    wanted, wanted_sound = theirs(modular, request_)
    assert (pictures.shape, sound.shape) == (wanted.shape, wanted_sound.shape)
    assert max(relative(pictures, wanted), relative(sound, wanted_sound)) < 1e-5
