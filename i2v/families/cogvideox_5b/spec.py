"""CogVideoX 5B (Zhipu AI): as 2B, with more and wider layers, whose tokens are turned by their places."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.cogvideox.spec import IN_PAIRS, TURNED
from i2v.families.cogvideox.spec import SPEC as SMALL
from i2v.families.spec import Licence, Mark, Strength

HUB_ID = "zai-org/CogVideoX-5b"
LICENCE = "CogVideoX"


def licence_at(hub_id: str) -> Licence:
    """All but the 2B have the same."""
    return Licence(LICENCE, f"https://huggingface.co/{hub_id}")


SPEC = replace(
    SMALL,
    name="cogvideox_5b",
    title="CogVideoX 5B",
    marks=(Mark(*TURNED), Mark(*IN_PAIRS, there=False)),
    hub_id=HUB_ID,
    builds_on=("cogvideox",),
    download_gib=19.7,
    published=dict.fromkeys(("text_encoder", "transformer", "vae"), "bfloat16"),
    about="family.about_cogvideox_5b",
    licence=licence_at(HUB_ID),
    strength=Strength(28, "family.strength_cogvideox_5b"),
)
