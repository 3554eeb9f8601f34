"""The large Wan 2.1 (Alibaba) for videos from sentences: as the small one, with more and wider layers."""

from __future__ import annotations

from dataclasses import replace

from i2v.families.spec import Mark, Strength
from i2v.families.wan.spec import SPEC as SMALL
from i2v.families.wan.spec import licence_at

HUB_ID = "Wan-AI/Wan2.1-T2V-14B-Diffusers"

SPEC = replace(
    SMALL,
    name="wan_14b",
    title="Wan 2.1 14B",
    marks=(*SMALL.marks, Mark("transformer/config.json", "num_layers", value=40)),
    hub_id=HUB_ID,
    builds_on=("wan",),
    download_gib=75.0,
    about="family.about_wan_14b",
    licence=licence_at(HUB_ID),
    strength=Strength(44, "family.strength_wan_14b"),
)
