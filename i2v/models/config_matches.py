"""Does a configuration belong to the weights beside it? The numbers in it that can be read off the weights' headers:
how many layers there are, and how wide. Without torch, so not every tensor: `engine.weights` compares them all before a
run, with the network that the configuration makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2v.messages import Message, message

Shapes = Mapping[str, Sequence[int]]
"""Of tensors, by their names."""


@dataclass(frozen=True)
class _Rule:
    """What a configuration has under `key`, or as the product of `key` and `times`, is the length of dimension
    `dimension` of every tensor called like `name`; or, without one, by one more than the largest number that the name
    has in its group."""

    key: str
    name: str
    dimension: int | None = None
    times: str | None = None

    def wanted(self, config: Mapping[str, Any]) -> int | None:
        """What the configuration says; None where it says nothing that can be compared."""
        value, factor = config.get(self.key), 1 if self.times is None else config.get(self.times)
        if isinstance(value, list):
            value = value[0] if value else None
        if not _is_count(value) or not _is_count(factor):
            return None
        return value * factor

    def found(self, shapes: Shapes) -> int | None:
        """What the weights say; None where no tensor is called so."""
        matches = ((match, shape) for name, shape in shapes.items() if (match := re.fullmatch(self.name, name)))
        if self.dimension is None:
            return max((int(match[1]) + 1 for match, _ in matches), default=None)
        return next((shape[self.dimension] for _, shape in matches if len(shape) > self.dimension), None)


_LAYERS = (
    _Rule("num_layers", r"(?:transformer_)?blocks\.(\d+)\..*"),
    _Rule("num_single_layers", r"single_transformer_blocks\.(\d+)\..*"),
    _Rule("num_layers", r"encoder\.block\.(\d+)\..*"),
)
_WIDTHS = (
    _Rule("attention_head_dim", r"(?:transformer_)?blocks\.0\.attn1?\.to_q\.weight", 0, times="num_attention_heads"),
    _Rule("in_channels", r"patch_embedding\.weight|x_embedder\.proj\.weight", 1),
    _Rule("block_out_channels", r"conv_in\.weight", 0),
    _Rule("cross_attention_dim", r"down_blocks\.0\.attentions\.0\.transformer_blocks\.0\.attn2\.to_k\.weight", 1),
    _Rule("z_dim", r"post_quant_conv\.weight", 0),
    _Rule("d_model", r"shared\.weight|encoder\.embed_tokens\.weight", 1),
    _Rule("hidden_size", r"(?:.*\.)?(?:embed_tokens|token_embedding)\.weight", 1),
    _Rule("vocab_size", r"shared\.weight|(?:.*\.)?(?:embed_tokens|token_embedding)\.weight", 0),
)


def mismatch(config_file: Path, shapes: Shapes) -> Message | None:
    """The first number of the configuration that is another one in the weights; None where none is, or it cannot be
    read, which is told elsewhere."""
    try:
        config = json.loads(config_file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return next(_mismatches(config_file, config, shapes), None) if isinstance(config, dict) else None


def _mismatches(file: Path, config: Mapping[str, Any], shapes: Shapes) -> Iterator[Message]:
    for rule in (*_LAYERS, *_WIDTHS):
        wanted = rule.wanted(config)
        found = None if wanted is None else rule.found(shapes)
        if found not in (None, wanted):
            key = rule.key if rule.times is None else f"{rule.times} x {rule.key}"
            yield message("models.other_config", file=str(file), key=key, said=wanted, found=found)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
