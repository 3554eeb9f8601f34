"""Small checkpoints, one for videos from sentences and one for those from pictures, and diffusers' pipelines on the
same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from tests.hunyuan_video_15_checkpoints import build_hunyuan_15, pipeline_of


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def from_sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hunyuan_15(tmp_path_factory.mktemp("models") / "t2v", "t2v")


@pytest.fixture(scope="session")
def from_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hunyuan_15(tmp_path_factory.mktemp("models") / "i2v", "i2v")


@pytest.fixture(scope="session")
def sentence_pipeline(from_sentence: Path) -> DiffusionPipeline:
    return pipeline_of(from_sentence)


@pytest.fixture(scope="session")
def picture_pipeline(from_picture: Path) -> DiffusionPipeline:
    return pipeline_of(from_picture)
