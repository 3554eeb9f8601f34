"""RAM over a queue of jobs: what the next one does not need is given back before it loads. The kernel's account of this
process is the oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.disk_streaming import REQUEST, Size, checkpoint
from bench.host_memory import Meter, anonymous_bytes
from i2v.engine.engine import Engine
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from tests.latents import load_latents

JOB = replace(REQUEST, num_inference_steps=1)
WEIGHTS = Size(3, 12, 12288)  # 92 MiB in single precision
LARGE_BYTES = 80 * 2**20

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system tells no anonymous memory")


class Queue:
    """One engine and the jobs that it runs, each metered."""

    def __init__(self, folder: Path) -> None:
        self.engine, self.folder = Engine(), folder
        self.models: dict[str, Path] = {}

    def run(self, model: str) -> Meter:
        """A job of this model, which is stored in half precision, so that loading copies it."""
        if model not in self.models:
            self.models[model] = checkpoint(self.folder / model, WEIGHTS, torch.float16)
        entry = ModelEntry(model, "wan", model, self.models[model], None, True, 0, None)
        job, meter = self.folder / "job" / str(len(list(self.folder.glob("job/*")))), Meter()
        job.mkdir(parents=True)
        with meter.following():
            self.engine.run(JOB, Plan(), entry=entry, job_folder=job, emit=meter.see, cancelled=lambda: False)
        return meter

    def latents(self, job: int) -> torch.Tensor:
        return load_latents(self.folder / "job" / str(job) / "latents.safetensors")


def test_ram_does_not_grow_with_the_queue(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    for model in ("first", "second"):
        queue.run(model)  # whatever is made once is made
    queue.engine.release()
    empty = anonymous_bytes()
    queue.run("first")
    one = anonymous_bytes() - empty
    assert one > LARGE_BYTES
    for model in ("second", "first", "second"):
        meter = queue.run(model)
        assert anonymous_bytes() - empty < one + LARGE_BYTES / 4
        # It left before the other came: in no moment were both there.
        assert max(meter.anonymous_bytes.values()) - empty < one + LARGE_BYTES / 2
    queue.engine.release()
    assert anonymous_bytes() - empty < LARGE_BYTES / 4
    assert torch.equal(queue.latents(0), queue.latents(4))


def test_a_second_job_of_the_same_model_loads_nothing(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    queue.run("first")
    (tmp_path / "first" / "transformer").rename(tmp_path / "elsewhere")  # there is nothing to load
    (tmp_path / "first" / "transformer").mkdir()
    for file in (tmp_path / "elsewhere").glob("*.json"):
        (tmp_path / "first" / "transformer" / file.name).write_bytes(file.read_bytes())
    before = anonymous_bytes()
    meter = queue.run("first")
    assert max(meter.anonymous_bytes.values()) - before < LARGE_BYTES / 4
    assert torch.equal(queue.latents(0), queue.latents(1))
