"""MiniMax-H3 (MiniMax), videos with sound: what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.lora_names import MINIMAX_H3
from i2v.families.spec import LAST_IMAGE, Defaults, FamilySpec, FewSteps, Hints, InputSlot, Licence, Strength

WEIGHTS = "diffusion_pytorch_model.safetensors"
FPS = 24
SOUNDS_PER_SECOND = 40  # latents of the sound
SPACE_SCALE = 16  # pixels of a side that a latent stands for
CLIP_FRAMES, CLIP_LATENTS = 17, 5  # so many frames are so many latent frames, and 5 more are 2

KNOBS: dict[str, tuple[str, ...]] = {"denoise": ("chunk_tokens",)}
RUNGS = tuple({"chunk_tokens": tokens} for tokens in (0, 8192, 4096, 2048, 1024))


def latent_frames(num_frames: int) -> int:
    """Of a clip of 17 n + 5 frames."""
    return (num_frames - CLIP_LATENTS) // CLIP_FRAMES * CLIP_LATENTS + 2


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """Of the frames, and of the pictures that they begin and end with, 24 channels of a sixteenth of the size; of the
    sound two channels of 32 numbers for each of 40 moments of a second."""
    pictures = (latent_frames(num_frames) + 2) * (width // SPACE_SCALE) * (height // SPACE_SCALE)
    return 24 * pictures + 2 * 32 * round(num_frames / FPS * SOUNDS_PER_SECOND)


# Distilled over the schedule that the checkpoint comes with; those for larger pictures learned one that leans less.
FEW_STEPS = FewSteps(
    r"turbo|hyperflow|distill|[48].?step", 8, 1.0, "https://huggingface.co/lightx2v/Minimax-h3-Turbo", {r"768": 6.0},
)  # fmt: skip

SPEC = FamilySpec(
    name="minimax_h3",
    title="MiniMax-H3",
    class_name="MiniMaxH3ModularPipeline",
    inputs={"i2v": (InputSlot("image"), LAST_IMAGE), "t2v": ()},
    hub_id="MiniMaxAI/MiniMax-H3",
    components={
        "tokenizer": ("tokenizer.json",),
        "processor": ("processor_config.json",),
        "text_encoder": ("config.json", "model.safetensors"),
        "transformer": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "audio_vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
        "audio_scheduler": ("scheduler_config.json",),
    },
    schedulers=("MiniMaxH3Scheduler",),
    own_settings=("flow_shift",),
    # In float16 the text encoder's activations overflow.
    precisions=("float32", "bfloat16"),
    defaults=Defaults(width=864, height=480, num_frames=124, fps=FPS, num_inference_steps=24, guidance_scale=1.0),
    size_multiple=32,
    min_size=64,
    max_size=2048,
    frame_step=CLIP_FRAMES,
    frame_offset=CLIP_LATENTS,
    min_frames=124,
    max_frames=345,
    max_prompt_tokens=1024,
    hints=Hints(
        min_steps=8, max_steps=60, min_guidance=1.0, max_guidance=1.0, max_frames=345, practised_pixels=544 * 960
    ),
    knobs=KNOBS,
    rungs=RUNGS,
    latent_numbers=latent_numbers,
    download_gib=134.1,
    published={"text_encoder": "bfloat16", "transformer": "bfloat16", "vae": "float32", "audio_vae": "float32"},
    guidance="none",
    only_fps=FPS,
    audio_rate=32000,
    lora_names=MINIMAX_H3,
    few_steps=FEW_STEPS,
    about="family.about_minimax_h3",
    licence=Licence(
        "MiniMax H3 Community", "https://huggingface.co/MiniMaxAI/MiniMax-H3/blob/main/LICENSE", everywhere=False
    ),
    strength=Strength(60, "family.strength_minimax_h3"),
)  # fmt: skip
