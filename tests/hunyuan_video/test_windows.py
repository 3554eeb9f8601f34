"""The autoencoder in windows gives what diffusers' own tiled and framewise coding gives, to the bit, and frames come
while it works."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo

from i2v.families.hunyuan_video.vae import decoded, encoded
from tests.checkpoints import redraw_zeros
from tests.hunyuan_checkpoints import small_vae

# Smaller windows than the real ones, in the same proportions, so that small clips have many.
WINDOWS = {
    "tile_sample_min_height": 64, "tile_sample_min_width": 64, "tile_sample_min_num_frames": 16,
    "tile_sample_stride_height": 48, "tile_sample_stride_width": 48, "tile_sample_stride_num_frames": 12,
}  # fmt: skip
# Latent frames, rows, columns: within one window, just more than one, several, and ends of every length.
SIZES = [(1, 4, 4), (1, 20, 9), (4, 8, 8), (5, 9, 8), (6, 8, 15), (7, 7, 7), (8, 14, 20), (9, 6, 25), (10, 17, 4)]


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLHunyuanVideo:
    torch.manual_seed(0)
    vae = small_vae().eval().requires_grad_(False)
    redraw_zeros(vae)
    vae.enable_tiling(**WINDOWS)
    return vae


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def precision(request: pytest.FixtureRequest, vae: AutoencoderKLHunyuanVideo):
    vae.to(request.param)
    yield request.param
    vae.to(torch.float32)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_decoding_is_diffusers_own_to_the_bit(vae, precision, size):
    latents = torch.randn(1, 16, *size).to(precision)
    ours = torch.cat(list(decoded(vae, latents)), dim=2)
    theirs = vae.decode(latents, return_dict=False)[0]
    assert ours.shape == theirs.shape
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_encoding_is_diffusers_own_to_the_bit(vae, precision, size):
    frames, height, width = 4 * size[0] - 3, 8 * size[1], 8 * size[2]
    clip = torch.randint(0, 256, (1, 3, frames, height, width), dtype=torch.uint8)

    pixels = (clip.float() / 255 * 2 - 1).to(precision)
    ours = encoded(vae, (frames, height, width), lambda part: pixels[:, :, *part])
    theirs = vae.encode(pixels).latent_dist.mode()
    assert ours.shape == theirs.shape
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [(1, 4, 4), (5, 9, 8), (7, 14, 10)], ids=str)
def test_some_frames_at_a_time_are_all_at_once(vae, size, frames):
    draws = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, *size, generator=draws)
    ours = torch.cat(list(decoded(vae, latents, frames)), dim=2)
    torch.testing.assert_close(ours, vae.decode(latents, return_dict=False)[0], rtol=1e-4, atol=1e-5)
    pixels = torch.rand(1, 3, 4 * size[0] - 3, 8 * size[1], 8 * size[2], generator=draws) * 2 - 1
    latents = encoded(vae, pixels.shape[2:], lambda part: pixels[:, :, *part], frames)
    torch.testing.assert_close(latents, vae.encode(pixels).latent_dist.mode(), rtol=1e-4, atol=1e-5)
    assert not any("forward" in vars(module) for module in vae.modules())


def test_frames_come_before_the_last_window_is_decoded(vae, monkeypatch):
    calls: list[int] = []
    forward = type(vae.decoder).forward

    def counted(self: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
        calls.append(hidden_states.shape[2])
        return forward(self, hidden_states)

    monkeypatch.setattr(type(vae.decoder), "forward", counted)
    runs = decoded(vae, torch.randn(1, 16, 10, 8, 8))
    assert next(runs).shape[2] == 13
    assert calls == [5]
    assert [run.shape[2] for run in runs] == [12, 12]
    assert calls == [5, 5, 4]  # the fourth window's one frame belongs to the third
