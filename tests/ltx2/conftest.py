"""Small checkpoints of both versions, and diffusers' pipelines on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, LTX2ConditionPipeline, LTX2ImageToVideoPipeline, LTX2Pipeline

from tests.ltx2_checkpoints import VERSIONS, build_ltx2, pipeline_of


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of each version."""
    return cache(lambda version: build_ltx2(tmp_path_factory.mktemp("models") / f"ltx{version}", version))


@pytest.fixture(scope="session")
def checkpoint(folders: Callable[[str], Path], version: str) -> Path:
    return folders(version)


@pytest.fixture(scope="session")
def pipelines(checkpoint: Path) -> dict[str, DiffusionPipeline]:
    """By task, and by "last" where the last frame is given too."""
    kinds = {"i2v": LTX2ImageToVideoPipeline, "t2v": LTX2Pipeline, "last": LTX2ConditionPipeline}
    return {task: pipeline_of(kind, checkpoint) for task, kind in kinds.items()}
