"""CogVideoX 2B (Zhipu AI): what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.lora_names import COGVIDEOX
from i2v.families.spec import Defaults, FamilySpec, Hints, Licence, Mark, Strength

HUB_ID = "zai-org/CogVideoX-2b"
WEIGHTS = "diffusion_pytorch_model.safetensors"

KNOBS: dict[str, tuple[str, ...]] = {"denoise": ("chunk_tokens",), "decode": ("decode_frames",)}
RUNGS = tuple(
    {"chunk_tokens": tokens, "decode_frames": frames}
    for tokens, frames in ((0, 0), (8192, 3), (4096, 2), (2048, 1), (1024, 1))
)
TURNED = "transformer/config.json", "use_rotary_positional_embeddings"  # of all but this one
IN_PAIRS = "transformer/config.json", "patch_size_t"  # of latent frames: of 1.5 alone


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """16 channels, an eighth of the size, a quarter of the frames."""
    return 16 * (width // 8) * (height // 8) * ((num_frames - 1) // 4 + 1)


SPEC = FamilySpec(
    name="cogvideox",
    title="CogVideoX 2B",
    class_name="CogVideoXPipeline",
    marks=(Mark(*TURNED, there=False),),
    inputs={"t2v": ()},
    hub_id=HUB_ID,
    components={
        "tokenizer": ("spiece.model",),
        "text_encoder": ("config.json", "model.safetensors"),
        "transformer": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
    },
    schedulers=("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"),
    scheduler_steps={"cogvideox_ddim": (25, 80), "cogvideox_dpm": (25, 60)},
    # In float16 the text encoder's activations overflow.
    precisions=("float32", "bfloat16"),
    defaults=Defaults(width=720, height=480, num_frames=49, fps=8, num_inference_steps=50, guidance_scale=6.0),
    size_multiple=16,
    min_size=128,
    max_size=2048,
    # The decoder makes two latent frames at a time, and one more of the first: of an even number it makes more frames.
    frame_step=8,
    frame_offset=1,
    min_frames=9,
    max_frames=161,
    max_prompt_tokens=226,
    hints=Hints(
        min_steps=25, max_steps=80, min_guidance=2.0, max_guidance=10.0, max_frames=49, practised_pixels=480 * 720
    ),
    knobs=KNOBS,
    rungs=RUNGS,
    step_cache=True,
    latent_numbers=latent_numbers,
    lora_names=COGVIDEOX,
    download_gib=12.6,
    published={"text_encoder": "float16", "transformer": "float16", "vae": "float16"},
    about="family.about_cogvideox",
    licence=Licence("Apache 2.0", f"https://huggingface.co/{HUB_ID}"),
    strength=Strength(21, "family.strength_cogvideox"),
)  # fmt: skip
