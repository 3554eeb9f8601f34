"""What a training holds: foretold to the byte, less where blocks are computed again, and chosen for the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from i2v.dryrun.training import BlockCost, DryTrainer, TrainingFound
from i2v.dryrun.training_plan import MOST_TIME, choose, recomputed_blocks
from i2v.messages import UserError
from i2v.planning.work import Work
from i2v.training.request import Stepped, TrainingPlan
from tests.planning.support import card, simulated_machine
from tests.training.small_trainings import FRAMES, SIDE, make_clips, small_request, trained

CAP = 2**34
DryOf = Callable[[str], DryTrainer]


@pytest.fixture(scope="module")
def wordy_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `clips`, with captions that fill all places for tokens: a dry run counts on that."""
    folder = make_clips(tmp_path_factory.mktemp("wordy"))
    for caption in folder.glob("*.txt"):
        caption.write_text("water " * 600, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("family", "recomputed"),
    [("nano", "all"), ("i2vgen_xl", "some"), ("hunyuan_video", "none"), ("hunyuan_video_i2v", "all")],
)
def test_a_dry_run_foretells_the_peak_of_a_step_to_the_byte(
    model_of: Callable[[str], Path],
    dry_trainer: DryOf,
    wordy_clips: Path,
    tmp_path: Path,
    family: str,
    recomputed: str,
) -> None:
    request = small_request(family, model_of(family), wordy_clips, tmp_path, steps=2)
    dry = dry_trainer(family)
    numbers = {"none": (), "some": (0, 2), "all": tuple(range(dry.blocks))}[recomputed]
    plan = TrainingPlan(device="simulated", micro_batch=1, recomputed=numbers, memory_cap_bytes=CAP)
    found = dry.run(request, plan, (SIDE, SIDE, FRAMES))
    metered = [event.peak_bytes for event in trained(request, plan) if isinstance(event, Stepped)]
    assert metered[-1] == found.peak_bytes
    assert metered[0] == found.peak_bytes - found.state_bytes


MIB = 2**20
FLOPS = 1e12


def made_up(plan: TrainingPlan, *, blocks: int = 10) -> TrainingFound:
    """A network whose blocks all keep 100 MiB and take a twentieth of a step, but for the first half: these keep ten
    times as much. What is computed again is held once."""
    kept = [1000 * MIB if number < blocks // 2 else 100 * MIB for number in range(blocks)]
    cost = tuple(BlockCost(size, Work.of(FLOPS, 0)) for size in kept)
    held = sum(size for number, size in enumerate(kept) if number not in plan.recomputed) + 1000 * MIB
    steps = 2 * blocks + len(plan.recomputed)
    peak = 100 * MIB + held * plan.micro_batch
    return TrainingFound(peak, 80 * MIB, 20 * MIB, 1000, 4 // plan.micro_batch, Work.of(FLOPS, 0) * (4 * steps), cost)


def chosen(free_bytes: int, wanted: str | None = None):
    return choose(TrainingPlan(), 4, 10, simulated_machine(free_bytes), made_up, wanted)


def test_the_fastest_plan_that_fits_is_chosen() -> None:
    """From a large card to a small one: all at once; fewer at once; those blocks again that hold most for their time;
    all of them."""
    roomy = chosen(64 * 1024 * MIB)
    assert (roomy.recompute, roomy.plan.micro_batch) == ("none", 4)
    fewer = chosen(16 * 1024 * MIB)
    assert (fewer.recompute, fewer.plan.micro_batch) == ("none", 2)
    some = chosen(6 * 1024 * MIB)
    assert (some.recompute, some.plan.recomputed) == ("some", (0, 1, 2, 3))
    every = chosen(int(1.5 * 1024 * MIB))
    assert (every.recompute, every.plan.micro_batch) == ("all", 1)
    assert roomy.step_seconds <= fewer.step_seconds < some.step_seconds < every.step_seconds
    for one in (roomy, fewer, some, every):
        assert one.tensor_bytes == made_up(one.plan).peak_bytes
    with pytest.raises(UserError) as refused:
        chosen(512 * MIB)
    assert refused.value.message.id == "training.too_large"
    assert chosen(64 * 1024 * MIB, "all").plan.recomputed == tuple(range(10))


def test_some_blocks_add_no_more_time_than_is_said() -> None:
    plan = TrainingPlan()
    alone = made_up(plan)
    machine = card(24)
    numbers = recomputed_blocks("some", alone, 10, plan, machine)
    again = made_up(replace(plan, recomputed=numbers))
    assert again.work.curve[0] <= (1 + MOST_TIME) * alone.work.curve[0]
    assert again.peak_bytes < alone.peak_bytes


def test_blocks_that_are_computed_again_hold_far_less(
    model_of: Callable[[str], Path], dry_trainer: DryOf, tmp_path: Path
) -> None:
    """On the networks of the real sizes: `python -m bench.training`."""
    request = small_request("hunyuan_video", model_of("hunyuan_video"), tmp_path, tmp_path)
    dry = dry_trainer("hunyuan_video")
    found = [
        dry.run(request, TrainingPlan(micro_batch=1, recomputed=numbers), (SIDE, SIDE, FRAMES))
        for numbers in ((), tuple(range(dry.blocks)))
    ]
    assert found[1].activations_bytes < 0.6 * found[0].activations_bytes
    assert found[1].work.curve[0] < 1.6 * found[0].work.curve[0]
    assert found[0].trained_numbers == found[1].trained_numbers


def test_eight_bits_remember_a_quarter(model_of: Callable[[str], Path], dry_trainer: DryOf, tmp_path: Path) -> None:
    request = small_request("hunyuan_video", model_of("hunyuan_video"), tmp_path, tmp_path, rank=128)
    plans = (TrainingPlan(micro_batch=2), TrainingPlan(micro_batch=2, optimizer="adamw8bit"))
    full, eight = (dry_trainer("hunyuan_video").run(request, plan, (SIDE, SIDE, FRAMES)) for plan in plans)
    assert 0.2 < eight.state_bytes / full.state_bytes < 0.4
    assert full.peak_bytes - eight.peak_bytes == full.state_bytes - eight.state_bytes
