"""What a person asked for, checked, completed and resolved: a GenerationRequest, its model and the settings it runs
under; and from these the Plan where the planner begins. Whoever needs more of a request than its numbers hands on a
`Resolved`, so that nothing is looked up twice.

Page, command line and API client hand in the same mapping, with the command line's keys. A missing value, None, ""
and "auto" leave the choice to us: the family's defaults, brought down to the preset's caps. Asking for more than the
caps is noted, never refused; only a family's own limits refuse.
"""

from __future__ import annotations

import math
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from i2v.events import Noted
from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.family_settings import FAMILY_SETTINGS
from i2v.hardware.probe import GIB, Host, Probe
from i2v.jobs.asked.adapters import adapters_of
from i2v.jobs.asked.advice import preset_notes_for, request_notes
from i2v.jobs.asked.between import check_between, inputs_between, pictures_at
from i2v.jobs.asked.two_stages import stages_notes, two_stages
from i2v.jobs.asked.typed_text import DELETE, as_meant, cleaned
from i2v.messages import UserError
from i2v.models.catalogue import find_model, list_models
from i2v.models.entry import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.planning.planner import PLANNED
from i2v.request import (
    AUTO,
    FITS,
    GUIDANCE_CURVES,
    INTERPOLATIONS,
    TASKS,
    UPSCALINGS,
    Finish,
    GenerationRequest,
    Input,
    PlanOptions,
    Task,
    first_image,
    last_image,
)
from i2v.settings.keys import KEYS, MAX_STEPS
from i2v.settings.settings import Settings, preset_source
from i2v.settings.values import Choice, Folder, Number, Switch, Text, Whole, listed, nearest, shown, whole
from i2v.vae_window import OWN
from i2v.video import region as region_file
from i2v.video.clip import MAX_MEGAPIXELS, ClipFacts, clip_facts, too_short
from i2v.video.picture import load_picture

PLAN_KEYS = (
    *("preset", "precision", "chunk_frames", "chunk_pixels", "chunk_tokens", "cfg", "offload", "decode_frames"),
    *("decode_rows", "vae_window", "policy", "step_cache"),
)
FINISH_KEYS = tuple(field.name for field in fields(Finish))
REQUEST_KEYS = (
    *("model", "task", "image", "last_image", "video", "strength", "prompt", "negative", "width", "height", "frames"),
    *("fps", "steps", "guidance", "true_guidance", "seed", "fit", "region", "way", "lora", "image_at"),
    *("scheduler", "betas", "guidance_rescale", "guidance_curve", "two_stages"),
    *FAMILY_SETTINGS,
    *FINISH_KEYS,
    *PLAN_KEYS,
)

MAX_PROMPT_CHARS = 10_000
BENT = 0.1  # by how much a size's shape may differ from the one that is wanted
MAX_FPS = 120
MAX_GUIDANCE = 100
VIDEO_STRENGTH = 0.8  # how far from its clip a video may go where nobody says
MAX_SEED = 2**53 - 1  # JSON and JavaScript keep whole numbers exactly up to here
DRAWN_SEED_BITS = 32  # short enough to be read out and typed in again

_WORDS = ("prompt", "negative")  # where "auto" would be a word like any other


@dataclass(frozen=True)
class Resolved:
    """A request with what it names: its model, and the settings with the request's own choices on top. `clip`: what is
    known of the video that it names."""

    request: GenerationRequest
    entry: ModelEntry
    settings: Settings
    clip: ClipFacts | None = None

    @classmethod
    def of(cls, request: GenerationRequest, settings: Settings) -> Resolved:
        """A request that is complete already, as a job's is. Raises UserError where its model is no longer there."""
        return cls(request, find_model(request.model, settings), settings.with_overrides(request.options))

    @property
    def spec(self) -> FamilySpec:
        """What the model's family allows."""
        return SPECS[self.entry.family]


def build_request(values: Mapping[str, Any], settings: Settings, *, to_run: bool = True) -> GenerationRequest:
    """The request of `resolve`."""
    return resolve(values, settings, to_run=to_run).request


