"""LTX-Video's decoder in rows is diffusers' own, of every version."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

from i2v.families.ltx.vae import LtxCalls, noises
from i2v.families.ltx2.vae import decoded
from tests.ltx_checkpoints import VAES
from tests.small_networks import redrawn


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("version", VAES)
def test_decoding_is_diffusers_own(version, causal):
    """In double precision but for its norms, so that a single row too few shows; noise is drawn in it too."""
    torch.manual_seed(0)
    vae = redrawn(AutoencoderKLLTXVideo(**{**VAES[version], "decoder_causal": causal})).eval().double()
    vae.requires_grad_(False)
    timestep = torch.tensor([0.3]).double() if vae.config.timestep_conditioning else None
    # Frames enough that the last layer takes them in three parts; one latent frame is a picture. Rows enough for strips
    # that are cut on both sides.
    for frames, height in ((3, 7), (1, 15)):
        latents = torch.randn(1, 16, frames, height, 2).double()
        torch.set_default_dtype(torch.float64)
        try:
            added = noises(vae.decoder, height, 2, torch.Generator().manual_seed(5))
            torch.manual_seed(5)
            wanted = vae.decode(latents, timestep).sample
        finally:
            torch.set_default_dtype(torch.float32)
        for rows in (0, 1, 3):
            found = torch.full_like(wanted, torch.nan)
            for piece in decoded(vae, latents, rows, LtxCalls(vae.decoder, timestep, added)):
                count, high = piece.pixels.shape[2:4]
                place = found[:, :, piece.frame : piece.frame + count, piece.row : piece.row + high]
                assert place.isnan().all()  # none twice
                place.copy_(piece.pixels)
            assert (found - wanted).abs().max() / wanted.abs().max() < 1e-6, (frames, rows)
