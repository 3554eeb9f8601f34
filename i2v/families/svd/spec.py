"""Stable Video Diffusion (Stability AI): what it is, what it can do, which files it needs."""

from __future__ import annotations

from i2v.families.spec import FROM_AN_IMAGE, Defaults, FamilySpec, Hints, Licence, Strength

WEIGHTS = "diffusion_pytorch_model.safetensors"

SPEC = FamilySpec(
    name="svd",
    title="Stable Video Diffusion",
    class_name="StableVideoDiffusionPipeline",
    inputs=FROM_AN_IMAGE,
    takes_prompt=False,
    hub_id="stabilityai/stable-video-diffusion-img2vid-xt",
    components={
        "image_encoder": ("config.json", "model.safetensors"),
        "feature_extractor": ("preprocessor_config.json",),
        "unet": ("config.json", WEIGHTS),
        "vae": ("config.json", WEIGHTS),
        "scheduler": ("scheduler_config.json",),
    },
    schedulers=("EulerDiscreteScheduler",),
    predictions=("v_prediction",),
    own_settings=("motion_bucket_id", "noise_aug_strength", "min_guidance_scale"),
    # The first version was trained on 14 frames, "XT" on 25; guidance is that of the last frame.
    defaults=Defaults(width=1024, height=576, num_frames=25, fps=7, num_inference_steps=25, guidance_scale=3.0),
    size_multiple=64,
    min_size=64,
    max_size=2048,
    min_frames=2,
    max_frames=64,
    hints=Hints(min_steps=15, max_steps=50, min_guidance=1.5, max_guidance=6.0, max_frames=25),
    download_gib=4.2,
    about="family.about_svd",
    licence=Licence("Stability AI Community", "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt"),
    strength=Strength(22, "family.strength_svd"),
)
