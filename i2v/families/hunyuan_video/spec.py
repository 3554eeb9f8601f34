"""HunyuanVideo (Tencent): what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.lora_names import HUNYUAN_VIDEO as LORA_NAMES
from i2v.families.spec import Defaults, FamilySpec, Hints, InputSlot, Licence, Strength, VaeWindows

WEIGHTS = "diffusion_pytorch_model.safetensors"

_CODED_BY = ("decode_frames", "vae_window")
KNOBS = {"encode": _CODED_BY, "denoise": ("chunk_tokens",), "decode": _CODED_BY}
RUNGS = tuple(
    {"chunk_tokens": tokens, "decode_frames": frames}
    for tokens, frames in ((0, 0), (8192, 0), (8192, 8), (4096, 4), (2048, 2), (1024, 2))
)


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """16 channels, an eighth of the size, a quarter of the frames; one more where a picture stands before them."""
    return 16 * (width // 8) * (height // 8) * ((num_frames - 1) // 4 + 2)


SPEC = FamilySpec(
    name="hunyuan_video",
    title="HunyuanVideo",
    class_name="HunyuanVideoPipeline",
    inputs={"t2v": (), "v2v": (InputSlot("video", at=None),)},
    hub_id="hunyuanvideo-community/HunyuanVideo",
    components={
        "tokenizer": ("tokenizer.json",),
        "tokenizer_2": ("vocab.json", "merges.txt"),
        "text_encoder": ("config.json", "model.safetensors"),
        "text_encoder_2": ("config.json", "model.safetensors"),
        "transformer": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
    },
    schedulers=("FlowMatchEulerDiscreteScheduler",),
    own_settings=("flow_shift",),
    scheduler_steps={"flow_euler": (20, 60), "flow_dpmpp_2m": (15, 50), "flow_unipc": (15, 50)},
    # In float16 its activations overflow.
    precisions=("float32", "bfloat16"),
    defaults=Defaults(width=960, height=544, num_frames=129, fps=24, num_inference_steps=50, guidance_scale=6.0),
    size_multiple=16,
    min_size=128,
    max_size=2048,
    frame_step=4,
    frame_offset=1,
    min_frames=1,
    max_frames=257,
    max_prompt_tokens=256,
    hints=Hints(
        min_steps=20, max_steps=60, min_guidance=1.0, max_guidance=12.0, max_frames=129, practised_pixels=480 * 800
    ),
    knobs=KNOBS,
    rungs=RUNGS,
    step_cache=True,
    gguf_components=("transformer",),
    windows=VaeWindows("5x32x32", {"5x24x24": 39.6, "5x16x16": 33.7}),
    latent_numbers=latent_numbers,
    guidance="embedded",
    lora_names=LORA_NAMES,
    download_gib=39.0,
    published={"transformer": "bfloat16"},
    about="family.about_hunyuan_video",
    # It leaves out the EU, the UK and South Korea.
    licence=Licence(
        "Tencent Hunyuan Community", "https://huggingface.co/tencent/HunyuanVideo/blob/main/LICENSE", everywhere=False
    ),
    strength=Strength(40, "family.strength_hunyuan_video"),
)
