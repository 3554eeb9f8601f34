"""nano, the small model that ships with the app: diffusion over motion fields, the photograph warped."""

from __future__ import annotations

from i2v.families.lora_names import NANO as LORA_NAMES
from i2v.families.spec import FROM_AN_IMAGE, Defaults, FamilySpec, Hints, Licence, Strength

SPEC = FamilySpec(
    name="nano",
    title="Nano",
    class_name="NanoPipeline",
    inputs=FROM_AN_IMAGE,
    hub_id=None,
    components={
        "tokenizer": ("tokenizer.json",),
        "text_encoder": ("config.json", "model.safetensors"),
        "reader": ("model.safetensors",),
        "finder": ("model.safetensors",),
        "unet": ("config.json", "diffusion_pytorch_model.safetensors"),
        "scheduler": ("scheduler_config.json",),
    },
    scheduler_steps={
        "ddim": (10, 50),
        "dpmpp_2m": (10, 50),
        "dpmpp_2m_sde": (10, 50),
        "unipc": (10, 50),
        "euler": (10, 50),
    },
    # Guidance from the evaluation: without any, camera motions come out in the sizes taught, in half the time.
    defaults=Defaults(
        width=512, height=512, num_frames=96, fps=24, num_inference_steps=25, guidance_scale=1.0, negative_prompt=""
    ),
    size_multiple=8,
    min_size=64,
    max_size=4096,
    max_frames=720,
    max_prompt_tokens=48,
    about="family.about_nano",
    frames_are_cheap=True,
    lora_names=LORA_NAMES,
    takes_region=True,
    tells=True,
    latent_numbers=lambda width, height, num_frames: 7 * 2 * 1280,
    # About 1,024 cells for every shape, in multiples of four: a wide one can have a fifth fewer than a small square.
    bound_slack=1.25,
    # More guidance than 3 overshoots.
    hints=Hints(min_steps=10, max_steps=50, min_guidance=1.0, max_guidance=3.0, max_frames=720),
    licence=Licence("MIT"),
    strength=Strength(10, "family.strength_nano"),
)
