"""Memory runs out in every phase and at every step in turn, in the real worker: the job is done all the same, its
latents are those of the unharmed run, and no finished step is made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from i2v.events import Healed, MemorySampled
from i2v.jobs.service import JobService
from i2v.plan import Plan
from tests.faults.support import faulty_worker, latents, notes, plant, run, states, unet_rows
from tests.faulty_cards import steps
from tests.jobs_support import settings_in
from tests.warm_support import shared

pytestmark = pytest.mark.drives

STEPS, ROWS_PER_STEP = 4, 2
FASTEST = {
    "precision": "float32",
    "cfg": "batch",
    "chunk_frames": 0,
    "chunk_pixels": 0,
    "offload": "resident",
    "decode_frames": 0,
}
SMALLEST = {
    "precision": "float32",
    "cfg": "split",
    "chunk_frames": 1,
    "chunk_pixels": 512,
    "offload": "staged",
    "decode_frames": 1,
}


@dataclass(frozen=True)
class Bed:
    """A service with a card of 1 GiB that can be made to fail, and what the unharmed run came to."""

    service: JobService
    faults: Path
    whole: torch.Tensor
    peaks_bytes: dict[str, int]

    @property
    def cache(self) -> Path:
        return self.service._board.outputs_dir / ".i2v" / "cache"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("memory")
    faults = folder / "faults.json"
    settings, probe = settings_in(folder, simulate_gib=1, **FASTEST)
    with JobService(settings, probe, worker_command=faulty_worker(faults), start=shared().start) as service:
        job, events = run(service)
        assert states(events)[-1] == "done"
        assert unet_rows(job) == STEPS * ROWS_PER_STEP
        yield Bed(service, faults, latents(job), _peaks(events))


def _peaks(events: list[object]) -> dict[str, int]:
    seen = [event for event in events if isinstance(event, MemorySampled)]
    return {
        phase: max(event.peak_allocated_bytes for event in seen if event.phase == phase)
        for phase in ("encode", "denoise", "decode")
    }


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return ((one - other).norm() / other.norm()).item() < 1e-5


MOMENTS = [
    *(("encode", 0, skip) for skip in (0, 60)),
    *(("denoise", step, 100 * step) for step in range(STEPS)),
    *(("decode", step, 0) for step in range(2)),
]


@pytest.mark.parametrize(("phase", "step", "skip"), MOMENTS, ids=lambda value: str(value))
def test_memory_runs_out_once(bed: Bed, phase: str, step: int, skip: int) -> None:
    if phase == "encode":
        shutil.rmtree(bed.cache)
    plant(bed.faults, phase=phase, step=step, skip=skip)
    folder, events = run(bed.service)
    assert states(events) == ["queued", "running", "decoding", "done"]
    healed = [event for event in events if isinstance(event, Healed)]
    assert [event.phase for event in healed] == [phase]
    assert steps(events) == list(range(1, STEPS + 1))
    assert unet_rows(folder) <= (STEPS + 1) * ROWS_PER_STEP
    assert _same(latents(folder), bed.whole)
    assert (folder / "video.mp4").is_file()


def test_memory_runs_out_in_every_phase_of_one_run(bed: Bed) -> None:
    """Under a staged plan, whose encode has nothing left to lower but where it is computed."""
    shutil.rmtree(bed.cache)
    later = [{"phase": "denoise", "step": 2, "skip": 20}, {"phase": "decode", "step": 0}]
    plant(bed.faults, phase="encode", then=later)
    folder, events = run(bed.service, offload="staged")
    assert states(events) == ["queued", "running", "decoding", "done"]
    assert [event.phase for event in events if isinstance(event, Healed)] == ["encode", "denoise", "decode"]
    assert steps(events) == list(range(1, STEPS + 1))
    assert unet_rows(folder) <= (STEPS + 1) * ROWS_PER_STEP
    assert _same(latents(folder), bed.whole)
    assert (folder / "video.mp4").is_file()


def test_memory_runs_out_while_loading(bed: Bed) -> None:
    plant(bed.faults, phase="load")
    folder, events = run(bed.service)
    assert states(events)[-1] == "done"
    assert "engine.load_again" in notes(events)
    assert torch.equal(latents(folder), bed.whole)


def test_memory_runs_out_again_and_again_in_one_step(bed: Bed) -> None:
    """Each fault takes another rung, never one twice, and costs at most the step that it came in."""
    plant(bed.faults, phase="denoise", step=2, skip=20, times=3)
    folder, events = run(bed.service)
    assert states(events)[-1] == "done"
    plans = [Plan.from_json(event.plan) for event in events if isinstance(event, Healed)]
    assert len(set(plans)) == len(plans) == 3
    assert steps(events) == list(range(1, STEPS + 1))
    assert unet_rows(folder) <= (STEPS + 3) * ROWS_PER_STEP
    assert _same(latents(folder), bed.whole)


def test_a_card_that_shrinks_in_mid_run(bed: Bed) -> None:
    """From what the fastest plan holds to what the smallest does, a piece with every step."""
    plant(bed.faults)
    _, events = run(bed.service, **SMALLEST)
    smallest, largest = (max(one["denoise"], one["decode"]) for one in (_peaks(events), bed.peaks_bytes))
    assert smallest < 0.9 * largest
    plant(bed.faults, shrink_from_bytes=largest, shrink_to_bytes=smallest)
    folder, events = run(bed.service)
    healed = [event for event in events if isinstance(event, Healed)]
    assert states(events)[-1] == "done"
    assert len(healed) >= 2
    assert steps(events) == list(range(1, STEPS + 1))
    assert unet_rows(folder) <= (STEPS + len(healed)) * ROWS_PER_STEP
    assert _same(latents(folder), bed.whole)


def test_when_no_rung_is_left_the_job_fails_and_the_next_runs(bed: Bed) -> None:
    plant(bed.faults, phase="denoise", step=1, times=100)
    _, events = run(bed.service)
    assert states(events)[-1] == "failed"
    assert len({str(event.plan) for event in events if isinstance(event, Healed)}) > 3
    plant(bed.faults)
    folder, events = run(bed.service)
    assert states(events)[-1] == "done"
    assert torch.equal(latents(folder), bed.whole)
