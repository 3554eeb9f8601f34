"""Wan from pictures: number for number diffusers' `WanImageToVideoPipeline`. Beside the latents stand, as channels,
those of a clip that begins with the picture; the transformer of Wan 2.1 also looks at what CLIP sees in it. One kind of
checkpoint of Wan 2.1 takes the last frame as well, and none but with it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModel

from i2v.families.base import Conditioning, Inputs, Stage
from i2v.families.wan.model import PICTURES, Wan, parts_of
from i2v.families.wan_i2v.pictures import FIRST, LAST, latents_of, layers, seen, up_to_what_is_read, with_mask
from i2v.families.weights import read
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest

CONDITION = "condition"  # in the conditioning


def load(folder: Path, precision: torch.dtype) -> WanFromPictures:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return WanFromPictures(**seeing_parts(folder, precision))


def seeing_parts(folder: Path, precision: torch.dtype) -> dict[str, Any]:
    """What a model is made of that sees pictures; see `wan.model.parts_of`."""
    encoder = partial(read, CLIPVisionModel, folder / "image_encoder", precision, up_to_what_is_read)
    processor = CLIPImageProcessor.from_pretrained(folder / "image_processor", local_files_only=True)
    return {"image_processor": processor, **parts_of(folder, precision, image_encoder=encoder)}


class WanFromPictures(Wan):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    blocks: ClassVar = {**Wan.blocks, "image_encoder": layers}
    takes: ClassVar[tuple[int, ...]] = (FIRST,)  # the frames that pictures become, in the order in which it sees them

    def __init__(self, *, image_processor: CLIPImageProcessor | None = None, **parts: object) -> None:
        """`parts`: those of `Wan`. Without an `image_processor` nothing sees the pictures but the autoencoder."""
        super().__init__(**parts)
        self.image_processor = image_processor

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        pictures = {at: inputs.images[at] for at in self.takes if at in inputs.images}

        def image(card: Card, conditioning: Conditioning) -> None:
            encoder = self.modules["image_encoder"]
            conditioning[PICTURES] = seen(card, self.image_processor, encoder, [*pictures.values()])

        def latents(card: Card, conditioning: Conditioning) -> None:
            size = request.num_frames, request.height, request.width
            mean, std = self._statistics(card)
            made = (latents_of(card, self.vae, size, pictures, plan.decode_rows) - mean) / std
            conditioning[CONDITION] = with_mask(made, LAST in pictures, self._precision)

        stages = [*super().encode_stages(request, inputs, plan)]
        if self.image_processor is not None:
            stages.append(Stage("image", ("image_encoder",), image, (), sees=("image",)))
        return [*stages, Stage("latents", ("vae",), latents, ("num_frames",), sees=("image",))]

    def _given(self, latents: Tensor, conditioning: Conditioning) -> Tensor:
        """The latents and, as further channels, the condition."""
        channels, condition = latents.shape[1], conditioning[CONDITION]
        given = condition.new_empty(1, channels + condition.shape[1], *latents.shape[2:])
        given[:, :channels] = latents
        given[:, channels:] = condition
        return given
