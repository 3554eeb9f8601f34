"""CogVideoX without its weights: what the dry run follows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from transformers import T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Block

from i2v.families.cogvideox.model import CogVideoX, latents_of
from i2v.families.cogvideox.places import without_unread
from i2v.families.components import Components
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("text_encoder", "transformer", "vae")
REPEATED = ((T5Block, "forward"),)


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> CogVideoX:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    text, kinds = T5Config(**configs["text_encoder"]), (CogVideoXTransformer3DModel, AutoencoderKLCogVideoX)
    made = {
        name: build(partial(cls.from_config, configs[name]), dtype)
        for name, cls in zip(("transformer", "vae"), kinds, strict=True)
    }
    without_unread(made["transformer"])
    patches = made["transformer"].patch_embed
    if patches.use_learned_positional_embeddings:  # it is made in float64, and loaded as the others
        patches.pos_embedding = patches.pos_embedding.to(dtype)
    return CogVideoX(
        tokenizer=FixedLengthTokenizer(prompt_tokens),
        modules=Components.of(
            {
                "text_encoder": build(lambda: T5EncoderModel._from_config(text, dtype=dtype), dtype),
                **made,
            }
        ),
        **latents_of(configs["transformer"]),
        precision=dtype,
        scheduler=on_host(scheduler),
    )


def scheduler() -> CogVideoXDDIMScheduler:
    """As the published checkpoint of 2B has it; that of the others has another `snr_shift_scale`."""
    return CogVideoXDDIMScheduler(
        prediction_type="v_prediction", clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing",
        snr_shift_scale=3.0,
    )  # fmt: skip
