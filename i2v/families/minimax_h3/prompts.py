"""What Qwen3-VL makes of a sentence, and of the picture before it: transformers' own layers, of which the network reads
what the fiftieth gives. The picture's places are known from its size, so nothing is looked up by value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention, apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from i2v.families.minimax_h3.spec import SPEC
from i2v.memory.card import Card
from i2v.memory.chunking import Forward
from i2v.memory.tokens import token_chunks

LABEL = "<Picture 1>: "
BEFORE, AFTER = "<|vision_start|>", "<|vision_end|>"  # of a picture
READ_LAYERS = 50  # of its layers for words, those that are read


def up_to_what_is_read(qwen: Qwen3VLModel) -> None:
    """Take away the layers that nobody reads."""
    words = qwen.language_model
    words.layers = words.layers[:READ_LAYERS]
    words.norm = nn.Identity()


def text_layers(qwen: Qwen3VLModel) -> Sequence[nn.Module]:
    """The layers of the network for pictures, then of the one for words."""
    return [*qwen.visual.blocks, *qwen.language_model.layers]


def image_processor() -> Qwen2VLImageProcessorPil:
    """As published with Qwen3-VL."""
    return Qwen2VLImageProcessorPil(
        patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size={"shortest_edge": 65_536, "longest_edge": 16_777_216},
    )  # fmt: skip


def of_a_sentence(card: Card, tokenizer: PreTrainedTokenizerBase, qwen: Qwen3VLModel, prompt: str) -> Tensor:
    """(1, T, D) of a sentence alone; a longer one than the family reads is cut."""
    with card.on_host():
        ids = torch.tensor([_ids(tokenizer, prompt)[: SPEC.max_prompt_tokens]], dtype=torch.int64)
        places = torch.arange(ids.shape[1]).expand(3, 1, -1)
    words = qwen.get_input_embeddings()(card.to_card(ids))
    return _read(qwen, words, card.to_card(places))


def of_a_picture_and_a_sentence(
    card: Card,
    tokenizer: PreTrainedTokenizerBase,
    processor: Qwen2VLImageProcessorPil,
    qwen: Qwen3VLModel,
    picture: Image.Image,
    prompt: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """(1, T, D) each: of the picture's label, of the picture with the marks around it, of the sentence."""
    with card.on_host():
        found = processor(images=picture, return_tensors="pt")
        grid = found["image_grid_thw"]
        label = _ids(tokenizer, LABEL)
        marks = [tokenizer.convert_tokens_to_ids(mark) for mark in (BEFORE, AFTER)]
        sentence = _ids(tokenizer, prompt)[: SPEC.max_prompt_tokens]
        _, *sides = grid[0].tolist()
        merged = qwen.config.vision_config.spatial_merge_size
        high, wide = (side // merged for side in sides)
        before, after = [*label, marks[0]], [marks[1], *sentence]
        places = torch.from_numpy(_places(len(before), high, wide, len(after)))
        ids = torch.tensor([before + after], dtype=torch.int64)
        pixels = found["pixel_values"].to(qwen.dtype)
    seen, deeper = _features(card, qwen, pixels, grid)
    words = qwen.get_input_embeddings()(card.to_card(ids))
    joined = torch.cat([words[:, : len(before)], seen[None].to(words.dtype), words[:, len(before) :]], dim=1)
    del words, seen
    hidden = _read(qwen, joined, card.to_card(places), slice(len(before), len(before) + high * wide), deeper)
    ends = len(label), len(before) + high * wide + 1
    return hidden[:, : ends[0]], hidden[:, ends[0] : ends[1]], hidden[:, ends[1] :]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [*tokenizer(text, add_special_tokens=False).input_ids]


def _places(before: int, high: int, wide: int, after: int) -> np.ndarray:
    """(3, 1, T): where tokens stand in time, height and width, of words, a picture, and words again."""
    down, across = np.meshgrid(np.arange(high), np.arange(wide), indexing="ij")
    picture = np.stack([0 * down, down, across]).reshape(3, -1) + before
    words = [np.broadcast_to(np.arange(begin, begin + count), (3, count)) for begin, count in
             ((0, before), (before + max(high, wide), after))]  # fmt: skip
    return np.concatenate([words[0], picture, words[1]], axis=1)[:, None]


def _read(
    qwen: Qwen3VLModel, hidden: Tensor, places: Tensor, seen: slice = slice(0), deeper: Sequence[Tensor] = ()
) -> Tensor:
    """What the last layer that is read gives; `deeper` is added to the tokens `seen` after the first layers."""
    words = qwen.language_model
    turned = words.rotary_emb(hidden, places)
    for number, layer in enumerate(words.layers):
        hidden = layer(hidden, position_embeddings=turned, attention_mask=None, use_cache=False)
        if number < len(deeper):
            hidden[:, seen] += deeper[number].to(hidden.dtype)
    return hidden


def _features(card: Card, qwen: Qwen3VLModel, pixels: Tensor, grid: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(t, D) of the picture's tokens as the words' network takes them, and what is added to these later."""
    visual = qwen.visual
    with card.on_host():
        merged = visual.config.spatial_merge_size
        near, weights = get_vision_interpolation_indices_and_weights(
            grid, num_grid_per_side=visual.num_grid_per_side, mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners, spatial_merge_size=merged,
        )  # fmt: skip
        places = get_vision_position_ids(grid, merged)
    hidden = visual.patch_embed(card.to_card(pixels))
    learned = visual.pos_embed(card.to_card(near)) * card.to_card(weights)[:, :, None]
    hidden = hidden + learned.sum(1).to(hidden.dtype)
    del learned
    turned = visual.rotary_pos_emb(hidden, card.to_card(places))
    deeper = []
    with token_chunks(visual, {Qwen3VLVisionAttention: _of_one_picture}, 0):
        for number, block in enumerate(visual.blocks):
            hidden = block(hidden, cu_seqlens=None, position_embeddings=turned)
            if number in visual.deepstack_visual_indexes:
                place = visual.deepstack_visual_indexes.index(number)
                deeper.append(visual.deepstack_merger_list[place](hidden))
    return visual.merger(hidden), deeper


def _of_one_picture(attention: Qwen3VLVisionAttention, _size: int) -> Forward:
    """Attention of all patches to all, without looking up which picture each belongs to."""

    def forward(hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: object) -> Tensor:
        parts = attention.qkv(hidden_states).unflatten(1, (3, attention.num_heads, -1)).unbind(1)
        query, key = apply_rotary_pos_emb_vision(*parts[:2], *position_embeddings)
        query, key, value = (one.transpose(0, 1)[None] for one in (query, key, parts[2]))
        found = nn.functional.scaled_dot_product_attention(query, key, value, scale=attention.scaling)
        return attention.proj(found[0].transpose(0, 1).flatten(1))

    return forward
