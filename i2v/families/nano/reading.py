"""A sentence as nano reads it: as a whole, and clause by clause. What is told of a sentence depends on this, and no
frame of a video does."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import CLIPTextModel

from i2v.families.nano.clauses import MOST_CLAUSES, clauses
from i2v.families.nano.fields import summary
from i2v.families.nano.life import LIVING
from i2v.families.nano.reader import CAMERA, Reader

PARTS = (len(CAMERA) + 1, len(LIVING) + 1, 2, 1)
"""Of a row that was read: logits of the camera's motions and of the living ones, both strengths, and "beyond"."""


def rows(text: str) -> tuple[str, ...]:
    """The sentence, and each of its clauses; empty ones after them, so that every sentence has as many."""
    parts = clauses(text)
    return text, *parts, *[""] * (MOST_CLAUSES - len(parts))


def read(encoder: CLIPTextModel, reader: Reader, ids: Tensor) -> Tensor:
    """(B, 27), see PARTS, from the token numbers (B, T) of sentences."""
    layers, last = layers_of(encoder, ids)
    beyond = reader.beyond(ids, layers, encoder.config.eos_token_id)
    return torch.cat([*reader(summary(last)), beyond], dim=-1)


def layers_of(encoder: CLIPTextModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Of token numbers (B, T): every layer side by side (B, T, D * LAYERS), and the last one, (B, T, D)."""
    output = encoder(ids, output_hidden_states=True)
    return torch.cat(output.hidden_states, dim=-1), output.last_hidden_state
