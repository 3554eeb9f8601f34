"""Denoising in two parts with a network each: the same latents as with one, one network at a time on the card, as was
foretold to the byte, healed and gone on with in either part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v.engine.cancel import GenerationPaused
from i2v.engine.checkpoint import LATENTS
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.engine.preview import PreviewWriter
from i2v.engine.run import EngineRun
from i2v.events import Event, Healed, Resumed
from i2v.families.base import Inputs
from i2v.families.nano import model as nano
from i2v.families.phases import Phases
from i2v.memory.card import HostCard, SimulatedCard
from i2v.models.entry import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import first_image
from i2v.units import GIB
from tests.latents import load_latents
from tests.planning.support import job, runner
from tests.two_networks import HIGH, LOW, NAME, SPEC, add_family, load, steps_of, twice

STEPS = 5
REQUEST = replace(job(48, 32, 3, STEPS), inputs=first_image("input.png"), prompt="zoom in")
SIMULATED = Plan(device="simulated", memory_cap_bytes=4 * GIB)


@pytest.fixture(autouse=True)
def _family(monkeypatch):
    add_family(monkeypatch)
    # What does not differ from other families, and would take most of the time.
    monkeypatch.setattr(PreviewWriter, "due", lambda self: False)
    monkeypatch.setattr(EngineRun, "_decode", lambda run, *_: run.folder / "video.mp4")


@pytest.fixture(scope="module")
def folders(small_models, tmp_path_factory) -> dict[str, Path]:
    nano = small_models["nano"]
    return {"nano": nano, NAME: twice(nano, tmp_path_factory.mktemp("models") / NAME)}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture
def make(folders, engine, tmp_path):
    """Runs a family under a plan, and gives its latents."""
    events: list[Event] = []

    def make(family: str, plan: Plan, name: str = "job", **orders) -> torch.Tensor:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (48, 32), "green").save(folder / "input.png")
        entry = ModelEntry(family, family, family, folders[family], None, True, 0, None)
        events.clear()
        engine.run(
            REQUEST, plan, entry=entry, job_folder=folder, emit=events.append, cancelled=lambda: False,
            orders=Orders(**orders),
        )  # fmt: skip
        return load_latents(folder / LATENTS)

    make.events = events
    return make


@pytest.fixture(scope="module")
def encoded(folders) -> dict[str, torch.Tensor]:
    phases, conditioning = Phases(nano.load(folders["nano"], torch.float32), HostCard(), REQUEST, Plan()), {}
    with torch.no_grad():
        for _, made in phases.encode(Inputs({0: Image.new("RGB", (48, 32), "green")})):
            conditioning |= made
    return conditioning


@pytest.fixture(scope="module")
def wanted(folders, encoded) -> torch.Tensor:
    """The latents of the family with one network."""
    phases = Phases(nano.load(folders["nano"], torch.float32), HostCard(), REQUEST, Plan())
    with torch.no_grad():
        return list(phases.denoise(encoded))[-1]


def foretold(folders, plan: Plan, cap_bytes: int = 4 * GIB):
    dry = runner(NAME, folders[NAME], "float32", "full")
    machine = Machine("simulated", host_rates(2), cap_bytes, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True), calls=SPEC.denoise_steps)
    return planner.forced(REQUEST, plan)


def test_two_networks_make_what_one_does(make, wanted):
    for residency in ("resident", "staged", "streamed"):
        made = make(NAME, replace(SIMULATED, places=everywhere(residency)), residency)
        assert torch.equal(made, wanted), residency
    assert torch.equal(
        make(NAME, replace(SIMULATED, places=everywhere("staged"), keep_loaded=False), "sparing"), wanted
    )


def test_one_network_at_a_time_is_on_the_card(folders, encoded, wanted):
    staged = replace(SIMULATED, places=everywhere("staged"))
    phases = {phase.name: phase for phase in foretold(folders, staged).phases}
    together = {phase.name: phase for phase in foretold(folders, SIMULATED).phases}
    assert phases[HIGH].weights_bytes == phases[LOW].weights_bytes < together[LOW].weights_bytes / 2
    peak = max(phases[HIGH].peak_bytes, phases[LOW].peak_bytes)
    model = load(folders[NAME], torch.float32)

    def latents(card: SimulatedCard) -> torch.Tensor:
        with card.running():
            made = [card.to_host(one) for one in Phases(model, card, REQUEST, staged).denoise(encoded)]
        card.evict_all()
        return made[-1]

    assert torch.equal(latents(SimulatedCard(peak)), wanted)
    with pytest.raises(torch.OutOfMemoryError):
        latents(SimulatedCard(peak - 1))


def test_each_part_takes_the_time_of_its_steps(folders):
    seconds = {phase.name: phase.seconds for phase in foretold(folders, SIMULATED).phases}
    calls = steps_of(STEPS)
    assert calls == {HIGH: 3, LOW: 2}
    assert seconds[HIGH] / seconds[LOW] == pytest.approx(3 / 2, rel=0.05)


def test_where_only_one_of_them_fits_the_run_heals(make, folders, wanted):
    room = foretold(folders, replace(SIMULATED, places=everywhere("staged"))).peak.peak_bytes
    made = make(NAME, replace(SIMULATED, memory_cap_bytes=room))
    assert any(isinstance(event, Healed) for event in make.events)
    assert torch.equal(made, wanted)


@pytest.mark.parametrize("stop_at", [2, 3, 4])
def test_a_run_goes_on_in_the_part_where_it_stopped(make, stop_at, wanted):
    staged = replace(SIMULATED, places=everywhere("staged"))
    with pytest.raises(GenerationPaused):
        make(NAME, staged, stop_at=stop_at)
    made = make(NAME, staged)
    assert [event.step for event in make.events if isinstance(event, Resumed)] == [stop_at]
    assert torch.equal(made, wanted)
