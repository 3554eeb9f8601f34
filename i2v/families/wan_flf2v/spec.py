"""Wan 2.1 between a first and a last frame (Alibaba): what it can do, which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.spec import InputSlot, Mark, Strength
from i2v.families.wan.spec import licence_at
from i2v.families.wan_i2v.spec import SPEC as FROM_A_PICTURE

HUB_ID = "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers"

SPEC = replace(
    FROM_A_PICTURE,
    name="wan_flf2v",
    title="Wan 2.1 FLF2V",
    marks=(Mark("model_index.json", "image_encoder"), Mark("transformer/config.json", "pos_embed_seq_len")),
    inputs={"i2v": (InputSlot("image"), InputSlot("image", -1))},
    hub_id=HUB_ID,
    defaults=replace(FROM_A_PICTURE.defaults, width=1280, height=720, guidance_scale=5.5),
    builds_on=("wan", "wan_i2v"),
    about="family.about_wan_flf2v",
    licence=licence_at(HUB_ID),
    strength=Strength(41, "family.strength_wan_14b"),
)
