"""A request under a plan becomes a video: load, encode, denoise, decode, with an event for all that happens; and when
memory runs out, on with less of it from the last finished step.

The engine owns the order of things and what stands on the card when; the family owns the arithmetic.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from i2v.engine.adapted import Adapted, chosen, told
from i2v.engine.checkpoint import identity_of
from i2v.engine.orders import Orders
from i2v.engine.run import Emit, EngineRun, MemorySpilled
from i2v.engine.weights import check_values, find_tensors, known_files
from i2v.events import Noted
from i2v.families import SPECS
from i2v.families.base import FamilyModel, change_component, denoisers
from i2v.families.components import Read
from i2v.families.spec import FamilySpec
from i2v.hardware.host import trim_heap
from i2v.memory.card import Card, open_card
from i2v.memory.errors import is_card_lost, is_out_of_memory, named_line
from i2v.messages import UserError, message
from i2v.models.entry import ASSETS, ModelEntry
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest


class Engine:
    """Runs one request at a time and keeps what it has loaded of the last model, so that the next job need not load it
    again."""

    def __init__(self, card_for: Callable[[Plan], Card] = open_card) -> None:
        self._card_for = card_for
        self._loaded: tuple[tuple[Path, str, str], FamilyModel] | None = None
        self._adapted: Adapted | None = None

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
        spec = SPECS[entry.family]
        spec.check_inputs(request.task, request.inputs)
        spec.check_adapters(request.adapters)
        card = self._card_for(plan)
        orders = orders or Orders()
        run = EngineRun(request, plan, job_folder, emit, cancelled, card, orders, spec)
        try:
            with run.phase("load"):
                model = self._open(entry, plan)
                run.begin(model, identity_of(request, plan, job_folder, entry.folder, entry.family))
                needed = run.needed()
                if self._adapted is not None and denoisers(model).intersection(needed):
                    wanted = chosen(request.adapters, orders.models_dir, spec, orders.lora_folders)
                    self._adapted.want(model, wanted)
                    if request.adapters:
                        emit(Noted("info", message("engine.adapters", adapters=told(request.adapters))))
                if plan.keep_loaded:
                    self._load(model, needed, entry, emit)
                else:
                    _forget(model)
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
        self._loaded = self._adapted = None
        give_back()

    def _open(self, entry: ModelEntry, plan: Plan) -> FamilyModel:
        """The model of `entry` as `plan` wants it; what it was used for last is loaded still."""
        assert entry.folder is not None
        key = (entry.folder, plan.precision, plan.weights, plan.wide_convolutions)
        if self._loaded is None or self._loaded[0] != key:
            # The old model goes first: two in memory at once is what people run out of RAM with.
            self.release()
            spec = SPECS[entry.family]
            self._adapted = Adapted(spec, plan.precision)
            self._loaded = (key, _opened(entry.folder, spec, plan, self._adapted))
        return self._loaded[1]

    def _load(self, model: FamilyModel, names: Sequence[str], entry: ModelEntry, emit: Emit) -> None:
        """Load these components; where memory runs out, once more after everything was given back that can be. What
        this run does not need leaves before anything comes."""
        if not set(names) <= set(model.modules.loaded):
            _forget(model, set(model.modules.loaded).difference(names))
        try:
            model.modules.load(names)
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        _forget(model)
        emit(Noted("warning", message("engine.load_again", model=entry.title)))
        model.modules.load(names)


def _forget(model: FamilyModel, names: Collection[str] | None = None) -> None:
    """Give back what `model` has loaded, or these of it."""
    names = model.modules.loaded if names is None else names
    if names:
        model.modules.drop(names)
        give_back()


def give_back() -> None:
    """Free what nobody holds any more, on the host and on the card."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim_heap()


def _opened(folder: Path, spec: FamilySpec, plan: Plan, adapted: Adapted) -> FamilyModel:
    """The model in `folder`, all of whose weights will come from its files, changed as `plan` says, and what denoises
    `adapted`. Raises UserError naming file and tensor where they do not, and where the folder holds something else that
    its classes do not take."""
    verify_folder(folder, spec)
    # What comes with the app is what it was made as.
    places = {} if folder.is_relative_to(ASSETS) else find_tensors(folder, spec, plan.precision)
    family = importlib.import_module(f"i2v.families.{spec.name}.model")
    with _told_as(folder):
        model = family.load(folder, getattr(torch, plan.precision))

    def read(name: str, read: Read) -> nn.Module:
        with Card.on_host():  # also in the middle of a phase, where a simulated card would count what is read
            return read_whole(name, read)

    def read_whole(name: str, read: Read) -> nn.Module:
        with _told_as(folder):
            module = read()
        # Weights that were only mapped are read from the disk here; else that time would fall into the first step.
        streams = plan.place(name).residency == "streamed"
        known = known_files(folder, name, module, places) if streams else frozenset()
        check_values(name, module, places, plan.precision, known)
        change_component(model, name, module, plan.weights, plan.wide_convolutions)
        if name in denoisers(model):
            adapted.adapt(name, module)
        return module

    model.modules.reads_by = read
    return model


@contextmanager
def _told_as(folder: Path) -> Iterator[None]:
    """What a library says of files that it does not take, as a UserError that names their folder."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise UserError("models.cannot_load", folder=str(folder), error=named_line(error)) from error
