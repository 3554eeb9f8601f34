"""A request under a plan becomes a video: load, encode, denoise, decode, with an event for all that happens; and when
memory runs out, on with less of it from the last finished step.

The engine owns the order of things and what stands on the card when; the family owns the arithmetic.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from pathlib import Path

import torch

from i2v.engine.checkpoint import identity_of
from i2v.engine.orders import Orders
from i2v.engine.run import Emit, EngineRun, MemorySpilled
from i2v.engine.weights import check_values, find_tensors
from i2v.events import Noted
from i2v.families import SPECS
from i2v.families.base import FamilyModel, store_denoiser, widen_model
from i2v.families.spec import FamilySpec
from i2v.memory.card import Card, open_card
from i2v.memory.errors import is_card_lost, is_out_of_memory, named_line
from i2v.messages import UserError, message
from i2v.models.entry import ASSETS, ModelEntry
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest


class Engine:
    """Runs one request at a time and keeps the last model on the host, so that the next job need not load it."""

    def __init__(self, card_for: Callable[[Plan], Card] = open_card) -> None:
        self._card_for = card_for
        self._loaded: tuple[tuple[Path, str, str], FamilyModel] | None = None

    def run(
        self,
        request: GenerationRequest,
        plan: Plan,
        *,
        entry: ModelEntry,
        job_folder: Path,
        emit: Emit,
        cancelled: Callable[[], bool],
        orders: Orders | None = None,
    ) -> Path:
        """Make the video and return its path. Writes checkpoint.safetensors, latents.safetensors, preview.webp and
        video.mp4 in `job_folder`, and goes on from the first two where they are this run's.

        Raises UserError for what a person can mend, GenerationCancelled, GenerationPaused, and an out-of-memory error
        when the ladder has ended.
        """
        if entry.folder is None:
            raise UserError("engine.model_missing", model=entry.name)
        card = self._card_for(plan)
        run = EngineRun(request, plan, job_folder, emit, cancelled, card, orders or Orders(), SPECS[entry.family])
        try:
            with run.phase("load"):
                model = self._load_with_patience(entry, plan, emit)
                picture = job_folder / (request.image_path or "input.png")
                run.begin(model, identity_of(request, plan, picture, entry.folder, entry.family))
            with card.running():
                while True:
                    try:
                        return run.make_video()
                    except Exception as error:
                        spilled = isinstance(error, MemorySpilled)
                        if not spilled and not is_out_of_memory(error, card.free_share()):
                            if is_card_lost(error):
                                run.keep_progress()
                            raise
                        healed = run.heal(error)
                        if healed is None:
                            raise
                    # Only here has the error let go of the tensors in its traceback.
                    card.evict_all()
                    emit(healed)
        finally:
            card.evict_all()

    def release(self) -> None:
        """Forget the loaded model and give its memory back."""
        self._loaded = None
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _load_with_patience(self, entry: ModelEntry, plan: Plan, emit: Emit) -> FamilyModel:
        """As `_load`; where memory runs out, once more after everything was given back that can be."""
        try:
            return self._load(entry, plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self.release()
        emit(Noted("warning", message("engine.load_again", model=entry.title)))
        return self._load(entry, plan)

    def _load(self, entry: ModelEntry, plan: Plan) -> FamilyModel:
        assert entry.folder is not None
        key = (entry.folder, plan.precision, plan.weights, plan.wide_convolutions)
        if self._loaded is None or self._loaded[0] != key:
            # The old model goes first: two in memory at once is what people run out of RAM with.
            self.release()
            model = _load_checked(entry.folder, SPECS[entry.family], plan.precision)
            store_denoiser(model, plan.weights)
            if plan.wide_convolutions:
                widen_model(model)
            self._loaded = (key, model)
        return self._loaded[1]


def _load_checked(folder: Path, spec: FamilySpec, precision: str) -> FamilyModel:
    """The model in `folder`, all of whose weights come from its files. Raises UserError naming file and tensor where
    they do not, and where the folder holds something else that its classes do not take."""
    verify_folder(folder, spec)
    # What comes with the app is what it was made as.
    places = {} if folder.is_relative_to(ASSETS) else find_tensors(folder, spec, precision)
    family = importlib.import_module(f"i2v.families.{spec.name}.model")
    try:
        model = family.load(folder, getattr(torch, precision))
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise UserError("models.cannot_load", folder=str(folder), error=named_line(error)) from error
    # Weights that were only mapped are read from the disk here; else that time would fall into the first step.
    check_values(model, places, precision)
    return model
