"""FramePack (lllyasviel): HunyuanVideo that makes videos of any length section by section; which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.framepack.layout import FRAMES, WINDOW, sections
from i2v.families.hunyuan_video.spec import SPEC as HUNYUAN_VIDEO
from i2v.families.spec import LAST_IMAGE, Defaults, Hints, InputSlot, Licence, Strength

MOST_SECTIONS = 50


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """16 channels, an eighth of the size; the picture's frame and those of the sections."""
    return 16 * (width // 8) * (height // 8) * (1 + WINDOW * sections(num_frames))


SPEC = replace(
    HUNYUAN_VIDEO,
    name="framepack",
    title="FramePack",
    class_name="HunyuanVideoFramepackPipeline",
    inputs={"i2v": (InputSlot("image"), LAST_IMAGE)},
    hub_id=None,
    in_parts=True,
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
    download_gib=0.0,
    about="family.about_framepack",
    licence=Licence("Tencent Hunyuan Community", "https://huggingface.co/lllyasviel/FramePackI2V_HY", everywhere=False),
    strength=Strength(39, "family.strength_framepack"),
)
