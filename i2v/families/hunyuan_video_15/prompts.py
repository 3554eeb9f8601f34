"""What HunyuanVideo-1.5 is told of a sentence: what Qwen2.5-VL makes of it within diffusers' conversation, of a late
layer only what comes after the system's part; and what byT5 makes of the words in quotes, which are to be written in
the video. Padding is left out instead of masked: no token looks at one behind it, or byT5's own."""

from __future__ import annotations

import inspect

from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import (
    HunyuanVideo15Pipeline,
    extract_glyph_texts,
    format_text_input,
)
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from i2v.families.hunyuan_video.prompts import SKIPPED_LAYERS, up_to_the_layer_that_is_read
from i2v.memory.card import Card

__all__ = ("of_a_sentence", "of_glyphs", "texts_in_quotes", "up_to_the_layer_that_is_read")

_OF_SENTENCES = inspect.signature(HunyuanVideo15Pipeline._get_mllm_prompt_embeds).parameters
SYSTEM_MESSAGE: str = _OF_SENTENCES["system_message"].default
BEGIN: int = _OF_SENTENCES["crop_start"].default  # tokens before the sentence
MAX_TOKENS: int = _OF_SENTENCES["tokenizer_max_length"].default  # from there on; more is cut off
MAX_GLYPHS: int = (
    inspect.signature(HunyuanVideo15Pipeline._get_byt5_prompt_embeds).parameters["tokenizer_max_length"].default
)
assert _OF_SENTENCES["num_hidden_layers_to_skip"].default == SKIPPED_LAYERS


def texts_in_quotes(prompt: str) -> str | None:
    """What byT5 is given: every text in quotes; None where there is none."""
    return extract_glyph_texts(prompt)


def of_a_sentence(card: Card, tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, prompt: str) -> Tensor:
    """(1, T, D), T <= MAX_TOKENS."""
    with card.on_host():
        talk = format_text_input([prompt], SYSTEM_MESSAGE)
        ids = tokenizer.apply_chat_template(
            talk, add_generation_prompt=True, tokenize=True, return_dict=True, truncation=True,
            max_length=BEGIN + MAX_TOKENS, return_tensors="pt",
        ).input_ids  # fmt: skip
    return encoder(card.to_card(ids), use_cache=False).last_hidden_state[:, BEGIN:]


def of_glyphs(card: Card, tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, texts: str) -> Tensor:
    """(1, T, D), T <= MAX_GLYPHS: a token for each byte."""
    with card.on_host():
        ids = tokenizer(texts, max_length=MAX_GLYPHS, truncation=True, return_tensors="pt").input_ids
    return encoder(card.to_card(ids)).last_hidden_state
