"""A run's phases in order, and what stands on the card in each: the one sequence that the engine runs for real and
the dry run follows on fake tensors."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby, islice

import torch
from torch import Tensor

from i2v.families.base import Conditioning, FamilyModel, Inputs, Progress, Stage, idle
from i2v.memory.card import Card, HostCard, SpareHost
from i2v.memory.streaming import Parted, parted
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.sound import Sound

Ready = Callable[[Stage], Conditioning | None]
"""What a stage would make, where that is known already."""

Hear = Callable[[Sound], None]
"""Takes the sound of a clip, before its frames come."""


def ignored(_sound: Sound) -> None:
    """Nobody wants to hear it."""


def nothing_ready(_stage: Stage) -> Conditioning | None:
    """Every stage has to run."""
    return None


class Phases:
    """The phases of one request under one plan. Components that are not resident leave when their part is over.

    `parts`: the blocks of components that were streamed before, by name; those of others are added. `spared`: the
    components that nothing of this run needs, beside those of other parts of denoising."""

    def __init__(
        self,
        model: FamilyModel,
        card: Card,
        request: GenerationRequest,
        plan: Plan,
        parts: dict[str, Parted] | None = None,
        spared: Collection[str] = (),
    ) -> None:
        self.model = model
        self.parts = {} if parts is None else parts
        self.card = card
        self.request = request
        self.plan = plan
        self._spared = {*spared, *idle(model, request)}
        self.stage = ""
        """The part of denoising that the last step belonged to."""
        self.predicted: Tensor | None = None
        """After a denoise step, on the card: the clean latents the model expects at the end."""

    def encode(
        self, inputs: Inputs, ready: Ready = nothing_ready, only: Collection[str] | None = None
    ) -> Iterator[tuple[Stage, Conditioning]]:
        """After each stage, while its components still stand: the stage, and what it has made, on the host. A stage
        whose result is `ready` does not run; `only` names those that are wanted."""
        stay = filter(self.plan.stays, self.model.modules)
        self._place(self.card, (name for name in stay if name not in self._spared))
        with self.card.on_host():
            stages = self.model.encode_stages(self.request, inputs, self.plan)
        for stage in stages:
            if only is not None and stage.name not in only:
                continue
            with self.card.on_host():
                found = ready(stage)
            if found is not None:
                yield stage, found
                continue
            with self._on_card(stage.components, self.plan.encode_on_host) as card:
                made: Conditioning = {}
                if self.plan.encode_on_host:
                    with self.card.on_host():
                        stage.run(card, made)
                    if stage.components:  # what no network made keeps the precision it has
                        made = {name: _in_precision(tensor, self.plan) for name, tensor in made.items()}
                else:
                    stage.run(card, made)
                kept = {name: card.to_host(tensor) for name, tensor in made.items()}
                made.clear()
                yield stage, kept

    def denoise(
        self, conditioning: Conditioning, progress: Progress | None = None, most: int | None = None
    ) -> Iterator[Tensor]:
        """The latents after each step that is left after `progress`, on the card; `predicted` holds what belongs to
        them until the next one. A dry run makes at most so many steps of each part of denoising."""
        with self.card.on_host():
            latents = self.model.prepare(self.request, self.plan, conditioning)
        begun, to_place = 0, self._to_place_of_the_clip
        if progress is not None:
            begun, latents = progress.step, progress.latents
            self.model.scheduler_memory.write(progress.scheduler, to_place)
        on_card: Conditioning = {}
        total = self.request.num_inference_steps
        if (sections := getattr(self.model, "sections", None)) is not None:
            total *= sections(self.request.num_frames)
        if self.request.two_stages:
            total += self.model.more_steps
        steps = groupby(range(begun, total), key=self.model.denoise_stage)
        try:
            for self.stage, indices in steps:
                with self._on_card(self.model.denoise_stages[self.stage]):
                    if not on_card:  # after the weights, which have stood there the longest when memory runs out
                        on_card = {
                            name: (to_place if name in getattr(self.model, "by_frame", ()) else self.card.to_card)(
                                tensor
                            )
                            for name, tensor in conditioning.items()
                        }
                        latents = to_place(latents)
                    for index in islice(indices, most):
                        output = self.model.denoise_step(self.card, on_card, latents, index, self.request, self.plan)
                        latents, self.predicted = output.latents, output.predicted
                        del output
                        yield latents
                        self.predicted = None
        finally:  # wherever the caller stops, it holds nothing of the card afterwards
            self.predicted = None
            if (cache := getattr(self.model, "step_cache", None)) is not None:
                cache.clear()

    def _to_place_of_the_clip(self, tensor: Tensor, card: Card | None = None) -> Tensor:
        """A tensor with a part for each frame, where the model wants it: on the card, or on the host in a long clip."""
        longer = getattr(self.model, "longer", None)
        if longer is not None and longer.is_long(self.request.num_frames):
            return tensor
        return (card or self.card).to_card(tensor)

    def progress(self, step: int, latents: Tensor) -> Progress:
        """What has to be kept after `step` steps, to go on from `latents` (on the card)."""
        to_host = self.card.to_host
        return Progress(step, to_host(latents), to_host(self.predicted), self.model.scheduler_memory.read(to_host))

    def decode(
        self, conditioning: Conditioning, latents: Tensor, *, wide: bool = False, hear: Hear = ignored
    ) -> Iterator[Tensor]:
        """The frames in order, on the host, from `latents` on the host; computed in float32 where `wide`. Before the
        first of them `hear` is called where the clip has sound. Raises NotFinite."""
        on_host = self.plan.decode_on_host
        with self._on_card(self.model.decode_components, on_host, wide) as card:
            placed = self._to_place_of_the_clip(latents, card)
            with self.card.on_host() if on_host else nullcontext():
                self._sound(card, conditioning, placed, hear)
            frames = self.model.decode(card, conditioning, placed, self.request, self.plan)
            if not on_host:
                yield from frames
                return
            while True:
                with self.card.on_host():
                    frame = next(frames, None)
                if frame is None:
                    return
                yield frame

    def _sound(self, card: Card, conditioning: Conditioning, latents: Tensor, hear: Hear) -> None:
        make = getattr(self.model, "sound", None)
        sound = make and make(card, conditioning, latents, self.request, self.plan)
        if sound is not None:
            hear(sound)

    @contextmanager
    def _on_card(self, components: Iterable[str], on_host: bool = False, wide: bool = False) -> Iterator[Card]:
        """These components on the card for the time of the `with`, or on the host in its stead, in float32 where
        `wide`; under a resident plan they stay."""
        components = tuple(components)
        # What no network makes is in the precision in which it is wanted.
        card = (SpareHost() if components else HostCard()) if on_host else self.card
        if on_host or wide:
            for name in components:
                self.card.evict(self.model.modules[name])
        try:
            with card.widening() if wide else nullcontext(), self.card.on_host() if on_host else nullcontext():
                self._place(card, components)
            with card.widening() if wide else nullcontext():
                yield card
        finally:
            leave = [name for name in components if on_host or wide or not self.plan.stays(name)]
            for name in leave:
                card.evict(self.model.modules[name])
            if leave:
                card.release_cache()
            if not self.plan.keep_loaded:
                self._drop(leave)

    def _drop(self, components: Collection[str]) -> None:
        """Give their memory on the host back."""
        for name in components:
            self.parts.pop(name, None)
        self.model.modules.drop(components)
        gc.collect()

    def _place(self, card: Card, components: Iterable[str]) -> None:
        for name in components:
            module, place = self.model.modules[name], self.plan.place(name)
            if place.residency == "streamed" and name in self.model.blocks and not card.widens:
                card.stream(module, self._parts(name), kept_bytes=place.kept_bytes, slots=place.slots)
            else:
                card.place(module)

    def _parts(self, component: str) -> Parted:
        if component not in self.parts:
            module = self.model.modules[component]
            self.parts[component] = parted(module, self.model.blocks[component](module))
        return self.parts[component]


def _in_precision(tensor: Tensor, plan: Plan) -> Tensor:
    return tensor.to(getattr(torch, plan.precision)) if tensor.is_floating_point() else tensor
