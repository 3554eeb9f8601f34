"""A hub of two models, and settings that know no other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from i2v.families.i2vgen_xl.spec import SPEC
from tests.downloads.support import OTHER, REPO, UNET_FP16
from tests.hub_server import Hub, ask_no_other_hub, serve_hub
from tests.model_folders import make_checkpoint


@pytest.fixture(autouse=True)
def no_other_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_no_other_hub(monkeypatch)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Of each model the UNet is larger than all the rest."""
    one = make_checkpoint(tmp_path / "hub" / "i2vgen-xl", SPEC)
    save_file({"weight": np.ones(200_000, dtype=np.float16)}, one / UNET_FP16)
    other = shutil.copytree(one, tmp_path / "hub" / "other")
    save_file({"weight": np.zeros(200_000, dtype=np.float16)}, other / UNET_FP16)
    with serve_hub({REPO: one, OTHER: other}) as hub:
        yield hub