def resolve(
    values: Mapping[str, Any], settings: Settings, *, to_run: bool = True, only_decodes: bool = False
) -> Resolved:
    """The complete request for `values`, with every default filled in and a seed drawn where none was given, its model
    and its settings. One that is only planned (`to_run` false) needs no prompt, no picture and no video. One that
    `only_decodes` what was denoised before takes no more frames of its clip, whose length then does not matter.

    Raises UserError naming key, value and what is allowed, for anything that cannot be.
    """
    given = _given(values)
    options = PlanOptions(**{key: KEYS[key].kind.parse(given[key], key) for key in PLAN_KEYS if key in given})
    settings = settings.with_overrides(options)
    entry = find_model(_model(given.get("model", settings.model), settings), settings)
    spec = SPECS[entry.family]
    image, video = _path(given.get("image"), "image"), _path(given.get("video"), "video")
    last = _path(given.get("last_image"), "image")
    task = _task(given, spec, settings, has_image=image is not None or last is not None, has_video=video is not None)
    strength = Number(0, 1, auto=True).parse(given.get("strength", VIDEO_STRENGTH), "strength")
    if to_run and "strength" in given and "video" not in given:
        raise UserError("request.strength_alone")
    frames_kind = Whole(spec.min_frames, spec.max_frames, auto=True)
    asked_frames = frames_kind.parse(given["frames"], "frames") if "frames" in given else None
    prompt = _text(given.get("prompt", ""), "prompt")
    if to_run and not prompt and spec.takes_prompt:
        raise UserError("request.prompt_needed")
    inputs = first_image(str(image) if image else None) + last_image(str(last) if last else None)
    inputs += inputs_between(pictures_at(given.get("image_at")))
    if video is not None:
        inputs += (Input("video", str(video), at=None, strength=strength),)
    if to_run:
        spec.check_inputs(task, inputs)
    default_steps = min(spec.defaults.num_inference_steps, settings.max_steps)
    negative_prompt = _text(given.get("negative", spec.defaults.negative_prompt), "negative")
    fps = Whole(1, MAX_FPS, auto=True).parse(given.get("fps", spec.defaults.fps), "fps")
    if spec.only_fps not in (None, fps):
        raise UserError("family.only_fps", model=spec.title, value=fps, only=spec.only_fps)
    steps = Whole(1, MAX_STEPS, auto=True).parse(given.get("steps", default_steps), "steps")
    guidance = Number(0, MAX_GUIDANCE, auto=True).parse(given.get("guidance", spec.defaults.guidance_scale), "guidance")
    true_guidance = Number(1, MAX_GUIDANCE, auto=True).parse(given.get("true_guidance", 1.0), "true_guidance")
    if true_guidance > 1 and spec.guidance != "embedded":
        raise UserError("family.true_guidance_not_taken", model=spec.title)
    scheduler, betas = _name(given.get("scheduler"), "scheduler"), _name(given.get("betas"), "betas")
    spec.check_scheduler(scheduler, betas)
    rescale = Number(0, 1, auto=True).parse(given.get("guidance_rescale", 0.0), "guidance_rescale")
    curve = Choice(GUIDANCE_CURVES, auto=True).parse(given.get("guidance_curve", "constant"), "guidance_curve")
    of_the_family = _of_the_family(given, spec, settings)
    seed = _seed(given.get("seed"))
    fit = Choice(FITS, auto=True).parse(given.get("fit", settings.fit), "fit")
    region = _region(given.get("region"))
    way = region_file.read_way(given["way"]) if "way" in given else None
    folder = entry.folder if entry.present else None
    adapters = adapters_of(given["lora"], settings, spec, folder) if "lora" in given else ()
    finish = _finish(given, fps)
    # Last, because they may read picture and clip: a slip in any other word is told without that.
    clip = (
        None
        if video is None
        else clip_facts(video, max_megapixels=min(settings.max_picture_megapixels, MAX_MEGAPIXELS))
    )
    num_frames = asked_frames or cap_frames(spec.defaults.num_frames, settings.max_frames, spec)
    if video is not None and clip is not None and not only_decodes:
        most = _frames_of(clip, video, fps, spec)
        if asked_frames is not None and asked_frames > most:
            raise too_short(video.name, clip, asked_frames, fps, most)
        num_frames = min(num_frames, most)
    width, height = _size(given, image, clip, spec, settings)
    spec.check(task=task, width=width, height=height, num_frames=num_frames)
    check_between(inputs, num_frames)
    request = GenerationRequest(
        model=entry.name,
        task=task,
        prompt=prompt,
        negative_prompt=negative_prompt,
        inputs=inputs,
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        num_inference_steps=steps,
        guidance_scale=guidance,
        true_guidance_scale=true_guidance,
        scheduler=scheduler,
        betas=betas,
        guidance_rescale=rescale,
        guidance_curve=curve,
        **of_the_family,
        seed=seed,
        fit=fit,
        region=region,
        way=way,
        adapters=adapters,
        finish=finish,
        options=options,
    )
    request = replace(request, two_stages=two_stages(given.get("two_stages"), request, entry, spec))
    return Resolved(request, entry, settings, clip)


