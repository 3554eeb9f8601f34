"""HunyuanVideo-1.5's autoencoder in strips of rows against diffusers' own on whole clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo15
from PIL import Image

from i2v.families.hunyuan_video_15.vae import frames_of, of_a_picture
from i2v.memory.card import HostCard
from i2v.memory.chunking import sampled_chunks
from i2v.video.picture import fit_picture, load_picture
from tests.checkpoints import redraw_zeros
from tests.photos import photograph


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLHunyuanVideo15:
    torch.manual_seed(3)
    made = AutoencoderKLHunyuanVideo15(block_out_channels=(8, 8, 16, 32, 64), layers_per_block=1).eval()
    redraw_zeros(made)
    return made.requires_grad_(False)


@pytest.mark.parametrize(("height", "frames", "rows"), [(5, 3, 0), (5, 3, 2), (24, 4, 5), (7, 1, 1)])
def test_frames_are_diffusers_own(vae, monkeypatch, height, frames, rows):
    """Compared before they are rounded to bytes."""
    made = []

    def keep(picture: torch.Tensor) -> torch.Tensor:
        made.append(picture)
        return torch.zeros(*picture.shape[1:], 3, dtype=torch.uint8)

    monkeypatch.setattr("i2v.families.hunyuan_video_15.vae.to_bytes", keep)
    latents = torch.randn(1, 32, frames, height, 3, generator=torch.Generator().manual_seed(4))
    count = len(list(frames_of(HostCard(), vae, latents, rows)))
    wanted = vae.decode(latents).sample[0]
    assert count == wanted.shape[1] == 4 * frames - 3
    strips = [torch.stack(made[begin : begin + count], dim=1) for begin in range(0, len(made), count)]
    found = torch.cat(strips, dim=2) * 2 - 1
    assert (found - wanted).norm() / wanted.norm() < 1e-5


def test_strips_are_put_together_as_the_whole(vae):
    latents = torch.randn(1, 32, 2, 6, 4, generator=torch.Generator().manual_seed(4))
    whole, strips = (torch.stack(list(frames_of(HostCard(), vae, latents, rows))) for rows in (0, 4))
    assert (whole.int() - strips.int()).abs().max() <= 1


@pytest.mark.parametrize("rows", [0, 3])
def test_a_picture_is_encoded_as_by_diffusers(vae, rows):
    picture = fit_picture(load_picture(photograph()), 96, 128, "crop")
    assert isinstance(picture, Image.Image)
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None, :, None]
    wanted = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
    found = of_a_picture(HostCard(), vae, picture, rows)
    assert found.shape == wanted.shape
    assert (found - wanted).norm() / wanted.norm() < 1e-5


def test_a_dry_run_has_every_frame_attend(vae, monkeypatch):
    """Each looks at more frames than the one before, so that three of them do not tell of all."""
    seen, attend = set(), torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        seen.add(key.shape[2])
        return attend(query, key, value)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    with sampled_chunks():
        list(frames_of(HostCard(), vae, torch.zeros(1, 32, 5, 2, 3), 0))
    assert seen == {6 * frames for frames in range(1, 6)}
