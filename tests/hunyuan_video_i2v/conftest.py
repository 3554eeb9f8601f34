"""Small checkpoints of both kinds of image-to-video, diffusers' pipelines on the same weights, and a photograph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoImageToVideoPipeline

from i2v.request import GenerationRequest, Input
from tests.hunyuan_checkpoints import build_hunyuan_i2v
from tests.hunyuan_runs import JOB, pipeline_of
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
    return pipeline_of(HunyuanVideoImageToVideoPipeline, checkpoint)


@pytest.fixture
def job() -> GenerationRequest:
    return replace(JOB, task="i2v", inputs=(Input("image", str(photograph())),))