def _of_the_family(given: Mapping[str, Any], spec: FamilySpec, settings: Settings) -> dict[str, Any]:
    """The settings that not every family takes, as asked, else as set for every model that takes them. Raises UserError
    for one that the model does not take."""
    asked = {name: KEYS[name].kind.parse(given[name], name) for name in FAMILY_SETTINGS if name in given}
    for name in asked:
        if name not in spec.own_settings:
            able = listed(one.title for one in SPECS.values() if name in one.own_settings)
            raise UserError("family.setting_not_taken", model=spec.title, setting=name, models=able)
    return {name: asked.get(name, getattr(settings, name)) for name in spec.own_settings}


def build_plan(resolved: Resolved, probe: Probe, *, decodes_as: Plan | None = None) -> tuple[Plan, tuple[Noted, ...]]:
    """How a request is run on the machine as probed, and what the person should know about it beforehand. Where only
    the decoding is run, of what was made under the plan `decodes_as`, it decodes in the same parts, so that the frames
    are the same, unless a person chose others; and there is nothing to say of how the latents are made.

    Raises UserError for a precision that the model cannot do.
    """
    settings, spec = resolved.settings, resolved.spec
    device = _device(settings, probe)
    precision = _precision(settings, device, probe.host, spec)
    if precision not in spec.precisions:
        raise UserError("request.precision", model=spec.title, value=precision, allowed=listed(spec.precisions))
    knobs = {name: getattr(settings, name) for names in spec.knobs.values() for name in names}
    if spec.windows is not None and knobs.get("vae_window") == spec.windows.own:
        knobs["vae_window"] = OWN
    if decodes_as is not None:
        own = [name for name in spec.knobs["decode"] if _of_preset(name, settings)]
        if "vae_window" in knobs and settings.sources["vae_window"] != "request":
            own.append("vae_window")
        knobs |= {name: getattr(decodes_as, name) for name in own}
    attention = settings.attention if "chunk_tokens" in knobs else "native"  # of transformers alone
    step_cache = _step_cache(settings, spec) if decodes_as is None else decodes_as.step_cache
    plan = Plan(
        device=device,
        precision=precision,
        places=everywhere(settings.offload),
        memory_cap_bytes=int(settings.simulate_gib * GIB) if settings.simulate_gib else None,
        preset=settings.preset,
        attention=attention,
        step_cache=step_cache,
        lossless=attention != "sage" and not step_cache and knobs.get("vae_window", OWN) == OWN,
        **knobs,
    )
    asked, entry = resolved.request, resolved.entry
    notes = (*request_notes(asked, settings, spec), *stages_notes(asked, entry, spec))
    about_latents = notes if decodes_as is None else ()
    messages = (*about_latents, *preset_notes_for(plan, probe))
    return plan, tuple(Noted("warning", text) for text in messages)


def _step_cache(settings: Settings, spec: FamilySpec) -> float:
    """By what share the first block may change for the others to be left out. Raises UserError where somebody asks
    that of a model whose blocks can not be left out, or of a job in which nothing may be lost."""
    if not spec.step_cache:
        if settings.step_cache and settings.sources["step_cache"] == "request":
            able = listed(one.title for one in SPECS.values() if one.step_cache)
            raise UserError("family.step_cache_not_taken", model=spec.title, models=able)
        return 0.0
    if settings.step_cache and settings.policy == "lossless":
        raise UserError("request.step_cache_lossless", share=f"{settings.step_cache:g}")
    return settings.step_cache


def fixed_by_person(settings: Settings) -> frozenset[str]:
    """The decisions that somebody made: what came from a preset is only where the planner starts."""
    return frozenset(key for key in PLANNED if not _of_preset(key, settings))


