"""A small checkpoint, and diffusers' blocks on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import MiniMaxH3ModularPipeline

from tests.minimax_h3_checkpoints import build_minimax_h3, pipeline_of


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_minimax_h3(tmp_path_factory.mktemp("models") / "minimax_h3")


@pytest.fixture(scope="session")
def pipeline(checkpoint: Path) -> MiniMaxH3ModularPipeline:
    return pipeline_of(checkpoint)
