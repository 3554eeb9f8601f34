"""What HunyuanVideo's first text encoder makes of a sentence: diffusers' template around it, and of a late layer only
what comes after the template's beginning. Padding is left out instead of masked: no token looks at one behind it."""

from __future__ import annotations

from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedTokenizerBase
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from i2v.memory.card import Card

MAX_TOKENS = 256  # of the sentence, as the model was trained; more is cut off
SKIPPED_LAYERS = 2  # at the end, whose results are not read

# torch's attention, for which transformers makes no mask, since it knows none of this name: it is causal by itself. On
# "sdpa" transformers looks at the tokens' values before each pass to see whether a mask is needed.
UNMASKED = "sdpa_without_masks"
AttentionInterface.register(UNMASKED, sdpa_attention_forward)


def up_to_the_layer_that_is_read(encoder: nn.Module) -> None:
    """Take away the layers of a language model that nobody reads, and the norm behind them."""
    encoder.set_attn_implementation(UNMASKED)
    encoder.layers = encoder.layers[: len(encoder.layers) - SKIPPED_LAYERS]
    encoder.norm = nn.Identity()


def of_a_sentence(card: Card, tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, prompt: str) -> Tensor:
    """(1, T, D), T <= MAX_TOKENS."""
    begin = DEFAULT_PROMPT_TEMPLATE["crop_start"]
    with card.on_host():
        text = DEFAULT_PROMPT_TEMPLATE["template"].format(prompt)
        ids = tokenizer(text, max_length=MAX_TOKENS + begin, truncation=True, return_tensors="pt").input_ids
    return encoder(card.to_card(ids), use_cache=False).last_hidden_state[:, begin:]
