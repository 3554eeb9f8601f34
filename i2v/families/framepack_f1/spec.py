"""FramePack F1 (lllyasviel): as FramePack, and its sections are made from the first to the last."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.framepack.spec import SPEC as FRAMEPACK
from i2v.families.spec import FROM_AN_IMAGE, Licence, Mark

SPEC = replace(
    FRAMEPACK,
    name="framepack_f1",
    title="FramePack F1",
    inputs=FROM_AN_IMAGE,
    # Nothing else tells them apart: where diffusers has read the transformer from.
    marks=(Mark("transformer/config.json", "_name_or_path", pattern=r"F1"),),
    builds_on=("hunyuan_video", "framepack"),
    about="family.about_framepack_f1",
    licence=Licence(
        "Tencent Hunyuan Community",
        "https://huggingface.co/lllyasviel/FramePack_F1_I2V_HY_20250503",
        everywhere=False,
    ),
)
