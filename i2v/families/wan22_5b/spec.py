"""The small Wan 2.2 (Alibaba), from a sentence or from a picture: what it can do, which files it needs."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.spec import Hints, InputSlot, Mark, Strength
from i2v.families.wan.spec import FROM_PICTURES, licence_at
from i2v.families.wan.spec import SPEC as WAN_2_1


def latent_numbers(width: int, height: int, num_frames: int) -> int:
    """48 channels, a sixteenth of the size, a quarter of the frames."""
    return 48 * (width // 16) * (height // 16) * ((num_frames - 1) // 4 + 1)


HUB_ID = "Wan-AI/Wan2.2-TI2V-5B-Diffusers"

# A row of its latents is sixteen of pixels, twice as many as elsewhere.
RUNGS = tuple(
    {"chunk_tokens": tokens, "decode_rows": rows}
    for tokens, rows in ((0, 0), (8192, 16), (4096, 8), (2048, 8), (1024, 4))
)

SPEC = replace(
    WAN_2_1,
    name="wan22_5b",
    title="Wan 2.2 TI2V 5B",
    marks=(Mark("model_index.json", "expand_timesteps"),),
    inputs={"t2v": (), "i2v": (InputSlot("image"),)},
    hub_id=HUB_ID,
    defaults=replace(WAN_2_1.defaults, width=1280, height=704, num_frames=121, fps=24),
    size_multiple=32,
    min_frames=5,  # one latent frame may be the picture's
    hints=Hints(
        min_steps=20, max_steps=60, min_guidance=1.0, max_guidance=12.0, max_frames=121, practised_pixels=704 * 1200
    ),
    latent_numbers=latent_numbers,
    knobs=FROM_PICTURES,
    rungs=RUNGS,
    builds_on=("wan", "wan_i2v"),
    download_gib=32.0,
    about="family.about_wan22_5b",
    licence=licence_at(HUB_ID),
    strength=Strength(35, "family.strength_wan22_5b"),
)
