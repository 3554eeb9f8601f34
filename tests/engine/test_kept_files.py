"""What a run writes beside its video: the old file stays until the new one is whole, whatever ends the writing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from i2v.engine import checkpoint as checkpoint_module
from i2v.engine.checkpoint import Identity, save_checkpoint, save_latents
from i2v.engine.encoded import EncodedCache
from i2v.engine.preview import PreviewWriter
from i2v.families import SPECS
from i2v.families.base import Progress, Stage
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest

WHOSE = Identity("request", (), "model", "float32", "program")
REQUEST = GenerationRequest("nano", "rain", 64, 64, 2, 8, 4, 1.0, 7)


def checkpoint(folder: Path, number: int) -> None:
    save_checkpoint(folder, Progress(number, torch.full((1, 4), float(number))), WHOSE)


def latents(folder: Path, number: int) -> None:
    save_latents(folder, Progress(number, torch.full((1, 4), float(number))), WHOSE)


def encoded(folder: Path, number: int) -> None:
    stage = Stage("text", ("text_encoder",), lambda *_: None, ("prompt",))
    EncodedCache(folder, REQUEST, Plan(), WHOSE).put(stage, {"prompt": torch.full((1, 4), float(number))})


def preview(folder: Path, number: int) -> None:
    PreviewWriter(folder, 8).write(torch.full((2, 16, 16, 3), number, dtype=torch.uint8))


@pytest.mark.parametrize("write", [checkpoint, latents, encoded, preview], ids=lambda write: write.__name__)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), RuntimeError()], ids=repr)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_the_old_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, write: Callable[[Path, int], None], error: BaseException, moment: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    def kept() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    write(tmp_path, 1)
    before = kept()
    assert len(before) == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, moment, fail)
        try:
            write(tmp_path, 200)
        except (type(error), UserError):
            pass
        else:
            assert isinstance(error, OSError) or (write is preview and moment == "fsync")
    if write is preview and moment == "fsync":
        assert kept() != before  # one comes after the other: nobody waits for a disk
    else:
        assert kept() == before
    write(tmp_path, 200)
    assert len(kept()) == 1
    assert kept() != before


@pytest.mark.parametrize("family", SPECS)
def test_progress_is_of_all_the_code_that_makes_a_familys_steps(tmp_path, monkeypatch, family):
    """A family's own, that of the families it builds on, and no other's."""

    def digest() -> str:
        checkpoint_module.program_digest.cache_clear()
        return checkpoint_module.program_digest(family)

    shutil.copytree(checkpoint_module._PACKAGE / "families", tmp_path / "families")
    monkeypatch.setattr(checkpoint_module, "_PACKAGE", tmp_path)
    own = {family, *SPECS[family].builds_on}
    for name in SPECS:
        before, path = digest(), tmp_path / "families" / name / "model.py"
        path.write_text(path.read_text(encoding="utf-8") + "\nUNHEARD_OF = 1\n", encoding="utf-8")
        assert (digest() != before) == (name in own), name
    checkpoint_module.program_digest.cache_clear()
