"""What can be said of a model family without loading it: sizes, limits, defaults, files, hints. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from i2v.families.long_clips import LongClips
from i2v.families.lora_names import LoraNames
from i2v.messages import UserError
from i2v.plan import Precision
from i2v.request import Adapter, GenerationRequest, Input, InputKind, Task
from i2v.vae_window import VaeWindow

UNET_KNOBS = {"denoise": ("cfg", "chunk_frames", "chunk_pixels"), "decode": ("decode_frames",)}
"""What a plan decides of each phase of a network of frames and pixels, by its fields: nothing else of a plan changes
what the phase holds beside its weights."""


UNET_RUNGS: tuple[Mapping[str, int | str], ...] = (
    {"cfg": "batch", "chunk_frames": 0, "chunk_pixels": 0, "decode_frames": 4},
    {"cfg": "split", "chunk_frames": 0, "chunk_pixels": 0, "decode_frames": 2},
    {"cfg": "split", "chunk_frames": 4, "chunk_pixels": 4096, "decode_frames": 1},
    {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 2048, "decode_frames": 1},
    {"cfg": "split", "chunk_frames": 1, "chunk_pixels": 1024, "decode_frames": 1},
    {"cfg": "split", "chunk_frames": 1, "chunk_pixels": 512, "decode_frames": 1},
)
"""These decisions from the fastest to those that hold least: every rung gives the same picture, and is slower by its
launches."""


@dataclass(frozen=True)
class Defaults:
    """What a request takes where the person said nothing."""

    width: int
    height: int
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    negative_prompt: str = ""


@dataclass(frozen=True)
class Hints:
    """Ranges that give good results; outside them a person is warned, never refused."""

    min_steps: int = 1
    max_steps: int = 100
    min_guidance: float = 1.0
    max_guidance: float = 20.0
    max_frames: int = 32
    practised_pixels: int = 0  # of one frame: what it was trained on hardly has fewer


@dataclass(frozen=True)
class InputSlot:
    """A place for one input (`request.Input`): of which kind, at which frame, and whether nothing goes without it. An
    image without a frame may be any between the first and the last, and there may be several."""

    kind: InputKind
    at: int | None = 0
    needed: bool = True

    def takes(self, one: Input) -> bool:
        """Whether it is the place of `one`."""
        if self.kind == one.kind == "image" and self.at is None:
            return one.at is not None and one.at > 0
        return (one.kind, one.at) == (self.kind, self.at)

    @property
    def is_last(self) -> bool:
        """Whether it is the place of the image that a video ends with."""
        return (self.kind, self.at) == ("image", -1)


LAST_IMAGE = InputSlot("image", -1, needed=False)
"""The place of an image that a video may end with."""

IMAGES_BETWEEN = InputSlot("image", None, needed=False)
"""The places of images at frames in between."""


@dataclass(frozen=True)
class Mark:
    """What tells checkpoints of a family from others of the same class: whether a JSON file of theirs has something
    under `key`, or just this `value`, or a text with `pattern` in it. A file that is not there has nothing, and neither
    has a component of no class, or what is false. Where there is an `or_else`, that is enough too."""

    file: str
    key: str
    there: bool = True
    value: object = None
    pattern: str | None = None
    or_else: Mark | None = None

    def is_on(self, values: Mapping[str, Any]) -> bool:
        """Whether a checkpoint has it whose file holds these values."""
        value = values.get(self.key)
        given = any(value) if isinstance(value, list) else value not in (None, False)
        if self.value is not None:
            return value == self.value
        if self.pattern is not None:
            return isinstance(value, str) and re.search(self.pattern, value) is not None
        return given is self.there


@dataclass(frozen=True)
class PartsFrom:
    """A repository of the hub that has some folders of a model. `at_top`: it has but one, whose files are in no folder
    there."""

    hub_id: str
    components: tuple[str, ...]
    at_top: bool = False


@dataclass(frozen=True)
class VaeWindows:
    """In which windows (`i2v.vae_window`) a family's autoencoder may work. `own`: what diffusers' own are called;
    `others`: what a lossy policy may take instead, from those that change least, each with its PSNR in dB against the
    own ones (python -m bench.vae_windows). `frames`, `pixels`: of a side, for which one latent stands."""

    own: str
    others: Mapping[str, float]
    frames: int = 4
    pixels: int = 8

    def clip(self, width: int, height: int, num_frames: int) -> VaeWindow:
        """The smallest window that holds a whole clip."""
        return VaeWindow((num_frames - 1) // self.frames + 1, height // self.pixels, width // self.pixels)


@dataclass(frozen=True)
class Licence:
    """Under what terms a model's weights are given, by their usual name, and where these can be read; None for those
    of the app itself. `everywhere`: nobody is left out by where they live."""

    name: str
    url: str | None = None
    everywhere: bool = True


@dataclass(frozen=True)
class Strength:
    """How good the family's videos are beside those of the others: the higher `rank` is proposed where several run
    well. `reason`: id of a message that says by what this is judged."""

    rank: int
    reason: str


@dataclass(frozen=True)
class FewSteps:
    """LoRAs that were distilled so that few steps do, without a second pass. `names`: a pattern of what their files are
    called. They are another model: what they paint is less varied than at full quality. `source`: where they are.
    `shifts`: the flow shift that those with a pattern in their name were distilled with, as far as known; the others
    take the model's own."""

    names: str
    steps: int
    guidance_scale: float
    source: str
    shifts: Mapping[str, float] = field(default_factory=dict)


