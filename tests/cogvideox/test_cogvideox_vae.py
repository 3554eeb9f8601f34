"""CogVideoX's decoder a few frames at a time is diffusers' own."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from i2v.families.cogvideox.vae import decoded
from i2v.memory.card import HostCard
from tests.cogvideox_checkpoints import VAE
from tests.small_networks import redrawn


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLCogVideoX:
    """In double precision but for the statistics of its norms, so that a frame too few shows."""
    torch.manual_seed(0)
    return redrawn(AutoencoderKLCogVideoX(**{**VAE, "layers_per_block": 2})).eval().double().requires_grad_(False)


@pytest.mark.parametrize("frames", [5, 6])
def test_decoding_is_diffusers_own(vae, frames):
    """Batches of two and of three, and what they remember of each other; rows in strips, the last of them shorter."""
    latents = torch.randn(1, 4, frames, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    wanted = vae.decode(latents).sample
    for at_once in (0, 1, 2):
        found = torch.cat(list(decoded(HostCard(), vae, latents, at_once)), dim=2)
        assert (found - wanted).abs().max() / wanted.abs().max() < 1e-6, at_once


def test_frames_enlarged_by_the_last_layer_are_never_all_in_memory(vae):
    """It is run anew for as many as are looked at."""
    seen = []
    last = vae.decoder.up_blocks[2].upsamplers[0].conv
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[0]))
    list(decoded(HostCard(), vae, torch.zeros(1, 4, 3, 2, 2, dtype=torch.float64), 2))
    hook.remove()
    assert max(seen) == 2
