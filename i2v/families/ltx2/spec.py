"""LTX-2 and LTX-2.3 (Lightricks), videos with sound: what they are, what they can do, which files they need."""

from __future__ import annotations

from i2v.families.lora_names import LTX2
from i2v.families.ltx2.stages import DISTILLED_STEPS, MORE_STEPS, UPSAMPLER, steps_of_stages
from i2v.families.spec import (
    IMAGES_BETWEEN,
    LAST_IMAGE,
    Defaults,
    FamilySpec,
    Hints,
    InputSlot,
    Licence,
    Strength,
    TwoStages,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"

KNOBS: dict[str, tuple[str, ...]] = {"denoise": ("chunk_tokens",), "decode": ("decode_rows",)}
RUNGS = tuple(
    {"chunk_tokens": tokens, "decode_rows": rows}
    for tokens, rows in ((0, 0), (8192, 8), (4096, 4), (2048, 2), (1024, 1))
)

# Its authors' own.
NEGATIVE_PROMPT = (
    "blurry, out of focus, overexposed, underexposed, low contrast, washed out colors, excessive noise, grainy "
    "texture, poor lighting, flickering, motion blur, distorted proportions, unnatural skin tones, deformed "
    "facial features, asymmetrical face, missing facial features, extra limbs, disfigured hands, wrong hand "
    "count, artifacts around text, inconsistent perspective, camera shake, incorrect depth of field, background "
    "too sharp, background clutter, distracting reflections, harsh shadows, inconsistent lighting direction, "
    "color banding, cartoonish rendering, 3D CGI look, unrealistic materials, uncanny valley effect, incorrect "
    "ethnicity, wrong gender, exaggerated expressions, wrong gaze direction, mismatched lip sync, silent or muted"
    " audio, distorted voice, robotic voice, echo, background noise, off-sync audio, incorrect dialogue, added "
    "dialogue, repetitive speech, jittery movement, awkward pauses, incorrect timing, unnatural transitions, "
    "inconsistent framing, tilted camera, flat lighting, inconsistent tone, cinematic oversaturation, stylized "
    "filters, or AI artifacts."
)


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """Of the pictures 128 channels, a thirty-second of the size, an eighth of the frames; of the sound 128 for each of
    25 moments of a second, of which every frame has at most one."""
    return 128 * ((width // 32) * (height // 32) * ((num_frames - 1) // 8 + 1) + 25 * num_frames)


SPEC = FamilySpec(
    name="ltx2",
    title="LTX-2.3",
    class_name="LTX2Pipeline",
    inputs={"i2v": (InputSlot("image"), IMAGES_BETWEEN, LAST_IMAGE), "t2v": ()},
    hub_id="diffusers/LTX-2.3-Diffusers",
    components={
        "tokenizer": ("tokenizer.json",),
        "text_encoder": ("config.json", "model.safetensors"),
        "connectors": ("config.json", WEIGHTS),
        "transformer": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "audio_vae": ("config.json", WEIGHTS),
        "vocoder": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
    },
    schedulers=("FlowMatchEulerDiscreteScheduler",),
    own_settings=("flow_shift",),
    # In float16 the text encoder's activations overflow.
    precisions=("float32", "bfloat16"),
    defaults=Defaults(
        width=1280, height=768, num_frames=121, fps=24, num_inference_steps=30, guidance_scale=3.0,
        negative_prompt=NEGATIVE_PROMPT,
    ),
    size_multiple=32,
    min_size=128,
    max_size=3840,
    frame_step=8,
    frame_offset=1,
    min_frames=9,
    max_frames=257,
    max_prompt_tokens=1024,
    hints=Hints(
        min_steps=8, max_steps=60, min_guidance=1.0, max_guidance=8.0, max_frames=257, practised_pixels=512 * 704
    ),
    knobs=KNOBS,
    rungs=RUNGS,
    latent_numbers=latent_numbers,
    two_stages=TwoStages(UPSAMPLER, ("config.json", WEIGHTS), MORE_STEPS, DISTILLED_STEPS),
    denoise_steps=steps_of_stages,
    download_gib=101.0,
    published={"text_encoder": "float32", "transformer": "bfloat16", "connectors": "float32"},
    audio_rate=48000,
    lora_names=LTX2,
    about="family.about_ltx2",
    licence=Licence("LTX-2 Community", "https://huggingface.co/Lightricks/LTX-2.3/blob/main/LICENSE"),
    strength=Strength(50, "family.strength_ltx2"),
)  # fmt: skip
