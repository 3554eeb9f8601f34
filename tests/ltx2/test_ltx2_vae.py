"""LTX-2's decoder in rows is diffusers' own, both kinds of it."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLLTX2Video

from i2v.families.ltx2.vae import decoded
from tests.ltx2_checkpoints import VERSIONS
from tests.small_networks import redrawn


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_decoding_is_diffusers_own(version, causal):
    """In double precision, in which a single row too few shows."""
    torch.manual_seed(0)
    config = {**VERSIONS[version]["vae"], "decoder_causal": causal}
    vae = redrawn(AutoencoderKLLTX2Video(**config)).eval().requires_grad_(False).double()
    # Frames enough that the last layer takes them in three parts; one latent frame is a picture. Rows enough for strips
    # that are cut on both sides.
    for frames, height in ((3, 7), (1, 15)):
        latents = torch.randn(1, 16, frames, height, 2).double()
        wanted = vae.decode(latents).sample
        for rows in (0, 1, 3):
            found = torch.full_like(wanted, torch.nan)
            for piece in decoded(vae, latents, rows):
                count, high = piece.pixels.shape[2:4]
                place = found[:, :, piece.frame : piece.frame + count, piece.row : piece.row + high]
                assert place.isnan().all()  # none twice
                place.copy_(piece.pixels)
            assert (found - wanted).abs().max() / wanted.abs().max() < 1e-12, (frames, rows)
