"""HunyuanVideo I2V (Tencent): HunyuanVideo that begins with a picture; what it can do, which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.hunyuan_video.spec import SPEC as FROM_A_SENTENCE
from i2v.families.spec import FROM_AN_IMAGE, Defaults, Licence

SPEC = replace(
    FROM_A_SENTENCE,
    name="hunyuan_video_i2v",
    title="HunyuanVideo I2V",
    class_name="HunyuanVideoImageToVideoPipeline",
    inputs=FROM_AN_IMAGE,
    # Its transformer is of the kind "token_replace". "...-I2V-33ch", older and "latent_concat", works as well.
    hub_id="hunyuanvideo-community/HunyuanVideo-I2V",
    components={**FROM_A_SENTENCE.components, "image_processor": ("preprocessor_config.json",)},
    defaults=Defaults(width=1280, height=720, num_frames=129, fps=24, num_inference_steps=50, guidance_scale=6.0),
    min_frames=5,  # one latent frame is the picture itself
    builds_on=("hunyuan_video",),
    download_gib=43.0,
    about="family.about_hunyuan_video_i2v",
    licence=Licence("Tencent Hunyuan Community", "https://huggingface.co/tencent/HunyuanVideo-I2V", everywhere=False),
)
