"""The ladder in the middle of a run: which rung is taken, that it is taken once, and that the result is the same."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from i2v.engine import pace
from i2v.engine import run as engine_run
from i2v.engine.cancel import GenerationCancelled, GenerationPaused
from i2v.engine.checkpoint import CHECKPOINT, LATENTS
from i2v.engine.engine import Engine
from i2v.engine.healing import Healer, lowers, lowest
from i2v.engine.orders import Orders
from i2v.engine.spill import SpillWatch
from i2v.events import Event, Healed, MemorySampled, Noted, PhaseStarted, Resumed
from i2v.families.i2vgen_xl.model import I2VGenXL
from i2v.families.pixels import to_bytes
from i2v.families.spec import UNET_RUNGS
from i2v.memory.card import MemoryReading, SimulatedCard
from i2v.messages import Message, UserError
from i2v.models.entry import ModelEntry
from i2v.plan import OFFLOADS, Placement, Plan, Rung, everywhere
from i2v.planning.planner import candidates
from i2v.request import GenerationRequest
from tests.faulty_cards import Faulty, FaultyInPhases, steps
from tests.latents import load_latents

MIB = 2**20
LARGE = Plan(
    device="simulated", places=everywhere("resident"), cfg="batch", decode_frames=0, memory_cap_bytes=1024 * MIB
)


@pytest.fixture
def job(request_: GenerationRequest) -> GenerationRequest:
    return replace(request_, width=64, height=64, num_frames=4, num_inference_steps=3)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """For all tests of this file: whatever became of a run, the next finds the model as it was loaded."""
    return Engine()


@pytest.fixture
def run(light_checkpoint: Path, photo, tmp_path: Path, engine: Engine):
    entry = ModelEntry("small", "i2vgen_xl", "small", light_checkpoint, None, True, 0, None)

    def run(request, plan=LARGE, *, card=None, folder="job", cancelled=lambda: False, **orders) -> list[Event]:
        run.folder = tmp_path / folder
        run.folder.mkdir(exist_ok=True)
        photo.save(run.folder / "input.png")
        run.events = []
        run.engine._card_for = lambda plan: card or SimulatedCard(1024 * MIB)
        run.engine.run(
            request, plan, entry=entry, job_folder=run.folder, emit=lambda event: run.events.append(event),
            cancelled=cancelled, orders=Orders(**orders),
        )  # fmt: skip
        return run.events

    run.engine = engine
    return run


def below(plan: Plan, before: Plan) -> bool:
    """Whether `plan` is another one, and none of its decisions holds more than in `before`."""
    return plan != before and lowest(before, plan) == plan


def on_card(plan: Plan) -> Plan:
    return replace(plan, encode_on_host=False, decode_on_host=False)


def latents(run) -> torch.Tensor:
    return load_latents(run.folder / LATENTS)


@pytest.fixture(scope="module")
def unharmed() -> dict[str, object]:
    """What `undisturbed` found, for all tests of this file."""
    return {}


@pytest.fixture
def undisturbed(run, job, unharmed) -> tuple[torch.Tensor, int]:
    """Of a run of `job` without any fault: its latents, and how often it allocated."""
    if not unharmed:
        card = Faulty()
        run(job, card=card, folder="whole")
        unharmed.update(latents=latents(run), allocations=card.allocations)
    return unharmed["latents"], unharmed["allocations"]


def test_a_fault_at_any_moment_heals_and_the_result_is_the_same(run, job, undisturbed):
    """Allocations of the whole run are failed one in turn, from the first to the last."""
    whole, allocations = undisturbed
    phases = set()
    for number, at in enumerate((*range(0, allocations, allocations // 6), allocations - 1)):
        events = run(job, card=Faulty(at), folder=f"{number}")
        healed = [e for e in events if isinstance(e, Healed)]
        assert len(healed) == 1
        phases.add(healed[0].phase)
        assert ((latents(run) - whole).norm() / whole.norm()).item() < 1e-5
        assert steps(events) == [1, 2, 3]  # no finished step is made again
        assert (run.folder / "video.mp4").is_file()
    assert phases == {"encode", "denoise", "decode"}


def test_faults_in_several_phases_of_one_run_all_heal(run, job, undisturbed):
    whole, _ = undisturbed
    done = {"encode": 0, "denoise": 2, "decode": job.num_inference_steps}
    stories = [
        ("resident", ("encode", "denoise", "decode")),
        ("staged", ("encode", "denoise", "decode")),  # encode has no rung left but the host
        ("resident", ("denoise", "denoise", "decode", "decode")),
    ]
    for number, (offload, phases) in enumerate(stories):
        plan = replace(LARGE, places=everywhere(offload), decode_frames=4)
        card = FaultyInPhases(lambda: run.events, [(phase, done[phase]) for phase in phases])
        events = run(job, plan, card=card, folder=f"{number}")
        healed = [event for event in events if isinstance(event, Healed)]
        assert [event.phase for event in healed] == list(phases)
        plans = [plan, *(Plan.from_json(event.plan) for event in healed)]
        assert all(below(after, before) for before, after in itertools.pairwise(plans))
        assert steps(events) == [1, 2, 3]  # no finished step is made again
        assert ((latents(run) - whole).norm() / whole.norm()).item() < 1e-5
        assert (run.folder / "video.mp4").is_file()


def test_what_a_video_shows_is_told_once_however_often_decoding_begins(run, job, monkeypatch):
    told = Message("engine.load_again", {"model": "small"})
    monkeypatch.setattr(I2VGenXL, "shown", lambda *_: (told,))
    done = job.num_inference_steps
    events = run(job, card=FaultyInPhases(lambda: run.events, [("decode", done), ("decode", done)]))
    assert [event.phase for event in events if isinstance(event, Healed)] == ["decode", "decode"]
    assert [event.message for event in events if isinstance(event, Noted)] == [told]


def test_a_card_that_shrinks_is_followed_down_the_ladder(run, job):
    """From room for everything to just what the smallest plan holds, a piece with every step."""
    job = replace(job, num_inference_steps=6)

    def peak(events: list[Event], phase: str) -> int:
        return max(e.peak_allocated_bytes for e in events if isinstance(e, MemorySampled) and e.phase == phase)

    class Shrinking(SimulatedCard):
        def reset_peak(self) -> None:
            super().reset_peak()
            self.capacity_bytes = max(int(self.capacity_bytes * 0.9), smallest)

    largest = peak(run(job, folder="whole"), "denoise")
    whole = latents(run)
    small = run(replace(job, num_inference_steps=2), list(candidates(LARGE, ()))[-1], folder="small")
    smallest = max(peak(small, phase) for phase in ("denoise", "decode"))
    events = run(job, card=Shrinking(largest), folder="shrinking")
    plans = [Plan.from_json(e.plan) for e in events if isinstance(e, Healed)]
    assert len(plans) >= 2
    assert len(set(plans)) == len(plans)
    assert steps(events) == list(range(1, 7))
    assert ((latents(run) - whole).norm() / whole.norm()).item() < 1e-5


@pytest.mark.parametrize("offload", ["resident", "staged"])
def test_frames_that_are_no_numbers_are_decoded_again_in_float32(run, job, monkeypatch, offload):
    """As a decoder does whose activations are beyond half precision: as bytes they would be black."""
    plan = replace(LARGE, precision="bfloat16", places=everywhere(offload))
    decode, made = I2VGenXL.decode, []

    def overflowing(self, card, conditioning, latents, request, plan):
        dtype, frames = self.vae.decoder.conv_in.weight.dtype, []
        made.append((dtype, frames))
        for frame in decode(self, card, conditioning, latents, request, plan):
            if len(frames) == 2 and dtype == torch.bfloat16 and run.folder.name == "overflowing":
                to_bytes(torch.full((3, 8, 8), torch.nan))
            frames.append(frame.float())
            yield frame

    monkeypatch.setattr(I2VGenXL, "decode", overflowing)
    job = replace(job, num_inference_steps=1)
    for name in ("before", "overflowing", "after"):
        events = run(job, plan, folder=name)
        noted = [e.message.id for e in events if isinstance(e, Noted)]
        assert noted == (["engine.decoded_in_float32"] if name == "overflowing" else [])
        assert steps(events) == [1]
    # After it the model has its own precision again.
    assert [dtype for dtype, _ in made] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.bfloat16]
    before, part, again, after = (torch.stack(frames) for _, frames in made)
    assert len(part) == 2
    assert torch.equal(before, after)
    assert 0 < (again - before).abs().mean() < 4  # the error of bfloat16


def test_a_decoder_without_numbers_in_float32_fails_and_the_latents_are_kept(run, job, monkeypatch):
    monkeypatch.setattr(I2VGenXL, "decode", lambda *_: iter([to_bytes(torch.full((3, 8, 8), torch.inf))]))
    with pytest.raises(UserError) as caught:
        run(job, replace(LARGE, precision="bfloat16"))
    assert caught.value.message.id == "engine.frames_not_finite"
    assert latents(run).isfinite().all()
    assert not (run.folder / "video.mp4").exists()


def test_latents_that_are_no_numbers_end_the_run_at_that_step(run, job, monkeypatch):
    step, made = I2VGenXL.denoise_step, []

    def overflowing(self, *args):
        made.append(step(self, *args))
        return replace(made[-1], latents=made[-1].latents * torch.nan)

    monkeypatch.setattr(I2VGenXL, "denoise_step", overflowing)
    with pytest.raises(UserError) as caught:
        run(job)
    assert caught.value.message.id == "engine.not_finite"
    assert len(made) == 1


def test_a_lost_card_leaves_the_finished_steps_on_disk(run, job):
    def watch() -> bool:
        if len(steps(run.events)) == 2:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return False

    with pytest.raises(torch.AcceleratorError):
        run(job, cancelled=watch, checkpoint_seconds=600)
    assert steps(run(job)) == [3]


def test_when_the_ladder_ends_the_job_fails_with_its_latents_kept(run, job, undisturbed):
    def refuse(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory in decode")

    whole, _ = undisturbed
    decode, I2VGenXL.decode = I2VGenXL.decode, refuse
    try:
        with pytest.raises(torch.OutOfMemoryError):
            run(job, folder="failing")
    finally:
        I2VGenXL.decode = decode
    healed = [e for e in run.events if isinstance(e, Healed)]
    assert healed
    assert all(e.phase == "decode" for e in healed)
    assert Plan.from_json(healed[-1].plan).decode_on_host
    assert torch.equal(latents(run), whole)
    # What is kept is enough: decoding alone makes the video, and the network is not called.
    events = run(job, folder="failing", work="decode")
    assert steps(events) == []
    assert (run.folder / "video.mp4").is_file()


def test_the_rungs_predicted_are_those_taken(run, job):
    rungs = (
        Rung(LARGE, {"encode": 50, "denoise": 100, "decode": 50}),
        Rung(replace(LARGE, cfg="split"), {"encode": 50, "denoise": 100, "decode": 40}),
        Rung(replace(LARGE, chunk_frames=2), {"encode": 50, "denoise": 80, "decode": 50}),
    )
    healer = Healer(LARGE, rungs)
    assert healer.step_down("denoise") == rungs[2].plan
    below = healer.step_down("denoise")  # beyond what was predicted, by the planner's own order
    assert lowers(below, rungs[2].plan, "denoise")
    assert Healer(LARGE, rungs).step_down("decode") == rungs[1].plan


def test_rungs_that_one_phase_passed_over_are_left_for_another():
    """Nothing lowers an encode that streams already, so it moves to the host; denoising has all of its rungs yet."""
    streamed = replace(LARGE, places=everywhere("streamed"))
    alone, after_encode = Healer(streamed), Healer(streamed)
    assert after_encode.step_down("encode").encode_on_host
    for phase in ("denoise", "decode"):
        assert after_encode.step_down(phase) == replace(alone.step_down(phase), encode_on_host=True)


def test_what_a_phase_was_lowered_to_stays_when_another_steps_down():
    """The rung that denoising needs is resident. Encode had to be staged, and decode comes yet."""
    rungs = (
        Rung(LARGE, {"encode": 90, "denoise": 100, "decode": 90}),
        Rung(replace(LARGE, cfg="split"), {"encode": 90, "denoise": 70, "decode": 90}),
        Rung(replace(LARGE, places=everywhere("staged")), {"encode": 50, "denoise": 80, "decode": 50}),
    )
    healer = Healer(LARGE, rungs)
    assert healer.step_down("encode") == rungs[2].plan
    assert healer.step_down("denoise") == replace(LARGE, cfg="split", places=everywhere("staged"))


PHASES = ("encode", "denoise", "decode")
STREAMED = st.builds(Placement, st.sampled_from(["unet", "text_encoder"]), st.just("streamed"), st.integers(0, 3))
PLACES = st.one_of(
    st.sampled_from(OFFLOADS).map(everywhere),
    STREAMED.map(lambda place: (*everywhere("streamed"), place)),
)
PLANS = st.builds(
    Plan,
    device=st.sampled_from(["cuda", "simulated", "cpu"]),
    places=PLACES,
    cfg=st.sampled_from(["batch", "split"]),
    chunk_frames=st.sampled_from([0, 1, 2, 4, 7]),
    chunk_pixels=st.sampled_from([0, 256, 512, 4096]),
    decode_frames=st.sampled_from([0, 1, 2, 4, 7]),
    encode_on_host=st.booleans(),
    decode_on_host=st.booleans(),
)
PEAKS = st.dictionaries(st.sampled_from(PHASES), st.integers(1, 4))


@st.composite
def ladders(draw) -> tuple[Plan, tuple[Rung, ...]]:
    """A plan and a ladder, its own rung first, as the planner would predict it, as nobody would, or none."""
    plan = draw(PLANS)
    kind = draw(st.sampled_from(["none", "predicted", "any"]))
    if kind == "none":
        return plan, ()
    if kind == "predicted":
        plans = dict.fromkeys((plan, *candidates(plan, ())))
        return plan, tuple(Rung(one, dict.fromkeys(PHASES, 100 - i)) for i, one in enumerate(plans))
    return plan, (Rung(plan, draw(PEAKS)), *draw(st.lists(st.builds(Rung, PLANS, PEAKS), max_size=8)))


@given(ladders(), st.lists(st.sampled_from(PHASES), max_size=40))
def test_whatever_fails_no_rung_is_taken_twice_and_none_raises_anything(given_, faults):
    plan, ladder = given_
    peaks = {on_card(rung.plan): rung.peaks_bytes for rung in ladder}
    healer = Healer(plan, ladder)
    seen = [plan]
    for phase in faults:
        could = healer.can_step_down(phase)
        after = healer.step_down(phase)
        assert could == (after is not None)
        if after is None:
            assert healer.plan == seen[-1]
            continue
        assert after == healer.plan
        assert after not in seen
        assert below(after, seen[-1])  # and so it holds no more in any phase, whichever was lowered before
        predicted = [peaks.get(on_card(one), {}).get(phase) for one in (seen[-1], after)]
        assert lowers(after, seen[-1], phase) or (None not in predicted and predicted[1] < predicted[0])
        seen.append(after)


@given(ladders(), st.lists(st.sampled_from(PHASES), max_size=12), st.sampled_from(PHASES))
def test_the_ladder_ends_and_faults_in_other_phases_cost_a_phase_none_of_it(given_, faults, phase):
    plan, ladder = given_
    alone, after_others = Healer(plan, ladder), Healer(plan, ladder)
    for other in faults:
        after_others.step_down(other)
    for healer in (alone, after_others):
        for _ in range(40):
            if healer.step_down(phase) is None:
                break
        assert not healer.can_step_down(phase)
    if not any(rung.peaks_bytes for rung in ladder):  # a prediction may hold more against any rung
        assert not lowers(alone.plan, after_others.plan, phase)


def test_a_pause_lays_the_run_down_and_it_goes_on_to_the_same_bytes(run, job, undisturbed):
    whole, _ = undisturbed
    with pytest.raises(GenerationPaused) as paused:
        run(job, folder="paused", paused=lambda: steps(run.events) == [1])
    assert paused.value.step == 1
    assert (run.folder / CHECKPOINT).is_file()
    events = run(job, folder="paused")
    assert [e.step for e in events if isinstance(e, Resumed)] == [1]
    assert steps(events) == [2, 3]
    assert torch.equal(latents(run), whole)
    assert not (run.folder / CHECKPOINT).exists()


def test_a_paused_run_can_be_decoded_as_a_draft(run, job):
    with pytest.raises(GenerationPaused):
        run(job, folder="paused", paused=lambda: steps(run.events) == [1])
    run(job, folder="paused", work="decode")
    assert (run.folder / "video.mp4").is_file()
    assert (run.folder / CHECKPOINT).is_file()


@pytest.mark.parametrize(
    ("change", "why"), [({"seed": 8}, "request"), ({"prompt": "a lake"}, "request")], ids=["seed", "prompt"]
)
def test_progress_of_another_request_is_refused(run, job, change, why):
    job = replace(job, num_inference_steps=2)
    with pytest.raises(GenerationPaused):
        run(job, folder="paused", paused=lambda: steps(run.events) == [1])
    events = run(replace(job, **change), folder="paused")
    assert [e.message.id for e in events if isinstance(e, Noted)] == [f"engine.checkpoint_other_{why}"]
    assert steps(events) == [1, 2]


@pytest.mark.parametrize("harm", ["cut", "empty", "noise", "inputs", "precision"])
def test_progress_that_cannot_be_this_runs_is_refused(run, job, harm, photo, request):
    job = replace(job, num_inference_steps=2)
    with pytest.raises(GenerationPaused):
        run(job, folder="paused", paused=lambda: steps(run.events) == [1])
    path, plan, other = run.folder / CHECKPOINT, LARGE, "file"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "noise":
        path.write_bytes(b"\0" * 4096)
    elif harm == "precision":
        plan, other = replace(LARGE, precision="bfloat16"), "precision"
    else:
        before = photo.copy()
        request.addfinalizer(lambda: photo.paste(before))
        photo.paste(photo.rotate(90))
        other = "inputs"
    events = run(job, plan, folder="paused")
    assert [e.message.id for e in events if isinstance(e, Noted)] == [f"engine.checkpoint_other_{other}"]
    assert steps(events) == [1, 2]


def test_nothing_to_decode_is_said(run, job):
    with pytest.raises(UserError) as refused:
        run(job, work="decode")
    assert refused.value.message.id == "engine.nothing_to_decode"


def test_what_was_encoded_once_is_not_encoded_again(run, job, tmp_path):
    class Watched(SimulatedCard):
        def __init__(self) -> None:
            super().__init__(1024 * MIB)
            self.placed_names: list[str] = []

        def place(self, module: nn.Module) -> None:
            self.placed_names.append(type(module).__name__)
            super().place(module)

    job = replace(job, num_inference_steps=1)
    cache, staged = tmp_path / "cache", replace(LARGE, places=everywhere("staged"))
    first = Watched()
    run(job, staged, folder="first", card=first, cache=cache)
    whole = latents(run)
    again, other_seed, other_prompt = Watched(), Watched(), Watched()
    run(job, staged, folder="again", card=again, cache=cache)
    assert torch.equal(latents(run), whole)
    run(replace(job, seed=9), staged, folder="seed", card=other_seed, cache=cache)
    run(replace(job, prompt="fog"), staged, folder="prompt", card=other_prompt, cache=cache)
    assert first.placed_names == [
        "CLIPTextModel", "CLIPVisionModelWithProjection", "AutoencoderKL", "I2VGenXLUNet", "AutoencoderKL",
    ]  # fmt: skip
    assert again.placed_names == ["I2VGenXLUNet", "AutoencoderKL"]
    assert other_seed.placed_names == ["AutoencoderKL", "I2VGenXLUNet", "AutoencoderKL"]
    assert other_prompt.placed_names == ["CLIPTextModel", "I2VGenXLUNet", "AutoencoderKL"]
    run(job, staged, folder="uncached")
    assert torch.equal(latents(run), whole)


def test_what_the_processor_encoded_is_not_taken_for_what_a_card_would_have(run, job, tmp_path):
    job, cache = replace(job, num_inference_steps=1), tmp_path / "cache"
    least = replace(LARGE, places=everywhere("streamed"), **UNET_RUNGS[-1])
    faulty = FaultyInPhases(lambda: run.events, [("encode", 0)])
    healed = run(job, least, folder="healed", card=faulty, cache=cache)
    assert [event.changes for event in healed if isinstance(event, Healed)] == [{"encode_on_host": True}]
    by_host = {path.name for path in cache.iterdir()}
    run(job, least, folder="whole", cache=cache)
    by_card = {path.name for path in cache.iterdir()} - by_host
    assert len(by_host) == len(by_card) == 3


def test_a_card_that_slows_down_when_full_is_answered_by_one_rung(run, job, monkeypatch):
    """A card as Windows makes one: beyond its size nothing fails, and everything is slow. By the card's own clock."""

    class Spilling(SimulatedCard):
        full, seconds = False, 0.0

        def synchronize(self) -> None:
            self.seconds += 4.0 if self.full else 1.0

        def read_memory(self) -> MemoryReading:
            reading = super().read_memory()
            return replace(reading, device_used_bytes=self.capacity_bytes) if self.full else reading

    card = Spilling(1024 * MIB)
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: card.seconds))
    job = replace(job, num_inference_steps=8)

    def watch() -> bool:
        done = steps(run.events)
        card.full = 4 <= len(done) < 6
        return False

    events = run(job, card=card, cancelled=watch)
    healed = [e for e in events if isinstance(e, Healed)]
    assert [e.message.id for e in healed] == ["engine.healed_spill"]
    assert steps(events) == list(range(1, 9))


