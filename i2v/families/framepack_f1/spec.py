"""FramePack F1 (lllyasviel): as FramePack, and its sections are made from the first to the last."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.framepack.spec import SPEC as FRAMEPACK
from i2v.families.framepack.spec import parts
from i2v.families.spec import FROM_AN_IMAGE, Licence, Mark

HUB_ID = "lllyasviel/FramePack_F1_I2V_HY_20250503"
_NAMED = "_name_or_path"

SPEC = replace(
    FRAMEPACK,
    name="framepack_f1",
    title="FramePack F1",
    inputs=FROM_AN_IMAGE,
    hub_id=HUB_ID,
    in_parts=parts(HUB_ID),
    # Nothing else tells them apart: where diffusers has read the transformer from; or where this app has.
    marks=(
        Mark("transformer/config.json", _NAMED, pattern=r"F1", or_else=Mark("model_index.json", _NAMED, value=HUB_ID)),
    ),
    builds_on=("hunyuan_video", "framepack"),
    about="family.about_framepack_f1",
    licence=Licence("Tencent Hunyuan Community", f"https://huggingface.co/{HUB_ID}", everywhere=False),
)
