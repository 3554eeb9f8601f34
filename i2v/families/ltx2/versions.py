"""Of which networks a checkpoint of LTX-2 is made, by its version, and which checkpoints are of none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

from i2v.families.ltx2.prompts import GEMMAS
from i2v.families.ltx2.stages import UPSAMPLER
from i2v.messages import UserError

SOUND_PRECISION = torch.float32
CONFIGURED = ("text_encoder", "connectors", "transformer", "vae", "audio_vae", "vocoder")
VOCODERS = {"LTX2Vocoder": LTX2Vocoder, "LTX2VocoderWithBWE": LTX2VocoderWithBWE}

Configs = Mapping[str, Mapping[str, Any]]


def networks_of(configs: Configs, precision: torch.dtype) -> dict[str, tuple[type[Any], torch.dtype]]:
    """The classes of its networks beside the text encoder, each with the precision that it computes in."""
    kinds = {
        "connectors": (LTX2TextConnectors, precision),
        "transformer": (LTX2VideoTransformer3DModel, precision),
        "vae": (AutoencoderKLLTX2Video, precision),
        "audio_vae": (AutoencoderKLLTX2Audio, SOUND_PRECISION),
        "vocoder": (VOCODERS[configs["vocoder"]["_class_name"]], SOUND_PRECISION),
    }
    if UPSAMPLER in configs:
        kinds[UPSAMPLER] = (LTX2LatentUpsamplerModel, precision)
    return kinds


def check_version(configs: Configs, folder: str) -> None:
    """Raise UserError for a checkpoint of a version whose steps are others, and for an upsampler of another kind."""
    kind = configs["text_encoder"].get("model_type")
    registers = configs["connectors"].get("video_connector_num_learnable_registers")
    if (
        kind not in GEMMAS
        or not registers
        or configs["vae"].get("timestep_conditioning")
        or any(_listed(configs["vae"].get("decoder_inject_noise", False)))
        or configs["vocoder"].get("_class_name") not in VOCODERS
    ):
        raise UserError("family.ltx2_other_version", folder=folder)
    if UPSAMPLER in configs and not doubles(configs[UPSAMPLER]):
        raise UserError("family.upsampler_other", component=UPSAMPLER, folder=folder)


def doubles(upsampler: Mapping[str, Any]) -> bool:
    """Whether a network with this configuration makes latents twice as high and wide, and nothing else."""
    twice = not upsampler.get("use_rational_resampler", True) or upsampler.get("rational_spatial_scale", 2.0) == 2.0
    return twice and bool(upsampler.get("spatial_upsample", True)) and not upsampler.get("temporal_upsample")


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) else (value,)
