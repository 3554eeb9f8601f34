"""Finished latents on disk, written whole or not at all, before decode begins."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from i2v.messages import UserError
from i2v.request import GenerationRequest


def save_latents(path: Path, latents: Tensor, request: GenerationRequest) -> None:
    """Write `latents` (host) with the request in the header: to a file beside, flushed to disk, then renamed.

    Raises UserError when the disk is full or the folder cannot be written.
    """
    data = save({"latents": latents.contiguous()}, metadata={"request": json.dumps(request.to_json())})
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError("engine.latents_not_saved", path=str(path), reason=error.strerror or str(error)) from error


def load_latents(path: Path) -> Tensor:
    """The latents that `save_latents` wrote, on the host."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("latents")