FROM_AN_IMAGE: Mapping[Task, tuple[InputSlot, ...]] = {"i2v": (InputSlot("image"),)}
"""What a family takes that makes videos of an image and a sentence, and nothing else."""


@dataclass(frozen=True)
class TwoStages:
    """How a video is denoised at half the size first, and then, its latents made twice as large, at the full one.
    `component`: what makes them larger, which a checkpoint may have or not, with its `files`. `more_steps`: of a run
    beyond those of its first stage; making larger is one. `distilled_steps`: weights that learned the schedule of the
    second stage make the first one in so many, without guidance."""

    component: str
    files: tuple[str, ...]
    more_steps: int
    distilled_steps: int

    def halves(self, width: int, height: int, size_multiple: int) -> bool:
        """Whether half of this size is one that the family can make."""
        return not (width % (2 * size_multiple) or height % (2 * size_multiple))

    def is_distilled(self, request: GenerationRequest) -> bool:
        """Whether a run is one of weights that learned the schedules of both stages."""
        return request.guidance_scale <= 1 and request.num_inference_steps == self.distilled_steps


def in_one_part(steps: int) -> Mapping[str, int]:
    """All steps are alike."""
    return {"denoise": steps}


def in_one_section(_frames: int) -> int:
    """A video is made all at once."""
    return 1


