"""What Wan's text encoder makes of a sentence. Padding is left out instead of masked, and stands in the result as
zeros: the transformer attends to those too, as it was trained."""

from __future__ import annotations

from html import unescape

from diffusers.pipelines.wan.pipeline_wan import whitespace_clean
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from i2v.memory.card import Card

MAX_TOKENS = 512  # of the sentence, as the model was trained; more is cut off


def of_a_sentence(card: Card, tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, prompt: str) -> Tensor:
    """(1, MAX_TOKENS, D), zeros where the sentence has ended; a longer one is cut."""
    with card.on_host():
        sentence = whitespace_clean(unescape(unescape(prompt)))  # as the pipeline does where it has no ftfy
        ids = tokenizer(sentence, max_length=MAX_TOKENS, truncation=True, return_tensors="pt").input_ids
    hidden = encoder(card.to_card(ids)).last_hidden_state
    return functional.pad(hidden, (0, 0, 0, MAX_TOKENS - hidden.shape[1]))
