"""A small repository, on a hub and on a mirror."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fetch.support import REPO, SIZES, Fetching
from tests.hub_server import Hub, serve_hub


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "hub" / "model"
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(random.Random(name).randbytes(size))
    return folder


@pytest.fixture
def hub(repository: Path) -> Iterator[Hub]:
    with serve_hub({REPO: repository}) as hub:
        yield hub


@pytest.fixture
def mirror(repository: Path) -> Iterator[Hub]:
    with serve_hub({REPO: repository}) as hub:
        yield hub


@pytest.fixture
def fetching(repository: Path, tmp_path: Path) -> Fetching:
    folder = tmp_path / "my models 模型" / "model"
    folder.mkdir(parents=True)
    return Fetching(repository, folder)
