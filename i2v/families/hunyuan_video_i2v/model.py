"""HunyuanVideo from a picture: number for number diffusers' `HunyuanVideoImageToVideoPipeline`.

There are two kinds of transformers, told apart by their configuration. "token_replace": the first latent frame is the
picture's and stays so. "latent_concat": the picture and a mask of the frame that it fills stand beside the latents as
channels, which have one latent frame more than the video; its 4 frames are left out of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, LlavaModel

from i2v.families.base import Conditioning, Inputs, Stage
from i2v.families.hunyuan_video.model import TIME_SCALE, HunyuanVideo, parts_of, read_of, sentences
from i2v.families.hunyuan_video_i2v.prompts import of_a_sentence_and_a_picture, up_to_what_is_read
from i2v.families.ordinary import PROMPT
from i2v.memory.card import Card
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest

NOISE = 0.999  # of what a run begins with; the rest is the picture
KEPT_OF_BLACK = 2  # of the black picture that a negative prompt is of, whatever the kind, as diffusers has it
KEPT_EVERY = {"token_replace": 4, "latent_concat": 2}  # so many of the picture's tokens, by the transformer's kind

# The layer that chooses words is in the checkpoint and not read (see `load`): transformers need not warn of it.
LlavaModel._keys_to_ignore_on_load_unexpected = [r"\blm_head\."]


def load(folder: Path, precision: torch.dtype) -> HunyuanVideoFromPicture:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only. Raises UserError for a
    transformer that takes no picture."""
    # The checkpoint's LlavaForConditionalGeneration without the layer that chooses words, which is not read then. No
    # class of ours in its place: transformers knows the names in older files for its own alone.
    parts = parts_of(folder, precision, LlavaModel, up_to_what_is_read)
    processor = CLIPImageProcessor.from_pretrained(folder / "image_processor", local_files_only=True)
    return HunyuanVideoFromPicture(image_processor=processor, **parts)


class HunyuanVideoFromPicture(HunyuanVideo):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    def __init__(
        self, *, image_processor: CLIPImageProcessor, transformer_config: Mapping[str, object], **parts: object
    ) -> None:
        """`parts`: those of `HunyuanVideo`, the first text encoder a LlavaModel."""
        super().__init__(transformer_config=transformer_config, **parts)
        kind = transformer_config.get("image_condition_type")
        if kind not in KEPT_EVERY:
            raise UserError("family.takes_no_picture", kind=str(kind), kinds=", ".join(KEPT_EVERY))
        self.image_processor = image_processor
        self.kind = kind
        self._every = KEPT_EVERY[kind]
        self._extra_frames = 1 if kind == "latent_concat" else 0  # latent ones before the video's

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def text(card: Card, conditioning: Conditioning) -> None:
            for name, sentence in sentences(request).items():
                wanted = name == PROMPT
                conditioning[name] = of_a_sentence_and_a_picture(
                    card, self.tokenizer, self.image_processor, self.modules["text_encoder"], sentence,
                    inputs.first if wanted else Image.new("RGB", inputs.first.size),
                    self._every if wanted else KEPT_OF_BLACK,
                )  # fmt: skip

        def latents(card: Card, conditioning: Conditioning) -> None:
            conditioning["picture"] = self.clip_latents(card, [inputs.first], plan)

        return (
            Stage("text", ("text_encoder",), text, read_of(request), sees=("image",)),
            self._pooled_stage(request),
            Stage("latents", ("vae",), latents, (), sees=("image",)),
        )

    def _latent_shape(self, request: GenerationRequest) -> tuple[int, ...]:
        batch, channels, frames, height, width = super()._latent_shape(request)
        return batch, channels, frames + self._extra_frames, height, width

    def _begin(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        latents = noise * NOISE + conditioning["picture"] * (1 - NOISE)
        if not self._extra_frames:
            latents[:, :, :1] = conditioning["picture"]
        return latents

    def _velocity(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
        sentence: str,
    ) -> Tensor:
        if self._extra_frames:
            latents = self._beside_the_picture(latents, conditioning["picture"])
            return super()._velocity(card, conditioning, latents, index, request, plan, sentence)
        velocity = super()._velocity(card, conditioning, latents, index, request, plan, sentence)
        velocity[:, :, :1] = 0  # what does not move stays the picture's
        return velocity

    def _beside_the_picture(self, latents: Tensor, picture: Tensor) -> Tensor:
        """(1, 2 C + 1, f, h, w): the latents, the picture in the first frame alone, and 1 where it is."""
        channels = latents.shape[1]
        given = latents.new_zeros(1, 2 * channels + 1, *latents.shape[2:], dtype=self._precision)
        given[:, :channels] = latents
        given[:, channels:-1, :1] = picture
        given[:, -1:, :1] = 1
        return given

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        frames = super().decode(card, conditioning, latents, request, plan)
        return islice(frames, self._extra_frames * TIME_SCALE, None)

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        return super().preview(predicted[:, :, self._extra_frames :], conditioning)
