"""CogVideoX 5B I2V (Zhipu AI): CogVideoX 5B that begins with a picture. It has learned where its tokens stand, and so
makes one size and one length alone."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.cogvideox.spec import IN_PAIRS
from i2v.families.cogvideox_5b.spec import SPEC as FROM_A_SENTENCE
from i2v.families.cogvideox_5b.spec import licence_at
from i2v.families.spec import FROM_AN_IMAGE, Mark, Strength

HUB_ID = "zai-org/CogVideoX-5b-I2V"

SPEC = replace(
    FROM_A_SENTENCE,
    name="cogvideox_5b_i2v",
    title="CogVideoX 5B I2V",
    class_name="CogVideoXImageToVideoPipeline",
    marks=(Mark(*IN_PAIRS, there=False),),
    inputs=FROM_AN_IMAGE,
    hub_id=HUB_ID,
    only_size=(720, 480),
    min_frames=49,
    max_frames=49,
    builds_on=("cogvideox", "cogvideox_5b"),
    about="family.about_cogvideox_5b_i2v",
    licence=licence_at(HUB_ID),
    strength=Strength(29, "family.strength_cogvideox_5b"),
)
