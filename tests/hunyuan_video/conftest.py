"""A small checkpoint of text-to-video, and diffusers' pipeline on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoPipeline

from i2v.request import GenerationRequest
from tests.hunyuan_checkpoints import build_hunyuan
from tests.hunyuan_runs import JOB, pipeline_of


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hunyuan(tmp_path_factory.mktemp("models") / "hunyuan")


@pytest.fixture(scope="session")
def pipeline(checkpoint: Path) -> HunyuanVideoPipeline:
    return pipeline_of(HunyuanVideoPipeline, checkpoint)


@pytest.fixture
def job() -> GenerationRequest:
    return JOB
