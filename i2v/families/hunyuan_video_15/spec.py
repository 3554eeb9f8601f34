"""HunyuanVideo-1.5 (Tencent), videos from sentences: what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.spec import Defaults, FamilySpec, Hints, Licence, Strength

WEIGHTS = "diffusion_pytorch_model.safetensors"

KNOBS: dict[str, tuple[str, ...]] = {"denoise": ("chunk_tokens",), "decode": ("decode_rows",)}
RUNGS = tuple(
    {"chunk_tokens": tokens, "decode_rows": rows}
    for tokens, rows in ((0, 0), (8192, 16), (4096, 16), (2048, 8), (1024, 8))
)


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """32 channels, a sixteenth of the size, a quarter of the frames."""
    return 32 * (width // 16) * (height // 16) * ((num_frames - 1) // 4 + 1)


SPEC = FamilySpec(
    name="hunyuan_video_15",
    title="HunyuanVideo-1.5",
    class_name="HunyuanVideo15Pipeline",
    inputs={"t2v": ()},
    hub_id="hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",  # the one for 1280 x 720 has the same layers
    components={
        "tokenizer": ("tokenizer.json",),
        "tokenizer_2": ("tokenizer_config.json",),
        "text_encoder": ("config.json", "model.safetensors"),
        "text_encoder_2": ("config.json", "model.safetensors"),
        "transformer": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
        "guider": ("guider_config.json",),
    },
    schedulers=("FlowMatchEulerDiscreteScheduler",),
    own_settings=("flow_shift",),
    scheduler_steps={"flow_euler": (20, 60), "flow_dpmpp_2m": (15, 50), "flow_unipc": (15, 50)},
    # In float16 the text encoder's activations overflow.
    precisions=("float32", "bfloat16"),
    defaults=Defaults(width=848, height=480, num_frames=121, fps=24, num_inference_steps=50, guidance_scale=6.0),
    size_multiple=16,
    min_size=128,
    max_size=2048,
    frame_step=4,
    frame_offset=1,
    min_frames=1,
    max_frames=241,
    max_prompt_tokens=1000,
    hints=Hints(
        min_steps=20, max_steps=60, min_guidance=1.0, max_guidance=12.0, max_frames=121, practised_pixels=480 * 800
    ),
    knobs=KNOBS,
    rungs=RUNGS,
    latent_numbers=latent_numbers,
    builds_on=("hunyuan_video", "wan"),
    download_gib=33.0,
    about="family.about_hunyuan_video_15",
    # It leaves out the EU, the UK and South Korea.
    licence=Licence(
        "Tencent Hunyuan Community",
        "https://huggingface.co/tencent/HunyuanVideo-1.5/blob/main/LICENSE",
        everywhere=False,
    ),
    strength=Strength(46, "family.strength_hunyuan_video_15"),
)
