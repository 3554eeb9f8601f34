"""FramePack (lllyasviel): HunyuanVideo that makes videos of any length section by section; which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.framepack.layout import FRAMES, WINDOW, sections
from i2v.families.hunyuan_video.spec import SPEC as HUNYUAN_VIDEO
from i2v.families.spec import LAST_IMAGE, Defaults, Hints, InputSlot, Licence, PartsFrom, Strength

HUB_ID = "lllyasviel/FramePackI2V_HY"
MOST_SECTIONS = 50
_SEES = ("image_encoder", "feature_extractor")
_ELSEWHERE = (
    PartsFrom(
        "hunyuanvideo-community/HunyuanVideo", tuple(one for one in HUNYUAN_VIDEO.components if one != "transformer")
    ),
    PartsFrom("lllyasviel/flux_redux_bfl", _SEES),
)


def parts(transformer: str) -> tuple[PartsFrom, ...]:
    """Where the folders of a FramePack are, whose transformer is in the repository of that name, and nothing else."""
    return PartsFrom(transformer, ("transformer",), at_top=True), *_ELSEWHERE


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """16 channels, an eighth of the size; the picture's frame and those of the sections."""
    return 16 * (width // 8) * (height // 8) * (1 + WINDOW * sections(num_frames))


SPEC = replace(
    HUNYUAN_VIDEO,
    name="framepack",
    title="FramePack",
    class_name="HunyuanVideoFramepackPipeline",
    inputs={"i2v": (InputSlot("image"), LAST_IMAGE)},
    hub_id=HUB_ID,
    in_parts=parts(HUB_ID),
    components={
        **HUNYUAN_VIDEO.components,
        "image_encoder": ("config.json", "model.safetensors"),
        "feature_extractor": ("preprocessor_config.json",),
    },
    defaults=Defaults(
        width=640, height=640, num_frames=1 + 4 * FRAMES, fps=30, num_inference_steps=25, guidance_scale=10.0
    ),
    sections=sections,
    frame_step=FRAMES,
    min_frames=1 + FRAMES,
    max_frames=1 + MOST_SECTIONS * FRAMES,
    hints=Hints(
        min_steps=15,
        max_steps=50,
        min_guidance=1.0,
        max_guidance=32.0,
        max_frames=1 + MOST_SECTIONS * FRAMES,
        practised_pixels=480 * 480,
    ),
    latent_numbers=latent_numbers,
    builds_on=("hunyuan_video",),
    gguf_components=(),  # diffusers reads its transformer from no single file
    download_gib=39.8,  # HunyuanVideo's, and 0.8 of SigLIP, if that is stored in half precision
    about="family.about_framepack",
    licence=Licence("Tencent Hunyuan Community", f"https://huggingface.co/{HUB_ID}", everywhere=False),
    strength=Strength(39, "family.strength_framepack"),
)
