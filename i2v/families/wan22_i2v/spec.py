"""Wan 2.2 from pictures (Alibaba) by two experts of 14 billion parameters: what it can do, which files it needs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from i2v.families.spec import InputSlot, Strength
from i2v.families.wan.spec import FROM_PICTURES, licence_at
from i2v.families.wan22.spec import FLOW_SHIFT, steps_of_experts
from i2v.families.wan22.spec import SPEC as FROM_A_SENTENCE

BOUNDARY = 0.9  # as published

HUB_ID = "Wan-AI/Wan2.2-I2V-A14B-Diffusers"

SPEC = replace(
    FROM_A_SENTENCE,
    name="wan22_i2v",
    title="Wan 2.2 I2V A14B",
    class_name="WanImageToVideoPipeline",
    inputs={"i2v": (InputSlot("image"), InputSlot("image", -1, needed=False))},
    hub_id=HUB_ID,
    defaults=replace(FROM_A_SENTENCE.defaults, guidance_scale=3.5),
    min_frames=5,  # one latent frame is the picture's
    denoise_steps=partial(steps_of_experts, BOUNDARY, FLOW_SHIFT),
    knobs=FROM_PICTURES,
    builds_on=("wan", "wan_i2v", "wan22"),
    about="family.about_wan22_i2v",
    licence=licence_at(HUB_ID),
    strength=Strength(48, "family.strength_wan22"),
)
