"""Small models of every family, made once: their networks have all kinds of layers, and few of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel

from tests.checkpoints import Size, build_checkpoint
from tests.planning.support import NANO

I2VGEN_XL = Size(channels=(64, 128), groups=16, head_dim=32, text_dim=64, vae_channels=(32, 64, 64))


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoint folders by family."""
    models = tmp_path_factory.mktemp("models")
    return {"nano": small_nano(models / "nano"), "i2vgen_xl": build_checkpoint(models / "i2vgen_xl", I2VGEN_XL)}


def small_nano(folder: Path) -> Path:
    """The bundled model with an untrained UNet of two levels in place of three."""
    shutil.copytree(NANO, folder, ignore=shutil.ignore_patterns("unet"))
    config = json.loads((NANO / "unet/config.json").read_text(encoding="utf-8"))
    levels = {
        "block_out_channels": (32, 48),
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    }
    torch.manual_seed(0)
    UNet3DConditionModel.from_config({**config, **levels}).save_pretrained(folder / "unet")
    return folder
