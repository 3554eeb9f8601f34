"""CogVideoX 1.5 5B (Zhipu AI): larger and longer clips than CogVideoX 5B, at twice its rate."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.cogvideox.spec import IN_PAIRS
from i2v.families.cogvideox.spec import latent_numbers as one_by_one
from i2v.families.cogvideox_5b.spec import SPEC as FIRST
from i2v.families.cogvideox_5b.spec import licence_at
from i2v.families.spec import Defaults, Hints, Mark, Strength

HUB_ID = "zai-org/CogVideoX1.5-5B"


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """Latent frames are denoised in pairs, and there is one more where they are odd."""
    return one_by_one(width, height, num_frames + 4)


SPEC = replace(
    FIRST,
    name="cogvideox_15",
    title="CogVideoX 1.5",
    marks=(Mark(*IN_PAIRS),),
    hub_id=HUB_ID,
    defaults=Defaults(width=1360, height=768, num_frames=81, fps=16, num_inference_steps=50, guidance_scale=6.0),
    hints=Hints(
        min_steps=25, max_steps=80, min_guidance=2.0, max_guidance=10.0, max_frames=161, practised_pixels=768 * 768
    ),
    latent_numbers=latent_numbers,
    builds_on=("cogvideox", "cogvideox_5b"),
    about="family.about_cogvideox_15",
    licence=licence_at(HUB_ID),
    strength=Strength(33, "family.strength_cogvideox_15"),
)  # fmt: skip
