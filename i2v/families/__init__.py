"""The model families, by name. Importing this loads no torch: a family's `model` module is loaded on demand."""

from __future__ import annotations

from i2v.families.hunyuan_video.spec import SPEC as HUNYUAN_VIDEO
from i2v.families.hunyuan_video_i2v.spec import SPEC as HUNYUAN_VIDEO_I2V
from i2v.families.i2vgen_xl.spec import SPEC as I2VGEN_XL
from i2v.families.nano.spec import SPEC as NANO
from i2v.families.spec import FamilySpec

SPECS: dict[str, FamilySpec] = {spec.name: spec for spec in (NANO, I2VGEN_XL, HUNYUAN_VIDEO, HUNYUAN_VIDEO_I2V)}
