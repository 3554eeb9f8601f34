"""What LTX-2's text encoder makes of a sentence: the outputs of all of Gemma's layers, joined to one vector for each
token, and two small transformers over them, one for the pictures and one for the sound. Padding is left out instead of
masked: in its place these have tokens of their own, the registers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from diffusers.pipelines.ltx2.connectors import LTX2ConnectorTransformer1d, LTX2TextConnectors, per_token_rms_norm
from torch import Tensor, nn
from transformers import Gemma3Model, Gemma4UnifiedModel, PreTrainedTokenizerBase

from i2v.families.ltx2.spec import SPEC
from i2v.memory.card import Card
from i2v.memory.chunking import chunks

TOKENS_AT_ONCE = 128  # of a sentence, joined over all layers: one has 0.4 MB
EPSILON = 1e-6
RANGE = 8  # in which the outputs of a layer lie, where they are brought into one

GEMMAS = {"gemma3": Gemma3Model, "gemma4_unified": Gemma4UnifiedModel}
"""Text encoders by their `model_type`: that of LTX-2.0 and LTX-2.3, and that of LTX-2.5."""

Gemma = Gemma3Model | Gemma4UnifiedModel
Features = Callable[[slice], Tensor]
"""Some tokens (1, r, D * layers), ready to be projected."""


def text_layers(gemma: nn.Module) -> Sequence[nn.Module]:
    """The layers of the text encoder."""
    return [*gemma.language_model.layers]


def connector_layers(connectors: nn.Module) -> Sequence[nn.Module]:
    """The layers of both small transformers."""
    return [*connectors.video_connector.transformer_blocks, *connectors.audio_connector.transformer_blocks]


SENSES = ("vision_tower", "multi_modal_projector", "embed_vision", "embed_audio")
"""What sees pictures and hears sound, in any of GEMMAS."""


def without_senses(gemma: Gemma) -> None:
    """Take away what sees and hears: only sentences are read."""
    for name in SENSES:
        if getattr(gemma, name, None) is not None:
            setattr(gemma, name, nn.Identity())


def of_a_sentence(
    card: Card, tokenizer: PreTrainedTokenizerBase, gemma: Gemma, connectors: LTX2TextConnectors, prompt: str
) -> tuple[Tensor, Tensor]:
    """For the pictures and for the sound, each (1, T, D), T the same for all sentences; a longer one is cut."""
    most = SPEC.max_prompt_tokens
    with card.on_host():
        ids = tokenizer(prompt.strip(), max_length=most, truncation=True, return_tensors="pt").input_ids
    words = gemma.language_model(
        card.to_card(ids), attention_mask=_masks(gemma, ids.shape[1]), use_cache=False, output_hidden_states=True
    )
    pictures, sound = _projected(connectors, words.hidden_states)
    del words
    made = _connected(connectors.video_connector, pictures, most)
    del pictures
    return made, _connected(connectors.audio_connector, sound, most)


def _masks(gemma: Gemma, count: int) -> dict[str, None] | None:
    """No masks for `count` tokens: Gemma's attention is causal by itself, and its windows hold all of them. Where they
    do not, transformers makes the masks."""
    config = gemma.config.text_config
    return dict.fromkeys(config.layer_types) if count <= config.sliding_window else None


def _by_layer(hidden: Sequence[Tensor]) -> Features:
    """Of LTX-2.0: every layer's outputs less their mean, in parts of the range that they fill."""
    count = hidden[0].shape[1] * hidden[0].shape[2]
    means = [layer.sum(dim=(1, 2), keepdim=True) / (count + EPSILON) for layer in hidden]
    ranges = [layer.amax(dim=(1, 2), keepdim=True) - layer.amin(dim=(1, 2), keepdim=True) for layer in hidden]

    def features(rows: slice) -> Tensor:
        parts = zip(hidden, means, ranges, strict=True)
        return torch.stack([(one[:, rows] - mean) / (far + EPSILON) * RANGE for one, mean, far in parts], -1).flatten(2)

    return features


def _by_token(hidden: Sequence[Tensor]) -> Features:
    """Of LTX-2.3: every token's output of a layer over its own size."""
    return lambda rows: per_token_rms_norm(torch.stack([layer[:, rows] for layer in hidden], -1)).flatten(2)


def _projected(connectors: LTX2TextConnectors, hidden: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What goes into the two small transformers, from the outputs of all layers."""
    config, count = connectors.config, hidden[0].shape[1]
    if config.per_modality_projections:
        features = _by_token(hidden)
        ways = (
            (connectors.video_text_proj_in, math.sqrt(config.video_hidden_dim / config.caption_channels)),
            (connectors.audio_text_proj_in, math.sqrt(config.audio_hidden_dim / config.caption_channels)),
        )
    else:
        features = _by_layer(hidden)
        ways = ((connectors.text_proj_in, 1.0),)
    made = [hidden[0].new_empty(1, count, projection.out_features) for projection, _ in ways]
    for rows in chunks(count, TOKENS_AT_ONCE):
        one = features(rows)
        for (projection, scale), into in zip(ways, made, strict=True):
            into[:, rows] = projection(one * scale)
        del one
    return made[0], made[-1]


def _connected(transformer: LTX2ConnectorTransformer1d, tokens: Tensor, most: int) -> Tensor:
    """Behind the sentence come registers, each at its own place, up to `most` tokens."""
    registers = transformer.learnable_registers
    behind = registers.repeat(most // len(registers), 1)[tokens.shape[1] :]
    tokens = torch.cat([tokens, behind.to(tokens.dtype).unsqueeze(0)], dim=1)
    turned = transformer.rope(1, most, device=tokens.device)
    for block in transformer.transformer_blocks:
        tokens = block(tokens, rotary_emb=turned)
    return transformer.norm_out(tokens)
