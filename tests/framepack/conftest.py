"""A small checkpoint of each kind, and diffusers' pipeline on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.framepack_checkpoints import build_framepack

KINDS = ("framepack", "framepack_f1")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By family."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: build_framepack(folder / kind, forward=kind == "framepack_f1") for kind in KINDS}
