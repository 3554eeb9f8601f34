"""A small checkpoint of text-to-video, and diffusers' pipeline on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoPipeline

from i2v.request import GenerationRequest
from tests.hunyuan_checkpoints import build_hunyuan


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hunyuan(tmp_path_factory.mktemp("models") / "hunyuan")


@pytest.fixture(scope="session")
def pipeline(checkpoint: Path) -> HunyuanVideoPipeline:
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.vae.enable_tiling()
    return pipe


@pytest.fixture
def job() -> GenerationRequest:
    return GenerationRequest(
        model="small",
        task="t2v",
        prompt="the camera zooms in and pans left over a lake with hills at dusk",
        width=128,
        height=160,
        num_frames=9,
        fps=24,
        num_inference_steps=3,
        guidance_scale=6.0,
        seed=7,
    )
