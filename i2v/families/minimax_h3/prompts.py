"""What Qwen3-VL makes of a sentence, and of the pictures before it: transformers' own layers, of which the network
reads what the fiftieth gives. The pictures' places are known from their size, so nothing is looked up by value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

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

LABELS = ("<Picture 1>: ", "<Picture 2>: ")
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


def of_pictures_and_a_sentence(
    card: Card,
    tokenizer: PreTrainedTokenizerBase,
    processor: Qwen2VLImageProcessorPil,
    qwen: Qwen3VLModel,
    pictures: Sequence[Image.Image],
    prompt: str,
) -> Sequence[Tensor]:
    """(1, T, D) each: of the first picture's label, of that picture with the marks around it, of the next picture's
    label and so on, and of the sentence. All pictures are of one size."""
    with card.on_host():
        found = [processor(images=picture, return_tensors="pt") for picture in pictures]
        merged = qwen.config.vision_config.spatial_merge_size
        high, wide = (side // merged for side in found[0]["image_grid_thw"][0].tolist()[1:])
        before, after = (tokenizer.convert_tokens_to_ids(mark) for mark in (BEFORE, AFTER))
        labels = [_ids(tokenizer, label) for label in LABELS[: len(pictures)]]
        sentence = _ids(tokenizer, prompt)[: SPEC.max_prompt_tokens]
        # The words between the pictures, which stand where one stretch of them ends.
        opened = [[*label, before] for label in labels]
        stretches = [opened[0], *([after, *one] for one in opened[1:]), [after, *sentence]]
        counts = [len(one) for one in stretches]
        places = torch.from_numpy(_places(counts, high, wide))
        ids = torch.tensor([[*chain(*stretches)]], dtype=torch.int64)
        pixels = [one["pixel_values"].to(qwen.dtype) for one in found]
    looks = [_features(card, qwen, each, one["image_grid_thw"]) for each, one in zip(pixels, found, strict=True)]
    words = qwen.get_input_embeddings()(card.to_card(ids)).split(counts, dim=1)
    parts = [part for one, (look, _) in zip(words, looks, strict=False) for part in (one, look[None].to(one.dtype))]
    joined = torch.cat([*parts, words[-1]], dim=1)
    deeper = [later for _, later in looks]
    del words, parts, looks
    ends = [sum(counts[: number + 1]) + number * high * wide for number in range(len(pictures))]
    hidden = _read(qwen, joined, card.to_card(places), [slice(end, end + high * wide) for end in ends], deeper)
    lengths = [length for label in labels for length in (len(label), high * wide + 2)]
    return hidden.split([*lengths, len(sentence)], dim=1)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [*tokenizer(text, add_special_tokens=False).input_ids]


def _places(counts: Sequence[int], high: int, wide: int) -> np.ndarray:
    """(3, 1, T): where tokens stand in time, height and width, of stretches of so many words with a picture between
    each and the next."""
    down, across = np.meshgrid(np.arange(high), np.arange(wide), indexing="ij")
    picture = np.stack([0 * down, down, across]).reshape(3, -1)
    parts, begin = [], 0
    for number, count in enumerate(counts):
        if number:
            parts.append(picture + begin)
            begin += max(high, wide)
        parts.append(np.broadcast_to(np.arange(begin, begin + count), (3, count)))
        begin += count
    return np.concatenate(parts, axis=1)[:, None]


def _read(
    qwen: Qwen3VLModel,
    hidden: Tensor,
    places: Tensor,
    seen: Sequence[slice] = (),
    deeper: Sequence[Sequence[Tensor]] = (),
) -> Tensor:
    """What the last layer that is read gives. After each of the first layers, what `deeper` has of each picture is
    added to that picture's tokens, which are `seen`."""
    words = qwen.language_model
    turned = words.rotary_emb(hidden, places)
    for number, layer in enumerate(words.layers):
        hidden = layer(hidden, position_embeddings=turned, attention_mask=None, use_cache=False)
        for tokens, of_one in zip(seen, deeper, strict=True):
            if number < len(of_one):
                hidden[:, tokens] += of_one[number].to(hidden.dtype)
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
