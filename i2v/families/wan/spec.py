"""Wan 2.1 (Alibaba), videos from sentences and from videos: what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.lora_names import WAN as LORA_NAMES
from i2v.families.spec import Defaults, FamilySpec, FewSteps, Hints, InputSlot, Licence, Mark, Strength

HUB_ID = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
WEIGHTS = "diffusion_pytorch_model.safetensors"

KNOBS: dict[str, tuple[str, ...]] = {"denoise": ("chunk_tokens",), "decode": ("decode_rows",)}
FROM_PICTURES = {"encode": ("decode_rows",), **KNOBS}
"""Of those that also encode a clip."""
RUNGS = tuple(
    {"chunk_tokens": tokens, "decode_rows": rows}
    for tokens, rows in ((0, 0), (8192, 32), (4096, 16), (2048, 16), (1024, 8))
)

# Its authors' own, in English.
NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """16 channels, an eighth of the size, a quarter of the frames."""
    return 16 * (width // 8) * (height // 8) * ((num_frames - 1) // 4 + 1)


def licence_at(hub_id: str) -> Licence:
    """All of Wan's weights have the same."""
    return Licence("Apache 2.0", f"https://huggingface.co/{hub_id}")


# Distilled after the loop of `WanPipeline` with four steps at 1, 3/4, 1/2 and 1/4 of its schedule, and guidance 1.
FEW_STEPS = FewSteps(
    r"lightx2v|causvid|self.?forcing|accvid|fastwan|lightning|distill|[48].?step", 4, 1.0,
    "https://huggingface.co/lightx2v", {r"lightx2v|self.?forcing|lightning": 5.0},
)  # fmt: skip

SPEC = FamilySpec(
    name="wan",
    title="Wan 2.1",
    class_name="WanPipeline",
    marks=(  # Wan 2.2 has one or the other
        Mark("model_index.json", "boundary_ratio", there=False),
        Mark("model_index.json", "expand_timesteps", there=False),
    ),
    inputs={"t2v": (), "v2v": (InputSlot("video", at=None),)},
    hub_id=HUB_ID,
    components={
        "tokenizer": ("tokenizer.json",),
        "text_encoder": ("config.json", "model.safetensors"),
        "transformer": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
    },
    schedulers=("UniPCMultistepScheduler",),
    own_settings=("flow_shift",),
    scheduler_steps={"flow_unipc": (20, 60), "flow_euler": (25, 60), "flow_dpmpp_2m": (20, 60)},
    predictions=("flow_prediction",),
    # In float16 the text encoder's activations overflow.
    precisions=("float32", "bfloat16"),
    defaults=Defaults(
        width=832, height=480, num_frames=81, fps=16, num_inference_steps=50, guidance_scale=5.0,
        negative_prompt=NEGATIVE_PROMPT,
    ),
    size_multiple=16,
    min_size=128,
    max_size=2048,
    frame_step=4,
    frame_offset=1,
    min_frames=1,
    max_frames=257,
    max_prompt_tokens=512,
    hints=Hints(
        min_steps=20, max_steps=60, min_guidance=1.0, max_guidance=12.0, max_frames=81, practised_pixels=480 * 800
    ),
    knobs=FROM_PICTURES,
    rungs=RUNGS,
    step_cache=True,
    gguf_components=("transformer",),
    latent_numbers=latent_numbers,
    steps_until_alike=3,  # its scheduler looks at two steps before
    lora_names=LORA_NAMES,
    few_steps=FEW_STEPS,
    download_gib=27.0,
    published={"transformer": "float32"},
    about="family.about_wan",
    licence=licence_at(HUB_ID),
    strength=Strength(30, "family.strength_wan"),
)  # fmt: skip
