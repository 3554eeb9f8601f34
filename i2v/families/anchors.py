"""What the windows of a long clip share: the keys and values of its first frames, in every attention over time. So
each window sees the photograph's own frame, as the first one does, and keeps its looks.

Kept is what keys and values are made of, half as much as both: what the layer was given for these frames. It lies on
the host, layer by layer, from the window that begins the clip until the last one of the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_i2vgen_xl import I2VGenXLTransformerTemporalEncoder
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from i2v.memory.card import Card

Sharing = Literal["", "keeps", "uses"]

_sharing: ContextVar[Sharing] = ContextVar("sharing", default="")
_OVER_TIME = (TransformerTemporalModel, I2VGenXLTransformerTemporalEncoder)


def sharing() -> Sharing:
    """What the window at hand does with anchors; "" for a clip in one piece."""
    return _sharing.get()


class Anchors:
    """Those of one call of `network` for every window of a clip: its first `frames` frames."""

    def __init__(self, card: Card, network: nn.Module, frames: int) -> None:
        self._card = card
        self._frames = frames
        self._layers = _attention_over_time(network)
        self._kept: dict[Attention, list[Tensor]] = {layer: [] for layer in self._layers}

    @contextmanager
    def shared(self, *, keeps: bool) -> Iterator[None]:
        """For the time of the `with`, the network either `keeps` the anchors of the window that it is asked about,
        which begins the clip, or attends to those that it has kept."""
        processors = [layer.processor for layer in self._layers]
        token = _sharing.set("keeps" if keeps else "uses")
        try:
            for layer, plain in zip(self._layers, processors, strict=True):
                layer.processor = self._keeping(layer, plain) if keeps else self._using(layer, plain)
            yield
        finally:
            _sharing.reset(token)
            for layer, plain in zip(self._layers, processors, strict=True):
                layer.processor = plain

    def _keeping(self, layer: Attention, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A layer is called once for each pass of guidance and each chunk of pixels; so often it keeps anchors."""
        self._kept[layer].clear()

        def attend(attn: Attention, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            kept = self._card.to_host(hidden_states[:, : self._frames])
            with self._card.on_host():  # a copy: where the host is the card, all other frames would be held with it
                self._kept[layer].append(kept.clone())
            return plain(attn, hidden_states, *args, **kwargs)

        return attend

    def _using(self, layer: Attention, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        kept = iter(self._kept[layer])

        def attend(
            attn: Attention,
            hidden_states: Tensor,
            encoder_hidden_states: Tensor | None = None,
            *args: Any,
            **kwargs: Any,
        ) -> Tensor:
            first = next(kept, None)
            if first is None and isinstance(hidden_states, FakeTensor):  # a layer like it was run in its stead
                first = hidden_states[:, : self._frames]
            assert first is not None
            seen = torch.cat([self._card.to_card(first), hidden_states], dim=1)
            return plain(attn, hidden_states, seen, *args, **kwargs)

        return attend


def _attention_over_time(network: nn.Module) -> list[Attention]:
    layers = (module for module in network.modules() if isinstance(module, _OVER_TIME))
    return [part for layer in layers for part in layer.modules() if isinstance(part, Attention)]
