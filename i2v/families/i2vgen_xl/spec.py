"""I2VGen-XL (ali-vilab): what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.long_clips import SIXTEEN_FRAMES
from i2v.families.lora_names import I2VGEN_XL as LORA_NAMES
from i2v.families.spec import FROM_AN_IMAGE, Defaults, FamilySpec, Hints, Licence, Strength

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Each gives what diffusers' own pipeline gives with it (tests/engine/test_pipeline.py). The others need a package that
# is not here, or the pipeline cannot drive them either.
SCHEDULERS = (
    "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "IPNDMScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LCMScheduler", "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip

SPEC = FamilySpec(
    name="i2vgen_xl",
    title="I2VGen-XL",
    class_name="I2VGenXLPipeline",
    inputs=FROM_AN_IMAGE,
    hub_id="ali-vilab/i2vgen-xl",
    components={
        "tokenizer": ("vocab.json", "merges.txt"),
        "text_encoder": ("config.json", "model.safetensors"),
        "image_encoder": ("config.json", "model.safetensors"),
        "feature_extractor": ("preprocessor_config.json",),
        "unet": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
    },
    schedulers=SCHEDULERS,
    # Its authors sample with DDIM; for the others as many as their own papers take for guided sampling, and more.
    scheduler_steps={
        "ddim": (50, 100),
        "dpmpp_2m": (20, 50),
        "dpmpp_2m_sde": (25, 60),
        "unipc": (15, 50),
        "euler": (50, 100),
    },
    betas=("cosine", "cosine_zero_snr"),
    # The model's own example runs 704x1280; 512x512 is what a 6 GB card does comfortably.
    defaults=Defaults(
        width=512,
        height=512,
        num_frames=16,
        fps=16,
        num_inference_steps=50,
        guidance_scale=9.0,
        negative_prompt="Distorted, discontinuous, Ugly, blurry, low resolution, motionless, static, disfigured",
    ),
    size_multiple=8,
    min_size=64,
    max_size=2048,
    max_frames=1024,
    longer=SIXTEEN_FRAMES,
    # Below 50 steps its authors call the results bad; guidance beyond 15 burns colours.
    hints=Hints(min_steps=50, max_steps=100, min_guidance=5.0, max_guidance=15.0, max_frames=960),
    lora_names=LORA_NAMES,
    download_gib=4.7,
    about="family.about_i2vgen_xl",
    licence=Licence("MIT", "https://huggingface.co/ali-vilab/i2vgen-xl"),
    strength=Strength(20, "family.strength_i2vgen_xl"),
)
