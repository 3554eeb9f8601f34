"""A request under a plan becomes a video: load, encode, denoise, decode, with an event for all that happens.

The engine owns the order of things and what stands on the card when; the family owns the arithmetic.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from i2v.engine.cancel import GenerationCancelled
from i2v.engine.latents import save_latents
from i2v.engine.pace import Pace
from i2v.engine.preview import PreviewWriter
from i2v.events import (
    Done,
    Event,
    MemorySampled,
    Noted,
    PhaseFinished,
    PhaseStarted,
    PreviewReady,
    StateChanged,
)
from i2v.families import SPECS
from i2v.families.base import Conditioning, FamilyModel
from i2v.families.phases import Phases
from i2v.memory.card import GIB, Card, open_card
from i2v.messages import UserError, message
from i2v.models.catalogue import ModelEntry
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.picture import fit_picture, load_picture
from i2v.video.writer import VideoWriter

HIGH_MEMORY_SHARE = 0.9
HIGH_MEMORY_STEPS = 3

Emit = Callable[[Event], None]


class Engine:
    """Runs one request at a time and keeps the last model on the host, so that the next job need not load it."""

    def __init__(self, card_for: Callable[[Plan], Card] = open_card) -> None:
        self._card_for = card_for
        self._loaded: tuple[tuple[Path, str], FamilyModel] | None = None

    def run(
        self,
        request: GenerationRequest,
        plan: Plan,
        *,
        entry: ModelEntry,
        job_folder: Path,
        emit: Emit,
        cancelled: Callable[[], bool],
    ) -> Path:
        """Make the video and return its path. Writes latents.safetensors, preview.webp and video.mp4 in `job_folder`.

        Raises UserError for what a person can mend, GenerationCancelled, torch.OutOfMemoryError.
        """
        run = _Run(request, plan, job_folder, emit, cancelled, self._card_for(plan))
        try:
            with run.phase("load"):
                model = self._load(entry, plan)
            with run.card.running():
                return run.make_video(model)
        finally:
            run.card.evict_all()

    def release(self) -> None:
        """Forget the loaded model and give its memory back."""
        self._loaded = None
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _load(self, entry: ModelEntry, plan: Plan) -> FamilyModel:
        if entry.folder is None:
            raise UserError("engine.model_missing", model=entry.name)
        key = (entry.folder, plan.precision)
        if self._loaded is None or self._loaded[0] != key:
            # The old model goes first: two in memory at once is what people run out of RAM with.
            self.release()
            verify_folder(entry.folder, SPECS[entry.family])
            family = importlib.import_module(f"i2v.families.{entry.family}.model")
            self._loaded = (key, family.load(entry.folder, getattr(torch, plan.precision)))
        return self._loaded[1]


class _Run:
    """The state of one run: what was asked, where it computes, who listens."""

    def __init__(
        self,
        request: GenerationRequest,
        plan: Plan,
        folder: Path,
        emit: Emit,
        cancelled: Callable[[], bool],
        card: Card,
    ) -> None:
        self.request = request
        self.plan = plan
        self.folder = folder
        self.emit = emit
        self.card = card
        self._cancelled = cancelled
        self._began = time.perf_counter()
        self._steps_done = 0
        self._high_steps = 0

    def make_video(self, model: FamilyModel) -> Path:
        phases = Phases(model, self.card, self.request, self.plan)
        conditioning = self._encode(phases, self._picture())
        latents = self._denoise(phases, conditioning)
        save_latents(self.folder / "latents.safetensors", latents, self.request)
        path = self._decode(phases, conditioning, latents)
        self.emit(Done(path.name, time.perf_counter() - self._began, self.request.num_frames))
        return path

    def _picture(self) -> Image.Image:
        request = self.request
        picture = load_picture(self.folder / (request.image_path or "input.png"))
        return fit_picture(picture, request.width, request.height, request.fit)

    def _encode(self, phases: Phases, picture: Image.Image) -> Conditioning:
        """Conditioning on the host, in the plan's precision."""
        conditioning: Conditioning = {}
        with self.phase("encode"):
            for number, (_stage, made) in enumerate(phases.encode(picture), start=1):
                conditioning = made
                self._sample_memory("encode", number)
                self._check_cancelled()
        return conditioning

    def _denoise(self, phases: Phases, conditioning: Conditioning) -> Tensor:
        """The clean latents, on the host."""
        total = self.request.num_inference_steps
        preview = PreviewWriter(self.folder, self.request.fps)
        with self.phase("denoise"), closing(phases.denoise(conditioning)) as steps:
            pace = Pace("denoise", total)
            while True:
                self._check_cancelled()
                self.card.reset_peak()
                if (latents := next(steps, None)) is None:
                    break
                self.card.synchronize()
                self._steps_done += 1
                self.emit(pace.step())
                self._sample_memory("denoise", self._steps_done)
                if preview.due():
                    with self.card.on_host():
                        picture = phases.model.preview(self.card.to_host(phases.predicted))
                    self.emit(PreviewReady(self._steps_done, preview.write(picture)))
                if self._steps_done == total:
                    finished = self.card.to_host(latents)
                del latents
        if not torch.isfinite(finished).all():
            raise UserError("engine.not_finite", precision=self.plan.precision)
        return finished

    def _decode(self, phases: Phases, conditioning: Conditioning, latents: Tensor) -> Path:
        """Decode frame by frame into the video; never holds more than `plan.decode_frames` of them."""
        request = self.request
        path = self.folder / "video.mp4"
        self.emit(StateChanged("decoding"))
        with (
            self.phase("decode"),
            VideoWriter(
                path,
                width=request.width,
                height=request.height,
                fps=request.fps,
                metadata={"request": request.to_json(), "plan": self.plan.to_json()},
            ) as writer,
            closing(phases.decode(conditioning, latents)) as frames,
        ):
            self.card.reset_peak()
            pace = Pace("decode", request.num_frames)
            for index, frame in enumerate(frames):
                self._check_cancelled()
                writer.write(frame.numpy())
                self.emit(pace.step())
                self._sample_memory("decode", index + 1)
        return path

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Tell when a phase begins and how long it took."""
        self.emit(PhaseStarted(name))
        began = time.perf_counter()
        yield
        self.emit(PhaseFinished(name, time.perf_counter() - began))

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise GenerationCancelled(self._steps_done)

    def _sample_memory(self, phase: str, step: int) -> None:
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
