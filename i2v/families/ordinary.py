"""What most families have alike: a model class builds on this and says what is its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from i2v.families.base import Conditioning
from i2v.families.long_clips import LongClips
from i2v.messages import Message
from i2v.request import GenerationRequest


class OrdinaryModel:
    """Those parts of `families.base.FamilyModel` that are one transformer for all steps, an autoencoder, clips that are
    made at once, and nothing to be told."""

    denoise_stages: ClassVar[Mapping[str, tuple[str, ...]]] = {"denoise": ("transformer",)}
    decode_components: ClassVar[tuple[str, ...]] = ("vae",)
    decode_stages: ClassVar[tuple[str, ...]] = ()
    longer: ClassVar[LongClips | None] = None
    by_frame: ClassVar[tuple[str, ...]] = ()

    def said(self, request: GenerationRequest, conditioning: Conditioning) -> Sequence[Message]:
        return ()

    def shown(self, request: GenerationRequest, conditioning: Conditioning, latents: Tensor) -> Sequence[Message]:
        return ()

    def denoise_stage(self, index: int) -> str:
        return "denoise"
