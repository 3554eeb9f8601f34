"""What LTX-Video's text encoder makes of a sentence. What a sentence is filled up with is left out of the result: the
transformer does not look at it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from i2v.memory.card import Card


def of_a_sentence(
    card: Card, tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, prompt: str, most: int, filled: bool
) -> Tensor:
    """(1, T, D), T at most `most`; a longer one is cut. `filled`: the encoder, without a mask, sees the sentence filled
    up to `most`."""
    with card.on_host():
        ids = tokenizer(prompt, max_length=most, truncation=True, return_tensors="pt").input_ids
        count = ids.shape[1]
        if filled:
            ids = functional.pad(ids, (0, most - count), value=encoder.config.pad_token_id)
    return encoder(card.to_card(ids)).last_hidden_state[:, :count].contiguous()
