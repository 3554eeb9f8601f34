"""The real worker with the real engine, whose card can be made to fail: `worker.py FAULT.json --reports ...`.

The file is read anew at each run; without it, or empty, nothing fails. `phase` and `step` (steps finished in that
phase) name the moment, `skip` the allocations that go well after it has come, `times` how many fail then, and `then`
the moments that follow, each told in the same way; phase "load" fails the loading itself. `hold` holds the
interpreter's lock at that step of denoising, once for each job folder. A card of `shrink_from_bytes` loses a seventh
with each denoising step, down to `shrink_to_bytes`. Batch rows of every call of the UNet are counted in `unet_rows`,
one byte each, in the job folder.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from i2v.events import PhaseStarted, StepFinished
from i2v.worker import main as worker_main

ROWS = "unet_rows"


class Faults:
    """What is to go wrong in this run, and where the run is."""

    def __init__(self, told: dict, folder: Path) -> None:
        self.folder = folder
        self._moments = [told, *told.get("then", ())]
        self._next_moment()
        self.hold = told.get("hold", False)
        self.shrink_from_bytes, self.shrink_to_bytes = told.get("shrink_from_bytes"), told.get("shrink_to_bytes", 0)
        self._now = ("load", 0)

    def _next_moment(self) -> None:
        told = self._moments.pop(0)
        self.phase, self.step = told.get("phase", ""), told.get("step", 0)
        self.skip, self.times = told.get("skip", 0), told.get("times", 1)

    def see(self, event: object) -> None:
        if isinstance(event, PhaseStarted) and event.phase != self._now[0]:
            self._now = (event.phase, 0)
        elif isinstance(event, StepFinished):
            self._now = (event.phase, event.index)

    def come(self) -> bool:
        """Whether memory runs out now; asked at each allocation."""
        if self.hold or self._now != (self.phase, self.step) or self.times <= 0:
            return False
        self.skip -= 1
        if self.skip >= 0:
            return False
        self.times -= 1
        if self.times == 0 and self._moments:
            self._next_moment()
        return True

    def called(self, rows: int) -> None:
        """The UNet is called."""
        with suppress(OSError), (self.folder / ROWS).open("ab") as file:
            file.write(b"." * rows)
        held = self.folder / "held"
        if self.hold and self._now == (self.phase, self.step) and not held.exists():
            held.touch()
            ctypes.PyDLL(None).sleep(600)


def faulty_engine(file: Path):
    import torch

    from i2v.memory.card import SimulatedCard

    class FaultyCard(SimulatedCard):
        def __init__(self, capacity_bytes: int, faults: Faults) -> None:
            super().__init__(faults.shrink_from_bytes or capacity_bytes)
            self.faults = faults
            self._tracker.__init__(self._count)

        def _count(self, live_bytes: int, new_bytes: int) -> None:
            if self.faults.come():
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {new_bytes} bytes.")
            self._allow(live_bytes, new_bytes)

        def synchronize(self) -> None:
            if self.faults.shrink_from_bytes is not None:
                self.capacity_bytes = max(int(self.capacity_bytes * 6 / 7), self.faults.shrink_to_bytes)

    engine = worker_main.real_engine()
    run, open_model, open_plain = engine.run, engine._open, engine._card_for
    faults = Faults({}, Path())
    watched, counted = set(), set()

    def card_for(plan):
        return FaultyCard(plan.memory_cap_bytes, faults) if plan.device == "simulated" else open_plain(plan)

    def open_watched(entry, plan):
        model = open_model(entry, plan)
        if model not in watched:
            watched.add(model)
            model.modules.reads_by = partial(read_or_fail, model.modules.reads_by)
        if faults.phase == "load":  # nothing of it is there from the run before
            model.modules.drop(model.modules.loaded)
        return model

    def read_or_fail(read_plain, name, read):
        if faults.come():
            raise MemoryError("no room for the weights")
        module = read_plain(name, read)
        if name == "unet" and module not in counted:
            counted.add(module)
            module.register_forward_pre_hook(lambda _unet, given: faults.called(given[0].shape[0]))
        return module

    def run_with_faults(request, plan, *, job_folder, emit, **rest):
        nonlocal faults
        faults = Faults(json.loads(file.read_text() or "{}") if file.is_file() else {}, job_folder)

        def emit_and_see(event):
            faults.see(event)
            emit(event)

        return run(request, plan, job_folder=job_folder, emit=emit_and_see, **rest)

    engine.run, engine._open, engine._card_for = run_with_faults, open_watched, card_for
    return engine


if __name__ == "__main__":
    fault_file, *arguments = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(worker_main.main(arguments, lambda: faulty_engine(Path(fault_file))))
