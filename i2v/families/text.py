"""Text as the encoders of every family take it."""

from __future__ import annotations

from torch import Tensor
from transformers import CLIPTokenizer


def token_ids(tokenizer: CLIPTokenizer, text: str) -> Tensor:
    """(1, T) int64, T the tokenizer's own length: padded up to it, and cut where the text is longer."""
    return tokenizer(
        text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
