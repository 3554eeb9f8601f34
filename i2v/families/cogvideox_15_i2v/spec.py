"""CogVideoX 1.5 5B I2V (Zhipu AI): CogVideoX 1.5 that begins with a picture, of any size."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.cogvideox_5b.spec import licence_at
from i2v.families.cogvideox_15.spec import SPEC as FROM_A_SENTENCE
from i2v.families.spec import FROM_AN_IMAGE, Strength

HUB_ID = "zai-org/CogVideoX1.5-5B-I2V"

SPEC = replace(
    FROM_A_SENTENCE,
    name="cogvideox_15_i2v",
    title="CogVideoX 1.5 I2V",
    class_name="CogVideoXImageToVideoPipeline",
    inputs=FROM_AN_IMAGE,
    hub_id=HUB_ID,
    builds_on=(*FROM_A_SENTENCE.builds_on, "cogvideox_15"),
    about="family.about_cogvideox_15_i2v",
    licence=licence_at(HUB_ID),
    strength=Strength(34, "family.strength_cogvideox_15"),
)
