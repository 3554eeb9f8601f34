"""A small checkpoint of text-to-video, and diffusers' pipeline on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline

from i2v.request import GenerationRequest
from tests.wan_checkpoints import JOB, build_wan


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wan(tmp_path_factory.mktemp("models") / "wan")


@pytest.fixture(scope="session")
def pipeline(checkpoint: Path) -> WanPipeline:
    made = WanPipeline.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def job() -> GenerationRequest:
    return JOB
