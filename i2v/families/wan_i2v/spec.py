"""Wan 2.1 from a picture (Alibaba): what it can do, which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.spec import FROM_AN_IMAGE, Mark, Strength
from i2v.families.wan.spec import FROM_PICTURES, licence_at
from i2v.families.wan.spec import SPEC as FROM_A_SENTENCE

HUB_ID = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"

SPEC = replace(
    FROM_A_SENTENCE,
    name="wan_i2v",
    title="Wan 2.1 I2V",
    class_name="WanImageToVideoPipeline",
    marks=(
        *FROM_A_SENTENCE.marks,
        Mark("model_index.json", "image_encoder"),
        Mark("transformer/config.json", "pos_embed_seq_len", there=False),
    ),
    inputs=FROM_AN_IMAGE,
    hub_id=HUB_ID,  # the one for 1280 x 720 has the same layers
    components={
        **FROM_A_SENTENCE.components,
        "image_encoder": ("config.json", "model.safetensors"),
        "image_processor": ("preprocessor_config.json",),
    },
    min_frames=5,  # one latent frame is the picture's
    knobs=FROM_PICTURES,
    builds_on=("wan",),
    download_gib=85.0,
    published={"transformer": "float32", "image_encoder": "float32"},
    about="family.about_wan_i2v",
    licence=licence_at(HUB_ID),
    strength=Strength(44, "family.strength_wan_14b"),
)
