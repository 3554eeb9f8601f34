"""Plans in the service: a job runs as planned, its measurement corrects the next plan, what won't fit is not queued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_support import settings_in, small_picture, wait_until
from machines import card
from model_folders import make_checkpoint
from one_child import one_planning_child

from i2v.cli.exits import Exit, exit_for
from i2v.cli.plan import plan_lines
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.hardware.probe import GpuProcess, MemoryProbe
from i2v.jobs.asked.plans import FIXED_ON_PROCESSOR, Plans, model_key, plan_notes, wont_fit
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.plan import PhasePrediction, Plan, Prediction
from i2v.planning.known import Found, Known, Question, dump
from i2v.planning.load import Processor
from i2v.planning.measured import DiskRates, Measurement
from i2v.planning.planner import Planned, candidates
from i2v.planning.why import why
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.warm_support import shared

NANO = {"model": "nano", "prompt": "zoom in", "width": 96, "height": 64, "frames": 5, "steps": 2, "seed": 1}
PUBLISHED = Path(__file__).parents[1] / "i2v/families/i2vgen_xl/configs"
XL = {"model": "i2vgen-xl", "width": 512, "height": 512, "frames": 16, "steps": 50}
STAGED = {**XL, "offload": "staged"}  # where what a card has no room for is what matters: streamed it would have some


class Fixed(MemoryProbe):
    """A machine that does not change."""

    def __init__(self, reading) -> None:
        self.reading = reading

    def read(self):
        return self.reading


@pytest.fixture(scope="module", autouse=True)
def _one_child() -> Iterator[None]:
    with one_planning_child():
        yield


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[Plans]:
    made = Plans(tmp_path / "planner", shared().start)
    yield made
    made.close()


def service_on(tmp_path: Path, plans: Plans, reading) -> JobService:
    settings, _ = settings_in(tmp_path, cpu=False, preset="12gb")
    return JobService(settings, Fixed(reading), plans=plans, start=shared().start)


def test_a_run_is_held_against_its_prediction_and_corrects_the_next(tmp_path, plans):
    """On a processor that others use for as many threads as it has cores, all the time."""
    settings, probe = settings_in(tmp_path)
    cores = probe.read().host.cpu_count
    plans._processor = Processor(lambda: (2.0 * cores, cores, cores), lambda: 0.0)
    with JobService(settings, probe, plans=plans, start=shared().start) as service:
        before, _ = service.plan(NANO, exactly=True)
        job_id = service.submit(NANO, small_picture(tmp_path))
        wait_until(lambda: service.status(job_id).state == "done")
        ledger = tmp_path / "planner" / "ledger.jsonl"
        wait_until(ledger.is_file)
        after, _ = service.plan(NANO)
    assert after.prediction.exact
    took = {phase.name: phase.seconds for phase in after.prediction.phases}
    predicted = {phase.name: phase.seconds for phase in before.prediction.phases}
    ratio = took["denoise"] / predicted["denoise"]
    assert ratio != 1
    (entry,) = plans.runs()
    told = {phase.name: phase.predicted_seconds for phase in entry.phases}
    assert told["denoise"] == pytest.approx(predicted["denoise"] / 3)  # for a processor that is idle
    assert entry.slowdown == 3


def test_the_plan_follows_what_is_free(tmp_path, plans):
    """Under the same preset: what the preset says of chunks and places is only where the planner starts."""
    chosen = []
    for free in (23, 5.2, 4.4):
        with service_on(tmp_path, plans, card(free, 24)) as service:
            planned, _ = service.plan(XL)
        assert planned.prediction.verdict == "fits"
        chosen.append(planned)
    assert chosen[0].plan.offload == "resident"
    assert chosen[2].plan.offload == "streamed"
    seconds = [planned.prediction.seconds for planned in chosen]
    assert seconds == sorted(seconds)
    assert len({planned.plan for planned in chosen}) == 3


def test_on_a_processor_chunks_are_what_the_planner_takes_where_ram_is_short(tmp_path, plans):
    """All at once is faster there too; a batch, and moving weights to where they are already, are not considered."""
    settings, probe = settings_in(tmp_path)
    with JobService(settings, probe, plans=plans, start=shared().start) as service:
        planned, _ = service.plan({**NANO, "guidance": 2})
        chosen, _ = service.plan({**NANO, "chunk_frames": 2})
    assert (planned.plan.chunk_frames, planned.plan.chunk_pixels) == (0, 0)
    assert chosen.plan.chunk_frames == 2
    rungs = list(candidates(planned.plan, FIXED_ON_PROCESSOR))
    assert [(rung.chunk_frames, rung.decode_frames) for rung in rungs] == [
        (0, 4),
        (0, 2),
        (4, 1),
        (2, 1),
        (1, 1),
        (1, 1),
    ]
    assert {(rung.cfg, rung.offload) for rung in rungs} == {("split", "resident")}


def test_what_will_not_fit_is_not_queued_and_says_what_would(tmp_path, plans):
    with service_on(tmp_path, plans, card(1.6, 6)) as service, pytest.raises(UserError) as refused:
        service.submit({**XL, "prompt": "go", "width": 1024, "height": 1024}, small_picture(tmp_path))
    assert refused.value.message.id == "planning.refused_nearest_card"
    assert "512x512" in str(refused.value) or "1024x1024" in str(refused.value)
    assert not list((tmp_path / "outputs").glob("2*/*"))


def test_where_the_table_knows_nothing_that_fits_dry_runs_do(tmp_path, plans, monkeypatch):
    """The table has no short clips of this model, so that no shorter one can be said to hold less."""
    dry = []

    def run(family, _folder, request, plan, _asker, phases):
        dry.append(size_of(request))
        share = request.width * request.height * request.num_frames / (1280 * 720 * 129)
        parts = [plans._known.bound(Question.of(family, request, plan, phase)) for phase in phases]
        runs = [run.with_slack(share) for part in parts for run in part.phases]
        return replace(next(part for part in parts if part.weights), phases=tuple(runs))

    monkeypatch.setattr(plans._child, "run", run)
    asked = {"model": "HunyuanVideo", "task": "t2v", "width": 1280, "height": 720, "frames": 129}
    with service_on(tmp_path, plans, card(3, 6)) as service:
        quick, _ = service.plan(asked)
        planned, _ = service.plan(asked, exactly=True)
        again, _ = service.plan(asked)
    assert quick.nearest == ()
    (near,) = planned.nearest
    assert size_of(near) in dry
    assert len(set(dry)) <= 4
    assert size_of(near) in map(size_of, again.nearest)  # it is known from then on


def size_of(request: GenerationRequest) -> tuple[int, int, int]:
    return request.width, request.height, request.num_frames


@pytest.mark.parametrize(
    ("short", "device", "place", "told"),
    [
        ({"disk_free_bytes": 8 * 2**20}, "cuda", "disk", "8 MiB"),
        ({"disk_free_bytes": 8 * 2**20}, "cpu", "disk", "8 MiB"),
        ({"ram_free_bytes": GIB}, "cuda", "ram", "1.00 GiB"),
        ({"budget_bytes": GIB}, "cuda", "card", "1.00 GiB"),
        ({"budget_bytes": GIB}, "cpu", "ram", "1.00 GiB"),  # where the processor computes, there is no card to blame
    ],
)
def test_what_is_short_is_named_with_its_amount(short, device, place, told):
    phase = PhasePrediction("denoise", GIB, GIB, 0, 2 * GIB, 1.0)
    plenty = {"budget_bytes": 20 * GIB, "ram_free_bytes": 20 * GIB, "disk_free_bytes": 20 * GIB}
    needs = {"context_bytes": 0, "margin_bytes": 0, "ram_peak_bytes": 2 * GIB, "disk_bytes": 16 * 2**20}
    request = GenerationRequest(
        model="m", prompt="p", negative_prompt="", width=128, height=128, num_frames=2, fps=8, num_inference_steps=1,
        guidance_scale=1.0, seed=1,
    )  # fmt: skip
    prediction = Prediction(phases=(phase,), **needs, **{**plenty, **short})
    planned = Planned(request, Plan(device=device), prediction, (), ())
    assert wont_fit(planned).message.id == f"planning.refused_{place}"
    assert exit_for(wont_fit(planned).message, Exit.FAILED) == Exit.NO_ROOM
    assert f"where {told} are free" in str(wont_fit(planned))
    assert [one.id for one in why(planned) if "short" in one.id] == [f"planning.short_{place}"]
    assert next(plan_lines(planned)).id == f"planning.verdict_short_{place}"


def test_a_jobs_own_policy_gives_up_precision_and_no_other_jobs_does(tmp_path, plans):
    """By what is known and exactly; and the queue holds the plan that was shown."""
    with service_on(tmp_path, plans, card(3.3, 6)) as service:
        for exactly in (False, True):
            shown = {
                policy: service.plan({**STAGED, **({"policy": policy} if policy else {})}, exactly=exactly)[0]
                for policy in (None, "lossless", "balanced")
            }
            assert shown[None].prediction.verdict == shown["lossless"].prediction.verdict == "wont_fit"
            assert shown["balanced"].prediction.verdict != "wont_fit"
            assert (shown["balanced"].plan.lossless, shown["balanced"].asked) == (False, None)
        picture = small_picture(tmp_path)
        with pytest.raises(UserError):
            service.submit({**STAGED, "prompt": "go"}, picture)
        status = service.status(service.submit({**STAGED, "prompt": "go", "policy": "balanced"}, picture))
        service.cancel(status.id)
    assert status.plan == shown["balanced"].plan
    assert status.plan.weights != "full"
    assert status.request.options.policy == "balanced"


def less(found: Found, share: float) -> Found:
    """The same with a share of what its phases hold beside their weights."""
    return replace(found, phases=tuple(phase.with_slack(share) for phase in found.phases))


def test_what_is_known_only_with_fewer_frames_is_run_dry_with_all_of_them_first(tmp_path, plans):
    """A size whose eight bits nobody ran: at once there are only fewer frames to offer, exactly there are all."""
    whole = {question: plans._known.get(question) for question in plans._known if question.weights == "full"}
    # As if half as many frames were known too, and held a quarter.
    half = {
        replace(question, frames=8): less(found, 0.25) for question, found in whole.items() if question.frames == 16
    }
    known = {**whole, **half}
    (tmp_path / "table.json").write_text(dump(known, {"made_with": {}}))
    plans._known = Known(table_path=tmp_path / "table.json")
    with service_on(tmp_path, plans, card(3.3, 6)) as service:
        at_once, _ = service.plan({**STAGED, "frames": 16, "policy": "balanced"})
        exact, _ = service.plan({**STAGED, "frames": 16, "policy": "balanced"}, exactly=True)
    assert (at_once.asked.num_frames, at_once.request.num_frames) == (16, 8)
    assert (exact.asked, exact.plan.lossless) == (None, False)
    assert exact.plan.weights != "full"
    assert exact.prediction.exact


def test_what_closing_a_program_would_gain_is_a_plan_without_it(tmp_path, plans):
    processes = (GpuProcess(1, "firefox", 2 * GIB), GpuProcess(2, "tiny", 2**20), GpuProcess(3, "unknown", None))
    with service_on(tmp_path, plans, card(4.4, 12, processes=processes)) as service:
        planned, gains = service.plan(STAGED)
    with service_on(tmp_path, plans, card(6.4, 12)) as service:
        roomier, _ = service.plan(STAGED)
    assert [gain.name for gain in gains] == ["firefox"]
    assert gains[0].seconds == pytest.approx(planned.prediction.seconds - roomier.prediction.seconds)


def test_a_program_that_keeps_a_job_from_fitting_is_named(tmp_path, plans):
    with service_on(tmp_path, plans, card(0.9, 12, processes=(GpuProcess(1, "firefox", 9 * GIB),))) as service:
        planned, gains = service.plan(XL)
    assert planned.prediction.verdict == "wont_fit"
    assert [(gain.name, gain.seconds) for gain in gains] == [("firefox", None)]


def test_the_published_configuration_is_the_familys_own(tmp_path):
    """A checkpoint that says what ours say, and more, needs no dry runs of its own; another one does."""
    settings, _ = settings_in(tmp_path)
    entry = find_model("i2vgen-xl", settings)
    assert model_key(entry) == "i2vgen_xl"
    folder = make_checkpoint(tmp_path / "mine", SPEC)
    mine = replace(entry, name="mine", folder=folder, present=True)
    for name in ("unet", "vae", "text_encoder", "image_encoder"):
        text = (PUBLISHED / name / "config.json").read_text().replace("{", '{\n  "_name_or_path": "x",', 1)
        (folder / name / "config.json").write_text(text)
    assert model_key(mine) == "i2vgen_xl"
    unet = json.loads((folder / "unet" / "config.json").read_text())
    other = json.dumps(unet | {"cross_attention_dim": unet["cross_attention_dim"] // 2})
    (folder / "unet" / "config.json").write_text(other)
    assert model_key(mine).startswith("i2vgen_xl:")
    (folder / "unet" / "config.json").write_text("{}")
    assert model_key(mine).startswith("i2vgen_xl:")


@pytest.mark.parametrize(("scheduler", "calls"), [("HeunDiscreteScheduler", 99), ("PNDMScheduler", 59)])
def test_a_scheduler_that_calls_the_network_more_often_is_planned_with_more_time(tmp_path, plans, scheduler, calls):
    folder, seconds = make_checkpoint(tmp_path / "mine", SPEC), []
    for file in PUBLISHED.glob("*/config.json"):
        (folder / file.parent.name / "config.json").write_text(file.read_text("utf-8"))
    with service_on(tmp_path, plans, card(23, 24)) as service:
        for name, chosen in (("DDIMScheduler", {}), (scheduler, {}), (scheduler, {"scheduler": "unipc"})):
            (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": name}))
            planned, _ = service.plan({**XL, "model": str(folder), **chosen})
            seconds += [phase.seconds for phase in planned.prediction.phases if phase.name == "denoise"]
    assert seconds[1] == pytest.approx(seconds[0] * calls / 50, rel=0.02)
    assert seconds[2] == pytest.approx(seconds[0], rel=0.02)  # one that is chosen calls it once in a step


def test_a_card_that_convolves_wrongly_in_half_precision_is_planned_for(tmp_path, plans):
    """With what convolutions in float32 hold, by a dry run of its own; and it is told."""
    right = Measurement(
        "Test card", "2.13.0", 1e13, 5e12, 8e12, 3e11, 1e10, 5e9, 8e-6, 300 * 2**20, half_convolutions=True
    )
    found = []
    for works in (True, False):
        plans._measurements.put("GPU-1", replace(right, half_convolutions=works))
        with service_on(tmp_path, plans, card(23, 24)) as service:
            found.append(service.plan({**NANO, "precision": "float16"}, exactly=True)[0])
    assert [planned.plan.wide_convolutions for planned in found] == [False, True]
    assert [len(plan_notes(planned)) for planned in found] == [0, 1]
    peaks = [sum(phase.activations_bytes for phase in planned.prediction.phases) for planned in found]
    assert peaks[0] < peaks[1]
    assert all(one.plan.wide_convolutions for one in found[1].ladder)


def test_the_disk_of_a_model_is_read_as_it_was_measured(tmp_path, plans):
    """Of a model that is not there nothing was measured."""
    make_checkpoint(tmp_path / "models" / "here", SPEC)
    DiskRates(tmp_path / "planner" / "disks.json").put(tmp_path, 1.5e8)
    probe = card(8)
    with service_on(tmp_path, plans, probe) as service:
        asked = plans.asked(service.resolve({"model": "here"}), probe)
        assert (asked.machine.disk_read_rate, asked.machine.disk_measured) == (1.5e8, True)
        absent = plans.asked(service.resolve({"model": "i2vgen-xl"}), probe)
        assert (absent.machine.disk_read_rate, absent.machine.disk_measured) == (probe.host.disk_read_rate, False)
