"""A request under a plan becomes a video: load, encode, denoise, decode, with an event for all that happens.

The engine owns the order of things and what stands on the card when; the family owns the arithmetic.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
        picture = self._picture()
        conditioning = self._encode(model, picture)
        latents = self._denoise(model, conditioning)
        save_latents(self.folder / "latents.safetensors", latents, self.request)
        path = self._decode(model, conditioning, latents)
        self.emit(Done(path.name, time.perf_counter() - self._began, self.request.num_frames))
        return path

    def _picture(self) -> Image.Image:
        request = self.request
        picture = load_picture(self.folder / (request.image_path or "input.png"))
        return fit_picture(picture, request.width, request.height, request.fit)

    def _encode(self, model: FamilyModel, picture: Image.Image) -> Conditioning:
        """Conditioning on the host, in the plan's precision."""
        if self.plan.offload == "resident":
            self._place(model, model.modules)
        conditioning: Conditioning = {}
        with self.phase("encode"):
            for stage in model.encode_stages(self.request, picture, self.plan):
                self._check_cancelled()
                with self._on_card(model, stage.components):
                    made: Conditioning = {}
                    stage.run(self.card, made)
                    for name, tensor in made.items():
                        conditioning[name] = self.card.to_host(tensor)
                    made.clear()
            self._sample_memory("encode", 0)
        return conditioning

    def _denoise(self, model: FamilyModel, conditioning: Conditioning) -> Tensor:
        """The clean latents, on the host."""
        request, card = self.request, self.card
        preview = PreviewWriter(self.folder, request.fps)
        with self.phase("denoise"), self._on_card(model, model.denoise_components):
            on_card = {name: card.to_card(tensor) for name, tensor in conditioning.items()}
            latents = card.to_card(model.prepare(request, self.plan))
            pace = Pace("denoise", request.num_inference_steps)
            for index in range(request.num_inference_steps):
                self._check_cancelled()
                card.reset_peak()
                latents, predicted = self._step(model, on_card, latents, index)
                card.synchronize()
                self._steps_done = index + 1
                self.emit(pace.step())
                self._sample_memory("denoise", index + 1)
                if preview.due():
                    self.emit(PreviewReady(index + 1, preview.write(model.preview(card.to_host(predicted)))))
                del predicted
            finished = card.to_host(latents)
        if not torch.isfinite(finished).all():
            raise UserError("engine.not_finite", precision=self.plan.precision)
        return finished

    def _step(
        self, model: FamilyModel, conditioning: Conditioning, latents: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        output = model.denoise_step(self.card, conditioning, latents, index, self.request, self.plan)
        return output.latents, output.predicted

    def _decode(self, model: FamilyModel, conditioning: Conditioning, latents: Tensor) -> Path:
        """Decode frame by frame into the video; never holds more than `plan.decode_frames` of them."""
        request = self.request
        path = self.folder / "video.mp4"
        self.emit(StateChanged("decoding"))
        with (
            self.phase("decode"),
            self._on_card(model, model.decode_components),
            VideoWriter(
                path,
                width=request.width,
                height=request.height,
                fps=request.fps,
                metadata={"request": request.to_json(), "plan": self.plan.to_json()},
            ) as writer,
        ):
            self.card.reset_peak()
            pace = Pace("decode", request.num_frames)
            for index, frame in enumerate(
                model.decode(self.card, conditioning, self.card.to_card(latents), request, self.plan)
            ):
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

    @contextmanager
    def _on_card(self, model: FamilyModel, components: Iterable[str]) -> Iterator[None]:
        """These components on the card for the time of the `with`; under a resident plan they stay."""
        self._place(model, components)
        yield
        if self.plan.offload == "staged":
            for name in components:
                self.card.evict(model.modules[name])
            self.card.release_cache()

    def _place(self, model: FamilyModel, components: Iterable[str]) -> None:
        for name in components:
            self.card.place(model.modules[name])

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
