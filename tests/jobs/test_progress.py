"""What a job's events add up to: the same however they come, and valid wherever they stop."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2v.cli.views import step_line
from i2v.events import (
    PHASES,
    Cancelled,
    Done,
    Event,
    Failed,
    Healed,
    MemorySampled,
    Noted,
    Paused,
    PhaseFinished,
    PhaseStarted,
    PreviewReady,
    Resumed,
    StateChanged,
    StepFinished,
)
from i2v.job_progress import JobProgress
from i2v.jobs.job.history import EVENTS, read_history
from i2v.jobs.job.record import JobRecord
from i2v.jobs.job.states import STATES
from i2v.messages import LOCALES, message
from i2v.plan import Plan
from i2v.ui.shown import panels
from i2v.ui.shown.format import status_parts
from i2v.ui.shown.view import JobView, advance
from tests.jobs.support import PLAN, REQUEST, new_job, ran_to, with_folder

STEPS, FRAMES = REQUEST.num_inference_steps, REQUEST.num_frames
REASON = message("jobs.lent", program="a game")
RUNG = message("engine.healed", phase="denoise", step=3, changes="chunk_frames 0 → 4")
SAMPLE = MemorySampled("denoise", 2, 1, 2, 3, 4, 5, "simulated")

_phases = st.sampled_from(PHASES)
_steps = st.integers(0, STEPS)
_seconds = st.floats(0, 1e6)
_reasons = st.sampled_from([REASON, RUNG, message("jobs.closed")])
_plans = st.builds(Plan, chunk_frames=st.integers(0, 4)).map(Plan.to_json)
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(StateChanged, st.sampled_from(STATES)),
    st.builds(PhaseStarted, _phases),
    st.builds(PhaseFinished, _phases, _seconds),
    st.builds(StepFinished, st.just("denoise"), st.integers(1, STEPS), st.just(STEPS), _seconds, _seconds, _seconds),
    st.builds(StepFinished, st.just("decode"), st.integers(1, FRAMES), st.just(FRAMES), _seconds, _seconds, _seconds),
    st.builds(replace, st.just(SAMPLE), phase=_phases, device_used_bytes=st.integers(0, 4)),
    st.builds(PreviewReady, _steps, st.just("preview.webp")),
    st.builds(Noted, st.just("info"), _reasons),
    st.builds(Resumed, _steps),
    st.builds(Healed, _phases, _steps, st.just({"chunk_frames": 4}), _plans, st.just(RUNG)),
    st.builds(Paused, _steps, st.none() | _reasons),
    st.builds(Cancelled, _steps),
    st.builds(Failed, _reasons),
    st.builds(Done, st.just("video.mp4"), _seconds, st.just(FRAMES)),
)
_streams = st.lists(_events, max_size=25)


def added_up(events: Iterable[Event]) -> JobProgress:
    progress = JobProgress()
    for event in events:
        progress = progress.after(event)
    return progress


def read_back(folder: Path) -> JobProgress:
    progress = JobProgress()
    for past in read_history(folder):
        progress = progress.after(past.event, past.time)
    return progress


@given(_streams)
def test_a_record_adds_up_to_the_same_live_and_read_back(stream: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as name:
        job = new_job()
        record = with_folder(Path(name), job, *stream)
        assert read_back(record.folder) == record.progress
        timeless = replace(record.progress, started=None, ended=None)
        assert added_up(event for _, event in record.events()) == timeless
        if record.events():
            again = JobRecord.resume(replace(job, state=record.progress.state), Path(name))
            assert (again.progress, again.status()) == (record.progress, record.status())


@given(_streams, st.floats(0, 1))
def test_a_record_cut_anywhere_is_a_job_that_can_be_shown(stream: list[Event], share: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        job = new_job()
        file = with_folder(Path(name), job, *stream).folder / EVENTS
        whole = file.read_bytes() if stream and file.exists() else b""
        file.write_bytes(whole[: round(share * len(whole))])
        kept = read_back(file.parent)
        record = JobRecord.resume(job, Path(name))
        assert record.progress.reached == kept.reached
        status = record.status()
        json.dumps(status.to_json(), allow_nan=False)
        assert 0 <= status.step <= status.steps
        view = JobView()
        for number, event in record.events():
            view = advance(view, event, number)
            assert 0 <= view.bar <= 1
        assert replace(view.progress, started=None, ended=None) == added_up(event for _, event in record.events())
        for locale in LOCALES:
            assert "{" not in panels.status(view, 1, "", locale)


@given(_streams)
def test_what_a_row_needs_is_told_by_three_kinds_of_events(stream: list[Event]) -> None:
    """The list is made anew from these alone, without reading every step of every job."""
    rows = (
        (told.state, told.error, told.started, told.ended, told.attempts)
        for told in (
            added_up(stream),
            added_up(event for event in stream if isinstance(event, StateChanged | Failed | Paused)),
        )
    )
    assert next(rows) == next(rows)


@given(_streams)
def test_the_furthest_of_all_runs_and_the_rungs_are_remembered(stream: list[Event]) -> None:
    told = added_up(stream)
    steps = [event for event in stream if isinstance(event, StepFinished)]
    furthest = [max((e.index for e in steps if e.phase == phase), default=0) for phase in ("denoise", "decode")]
    assert told.reached == tuple(furthest)
    healed = [event for event in stream if isinstance(event, Healed)]
    assert told.healed == tuple(event.rung for event in healed)
    assert told.plan == (Plan.from_json(healed[-1].plan) if healed else None)
    assert told.attempts == sum(event == StateChanged("running") for event in stream)


def test_a_rung_has_one_text() -> None:
    healed = Healed("denoise", 3, {"chunk_frames": 4}, PLAN.to_json(), RUNG)
    assert added_up([healed]).healed == (healed.rung,) == ("denoise, step 3: chunk_frames 0 → 4",)


RUNS = (
    *ran_to("running"),
    PhaseStarted("load"),
    PhaseStarted("denoise"),
    StepFinished("denoise", 3, STEPS, 1.0, 2.0, 4.0),
)
DECODES = (*RUNS, StateChanged("decoding"), PhaseStarted("decode"))
FRAME = StepFinished("decode", 2, FRAMES, 1.0, 0.5, 1.0)


def test_a_job_in_line_again_is_in_no_phase_and_keeps_its_steps() -> None:
    told = added_up([*RUNS, Failed(REASON), StateChanged("queued")])
    assert (told.phase, told.seconds_left, told.seconds_per_step, told.error) == ("", None, None, None)
    assert (told.step, told.steps) == (3, STEPS)
    # The next run tells what it could use of them only after it has loaded.
    assert added_up([*RUNS, StateChanged("queued"), PhaseStarted("load")]).step == 3
    assert added_up([*RUNS, PhaseStarted("load"), PhaseStarted("denoise")]).step == 0
    resumed = added_up([*RUNS, PhaseStarted("load"), Resumed(2), PhaseStarted("denoise")])
    assert (resumed.step, resumed.resumed_from_step) == (2, 2)


def test_a_note_stays_as_long_as_it_is_true() -> None:
    healed, laid_down = Healed("denoise", 3, {}, PLAN.to_json(), RUNG), Paused(3, REASON)
    assert added_up([*RUNS, healed, StateChanged("done")]).note == RUNG
    for state, note in (("paused", REASON), ("queued", None), ("cancelled", None)):
        assert added_up([*RUNS, healed, laid_down, StateChanged(state)]).note == note


def test_a_status_counts_frames_only_while_they_are_decoded(tmp_path: Path) -> None:
    record = with_folder(tmp_path, new_job(), *DECODES)
    assert (record.status().step, record.status().steps) == (0, FRAMES)
    record.append(FRAME)
    assert (record.status().step, record.status().steps) == (2, FRAMES)
    record.append(Paused(STEPS, REASON))
    record.append(StateChanged("paused"))
    assert (record.status().phase, record.status().step, record.status().steps) == ("", STEPS, STEPS)


@pytest.mark.parametrize("ending", [Cancelled(STEPS), Failed(REASON), Paused(STEPS)])
def test_a_phase_that_ends_early_has_no_time_left(ending: Event) -> None:
    told = added_up([*DECODES, FRAME, ending])
    assert told.seconds_left is None
    assert told.counted == (2, FRAMES)


@pytest.mark.parametrize("reason", [Done("video.mp4", 1.0, FRAMES), Failed(REASON), Cancelled(3)])
def test_a_state_is_what_was_said_of_it_after_its_reason(reason: Event) -> None:
    told = added_up([*DECODES, reason])
    assert (told.state, told.ended) == ("decoding", None)
    ended = told.after(StateChanged("failed"), 5.0)
    assert (ended.final, ended.ended) == (True, 5.0)


def test_of_a_video_in_sections_it_is_told_which_one_is_made() -> None:
    """After a section's last step the next one is at hand; the step itself belongs to its own section."""
    steps = [StepFinished("denoise", index, 6, 1.0, 1.0, 1.0, sections=3) for index in range(1, 7)]
    assert [step.section for step in steps] == [1, 1, 2, 2, 3, 3]
    assert [added_up([*RUNS, step]).section for step in steps] == [1, 2, 2, 3, 3, 3]
    assert step_line(steps[2], "en").startswith("section 2 of 3 · step 3 of 6")
    assert step_line(StepFinished("denoise", 3, 6, 1.0, 1.0, 1.0), "en").startswith("step 3 of 6")
    shown = status_parts(JobView(progress=added_up([*RUNS, steps[2]])), None)
    assert "section 2 of 3" in [part.render("en") for part in shown]
