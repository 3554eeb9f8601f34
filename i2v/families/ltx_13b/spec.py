"""LTX-Video 0.9.5 and later (Lightricks), 13 billion parameters, and the 2 of 0.9.5: what it is, what it can do, which
files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.ltx.spec import SHIFTED, licence_at
from i2v.families.ltx.spec import SPEC as SMALL
from i2v.families.spec import Hints, InputSlot, Mark, Strength

HUB_ID = "Lightricks/LTX-Video-0.9.7-dev"

SPEC = replace(
    SMALL,
    name="ltx_13b",
    title="LTX-Video 13B",
    class_name="LTXConditionPipeline",
    other_classes=("LTXPipeline", "LTXImageToVideoPipeline"),  # 0.9.5 was published under the first
    marks=(Mark(*SHIFTED, there=False),),
    inputs={"i2v": (InputSlot("image"), InputSlot("image", at=-1, needed=False)), "t2v": ()},
    hub_id=HUB_ID,
    defaults=replace(SMALL.defaults, width=1216, height=704, fps=24, num_inference_steps=30, guidance_scale=5.0),
    own_settings=(),  # its schedule is no even one that is shifted
    max_prompt_tokens=256,
    hints=Hints(
        min_steps=8, max_steps=60, min_guidance=1.0, max_guidance=10.0, max_frames=257, practised_pixels=512 * 704
    ),
    frames_are_cheap=False,  # of so large a network each costs a while
    builds_on=("ltx", "ltx2"),
    download_gib=44.4,
    published={"text_encoder": "float32", "transformer": "bfloat16"},
    about="family.about_ltx_13b",
    licence=licence_at(HUB_ID),
    strength=Strength(42, "family.strength_ltx_13b"),
)