def latents_of_pictures(width: int, height: int, num_frames: int) -> int:
    """Of an autoencoder of single pictures: 4 channels, an eighth of the size."""
    return 4 * (width // 8) * (height // 8) * num_frames


@dataclass(frozen=True)
class FamilySpec:
    """One family. `inputs`: its tasks, and what each of them takes beside a sentence. `components` maps each folder of
    the checkpoint to the files that must be in it, weights given without their variant
    (`diffusion_pytorch_model.safetensors` is also satisfied by the fp16 variant and by sharded files). A frame count is
    allowed when `(num_frames - frame_offset) % frame_step == 0`."""

    name: str
    title: str
    class_name: str  # `_class_name` in model_index.json
    inputs: Mapping[Task, tuple[InputSlot, ...]]
    hub_id: str | None  # where it can be fetched; None for a model that comes with the app, in assets/<name>
    components: Mapping[str, tuple[str, ...]]
    defaults: Defaults
    other_classes: tuple[str, ...] = ()  # that may stand there instead, and are as good
    in_parts: tuple[PartsFrom, ...] = ()  # where `hub_id` has some of its folders alone: which repositories have them
    marks: tuple[Mark, ...] = ()  # that its checkpoints have and those of other families of the class have not
    size_multiple: int = 8
    min_size: int = 64
    max_size: int = 4096
    only_size: tuple[int, int] | None = None  # width and height of all its clips; None where a person chooses
    frame_step: int = 1
    frame_offset: int = 0
    min_frames: int = 1
    max_frames: int = 512
    takes_prompt: bool = True  # it reads a sentence; else a video is made without one
    max_prompt_tokens: int = 77
    schedulers: tuple[str, ...] = ("DDIMScheduler",)  # those of diffusers that the family's steps work with
    predictions: tuple[str, ...] = ("epsilon", "sample", "v_prediction")  # what these can be told a network predicts
    scheduler_steps: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """What a person may have it denoised by, by the names of `scheduler_choices`, and how many steps of each suit it:
    from, to."""
    betas: tuple[str, ...] = ()  # by the same names: what it was trained on, whatever a checkpoint's configuration says
    precisions: tuple[Precision, ...] = ("float32", "float16", "bfloat16")
    hints: Hints = field(default_factory=Hints)
    longer: LongClips | None = None  # how it makes clips beyond those it was trained on; None where it does not
    frames_are_cheap: bool = False  # hardly more memory and time for more of them: a preset's cap does not bind it
    lora_names: LoraNames | None = None  # what LoRA files call the layers of its denoiser; None where it takes none
    lora_parts: Mapping[str, str] = field(default_factory=dict)
    """Where LoRAs come in one file for each of several denoisers: by component, a pattern of what is in the name of a
    file that is for it alone. A file of any other name goes on all of them."""
    few_steps: FewSteps | None = None  # LoRAs of the fast choice of quality; None where it is not offered
    takes_region: bool = False  # what a person brushed in the photograph lives, and nothing else
    tells: bool = False  # its module `telling` says what it will make of a sentence, before a run
    builds_on: tuple[str, ...] = ()  # the families whose code its own code uses
    download_gib: float = 0.0
    published: Mapping[str, Precision] = field(default_factory=dict)  # in what the hub has a component, as far as known
    knobs: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: UNET_KNOBS)  # of a plan, by phase
    rungs: tuple[Mapping[str, int | str], ...] = UNET_RUNGS  # of these knobs, for the planner to go down
    gguf_components: tuple[str, ...] = ()  # whose weights may be a GGUF file (`models.gguf_files`)
    own_settings: tuple[str, ...] = ()  # those of `family_settings` that it takes
    step_cache: bool = False  # whether its blocks may be left out (`memory.step_cache`)
    windows: VaeWindows | None = None  # of its autoencoder; None where that takes pictures one by one
    denoise_steps: Callable[[int], Mapping[str, int]] = in_one_part  # of so many, the steps of each part of denoising
    sections: Callable[[int], int] = in_one_section  # of so many frames, in how many parts with all steps each
    two_stages: TwoStages | None = None  # None where it makes every video at its full size alone
    latent_numbers: Callable[[int, int, int], int] = latents_of_pictures  # at most, by width, height and frames
    guidance: Literal["second pass", "embedded", "none"] = (
        "second pass"  # what `guidance_scale` above 1 asks of each step
    )
    steps_until_alike: int = 2  # the step of a run from which every further one holds and does as much
    bound_slack: float = 1.0  # what activations of a larger job must be multiplied by to bound those of any smaller one
    only_fps: int | None = None  # frames per second of all its clips; None where a person chooses
    audio_rate: int | None = None  # samples per second of the sound that it makes; None where its videos are silent
    about: str = ""  # id of a message: what a person should know before choosing it
    licence: Licence | None = None  # of its weights
    strength: Strength | None = None  # None: it is never proposed, only chosen

    def dry_frames(self, frames: int) -> int:
        """How many frames a dry run has that tells of a clip of `frames`."""
        return frames if self.longer is None else self.longer.dry_frames(frames)

    def shares(self, frames: int) -> Mapping[str, float]:
        """How many times the work of that dry run such a clip takes, by phase; see `LongClips.shares`."""
        return {} if self.longer is None else self.longer.shares(frames)

    def is_of(self, class_name: str) -> bool:
        """Whether a checkpoint that names this class may be of the family."""
        return class_name in (self.class_name, *self.other_classes)

    @property
    def comes_with_the_app(self) -> bool:
        """Whether its files are in assets/<name>."""
        return self.hub_id is None

    def steps_in_all(self, request: GenerationRequest) -> int:
        """Denoising steps of a whole run: those that were asked for, in each of its sections, and those of a second
        stage."""
        more = self.two_stages.more_steps if self.two_stages is not None and request.two_stages else 0
        return request.num_inference_steps * self.sections(request.num_frames) + more

    @property
    def optional(self) -> Mapping[str, tuple[str, ...]]:
        """As `components`: those that a checkpoint may have or not."""
        return {} if self.two_stages is None else {self.two_stages.component: self.two_stages.files}

    @property
    def every_component(self) -> Mapping[str, tuple[str, ...]]:
        """As `components`, with those that are `optional`."""
        return {**self.components, **self.optional}

    def is_guided(self, request: GenerationRequest) -> bool:
        """Whether each step calls the network a second time, without the prompt."""
        if self.guidance == "none":
            return False
        return (request.guidance_scale if self.guidance == "second pass" else request.true_guidance_scale) > 1

    def added(self, request: GenerationRequest) -> int:
        """How many inputs a request has that its task could do without."""
        slots = [slot for slot in self.inputs.get(request.task, ()) if not slot.needed]
        return sum(any(slot.takes(one) for slot in slots) for one in request.inputs)

    def last_image(self, task: Task) -> InputSlot | None:
        """The place for the image that a video of this task ends with; None where there is none."""
        return next((slot for slot in self.inputs.get(task, ()) if slot.is_last), None)

    def window_psnr_db(self, window: str) -> float | None:
        """How near the picture in this window of the autoencoder comes to its own; None where nobody has measured."""
        return self.windows.others.get(window) if self.windows is not None else None

    @property
    def half(self) -> Precision:
        """The half precision that a card computes it in."""
        return "float16" if "float16" in self.precisions else "bfloat16"

    @property
    def usual_task(self) -> Task:
        """The one that its name stands for: the first of `inputs`."""
        return next(iter(self.inputs))

    @property
    def tasks(self) -> frozenset[Task]:
        """What it can do."""
        return frozenset(self.inputs)

    def check_inputs(self, task: Task, inputs: Sequence[Input]) -> None:
        """Refuse a task that is none of `tasks`, and inputs that it can not be done from; raises UserError naming what
        is missing or has no place."""
        self._check_task(task)
        slots = self.inputs[task]
        for one in inputs:
            if not any(slot.takes(one) for slot in slots):
                raise self._not_taken(one, task)
        for slot in slots:
            if slot.needed and not any(slot.takes(one) for one in inputs):
                raise UserError("request.needed_last_image" if slot.is_last else f"request.needed_{slot.kind}")

    def _not_taken(self, one: Input, task: Task) -> UserError:
        """Why `one` has no place with `task`: another task takes it, or none does."""
        others = [name for name, slots in self.inputs.items() if any(slot.takes(one) for slot in slots)]
        if others:
            return UserError(
                f"family.other_task_takes_{one.kind}", model=self.title, task=task, others=", ".join(others)
            )
        if LAST_IMAGE.takes(one):
            return UserError("family.not_taken_last_image", model=self.title)
        if one.kind == "image" and any(slot.kind == "image" for slots in self.inputs.values() for slot in slots):
            return UserError("family.frame_not_taken", model=self.title)
        return UserError(f"family.not_taken_{one.kind}", model=self.title)

    def check_scheduler(self, scheduler: str | None, betas: str | None) -> None:
        """Refuse a scheduler and betas that it does not offer; raises UserError naming those that it does. None is the
        checkpoint's own."""
        if scheduler is not None and scheduler not in self.scheduler_steps:
            raise self._not_offered("scheduler", scheduler, self.scheduler_steps)
        if betas is not None and betas not in self.betas:
            raise self._not_offered("betas", betas, self.betas)

    def _not_offered(self, kind: Literal["scheduler", "betas"], value: str, offered: Collection[str]) -> UserError:
        if not offered:
            return UserError(f"family.none_offered_{kind}", model=self.title, value=value)
        return UserError(f"family.not_offered_{kind}", model=self.title, value=value, offered=", ".join(offered))

    def good_steps(self, scheduler: str | None) -> tuple[int, int]:
        """How many steps of this scheduler give good results: from, to."""
        own = self.hints.min_steps, self.hints.max_steps
        return own if scheduler is None else self.scheduler_steps.get(scheduler, own)

    @property
    def takes_adapters(self) -> bool:
        """Whether LoRAs may be put on its denoiser."""
        return self.lora_names is not None

    def lora_goes_on(self, file_name: str, component: str) -> bool:
        """Whether a LoRA of this name belongs on this denoiser."""
        meant = [one for one, pattern in self.lora_parts.items() if re.search(pattern, file_name, re.IGNORECASE)]
        return not meant or component in meant

    def check_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Refuse LoRAs where the family takes none; raises UserError."""
        if adapters and not self.takes_adapters:
            raise UserError("family.adapters_not_taken", model=self.title)

    def check(self, *, task: str, width: int, height: int, num_frames: int) -> None:
        """Refuse what this family cannot do at all; raises UserError naming the limit and the nearest good value."""
        self._check_task(task)
        if self.only_size not in (None, (width, height)):
            only = "{} x {}".format(*self.only_size)
            raise UserError("family.only_size", model=self.title, value=f"{width} x {height}", only=only)
        for side, value in (("width", width), ("height", height)):
            if not self.min_size <= value <= self.max_size:
                raise UserError("family.size_range", side=side, value=value, low=self.min_size, high=self.max_size)
            if value % self.size_multiple:
                raise UserError(
                    "family.size_multiple",
                    side=side,
                    value=value,
                    multiple=self.size_multiple,
                    nearest=self.nearest_size(value),
                )
        if not self.min_frames <= num_frames <= self.max_frames:
            raise UserError("family.frames_range", value=num_frames, low=self.min_frames, high=self.max_frames)
        if (num_frames - self.frame_offset) % self.frame_step:
            raise UserError(
                "family.frames_rule", value=num_frames, step=self.frame_step, nearest=self.nearest_frames(num_frames)
            )

    def _check_task(self, task: str) -> None:
        if task not in self.tasks:
            raise UserError("family.task", model=self.title, task=task, tasks=", ".join(sorted(self.tasks)))

    def nearest_size(self, value: float) -> int:
        """The allowed side length nearest to `value` pixels."""
        multiple = self.size_multiple
        low = -(-self.min_size // multiple) * multiple
        high = self.max_size // multiple * multiple
        return int(min(max(round(value / multiple) * multiple, low), high))

    def nearest_sizes(self, width: float, height: float) -> tuple[int, int]:
        """The allowed size nearest to `width` and `height`."""
        return self.only_size or (self.nearest_size(width), self.nearest_size(height))

    def nearest_frames(self, value: float) -> int:
        """The allowed frame count nearest to `value`."""
        low = -(-(self.min_frames - self.frame_offset) // self.frame_step)
        high = (self.max_frames - self.frame_offset) // self.frame_step
        steps = round((value - self.frame_offset) / self.frame_step)
        return int(min(max(steps, low), high)) * self.frame_step + self.frame_offset

    def to_json(self) -> dict[str, Any]:
        """The part of the spec that clients show: limits, defaults and hints as plain JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "tasks": sorted(self.tasks),
            "defaults": vars(self.defaults),
            "hints": vars(self.hints),
            "size_multiple": self.size_multiple,
            "max_frames": self.max_frames,
        }