def _precision(settings: Settings, device: str, host: Host, spec: FamilySpec) -> str:
    """The precision to compute with. A preset's float16 becomes bfloat16 where the processor computes (the simulated
    card, or a card's preset without one), and for a model that float16 is too narrow for: the same bytes. Where the
    processor is slow at it a bundled model takes float32; a larger one, which nobody waits for there, stays as it would
    be on a card."""
    if not _of_preset("precision", settings) or settings.precision != "float16":
        return settings.precision
    if device != "cuda":
        return "bfloat16" if host.bfloat16 or not spec.comes_with_the_app else "float32"
    return spec.half


def _of_preset(key: str, settings: Settings) -> bool:
    """Whether nobody has set it but the preset."""
    return settings.sources[key] == preset_source(settings.preset)


def cap_size(width: int, height: int, max_pixels: int, spec: FamilySpec) -> tuple[int, int]:
    """The size of about this shape with at most `max_pixels` that the family allows, (width, height): both sides
    rounded down, or where that bends the shape by more than BENT, one of them up."""
    if spec.only_size is not None:
        return spec.only_size
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    multiple, smallest = spec.size_multiple, spec.nearest_size(0)
    down_width, down_height = (max(int(side * scale / multiple) * multiple, smallest) for side in (width, height))

    def bent(size: tuple[int, int]) -> float:
        return abs(size[0] * height / (size[1] * width) - 1)

    down, *up = (down_width, down_height), (down_width + multiple, down_height), (down_width, down_height + multiple)
    if bent(down) <= BENT:
        return down
    return min((down, *(size for size in up if size[0] * size[1] <= max_pixels)), key=bent)


def default_size(spec: FamilySpec, settings: Settings, picture: tuple[int, int] | None = None) -> tuple[int, int]:
    """The size (width, height) taken where none is asked for: the family's within the preset's caps, and with a
    `picture` (width, height) its shape at the same number of pixels, so that nothing is cut."""
    width, height = cap_size(spec.defaults.width, spec.defaults.height, settings.max_pixels, spec)
    if picture is None:
        return width, height
    enlarged = (side * max(width, height) for side in picture)
    return spec.nearest_sizes(*cap_size(*enlarged, width * height, spec))


