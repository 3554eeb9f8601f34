"""HunyuanVideo-1.5 from a picture: number for number diffusers' `HunyuanVideo15ImageToVideoPipeline`. Beside the
latents stand, as channels, the picture's and a mask of the frame that it fills; and the transformer is told how SigLIP
sees it, as text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import SiglipVisionModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from i2v.families.base import Conditioning, Inputs, Stage
from i2v.families.blocks import encoder_layers
from i2v.families.hunyuan_video_15.model import FEATURES, PICTURE, HunyuanVideo15, parts_of
from i2v.families.hunyuan_video_15.vae import of_a_picture
from i2v.families.weights import read
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest


def load(folder: Path, precision: torch.dtype) -> HunyuanVideo15FromPicture:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    encoder = partial(read, SiglipVisionModel, folder / "image_encoder", precision, up_to_what_is_read)
    processor = SiglipImageProcessorPil.from_pretrained(folder / "feature_extractor", local_files_only=True)
    parts = parts_of(folder, precision, image_encoder=encoder)
    return HunyuanVideo15FromPicture(feature_extractor=processor, **parts)


def up_to_what_is_read(siglip: SiglipVisionModel) -> None:
    """Take away what sums a picture up, which nobody reads."""
    siglip.use_head = False
    siglip.head = nn.Identity()


class HunyuanVideo15FromPicture(HunyuanVideo15):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    blocks: ClassVar = {**HunyuanVideo15.blocks, "image_encoder": encoder_layers}

    def __init__(self, *, feature_extractor: SiglipImageProcessorPil, **parts: Any) -> None:
        """`parts`: those of `HunyuanVideo15`, and image_encoder among its modules."""
        super().__init__(**parts)
        self.feature_extractor = feature_extractor

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def image(card: Card, conditioning: Conditioning) -> None:
            with card.on_host():
                pixels = self.feature_extractor(images=inputs.first, return_tensors="pt").pixel_values
                pixels = pixels.to(self._precision)
            conditioning[FEATURES] = self.modules["image_encoder"](card.to_card(pixels)).last_hidden_state

        def latents(card: Card, conditioning: Conditioning) -> None:
            conditioning[PICTURE] = of_a_picture(card, self.vae, inputs.first, plan.decode_rows)

        return [
            *super().encode_stages(request, inputs, plan),
            Stage("image", ("image_encoder",), image, (), sees=("image",)),
            Stage("latents", ("vae",), latents, (), sees=("image",)),
        ]
