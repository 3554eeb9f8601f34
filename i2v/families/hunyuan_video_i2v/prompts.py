"""What LLaVA makes of a sentence and a picture together: diffusers' template around the sentence, and the picture's
features in the place of its mark. Of a late layer some of the picture's tokens are kept, and those of the sentence.
Padding is left out instead of masked: no token looks at one behind it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE as TEMPLATE
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor, LlavaModel, PreTrainedTokenizerBase

from i2v.families.hunyuan_video.prompts import MAX_TOKENS, up_to_the_layer_that_is_read
from i2v.memory.card import Card

TEMPLATE_TOKENS = TEMPLATE["crop_start"]  # before the sentence, the picture counted as one
PICTURE = slice(TEMPLATE["image_emb_start"], TEMPLATE["image_emb_end"])
MOVED = TEMPLATE["image_emb_len"] - 1  # by how many places the picture moves what comes after it
HEADER_END = "<|end_header_id|>"
HEADERS = 3  # in the template: of the system, the user and the assistant
TURN_TOKENS = 4  # that end the sentence and begin the assistant's turn; they are not kept


def up_to_what_is_read(llava: LlavaModel) -> None:
    """Take away the layers that nobody reads, of the network for pictures and of the one for words."""
    up_to_the_layer_that_is_read(llava.language_model)
    layers = llava.vision_tower.encoder.layers
    # Counted as transformers counts hidden states: the first is what goes into the first layer.
    llava.vision_tower.encoder.layers = layers[: llava.config.vision_feature_layer % (len(layers) + 1)]
    llava.vision_tower.post_layernorm = nn.Identity()


def of_a_sentence_and_a_picture(
    card: Card,
    tokenizer: PreTrainedTokenizerBase,
    image_processor: CLIPImageProcessor,
    llava: LlavaModel,
    prompt: str,
    picture: Image.Image,
    every: int,
) -> Tensor:
    """(1, T, D): every so many of the picture's 576 tokens, then at most MAX_TOKENS of the sentence."""
    with card.on_host():
        text = TEMPLATE["template"].format(prompt)
        length = MAX_TOKENS + TEMPLATE_TOKENS
        ids = tokenizer(text, max_length=length, truncation=True, return_tensors="pt").input_ids[0].tolist()
        ids = _with_one_picture(ids, llava.config.image_token_id)
        parts = _kept(ids, tokenizer.convert_tokens_to_ids(HEADER_END))
        pixels = image_processor(picture, return_tensors="pt").pixel_values
        ids = torch.tensor([ids])
    # LLaVA's own forward looks at the tokens' values to find the picture's places; they are known.
    words = llava.get_input_embeddings()(card.to_card(ids))
    features = llava.multi_modal_projector(_features(llava, card.to_card(pixels)))
    before, after = words[:, : PICTURE.start], words[:, PICTURE.start + 1 :]
    joined = torch.cat([before, features.to(words.dtype), after], dim=1)
    del words, features, before, after
    hidden = llava.language_model(inputs_embeds=joined, use_cache=False).last_hidden_state
    return torch.cat([hidden[:, PICTURE][:, ::every], *(hidden[:, part] for part in parts)], dim=1)


def _features(llava: LlavaModel, pixels: Tensor) -> Tensor:
    """(1, 576, D) of the picture's patches."""
    hidden = llava.vision_tower(pixels).last_hidden_state
    return hidden[:, 1:] if llava.config.vision_feature_select_strategy == "default" else hidden


def _with_one_picture(ids: Sequence[int], mark: int) -> list[int]:
    """The tokens without marks of pictures that a person wrote into the sentence: no picture belongs to them."""
    own = PICTURE.start + 1
    return [*ids[:own], *(one for one in ids[own:] if one != mark)]


def _kept(ids: Sequence[int], header_end: int) -> tuple[slice, slice]:
    """The places of the sentence's tokens, and of those after the beginning of the assistant's turn, once the picture
    stands among them. Of a sentence that was cut off as many tokens go as that beginning has, as in diffusers."""
    ends = [place for place, one in enumerate(ids) if one == header_end]
    turn = ends[-1] + 1 if len(ends) >= HEADERS else len(ids)
    return slice(TEMPLATE_TOKENS + MOVED, turn - TURN_TOKENS + MOVED), slice(turn + MOVED, None)
