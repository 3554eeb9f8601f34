"""HunyuanVideo-1.5 I2V (Tencent): HunyuanVideo-1.5 that begins with a picture; what it can do, which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.hunyuan_video_15.spec import KNOBS
from i2v.families.hunyuan_video_15.spec import SPEC as FROM_A_SENTENCE
from i2v.families.spec import FROM_AN_IMAGE, Mark

SPEC = replace(
    FROM_A_SENTENCE,
    name="hunyuan_video_15_i2v",
    title="HunyuanVideo-1.5 I2V",
    class_name="HunyuanVideo15ImageToVideoPipeline",
    marks=(Mark("transformer/config.json", "use_meanflow", there=False),),
    inputs=FROM_AN_IMAGE,
    hub_id="hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_i2v",  # that for 1280 x 720 has the same layers
    components={
        **FROM_A_SENTENCE.components,
        "image_encoder": ("config.json", "model.safetensors"),
        "feature_extractor": ("preprocessor_config.json",),
    },
    min_frames=5,  # one latent frame is the picture's
    knobs={"encode": ("decode_rows",), **KNOBS},
    builds_on=("hunyuan_video_15", *FROM_A_SENTENCE.builds_on),
    download_gib=34.0,
    about="family.about_hunyuan_video_15_i2v",
)
