"""A run's phases in order, and what stands on the card in each: the one sequence that the engine runs for real and
the dry run follows on fake tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from PIL import Image
from torch import Tensor

from i2v.families.base import Conditioning, FamilyModel
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest


class Phases:
    """The phases of one request under one plan. Under a "staged" plan components leave when their part is over."""

    def __init__(self, model: FamilyModel, card: Card, request: GenerationRequest, plan: Plan) -> None:
        self.model = model
        self.card = card
        self.request = request
        self.plan = plan
        self.predicted: Tensor | None = None
        """After a denoise step, on the card: the clean latents the model expects at the end."""

    def encode(self, picture: Image.Image) -> Iterator[tuple[str, Conditioning]]:
        """After each stage, while its components still stand: its name, and what all so far have made, on the host."""
        if self.plan.offload == "resident":
            self._place(self.model.modules)
        conditioning: Conditioning = {}
        with self.card.on_host():
            stages = self.model.encode_stages(self.request, picture, self.plan)
        for stage in stages:
            with self._on_card(stage.components):
                made: Conditioning = {}
                stage.run(self.card, made)
                for name, tensor in made.items():
                    conditioning[name] = self.card.to_host(tensor)
                made.clear()
                yield stage.name, conditioning

    def denoise(self, conditioning: Conditioning) -> Iterator[Tensor]:
        """The latents after each step, on the card; `predicted` holds what belongs to them until the next one."""
        with self._on_card(self.model.denoise_components):
            on_card = {name: self.card.to_card(tensor) for name, tensor in conditioning.items()}
            with self.card.on_host():
                latents = self.model.prepare(self.request, self.plan)
            latents = self.card.to_card(latents)
            for index in range(self.request.num_inference_steps):
                output = self.model.denoise_step(self.card, on_card, latents, index, self.request, self.plan)
                latents, self.predicted = output.latents, output.predicted
                del output
                yield latents
                self.predicted = None

    def decode(self, conditioning: Conditioning, latents: Tensor) -> Iterator[Tensor]:
        """The frames in order, on the host, from `latents` on the host."""
        with self._on_card(self.model.decode_components):
            on_card = self.card.to_card(latents)
            yield from self.model.decode(self.card, conditioning, on_card, self.request, self.plan)

    @contextmanager
    def _on_card(self, components: Iterable[str]) -> Iterator[None]:
        """These components on the card for the time of the `with`; under a resident plan they stay."""
        self._place(components)
        try:
            yield
        finally:
            if self.plan.offload == "staged":
                for name in components:
                    self.card.evict(self.model.modules[name])
                self.card.release_cache()

    def _place(self, components: Iterable[str]) -> None:
        for name in components:
            self.card.place(self.model.modules[name])
