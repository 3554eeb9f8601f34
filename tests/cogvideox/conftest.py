"""A small checkpoint of each version."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cogvideox_checkpoints import TRANSFORMERS, build_cogvideox


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=TRANSFORMERS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, family: str) -> Path:
    return build_cogvideox(tmp_path_factory.mktemp("models") / family, family)
