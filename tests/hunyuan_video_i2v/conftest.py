"""Small checkpoints of both kinds of image-to-video, diffusers' pipelines on the same weights, and a photograph."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoImageToVideoPipeline

from i2v.request import GenerationRequest, Input
from tests.hunyuan_checkpoints import build_hunyuan_i2v
from tests.photos import photograph

KINDS = ("token_replace", "latent_concat")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of each kind."""
    return cache(lambda kind: build_hunyuan_i2v(tmp_path_factory.mktemp("models") / kind, kind))


@pytest.fixture(scope="session", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, folders: Callable[[str], Path]) -> Path:
    return folders(request.param)


@pytest.fixture(scope="session")
def pipeline(checkpoint: Path) -> HunyuanVideoImageToVideoPipeline:
    pipe = HunyuanVideoImageToVideoPipeline.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.vae.enable_tiling()
    return pipe


@pytest.fixture
def job() -> GenerationRequest:
    return GenerationRequest(
        model="small",
        task="i2v",
        prompt="the camera zooms in and pans left over a lake with hills at dusk",
        width=128,
        height=160,
        num_frames=9,
        fps=24,
        num_inference_steps=3,
        guidance_scale=6.0,
        seed=7,
        inputs=(Input("image", str(photograph())),),
    )
