"""What a job needs beside its tensors: torch's own share of a card, and RAM for weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from i2v.finishing.cost import FinishingCost, finishing_cost
from i2v.plan import Plan, everywhere
from i2v.planning.cost import margin, predict
from i2v.planning.known import Found, PhaseRun
from i2v.planning.machine import HOST_BASELINE_BYTES, WORKSPACE_BYTES, Machine
from i2v.planning.planner import Planner
from i2v.planning.why import why
from i2v.planning.work import NO_WORK
from i2v.request import Finish
from i2v.units import GIB
from tests.planning.support import WEIGHTS, card, job, made_up

MIB = 2**20
FOUND = Found(
    (
        PhaseRun("text", ("text_encoder",), 5 * MIB, 0, 0, 9 * MIB, 7 * MIB, NO_WORK),
        PhaseRun("denoise", ("unet",), 2652 * MIB, 20 * MIB, 30 * MIB, 34 * MIB, 942 * MIB, NO_WORK),
    ),
    {"text_encoder": 700 * MIB, "unet": 2700 * MIB},
)
CARD = replace(card(12), context_bytes=0)
NATIVE = replace(CARD, expandable_segments=False)


def workspace(machine: Machine, offload: str = "staged") -> int:
    """Bytes beside weights and activations in the denoising."""
    return (
        predict(FOUND, job(), Plan(device=machine.device, places=everywhere(offload)), machine)
        .phases[1]
        .workspace_bytes
    )


def test_torchs_share_of_a_card_is_what_its_allocator_was_found_to_need():
    assert workspace(CARD) == WORKSPACE_BYTES + (34 + 30) * MIB
    assert workspace(NATIVE) == WORKSPACE_BYTES + (942 + 30) * MIB
    assert workspace(CARD, "resident") == workspace(CARD)
    # The text encoder stands beside it in segments of its own.
    assert workspace(NATIVE, "resident") == workspace(NATIVE) + 70 * MIB


def test_a_processor_copies_and_a_simulated_card_counts_tensors_alone():
    host = replace(CARD, workspace_bytes=0)
    assert workspace(replace(host, device="cpu")) == 20 * MIB
    assert workspace(replace(host, device="simulated")) == 0


@pytest.mark.parametrize(
    ("weights", "mapped", "mib"),
    [
        ("full", "", 700 + 2700),
        ("full", "unet", 700),
        ("full", "unet text_encoder", 0),
        ("int8", "", 700 + 2 * 2700),  # whole in half precision, before it is in eight bits
        ("int8", "unet", 700 + 2700),
        ("int8", "unet text_encoder", 2700),
    ],
)
def test_weights_that_lie_in_their_file_need_no_free_ram(weights, mapped, mib):
    plan = Plan(device="cuda", precision="float16", weights=weights, lossless=weights == "full")
    predicted = predict(FOUND, job(), plan, CARD, mapped=frozenset(mapped.split()))
    assert predicted.ram_peak_bytes == HOST_BASELINE_BYTES["cuda"] + mib * MIB


def test_finishing_takes_time_ram_and_disk_and_nothing_of_the_card():
    plain, asked = job(), replace(job(), finish=Finish(True, True, 2, 2))
    without, predicted = (predict(FOUND, one, Plan(device="cuda"), CARD) for one in (plain, asked))
    cost = finishing_cost(asked)
    assert finishing_cost(plain) == FinishingCost()
    assert predicted.seconds == pytest.approx(without.seconds + cost.seconds)
    assert predicted.ram_peak_bytes == without.ram_peak_bytes + cost.size_bytes
    assert predicted.disk_bytes > without.disk_bytes
    assert predicted.phases == without.phases


def test_ram_that_only_mapped_weights_fill_refuses_nothing():
    """4 GiB free are enough for 3.3 GiB of weights in float16 from float16 files, and not from float32 ones."""
    small = replace(CARD, ram_free_bytes=4 * GIB)
    plan = Plan(device="cuda", precision="float16")
    assert predict(FOUND, job(), plan, small, mapped=frozenset(FOUND.weights)).verdict == "fits"
    assert predict(FOUND, job(), plan, small).verdict == "wont_fit"


def test_where_ram_is_short_components_leave_it_with_their_phase():
    """Where there is room all stay; where there is not, only the largest has to have room."""
    machine, baseline = card(8), HOST_BASELINE_BYTES["cuda"]
    largest, whole = max(WEIGHTS.values()), sum(WEIGHTS.values())
    plans = {}
    for ram in (baseline + whole, baseline + whole - 1, baseline + largest, baseline + largest - 1):
        with_ram = replace(machine, ram_free_bytes=ram + margin(machine))
        plans[ram] = Planner(with_ram, made_up).plan(job(), Plan(device="cuda"), look_around=False)
    kept, short, least, refused = plans.values()
    assert (kept.prediction.verdict, kept.plan.keep_loaded) == ("fits", True)
    assert [any(text.id == "planning.not_kept_loaded" for text in why(one)) for one in (kept, short)] == [False, True]
    for one in (short, least):
        assert (one.prediction.verdict, one.plan.keep_loaded) == ("fits", False)
        assert one.prediction.ram_peak_bytes == baseline + largest
        assert not any(one.plan.stays(name) for name in WEIGHTS)
    assert refused.prediction.verdict != "fits"
