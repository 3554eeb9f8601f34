"""LTX-Video 0.9.0 and 0.9.1 (Lightricks), 2 billion parameters: what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.lora_names import LTX
from i2v.families.spec import Defaults, FamilySpec, Hints, InputSlot, Licence, Mark, Strength

HUB_ID = "Lightricks/LTX-Video"
WEIGHTS = "diffusion_pytorch_model.safetensors"

KNOBS: dict[str, tuple[str, ...]] = {"denoise": ("chunk_tokens",), "decode": ("decode_rows",)}
RUNGS = tuple(
    {"chunk_tokens": tokens, "decode_rows": rows}
    for tokens, rows in ((0, 0), (8192, 8), (4096, 4), (2048, 2), (1024, 1))
)
NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"  # its authors' own
SHIFTED = "scheduler/scheduler_config.json", "use_dynamic_shifting"  # of 0.9.0 and 0.9.1 alone


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """128 channels, a thirty-second of the size, an eighth of the frames."""
    return 128 * (width // 32) * (height // 32) * ((num_frames - 1) // 8 + 1)


def licence_at(hub_id: str) -> Licence:
    """All of its weights have the same."""
    return Licence("LTX-Video Open Weights", f"https://huggingface.co/{hub_id}")


SPEC = FamilySpec(
    name="ltx",
    title="LTX-Video",
    class_name="LTXPipeline",
    other_classes=("LTXImageToVideoPipeline",),
    marks=(Mark(*SHIFTED),),
    inputs={"i2v": (InputSlot("image"),), "t2v": ()},
    hub_id=HUB_ID,
    components={
        "tokenizer": ("spiece.model",),
        "text_encoder": ("config.json", "model.safetensors"),
        "transformer": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
    },
    schedulers=("FlowMatchEulerDiscreteScheduler",),
    own_settings=("flow_shift",),
    # In float16 the text encoder's activations overflow.
    precisions=("float32", "bfloat16"),
    defaults=Defaults(
        width=704, height=512, num_frames=121, fps=25, num_inference_steps=50, guidance_scale=3.0,
        negative_prompt=NEGATIVE_PROMPT,
    ),
    size_multiple=32,
    min_size=128,
    max_size=2048,
    frame_step=8,
    frame_offset=1,
    min_frames=9,
    max_frames=257,
    max_prompt_tokens=128,
    hints=Hints(
        min_steps=20, max_steps=60, min_guidance=1.0, max_guidance=8.0, max_frames=257, practised_pixels=512 * 704
    ),
    frames_are_cheap=True,  # one latent stands for eight
    knobs=KNOBS,
    rungs=RUNGS,
    step_cache=True,
    gguf_components=("transformer",),
    latent_numbers=latent_numbers,
    lora_names=LTX,
    builds_on=("ltx2",),
    download_gib=26.5,
    published={"text_encoder": "float32"},
    about="family.about_ltx",
    licence=licence_at(HUB_ID),
    strength=Strength(25, "family.strength_ltx"),
)  # fmt: skip
