"""Wan 2.2 (Alibaba), videos from sentences by two experts of 14 billion parameters: what it can do, which files it
needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from i2v.families.spec import Mark, Strength
from i2v.families.wan.spec import KNOBS, licence_at
from i2v.families.wan.spec import SPEC as WAN_2_1

TRAINED_STEPS = 1000  # of the whole schedule
EXPERTS = (Mark("model_index.json", "boundary_ratio"),)


def steps_of_experts(boundary: float, flow_shift: float, steps: int) -> Mapping[str, int]:
    """Of so many steps of the published scheduler, those with noise of at least `boundary`, and the others."""
    high = 0
    for step in range(steps):
        even = 1 - (1 - 1 / TRAINED_STEPS) * step / steps
        high += flow_shift * even / (1 + (flow_shift - 1) * even) >= boundary
    return {"denoise.high": high, "denoise.low": steps - high}


BOUNDARY, FLOW_SHIFT = 0.875, 3.0  # as published

HUB_ID = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"


def _named(noise: str) -> str:
    """ "high_noise", "HighNoise", "-high-", and not "highway"."""
    return rf"(?<![a-z]){noise}(.?noise)?(?![a-z])"


# LoRAs for it come in pairs, one for each expert.
LORA_PARTS = {"transformer": _named("high"), "transformer_2": _named("low")}

SPEC = replace(
    WAN_2_1,
    name="wan22",
    title="Wan 2.2 A14B",
    marks=EXPERTS,
    inputs={"t2v": ()},  # from a video, the expert for much noise might have no step
    hub_id=HUB_ID,
    components={**WAN_2_1.components, "transformer_2": WAN_2_1.components["transformer"]},
    gguf_components=("transformer", "transformer_2"),
    defaults=replace(WAN_2_1.defaults, num_inference_steps=40, guidance_scale=4.0),
    knobs=KNOBS,
    denoise_steps=partial(steps_of_experts, BOUNDARY, FLOW_SHIFT),
    lora_parts=LORA_PARTS,
    builds_on=("wan",),
    download_gib=118.0,
    published={"transformer": "float32", "transformer_2": "float32"},
    about="family.about_wan22",
    licence=licence_at(HUB_ID),
    strength=Strength(48, "family.strength_wan22"),
)