def test_slow_steps_alone_are_no_spill():
    watch = SpillWatch()
    for _ in range(5):
        assert watch.step(1.0, 99, 100) is None
    assert watch.step(9.0, 50, 100) is None  # slow, but there is room
    assert watch.step(9.0, 50, 100) is None
    assert watch.step(1.0, 99, 100) is None
    assert watch.step(9.0, 99, 100) is None  # one alone may be anything
    assert watch.step(9.0, 99, 100) is not None


def test_a_load_that_runs_out_of_memory_is_tried_once_more(run, job, monkeypatch):
    from i2v.families.i2vgen_xl import model

    read, calls = model.read_half, []

    def failing(network, folder, precision):
        calls.append(folder.name)
        if len(calls) == 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
        return read(network, folder, precision)

    monkeypatch.setattr(model, "read_half", failing)
    run.engine = Engine()
    events = run(job)
    assert calls[:2] == calls[2:4]  # what had been read was given back, and is read again
    assert [e.message.id for e in events if isinstance(e, Noted)] == ["engine.load_again"]


def test_progress_is_written_as_often_as_was_asked(run, job, monkeypatch):
    """By a clock on which every step takes a second."""
    clock = SimpleNamespace(monotonic=lambda: len(steps(run.events)), perf_counter=time.perf_counter)
    written, save = [], engine_run.save_checkpoint

    def saved(folder, progress, identity):
        written.append(progress.step)
        save(folder, progress, identity)

    monkeypatch.setattr(engine_run, "time", clock)
    monkeypatch.setattr(engine_run, "save_checkpoint", saved)
    for every, expected in ((0, [1, 2, 3, 4, 5, 6]), (3, [3, 6])):
        written.clear()
        run(replace(job, num_inference_steps=7), checkpoint_seconds=every, folder=f"every {every}")
        assert written == expected


def test_cancelling_keeps_what_was_on_disk(run, job):
    with pytest.raises(GenerationCancelled):
        run(job, checkpoint_seconds=0.0, cancelled=lambda: steps(run.events) == [1, 2])
    assert steps(run(job)) == [3]


def test_phases_begin_again_where_they_failed(run, job, undisturbed):
    _, allocations = undisturbed
    events = run(job, card=Faulty(allocations // 2), folder="faulty")
    begun = [e.phase for e in events if isinstance(e, PhaseStarted)]
    assert begun == ["load", "encode", "denoise", "denoise", "decode"]
