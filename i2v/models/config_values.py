"""Numbers in a checkpoint's configurations that no model can work with: a network built from them computes garbage, or
fails in the middle of a run.

One table says for each component which keys are looked at and what each may hold. A key that is absent has its
library's default, and is fine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Holds = Callable[[Any], bool]


@dataclass(frozen=True)
class BadValue:
    """`key` holds `found`, as JSON shows it; `needed` names what it must be: the end of a text's id, `config_…`."""

    key: str
    found: str
    needed: str


def bad_value(component: str, config: Mapping[str, Any]) -> BadValue | None:
    """The first value of `component`'s configuration that cannot be used; None where there is none."""
    for key, needed in _RULES.get(component, {}).items():
        if key in config and not (config[key] is None and key in _MAY_BE_NULL) and not _NEEDED[needed](config[key]):
            return BadValue(key, _shown(config[key]), needed)
    low, high = config.get("beta_start"), config.get("beta_end")
    if component == "scheduler" and low is not None and high is not None and low > high:
        return BadValue("beta_start", f"{low}, beta_end: {high}", "order")
    return None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _above_zero(value: Any) -> bool:
    return _number(value) and value > 0


def _share(value: Any) -> bool:
    return _above_zero(value) and value < 1


def _shares(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_above_zero(one) and one <= 1 for one in value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _counts(value: Any) -> bool:
    return _count(value) or (isinstance(value, list) and bool(value) and all(map(_count, value)))


def _offset(value: Any) -> bool:
    return (value == 0 and not isinstance(value, bool)) or _count(value)


def _three(holds: Holds) -> Holds:
    """Of red, green and blue."""
    return lambda value: isinstance(value, list) and len(value) == 3 and all(map(holds, value))


def _sides(value: Any) -> bool:
    return _count(value) or (isinstance(value, dict) and bool(value) and all(map(_count, value.values())))


_NEEDED: Mapping[str, Holds] = {
    "above_zero": _above_zero,
    "share": _share,
    "shares": _shares,
    "count": _count,
    "counts": _counts,
    "offset": _offset,
    "three": _three(_number),
    "three_above_zero": _three(_above_zero),
    "sides": _sides,
    "spacing": lambda value: value in ("leading", "linspace", "trailing"),
}
_MAY_BE_NULL = ("trained_betas", "sample_size", "attention_head_dim")
_CLIP = {
    "hidden_size": "count",
    "intermediate_size": "count",
    "num_hidden_layers": "count",
    "num_attention_heads": "count",
    "projection_dim": "count",
    "layer_norm_eps": "above_zero",
}
_CHANNELS = {
    "block_out_channels": "counts",
    "layers_per_block": "counts",
    "in_channels": "count",
    "out_channels": "count",
    "norm_num_groups": "count",
}
_RULES: Mapping[str, Mapping[str, str]] = {
    "vae": {**_CHANNELS, "latent_channels": "count", "scaling_factor": "above_zero"},
    "unet": {**_CHANNELS, "cross_attention_dim": "counts", "attention_head_dim": "counts", "norm_eps": "above_zero"},
    "text_encoder": {**_CLIP, "vocab_size": "count", "max_position_embeddings": "count"},
    "image_encoder": {**_CLIP, "image_size": "count", "patch_size": "count"},
    "feature_extractor": {"image_mean": "three", "image_std": "three_above_zero", "crop_size": "sides"},
    "scheduler": {
        "num_train_timesteps": "count",
        "beta_start": "share",
        "beta_end": "share",
        "trained_betas": "shares",
        "steps_offset": "offset",
        "timestep_spacing": "spacing",
        "clip_sample_range": "above_zero",
        "sample_max_value": "above_zero",
        "solver_order": "count",
    },
}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