def cap_frames(num_frames: int, max_frames: int, spec: FamilySpec) -> int:
    """The largest allowed frame count up to both `num_frames` and a preset's `max_frames`; the family's least if none
    is. Where frames are cheap the preset does not bind."""
    wanted = num_frames if spec.frames_are_cheap else min(num_frames, max_frames)
    frames = spec.nearest_frames(wanted)
    return spec.nearest_frames(frames - spec.frame_step) if frames > wanted else frames


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that really say something, all keys known."""
    if not isinstance(values, Mapping):
        raise UserError("request.not_mapping", value=shown(values))
    given = {}
    for key, value in values.items():
        if key not in REQUEST_KEYS:
            near = nearest(key, REQUEST_KEYS)
            if near:
                raise UserError("request.unknown_key_near", key=shown(key), near=near)
            raise UserError("request.unknown_key", key=shown(key), known=listed(REQUEST_KEYS))
        left_to_us = isinstance(value, str) and key not in _WORDS and value.strip().lower() in ("", AUTO)
        if value is not None and not left_to_us:
            given[key] = value
    return given


def _model(value: Any, settings: Settings) -> str:
    """A model as the catalogue takes it, with the home folder written out where one may be named."""
    name = Text().parse(value, "model")
    if settings.listed_models_only and name != settings.model:
        return name
    return str(Folder().parse(name, "model")) if name.startswith("~") else name


def _task(given: Mapping[str, Any], spec: FamilySpec, settings: Settings, *, has_image: bool, has_video: bool) -> Task:
    """The task as asked; else what can be made of what is there, as far as the model does that. Raises UserError for
    one that only other models do, naming them."""
    if "task" not in given:
        by_what_is_there: Task = "v2v" if has_video else "i2v" if has_image else "t2v"
        # What is missing or has no place with the model's own task is told by that.
        return next(task for task in (by_what_is_there, *TASKS) if task in spec.tasks)
    task: Task = Choice(TASKS).parse(given["task"], "task")
    if task not in spec.tasks:
        others = [one.name for one in list_models(settings) if one.problem is None and task in SPECS[one.family].tasks]
        if others:
            raise UserError(
                "request.task_of_others",
                model=spec.title,
                task=task,
                tasks=", ".join(sorted(spec.tasks)),
                others=listed(others),
            )
    return task


def _frames_of(clip: ClipFacts, video: Path, fps: int, spec: FamilySpec) -> int:
    """The largest number of frames that the family makes and the clip has. Raises UserError where there is none."""
    there = clip.frames_at(fps)
    most = cap_frames(there, there, spec)
    if most > there:
        raise UserError(
            "request.clip_too_short",
            file=video.name,
            seconds=round(clip.seconds, 2),
            model=spec.title,
            least=most,
            fps=fps,
            needed=round(most / fps, 2),
        )
    return most


def _size(
    given: Mapping[str, Any], image: Path | None, clip: ClipFacts | None, spec: FamilySpec, settings: Settings
) -> tuple[int, int]:
    """Width and height: as asked; from one of them and the clip's or the picture's shape; or by `default_size`."""
    kind = Whole(spec.min_size, spec.max_size, auto=True)
    sides = {side: kind.parse(given[side], side) for side in ("width", "height") if side in given}
    if len(sides) == 2:
        return sides["width"], sides["height"]
    picture = None
    if clip is not None:
        picture = clip.width, clip.height
    elif image is not None:
        picture = load_picture(image, max_megapixels=settings.max_picture_megapixels).size
    if not sides:
        return default_size(spec, settings, picture)
    shape = picture or (spec.defaults.width, spec.defaults.height)
    if "width" in sides:
        return sides["width"], spec.nearest_size(sides["width"] * shape[1] / shape[0])
    return spec.nearest_size(sides["height"] * shape[0] / shape[1]), sides["height"]


def _text(value: Any, key: str) -> str:
    """A prompt, cleaned: any text, emoji too, but nothing that a file or a terminal would trip over."""
    if not isinstance(value, str):
        raise UserError("request.not_text", key=key, value=shown(value))
    for position, char in enumerate(as_meant(value), start=1):
        # Cc: control characters such as NUL; Cs: half a character, from bytes in another encoding.
        if unicodedata.category(char) in ("Cc", "Cs") and not char.isspace() and char != DELETE:
            raise UserError("request.control_character", key=key, code=f"U+{ord(char):04X}", position=position)
    text = cleaned(as_meant(value))
    chars = max(len(value), len(text))  # a sign may stand for many letters
    if chars > MAX_PROMPT_CHARS:
        raise UserError("request.text_too_long", key=key, chars=chars, limit=MAX_PROMPT_CHARS)
    return text


def _name(value: Any, key: str) -> str | None:
    """A name as the families list it, whatever its case."""
    return None if value is None else Text().parse(value, key).lower()


def _path(value: Any, key: Literal["image", "video"]) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | Path) or "\0" in str(value):
        raise UserError(f"request.bad_{key}", value=shown(value))
    return Path(value)


def _region(value: Any) -> str | None:
    """The region as it was sent, once it has been read."""
    if value is None:
        return None
    region_file.read(value)
    return value


def _finish(given: Mapping[str, Any], fps: int) -> Finish:
    """What is to happen to frames decoded at `fps`. Raises UserError, also where there would be too many a second."""

    def times(key: str, allowed: tuple[int, ...]) -> int:
        asked = given.get(key, 1)
        return int(Choice(tuple(map(str, allowed))).parse(str(whole(asked) or asked), key))

    interpolate = times("interpolate", INTERPOLATIONS)
    if fps * interpolate > MAX_FPS:
        raise UserError("request.too_many_fps", fps=fps, times=interpolate, limit=MAX_FPS, most=MAX_FPS // interpolate)
    return Finish(
        deflicker=Switch().parse(given.get("deflicker", False), "deflicker"),
        match_colours=Switch().parse(given.get("match_colours", False), "match_colours"),
        interpolate=interpolate,
        upscale=times("upscale", UPSCALINGS),
    )


def _seed(value: Any) -> int:
    """The seed as asked; a drawn one for none or any negative number, as people know it from elsewhere."""
    number = -1 if value is None else whole(value)
    if number is None or number > MAX_SEED:
        raise UserError("request.seed", value=shown(value), high=MAX_SEED)
    return number if number >= 0 else secrets.randbits(DRAWN_SEED_BITS)


def _device(settings: Settings, probe: Probe) -> str:
    if probe.gpu is None or settings.preset == "cpu":
        return "cpu"
    return "simulated" if probe.gpu.simulated else "cuda"


def visible_card(plan: Plan, probe: Probe) -> str:
    """The UUID of the card the plan runs on, empty for none."""
    return probe.gpu.uuid if plan.device == "cuda" and probe.gpu else ""
