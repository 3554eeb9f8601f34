"""One small checkpoint for all tests of Stable Video Diffusion."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.svd_checkpoints import build_svd


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_svd(tmp_path_factory.mktemp("models") / "svd")
