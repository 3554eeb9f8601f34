"""Weights are in memory when loading ends: the kernel's own account of the mapped file is the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from i2v.engine import engine as engine_module
from i2v.engine.engine import Engine
from i2v.memory.read_in import read_in
from i2v.models.entry import ModelEntry
from i2v.plan import Plan

SMAPS = Path("/proc/self/smaps")


def resident_bytes(path: Path) -> int:
    """How much of the mapped `path` is in this process's memory."""
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text(), flags=re.MULTILINE)
    return sum(int(re.search(r"^Rss:\s+(\d+)", one, re.MULTILINE)[1]) * 1024 for one in blocks if str(path) in one)


@pytest.mark.skipif(not SMAPS.is_file(), reason="this system does not tell what of a file is in memory")
def test_what_was_only_mapped_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.rand(4096, 4096)}, path)
    module = nn.Linear(1, 1, bias=False)
    module.weight = nn.Parameter(load_file(path)["weight"], requires_grad=False)
    module.register_buffer("same", module.weight.data.view(-1)[:10])  # of the same storage
    assert resident_bytes(path) < 8 * 2**20
    read_in([module, nn.BatchNorm1d(3)])
    assert resident_bytes(path) >= 64 * 2**20


def test_every_component_is_read_when_a_model_is_loaded(light_checkpoint: Path, monkeypatch) -> None:
    read = []
    monkeypatch.setattr(engine_module, "read_in", lambda modules: read.append(list(modules)))
    entry = ModelEntry("light", "i2vgen_xl", "light", light_checkpoint, None, True, False, 0, None)
    engine = Engine()
    models = [engine._load(entry, Plan()) for _ in range(2)]
    assert read == [list(models[0].modules.values())]  # the second time it was there
