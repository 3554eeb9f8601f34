"""One run of the engine: what has been made of it so far, all on the host, and the phases that go on from there.

A phase that fails for want of memory leaves what was finished before it untouched: the next attempt, under a smaller
plan, makes only what is missing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2v.engine.cancel import GenerationCancelled, GenerationPaused
from i2v.engine.checkpoint import (
    CHECKPOINT,
    LATENTS,
    Identity,
    load_progress,
    read_progress,
    save_checkpoint,
    save_latents,
)
from i2v.engine.encoded import EncodedCache
from i2v.engine.healing import Healer
from i2v.engine.measuring import SteadinessWatch
from i2v.engine.orders import Orders
from i2v.engine.pace import Pace
from i2v.engine.preview import GrowingPreview, PreviewWriter
from i2v.engine.spill import SpillWatch
from i2v.events import (
    Done,
    Event,
    Healed,
    MemorySampled,
    Noted,
    PhaseFinished,
    PhaseStarted,
    PreviewReady,
    Resumed,
    StateChanged,
    WindowFinished,
)
from i2v.families.base import Conditioning, FamilyModel, Inputs, Progress, Stage, stages_of
from i2v.families.fused import telling
from i2v.families.phases import Phases
from i2v.families.pixels import NotFinite
from i2v.families.spec import FamilySpec
from i2v.finishing.chain import Finishing
from i2v.finishing.stage import Frame
from i2v.memory.card import GIB, Card, MemoryReading
from i2v.memory.step_cache import StepCache
from i2v.messages import UserError, message
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.clip import ClipFrames
from i2v.video.join import put_before
from i2v.video.picture import fit_picture, load_picture
from i2v.video.region import in_frame_of
from i2v.video.sound import Sound
from i2v.video.writer import VideoWriter

log = logging.getLogger(__name__)

HIGH_MEMORY_SHARE = 0.9
HIGH_MEMORY_STEPS = 3

Emit = Callable[[Event], None]


class MemorySpilled(Exception):
    """Steps have become `times` slower while the card is full: its memory has quietly moved elsewhere."""

    def __init__(self, times: float) -> None:
        super().__init__(f"steps are {times:.1f} times slower while the card is full")
        self.times = times


class EngineRun:
    """The state of one run: what was asked, where it computes, who listens, and what is finished."""

    def __init__(
        self,
        request: GenerationRequest,
        plan: Plan,
        folder: Path,
        emit: Emit,
        cancelled: Callable[[], bool],
        card: Card,
        orders: Orders,
        spec: FamilySpec,
    ) -> None:
        self.request = request
        self.folder = folder
        self.emit = emit
        self.card = card
        self._cancelled = cancelled
        self._orders = orders
        self._healer = Healer(plan, orders.ladder, spec.rungs, spec.knobs)
        self._healed = list(orders.healed)
        self._window_psnr_db = spec.window_psnr_db(plan.vae_window)
        self._longer = spec.longer
        self._total_steps = spec.steps_in_all(request)
        self._sections = spec.sections(request.num_frames)
        self._phase = "load"
        self._began = time.perf_counter()
        self._high_steps = 0
        # What is finished:
        self._conditioning: Conditioning | None = None
        self._progress: Progress | None = None
        self._on_disk_step = 0
        self._told_of_checkpoint = False
        self._told_what_is_shown = False
        self._decodes_wide = False
        self._frames = 0

    @property
    def plan(self) -> Plan:
        """The plan in use."""
        return self._healer.plan

    @property
    def steps_done(self) -> int:
        return self._progress.step if self._progress else 0

    def begin(self, model: FamilyModel, identity: Identity) -> None:
        """With this model, from what an earlier run of this job has left. Raises UserError where only decoding was
        asked for and there is nothing to decode."""
        self._model = model
        self._identity = identity
        self._look_under_plan()
        if self._orders.work == "decode":
            self._progress = self._to_decode()
            return
        self._progress, refused = load_progress(self.folder, identity)
        if refused:
            self.emit(Noted("warning", message(f"engine.checkpoint_other_{refused}")))
        if self._progress is not None:
            self._on_disk_step = self._progress.step
            self.emit(Resumed(self._progress.step))

    def needed(self) -> tuple[str, ...]:
        """The components that are needed for what is still missing, in the order in which they are."""
        model, only = self._model, self._wanted_stages
        encoding: list[Stage] = []
        if self._conditioning is None and only != ():
            with self.card.on_host():
                stages = model.encode_stages(self.request, self._inputs, self.plan)
            encoding = [one for one in stages if (only is None or one.name in only) and not self._cache.has(one)]
        denoising = {} if self._only_decodes else stages_of(model, self.request)
        parts = [*(one.components for one in encoding), *denoising.values()]
        return tuple(dict.fromkeys(name for part in (*parts, model.decode_components) for name in part))

    def make_video(self) -> Path:
        """All that is still missing. May be called again after it raised an out-of-memory error."""
        spared = set(self._model.modules) - set(self.needed())
        phases = Phases(self._model, self.card, self.request, self.plan, spared=spared)
        if self._conditioning is None:
            self._conditioning = self._encode(phases, self._wanted_stages)
        if not self._only_decodes:
            self._denoise(phases, self._conditioning)
        assert self._progress is not None
        path = self._decode(phases, self._conditioning, self._progress.latents)
        self.emit(Done(path.name, time.perf_counter() - self._began, self._frames))
        return path

    def keep_progress(self) -> None:
        """Write down the steps that are made, for another process: this one can use its card no more."""
        self._save_checkpoint()

    def heal(self, error: Exception) -> Healed | None:
        """Step down one rung after `error`; what that is, or None when there is none left."""
        before = self.plan
        plan = self._healer.step_down(self._phase) if self._orders.heals else None
        if plan is None:
            return None
        self._look_under_plan()
        changed = plan.changes(before)
        told = ", ".join(f"{name} {was} → {now}" for name, (was, now) in changed.items())
        changes = {name: now for name, (_, now) in changed.items()}
        known = {"phase": self._phase, "step": self.steps_done, "changes": told}
        if isinstance(error, MemorySpilled):
            said = message("engine.healed_spill", times=round(error.times, 1), **known)
        else:
            said = message("engine.healed", **known)
        healed = Healed(self._phase, self.steps_done, changes, plan.to_json(), said)
        self._healed.append(healed.rung)
        log.warning("%s: %s; %s", type(error).__name__, str(error).splitlines()[0:1], healed.rung)
        return healed

    def _look_under_plan(self) -> None:
        """From now on for what was encoded before under the plan in use: the processor, which rounds otherwise than a
        card, may have taken over from it."""
        self._cache = EncodedCache(self._orders.cache, self.request, self.plan, self._identity)

    @property
    def _only_decodes(self) -> bool:
        return self._orders.work == "decode" or self.steps_done == self._total_steps

    @property
    def _wanted_stages(self) -> tuple[str, ...] | None:
        """The encode stages whose results this run still needs; None for all."""
        return self._model.decode_stages if self._only_decodes else None

    def _to_decode(self) -> Progress:
        """The latents of the job folder, whoever's they are; those of an unfinished run as they were predicted."""
        for name in (LATENTS, CHECKPOINT):
            try:
                progress, _ = read_progress(self.folder / name)
            except FileNotFoundError:
                continue
            except Exception as error:
                raise UserError("engine.latents_unreadable", path=str(self.folder / name), reason=str(error)) from error
            return Progress(progress.step, progress.latents if progress.predicted is None else progress.predicted)
        raise UserError("engine.nothing_to_decode", folder=str(self.folder))

    @cached_property
    def _inputs(self) -> Inputs:
        request = self.request
        images: dict[int, Image.Image] = {}
        clip: Sequence[Image.Image] = ()
        for one in request.inputs:
            path = self.folder / one.path
            if one.kind == "image" and one.at is not None:
                # Written by the app, which has held its size to the limit.
                picture = load_picture(path, max_megapixels=math.inf)
                images[one.at] = fit_picture(picture, request.width, request.height, request.fit)
            elif one.kind == "video":
                clip = ClipFrames(path, request.width, request.height, request.num_frames, request.fps, request.fit)
        return Inputs(images, clip)

    def _encode(self, phases: Phases, only: tuple[str, ...] | None) -> Conditioning:
        """Conditioning on the host, in the plan's precision."""
        conditioning: Conditioning = {}
        if only == ():
            return conditioning
        found: set[str] = set()

        def ready(stage: Stage) -> Conditioning | None:
            made = self._cache.get(stage)
            if made is not None:
                found.add(stage.name)
            return made

        with self.phase("encode"), closing(phases.encode(self._inputs, ready, only)) as stages:
            for number, (stage, made) in enumerate(stages, start=1):
                conditioning |= made
                if stage.name not in found and stage.components:
                    self._cache.put(stage, made)
                self._sample_memory("encode", number)
                self._check_wishes()
        if only is None:
            for text in self._model.said(self.request, conditioning):
                self.emit(Noted("info", text))
        return conditioning

    def _denoise(self, phases: Phases, conditioning: Conditioning) -> None:
        """The steps that are left, and the clean latents on disk."""
        total = self._total_steps
        preview, spill = PreviewWriter(self.folder, self.request.fps), SpillWatch()
        denoising = closing(phases.denoise(conditioning, self._progress))
        with self.phase("denoise"), denoising as steps, telling(self._window_made):
            pace = Pace("denoise", total, done=self.steps_done, sections=self._sections)
            shortened = 0
            saved = time.monotonic()
            while True:
                self._check_wishes()
                self.card.reset_peak()
                part = phases.stage
                if (latents := next(steps, None)) is None:
                    break
                if phases.stage != part:  # whose steps take a time of their own
                    spill = SpillWatch()
                    pace.other_steps()
                self.card.synchronize()
                progress = phases.progress(self.steps_done + 1, latents)
                del latents
                if not torch.isfinite(progress.latents).all():
                    raise UserError("engine.not_finite", precision=self.plan.precision)
                self._progress = progress
                cut_short, shortened = self._shortened > shortened, self._shortened
                stepped = pace.step()
                self.emit(stepped)
                reading = self._sample_memory("denoise", self.steps_done)
                stops = self.steps_done == self._orders.stop_at and self.steps_done < total
                if preview.due() or stops:
                    self._show(preview, conditioning)
                if stops:
                    self._save_checkpoint()
                    raise GenerationPaused(self.steps_done)
                if self.steps_done < total and time.monotonic() - saved >= self._orders.checkpoint_seconds:
                    self._save_checkpoint()
                    saved = time.monotonic()
                if cut_short:
                    continue  # beside it a whole one would seem slow
                times = spill.step(stepped.seconds, reading.device_used_bytes, reading.device_total_bytes)
                if times is not None and reading.source != "process" and self._worth_stepping_down():
                    raise MemorySpilled(times)
        self._tell_of_cache()
        assert self._progress is not None
        self._progress = Progress(total, self._progress.latents)
        self._save_latents(self._progress)

    @property
    def _step_cache(self) -> StepCache:
        """What the model's passes leave for later steps; one that keeps nothing where it has none."""
        return getattr(self._model, "step_cache", StepCache(0.0))

    @property
    def _shortened(self) -> int:
        """How many passes of this run were cut short."""
        return self._step_cache.shortened

    def _tell_of_cache(self) -> None:
        cache = self._step_cache
        if cache.threshold:
            share = f"{cache.threshold:g}"
            known = {"shortened": cache.shortened, "passes": cache.passes, "share": share}
            self.emit(Noted("info", message("engine.step_cache", **known)))

    def _window_made(self, made: int, windows: int) -> None:
        """A step of a long clip takes minutes: it is told of, and may be left, between its windows."""
        self.emit(WindowFinished(made, windows))
        if made < windows:
            self._check_wishes()

    def _worth_stepping_down(self) -> bool:
        steps_left = self._total_steps - self.steps_done
        return self._orders.heals and steps_left > 0 and self._healer.can_step_down("denoise")

    def _save_latents(self, finished: Progress) -> None:
        """The finished latents on disk. Where that is full they are worth waiting for: nothing else holds them."""
        until = time.monotonic() + self._orders.disk_patience_seconds
        told = False
        while True:
            try:
                save_latents(self.folder, finished, self._identity)
                self._on_disk_step = finished.step
                return
            except UserError as error:
                if time.monotonic() >= until:
                    raise
                if not told:
                    self.emit(Noted("warning", error.message))
                    told = True
            self._check_wishes()
            time.sleep(1)
            self._sample_memory("denoise", finished.step)  # a word now and then, or waiting is taken for hanging

    def _show(self, preview: PreviewWriter, conditioning: Conditioning) -> None:
        assert self._progress is not None
        with self.card.on_host():
            picture = self._model.preview(self._progress.predicted, conditioning)
        with _worth_no_run("A preview"):
            self.emit(PreviewReady(self.steps_done, preview.write(picture)))

    def _save_checkpoint(self) -> None:
        """On disk as it stands. A disk that does not take it is told of, once, and the run goes on."""
        if self._progress is None or self._on_disk_step == self._progress.step:
            return
        try:
            save_checkpoint(self.folder, self._progress, self._identity)
            self._on_disk_step = self._progress.step
        except OSError as error:
            if not self._told_of_checkpoint:
                self._told_of_checkpoint = True
                reason = error.strerror or str(error)
                self.emit(Noted("warning", message("engine.checkpoint_not_saved", reason=reason)))

    def _decode(self, phases: Phases, conditioning: Conditioning, latents: Tensor) -> Path:
        """As `_decode_once`; where half precision gives no numbers, once more in float32. Raises UserError where that
        gives none either."""
        try:
            return self._decode_once(phases, conditioning, latents)
        except NotFinite as error:
            if self._decodes_wide or self.plan.precision == "float32":
                raise UserError("engine.frames_not_finite") from error
            self._decodes_wide = True
        self.emit(Noted("warning", message("engine.decoded_in_float32", precision=self.plan.precision)))
        return self._decode(phases, conditioning, latents)

    def _decode_once(self, phases: Phases, conditioning: Conditioning, latents: Tensor) -> Path:
        """Decode frame by frame into the video; never holds more than `plan.decode_frames` of them, beside those that
        the finishing stages look at."""
        request = self.request
        path = self.folder / "video.mp4"
        self.emit(StateChanged("decoding"))
        self._tell_what_is_shown(conditioning, latents)
        told = {"request": request.to_json(), "plan": self.plan.to_json(), "healed": self._healed}
        if self._window_psnr_db is not None:
            told["window_psnr_db"] = self._window_psnr_db
        width, height = request.video_size
        finishing = self._finishing()

        def hear(sound: Sound) -> None:
            samples = np.asarray(sound.samples, dtype=np.float32)
            if not np.isfinite(samples).all():
                raise NotFinite
            if request.before:  # the frame that both videos have has its sound in the earlier one
                samples = samples[:, round(sound.rate / request.video_fps) :]
            told["sound"] = {"rate_hz": sound.rate, "channels": len(samples)}
            writer.hear(Sound(samples, sound.rate))
            writer.describe(told)

        with (
            self._decode_phase(finishing),
            VideoWriter(path, width=width, height=height, fps=request.video_fps, metadata=told) as writer,
            closing(phases.decode(conditioning, latents, wide=self._decodes_wide, hear=hear)) as decoded,
        ):
            self.card.reset_peak()
            pace = Pace("decode", request.video_frames)
            preview = GrowingPreview(self.folder, request.video_fps, request.video_frames)
            steadiness = SteadinessWatch(self.folder, request.video_fps, self._seams())
            for index, frame in enumerate(finishing.frames(self._wished(frame.numpy() for frame in decoded))):
                self._check_wishes()
                if index or not request.before:  # what goes on from a video begins with its last frame
                    writer.write(frame)
                    steadiness.add(frame)
                self.emit(pace.step())
                with _worth_no_run("A preview"):
                    if shown := preview.add(frame):
                        self.emit(PreviewReady(self.steps_done + index + 1, shown))
                self._sample_memory("decode", index + 1)
            if finishing.stages:
                writer.describe({**told, "finishing": finishing.told()})
        self.emit(steadiness.finish())
        self._frames = writer.frames
        if request.before:
            self._frames = put_before(self.folder / Path(request.before).name, path)
        return path

    def _seams(self) -> list[int]:
        """The frames of the finished video with which another window of a long clip begins."""
        first = 1 if self.request.before else 0
        seams = self._longer.seams(self.request.num_frames) if self._longer else ()
        return [frame * self.request.finish.interpolate - first for frame in seams]

    def _finishing(self) -> Finishing:
        """What is to happen to the decoded frames."""
        if not self.request.finish.match_colours:
            return Finishing(self.request.finish)
        photograph, moving = self._inputs.images.get(0), in_frame_of(self.request)
        return Finishing(
            self.request.finish,
            None if photograph is None else np.asarray(photograph.convert("RGB")),
            None if moving is None else np.asarray(moving) < 128,
        )

    def _wished(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """`frames`, as long as nobody wants the run to end: a stage may take several before it hands one on."""
        for frame in frames:
            self._check_wishes()
            yield frame

    @contextmanager
    def _decode_phase(self, finishing: Finishing) -> Iterator[None]:
        """As `phase`. What is done to decoded frames is told as a phase of its own, since decoding's time is held
        against what was foretold of it."""
        self._phase = "decode"
        self.emit(PhaseStarted("decode"))
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        if finishing.stages:
            self.emit(PhaseFinished("finish", seconds - finishing.decoding_seconds))
            seconds = finishing.decoding_seconds
        self.emit(PhaseFinished("decode", seconds))

    def _tell_what_is_shown(self, conditioning: Conditioning, latents: Tensor) -> None:
        """Once, however often decoding begins."""
        if not self._told_what_is_shown:
            self._told_what_is_shown = True
            for text in self._model.shown(self.request, conditioning, latents):
                self.emit(Noted("info", text))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Tell when a phase begins and how long it took."""
        self._phase = name
        self.emit(PhaseStarted(name))
        began = time.perf_counter()
        yield
        self.emit(PhaseFinished(name, time.perf_counter() - began))

    def _check_wishes(self) -> None:
        if self._cancelled():
            raise GenerationCancelled(self.steps_done)
        if self._orders.paused():
            self._save_checkpoint()
            raise GenerationPaused(self.steps_done)

    def _sample_memory(self, phase: str, step: int) -> MemoryReading:
        reading = self.card.read_memory()
        self.emit(MemorySampled(phase=phase, step=step, **vars(reading)))
        share = reading.device_used_bytes / reading.device_total_bytes
        self._high_steps = self._high_steps + 1 if share > HIGH_MEMORY_SHARE else 0
        if self._high_steps == HIGH_MEMORY_STEPS:
            request = self.request
            self.emit(
                Noted(
                    "warning",
                    message(
                        "engine.memory_high",
                        percent=round(share * 100),
                        used_gib=round(reading.device_used_bytes / GIB, 2),
                        total_gib=round(reading.device_total_bytes / GIB, 2),
                        width=request.width,
                        height=request.height,
                        frames=request.num_frames,
                    ),
                )
            )
        return reading


@contextmanager
def _worth_no_run(what: str) -> Iterator[None]:
    """For files that the run can do without: if one cannot be written, this is logged and the run goes on."""
    try:
        yield
    except OSError as error:
        log.warning("%s could not be written: %s", what, error)
