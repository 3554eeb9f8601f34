"""RAM of a run whose blocks stream from their files, by the kernel's account of a process that does nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import host_memory
from bench.host_memory import Meter, Planned, beyond
from tests.warm_support import shared

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system tells no anonymous memory")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planned, list[Meter]]:
    """What ran in processes of their own, and what they held."""
    folder = tmp_path_factory.mktemp("host-memory")
    checkpoint, result = host_memory.checkpoint(folder / "many-blocks"), folder / "metered.json"
    planned, meters = host_memory.planned(checkpoint), []
    for plan in planned.plans:
        command = host_memory.command(checkpoint, plan, result)
        assert shared().start(command, os.environ, {0: 0, 1: 1, 2: 2}).wait(120) == 0
        meters.append(host_memory.read(result))
    return planned, meters


def test_no_more_ram_is_held_than_the_two_blocks_that_take_turns(made):
    planned, meters = made
    assert sum(planned.sizes_bytes) > 4 * planned.most_bytes  # else all of them could be there
    assert beyond(planned, meters) == []


def test_a_simulated_card_counts_no_weights_that_are_only_read(made):
    (kept, read_anew), slots = (meter.card_bytes["denoise"] for meter in made[1]), 2 * max(made[0].sizes_bytes)
    assert slots < read_anew == kept < made[0].most_bytes
