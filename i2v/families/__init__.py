"""The model families, by name. Importing this loads no torch: a family's `model` module is loaded on demand."""

from __future__ import annotations

from i2v.families.cogvideox.spec import SPEC as COGVIDEOX
from i2v.families.cogvideox_5b.spec import SPEC as COGVIDEOX_5B
from i2v.families.cogvideox_5b_i2v.spec import SPEC as COGVIDEOX_5B_I2V
from i2v.families.cogvideox_15.spec import SPEC as COGVIDEOX_15
from i2v.families.cogvideox_15_i2v.spec import SPEC as COGVIDEOX_15_I2V
from i2v.families.framepack.spec import SPEC as FRAMEPACK
from i2v.families.framepack_f1.spec import SPEC as FRAMEPACK_F1
from i2v.families.hunyuan_video.spec import SPEC as HUNYUAN_VIDEO
from i2v.families.hunyuan_video_15.spec import SPEC as HUNYUAN_VIDEO_15
from i2v.families.hunyuan_video_15_distilled.spec import SPEC as HUNYUAN_VIDEO_15_DISTILLED
from i2v.families.hunyuan_video_15_i2v.spec import SPEC as HUNYUAN_VIDEO_15_I2V
from i2v.families.hunyuan_video_i2v.spec import SPEC as HUNYUAN_VIDEO_I2V
from i2v.families.i2vgen_xl.spec import SPEC as I2VGEN_XL
from i2v.families.ltx.spec import SPEC as LTX
from i2v.families.ltx2.spec import SPEC as LTX2
from i2v.families.ltx_13b.spec import SPEC as LTX_13B
from i2v.families.minimax_h3.spec import SPEC as MINIMAX_H3
from i2v.families.nano.spec import SPEC as NANO
from i2v.families.spec import FamilySpec
from i2v.families.svd.spec import SPEC as SVD
from i2v.families.wan.spec import SPEC as WAN
from i2v.families.wan22.spec import SPEC as WAN22
from i2v.families.wan22_5b.spec import SPEC as WAN22_5B
from i2v.families.wan22_i2v.spec import SPEC as WAN22_I2V
from i2v.families.wan_14b.spec import SPEC as WAN_14B
from i2v.families.wan_flf2v.spec import SPEC as WAN_FLF2V
from i2v.families.wan_i2v.spec import SPEC as WAN_I2V

HUNYUAN_15 = (HUNYUAN_VIDEO_15, HUNYUAN_VIDEO_15_I2V, HUNYUAN_VIDEO_15_DISTILLED)
HUNYUAN = (HUNYUAN_VIDEO, HUNYUAN_VIDEO_I2V, *HUNYUAN_15, FRAMEPACK, FRAMEPACK_F1)
WANS = (WAN, WAN_14B, WAN_I2V, WAN_FLF2V, WAN22_5B, WAN22, WAN22_I2V)
COGVIDEOXES = (COGVIDEOX, COGVIDEOX_5B, COGVIDEOX_5B_I2V, COGVIDEOX_15, COGVIDEOX_15_I2V)
SPECS: dict[str, FamilySpec] = {
    spec.name: spec for spec in (NANO, I2VGEN_XL, SVD, *HUNYUAN, *WANS, *COGVIDEOXES, LTX, LTX_13B, LTX2, MINIMAX_H3)
}
