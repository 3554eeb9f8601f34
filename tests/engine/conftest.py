"""Small real checkpoints, and diffusers' own pipeline on the same weights as the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v.families.i2vgen_xl import model as i2vgen_xl
from i2v.request import GenerationRequest, first_image
from tests.checkpoints import Size, build_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Small matrices: threads cost more than they bring, and bytes are the same on every machine.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = Size(channels=(16, 16, 32, 32), groups=4, head_dim=8, vae_channels=(8, 8, 16, 16))
    return build_checkpoint(tmp_path_factory.mktemp("models") / "small", size)


@pytest.fixture(scope="session")
def light_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds of layers and few of each, for what is run many times."""
    size = Size(channels=(16, 32), groups=4, head_dim=8, vae_channels=(8, 8, 8, 16))
    return build_checkpoint(tmp_path_factory.mktemp("models") / "light", size)


@pytest.fixture(scope="session")
def family(checkpoint: Path) -> i2vgen_xl.I2VGenXL:
    return i2vgen_xl.load(checkpoint, torch.float32)


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    from tests.photos import photograph

    return Image.open(photograph()).convert("RGB")


@pytest.fixture(scope="session")
def request_() -> GenerationRequest:
    """72x88 pixels: multiples of 8 that are not multiples of 64, so that the UNet must force its upsampling size."""
    return GenerationRequest(
        model="small",
        prompt="a garden rose sways in the wind",
        negative_prompt="static",
        width=72,
        height=88,
        num_frames=5,
        fps=8,
        num_inference_steps=3,
        guidance_scale=6.0,
        seed=7,
        inputs=first_image("input.png"),
    )
