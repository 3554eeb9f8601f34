"""What every family's `model` module offers the engine (torch side).

A family splits a run into phases: encode stages, one denoise step at a time, decode. The engine places the named
components on the card around each phase; the phases themselves never move a module. The dry run calls the same
methods on fake tensors, so nothing here may depend on a tensor's values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image
from torch import Tensor, nn

from i2v.families.components import Components
from i2v.families.denoising import denoises
from i2v.families.long_clips import LongClips
from i2v.families.schedulers import SchedulerMemory, SchedulerState
from i2v.memory.card import Card
from i2v.memory.precision import store_weights, widen_convolutions
from i2v.memory.step_cache import StepCache
from i2v.messages import Message
from i2v.plan import Plan, Weights
from i2v.request import GenerationRequest, InputKind
from i2v.video.sound import Sound

Conditioning = dict[str, Tensor]
"""What encode hands to denoise and decode, by name; kept on the host between phases."""


@dataclass(frozen=True)
class Inputs:
    """What a request's inputs hold, at the request's size. `images`: RGB, by the frame that each becomes; `clip`: RGB,
    one for each frame of the video, empty without a clip. Those of a file are read when the first is looked at."""

    images: Mapping[int, Image.Image] = field(default_factory=dict)
    clip: Sequence[Image.Image] = ()

    @property
    def first(self) -> Image.Image:
        """The image that the video begins with."""
        return self.images[0]


@dataclass(frozen=True)
class Stage:
    """One part of encode: `components` must be on the card while `run` adds its entries to the conditioning.

    `reads`: the fields of the request that its result depends on; `sees`: the kinds of inputs, and with these on the
    size too, and with a clip on frames and rate. What was made for the same once need not be made again."""

    name: str
    components: tuple[str, ...]
    run: Callable[[Card, Conditioning], None]
    reads: tuple[str, ...]
    sees: tuple[InputKind, ...] = ()


@dataclass(frozen=True)
class StepOutput:
    """After one denoise step, both where the latents were: `latents` for the next step; `predicted`, the clean latents
    the model expects at the end, for the preview."""

    latents: Tensor
    predicted: Tensor


@dataclass(frozen=True)
class Progress:
    """A run after `step` denoising steps, all of it on the host: enough to go on exactly from there. `predicted` are
    the clean latents that the model expected at that step; None where it is done and they are the latents."""

    step: int
    latents: Tensor
    predicted: Tensor | None = None
    scheduler: SchedulerState = field(default_factory=SchedulerState)


class FamilyModel(Protocol):
    """A checkpoint, as `load(folder, precision)` in a family's `model` module opens it from a folder in diffusers
    layout (safetensors only). Its `modules` are on the host, from when they are first needed, until the engine places
    them; in the plan's precision. `blocks`: of components that can stream, what gives the parts of one that come one
    after the other, in the order in which they run; what is in none of them stays. `denoise_stages`: the components of
    each part of denoising, which are called "denoise", or "denoise.<name>" where there are several. `decode_stages`
    names the encode stages whose results decode reads. `longer`: how clips are made that it can not make at once; the
    latents of such a clip, and what of its conditioning has a part for each frame (`by_frame`), lie on the host in
    denoising and decoding, and the model puts what it needs on the card; both may be left out. `sections`: in how many
    parts a video of so many frames is made, one after the other with all steps each; one where it is left out.
    `stages_of`: those of `denoise_stages` that a run of a request has, in order; all where it is left out.
    `more_steps`: how many a run in two stages has beyond those asked for (`spec.TwoStages`)."""

    modules: Components
    sections: Callable[[int], int]
    stages_of: Callable[[GenerationRequest], Mapping[str, tuple[str, ...]]]
    more_steps: int
    blocks: Mapping[str, Callable[[nn.Module], Sequence[nn.Module]]]
    denoise_stages: Mapping[str, tuple[str, ...]]
    decode_components: tuple[str, ...]
    decode_stages: tuple[str, ...]
    longer: LongClips | None
    by_frame: tuple[str, ...]
    step_cache: StepCache
    """What passes leave for later steps (`Plan.step_cache`), anew with `prepare`. May be left out."""

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        """The encode stages in order."""
        ...

    def said(self, request: GenerationRequest, conditioning: Conditioning) -> Sequence[Message]:
        """What a person should know of how the sentence was read, once everything is encoded; the conditioning is on
        the host. Nothing of a video depends on it. None where the family does not know."""
        ...

    def shown(self, request: GenerationRequest, conditioning: Conditioning, latents: Tensor) -> Sequence[Message]:
        """What a person should know of the video that `latents` will become; both are on the host. Nothing of it
        depends on this."""
        ...

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """Reset the scheduler for a new run and return the initial latents on the host, drawn from the seed; from what
        is in `conditioning`, on the host, where the video begins with something."""
        ...

    @property
    def scheduler_memory(self) -> SchedulerMemory:
        """What the scheduler remembers since `prepare`. Beside it a step depends on nothing that came before."""
        ...

    def denoise_stage(self, index: int) -> str:
        """Which of `denoise_stages` step `index` belongs to, after `prepare`. Each is one stretch of steps."""
        ...

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        """Step `index` (from 0). `conditioning` and `latents` are on the card, but for what `longer` keeps on the
        host; what it returns lies where `latents` do."""
        ...

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        """The frames in order, each (H, W, 3) uint8 on the host; holds at most `plan.decode_frames` of them."""
        ...

    def sound(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Sound | None:
        """The sound of the clip, on the host; asked before the frames, while what decodes is on the card. May be left
        out by a family whose videos are silent."""
        ...

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """A small picture of the predicted clip: (F, h, w, 3) uint8 on the host, without any network. Both arguments
        are on the host."""
        ...


def denoisers(model: FamilyModel) -> set[str]:
    """The components that take noise away."""
    return {name for part, components in model.denoise_stages.items() if denoises(part) for name in components}


def stages_of(model: FamilyModel, request: GenerationRequest) -> Mapping[str, tuple[str, ...]]:
    """The parts of denoising that a run of `request` has, each with its components."""
    choose = getattr(model, "stages_of", None)
    return model.denoise_stages if choose is None else choose(request)


def idle(model: FamilyModel, request: GenerationRequest) -> set[str]:
    """The components of other parts of denoising, which a run of `request` does without."""
    used = {name for components in stages_of(model, request).values() for name in components}
    every = {name for components in model.denoise_stages.values() for name in components}
    return every - used - set(model.decode_components)


def change_component(model: FamilyModel, name: str, module: nn.Module, weights: Weights, wide: bool) -> None:
    """Change one component of the model, as it was read, as a plan says: what denoises is stored in its `weights`, and
    convolutions are computed in float32 where `wide`; see `memory.precision`."""
    if name in denoisers(model):
        store_weights(module, weights)
    if wide:
        widen_convolutions(module)


def change_weights(model: FamilyModel, weights: Weights, wide: bool = False) -> None:
    """As `change_component`, all of them."""
    for name, module in model.modules.items():
        change_component(model, name, module, weights, wide)


class Teller(Protocol):
    """A part of a checkpoint that reads sentences without running anything; `load` in the `telling` module of a family
    whose spec `tells` makes it from a folder."""

    def said(self, request: GenerationRequest) -> Sequence[Message]:
        """The same as `FamilyModel.said`, before a run."""
        ...

    def finds(self, request: GenerationRequest, photograph: Image.Image) -> str | None:
        """Where in the whole photograph what is asked for is to live, as a request has it; None where the model is not
        sure, or nothing lives at a place of its own."""
        ...
