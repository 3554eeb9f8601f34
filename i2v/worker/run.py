"""One job in the worker: the model's folder, the engine, and whatever happens told as an event."""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from i2v.engine.cancel import GenerationCancelled, GenerationPaused
from i2v.engine.orders import Orders, never
from i2v.events import Cancelled, Event, Failed, Noted, Paused, PhaseFinished, PhaseStarted
from i2v.hardware.host import trim_heap
from i2v.job_progress import JobProgress
from i2v.memory.errors import first_line, is_card_lost, is_out_of_memory
from i2v.messages import message
from i2v.models.entry import ModelEntry
from i2v.plan import Plan, Rung
from i2v.request import GenerationRequest
from i2v.units import GIB
from i2v.wire.worker import Reported, Run
from i2v.worker.problems import explain, free_share, wants_room

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_NOTES = 5.0

Emit = Callable[[Event], None]


class GenerationEngine(Protocol):
    """What the worker needs of `i2v.engine.engine.Engine`."""

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
        """Make the video; emits Done. Raises GenerationCancelled, GenerationPaused, UserError, or whatever else went
        wrong."""
        ...

    def release(self) -> None:
        """Forget the model."""
        ...


class Runner:
    """Runs jobs with one engine, which is made with the first and keeps its model while all goes well."""

    def __init__(self, engine_factory: Callable[[], GenerationEngine]) -> None:
        self._engine_factory = engine_factory
        self._engine: GenerationEngine | None = None

    def run(
        self,
        run: Run,
        report: Callable[[Reported], None],
        cancelled: Callable[[], bool],
        paused: Callable[[], bool] = never,
    ) -> bool:
        """Run one job and report its events, the last of which is Done, Failed, Cancelled or Paused. Raises nothing.

        After any but a finished job everything it held is given back before that is reported. Returns False where this
        process can use its card no more: the job has no ending then, and goes on in another process.
        """
        progress = JobProgress(phase="load")

        def emit(event: Event) -> None:
            nonlocal progress
            progress = progress.after(event)
            report(Reported(run.job_id, event))

        ending: Event | None = None
        try:
            if run.work == "train":
                self._train(run, emit, cancelled, paused)
            else:
                self._generate(run, emit, cancelled, paused)
        except GenerationCancelled as error:
            ending = Cancelled(error.step)
        except GenerationPaused as error:
            ending = Paused(error.step)
        except Exception as error:
            log.exception("%s failed in phase %s", run.job_id, progress.phase)
            if not is_out_of_memory(error, free_share(progress)) and is_card_lost(error):
                emit(Noted("warning", message("worker.card_lost", phase=progress.phase, reason=first_line(error))))
                return False
            reason = explain(error, run, progress)
            # What is finished is on disk; the rest can be made when there is room again.
            ending = Paused(progress.step, reason) if wants_room(error, reason) else Failed(reason)
        # Only here, outside of the handlers, has the error let go of the tensors in its traceback.
        if ending is not None:
            self._release()
            emit(ending)
        return True

    def _generate(self, run: Run, emit: Emit, cancelled: Callable[[], bool], paused: Callable[[], bool]) -> None:
        """Make the video of a job, or only decode it again."""
        entry = _fetch(run, emit, cancelled)
        engine = self._engine or self._start_engine(emit)
        _stop_where_asked(cancelled, paused)
        engine.run(
            GenerationRequest.from_json(run.request),
            Plan.from_json(run.plan),
            entry=entry,
            job_folder=Path(run.folder),
            emit=emit,
            cancelled=cancelled,
            orders=_orders(run, paused),
        )

    def _train(self, run: Run, emit: Emit, cancelled: Callable[[], bool], paused: Callable[[], bool]) -> None:
        """Train a LoRA. The model of the jobs before leaves the card first: training needs all of it."""
        from i2v.worker.train_job import train_job  # its imports take seconds, and few jobs train

        self._release()
        _stop_where_asked(cancelled, paused)
        assert run.training is not None
        train_job(run.training, emit, cancelled, paused)

    def _start_engine(self, emit: Emit) -> GenerationEngine:
        with _loading("engine", emit):  # its imports take seconds the first time
            self._engine = self._engine_factory()
        return self._engine

    def _release(self) -> None:
        """Give back all memory that can be given back: the model, the card's cache, the free pages of the heap."""
        try:
            if self._engine is not None:
                self._engine.release()
        except Exception:
            log.exception("The engine could not be released; the next job gets a new one")
            self._engine = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            with suppress(RuntimeError):  # after a device error the card answers nothing any more
                torch.cuda.empty_cache()
        trim_heap()


def _stop_where_asked(cancelled: Callable[[], bool], paused: Callable[[], bool]) -> None:
    """Raises where a person has changed their mind before the first step."""
    if cancelled():
        raise GenerationCancelled(step=0)
    if paused():
        raise GenerationPaused(step=0)


def _orders(run: Run, paused: Callable[[], bool]) -> Orders:
    return Orders(
        work="decode" if run.work == "decode" else "generate",
        ladder=tuple(map(Rung.from_json, run.ladder)),
        healed=tuple(run.healed),
        cache=None if run.cache is None else Path(run.cache),
        models_dir=Path(run.models_dir),
        lora_folders=tuple(map(Path, run.lora_folders)),
        checkpoint_seconds=run.checkpoint_seconds,
        stop_at=run.stop_at,
        paused=paused,
    )


def _fetch(run: Run, emit: Emit, cancelled: Callable[[], bool]) -> ModelEntry:
    """The model with its folder in place: a model of the hub is downloaded when it is not there yet."""
    entry = ModelEntry.from_json(run.entry)
    if entry.present:
        return entry
    with _loading("download", emit):
        return replace(entry, folder=_download(entry, run, emit, cancelled), present=True)


def _download(entry: ModelEntry, run: Run, emit: Emit, cancelled: Callable[[], bool]) -> Path:
    from i2v.models.download import ensure_present

    last = time.monotonic()

    def on_wait() -> None:
        if cancelled():
            raise GenerationCancelled(step=0)

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        on_wait()
        if time.monotonic() - last >= _SECONDS_BETWEEN_NOTES:
            last = time.monotonic()
            done, total = round(done_bytes / GIB, 2), round(total_bytes / GIB, 2)
            emit(Noted("info", message("worker.downloading", model=entry.title, done_gib=done, total_gib=total)))

    return ensure_present(
        entry,
        models_dir=Path(run.models_dir),
        endpoint=run.endpoint,
        offline=run.offline,
        on_progress=on_progress,
        on_note=lambda note: emit(Noted("info", note)),
        on_wait=on_wait,
    )


@contextmanager
def _loading(part: str, emit: Emit) -> Iterator[None]:
    """Tell that a part of loading begins, and how long it took."""
    emit(PhaseStarted("load", part))
    began = time.monotonic()
    yield
    emit(PhaseFinished("load", time.monotonic() - began, part))
