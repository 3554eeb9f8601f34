"""HunyuanVideo-1.5 I2V (Tencent), distilled to few steps without guidance; what it can do, which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.hunyuan_video_15_i2v.spec import SPEC as IN_MANY_STEPS
from i2v.families.spec import Hints, Mark, Strength

SPEC = replace(
    IN_MANY_STEPS,
    name="hunyuan_video_15_distilled",
    title="HunyuanVideo-1.5 I2V, few steps",
    marks=(Mark("transformer/config.json", "use_meanflow"),),
    hub_id="hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_i2v_step_distilled",
    scheduler_steps={},
    defaults=replace(IN_MANY_STEPS.defaults, num_inference_steps=12, guidance_scale=1.0),
    hints=Hints(
        min_steps=8, max_steps=16, min_guidance=1.0, max_guidance=1.0, max_frames=121, practised_pixels=480 * 800
    ),
    builds_on=("hunyuan_video_15_i2v", *IN_MANY_STEPS.builds_on),
    about="family.about_hunyuan_video_15_distilled",
    strength=Strength(45, "family.strength_hunyuan_video_15_distilled"),
)
