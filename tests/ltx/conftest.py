"""Small checkpoints of all versions, and diffusers' pipelines on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, LTXConditionPipeline, LTXImageToVideoPipeline, LTXPipeline

from tests.ltx_checkpoints import FAMILIES, VAES, build_ltx, pipeline_of


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=VAES)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def family(version: str) -> str:
    return FAMILIES[version]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of each version."""
    return cache(lambda version: build_ltx(tmp_path_factory.mktemp("models") / f"ltx{version}", version))


@pytest.fixture(scope="session")
def checkpoint(folders: Callable[[str], Path], version: str) -> Path:
    return folders(version)


@pytest.fixture(scope="session")
def pipelines(checkpoint: Path, family: str) -> dict[str, DiffusionPipeline]:
    """By task."""
    both = LTXConditionPipeline if family == "ltx_13b" else None
    kinds = {"i2v": both or LTXImageToVideoPipeline, "t2v": both or LTXPipeline}
    return {task: pipeline_of(kind, checkpoint) for task, kind in kinds.items()}
