"""Checkpoint folders in the layout of any family, with weights of a few bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from i2v.families.spec import FamilySpec

TENSORS = {"weight": np.arange(6, dtype=np.float16).reshape(2, 3), "bias": np.zeros(2, dtype=np.float16)}


def make_checkpoint(folder: Path, spec: FamilySpec) -> Path:
    """`folder` with every file that `spec` asks for."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": spec.class_name}))
    for component, names in spec.components.items():
        (folder / component).mkdir()
        for name in names:
            file = folder / component / name
            if name.endswith(".safetensors"):
                save_file(TENSORS, file)
            elif component == "scheduler":
                file.write_text(json.dumps({"_class_name": spec.schedulers[0], "prediction_type": spec.predictions[0]}))
            else:
                file.write_text("{}" if name.endswith(".json") else "#version: 0.2\n")
    return folder


def empty_hub_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub's own library, which is empty, in `folder`."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    return folder / "hub"
