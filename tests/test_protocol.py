"""The lines between service and worker: whole, finite, and refused when they are neither."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2v import events
from i2v.messages import message
from i2v.wire.worker import (
    Cancel,
    Idle,
    Pause,
    ProtocolError,
    Reported,
    Run,
    Started,
    decode_command,
    decode_report,
    encode,
)

EVERY_EVENT = (
    events.PhaseStarted("load", "download"),
    events.PhaseFinished("encode", 1.5, "text"),
    events.StepFinished("denoise", 1, 50, 0.5, 0.4, 20.0),
    events.StepFinished("denoise", 30, 50, 0.5, 0.4, 20.0, sections=2),
    events.WindowFinished(2, 31),
    events.MemorySampled("denoise", 1, 1, 2, 3, 4, 5, "cuda", 6),
    events.PreviewReady(3, "preview.webp"),
    events.Noted("warning", message("jobs.queue_full", limit=3)),
    events.StateChanged("decoding"),
    events.SteadinessMeasured({"flicker": 0.004, "findings": ["flickers"], "seam_ratio": None}),
    events.Done("video.mp4", 12.5, 16),
    events.Failed(message("jobs.closed")),
    events.Cancelled(7),
    events.Resumed(4),
    events.Healed("denoise", 3, {"cfg": "split"}, {"cfg": "split"}, message("jobs.closed")),
    events.Paused(5),
    events.Paused(5, message("worker.disk_full", folder="outputs", free_mib=0)),
)


def run_with(prompt: str) -> Run:
    request = {"prompt": prompt, "width": 512}
    return Run(
        "id",
        "/tmp/a folder",
        request,
        {"cfg": "split"},
        {"name": "nano"},
        "/models",
        "/logs/worker.log",
        "http://hub",
        True,
    )


@given(st.text(st.characters()))
def test_any_prompt_travels_in_one_line(prompt: str) -> None:
    line = encode(run_with(prompt))
    assert line.count(b"\n") == 1
    assert decode_command(line) == run_with(prompt)


def test_half_a_character_travels_too() -> None:
    assert decode_command(encode(run_with("\ud83d\u2028"))) == run_with("\ud83d\u2028")


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.type)
def test_every_event_travels(event: events.Event) -> None:
    assert decode_report(encode(Reported("id", event))) == Reported("id", event)


def test_there_is_no_event_this_test_forgot() -> None:
    assert {type(event) for event in EVERY_EVENT} == set(events.Event.__args__)


def test_the_small_ones_travel() -> None:
    assert decode_command(encode(Cancel("id"))) == Cancel("id")
    assert decode_command(encode(Pause("id"))) == Pause("id")
    assert decode_report(encode(Started("id", 12))) == Started("id", 12)
    assert decode_report(encode(Idle("id"))) == Idle("id")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_not_sent(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(Reported("id", events.PhaseFinished("load", number)))


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"Loading checkpoint shards: 100%\n",
        b"[]\n",
        b"null\n",
        b'{"job_id": "id"}\n',
        b'{"type": "nothing"}\n',
        b'{"type": ["idle"], "job_id": "id"}\n',
        b'{"type": "idle"}\n',
        b'{"type": "idle", "job_id": "id", "more": 1}\n',
        b'{"type": "idle", "job_id": "id"}',  # cut off before its end
        encode(run_with("a command is no report")),
        b'{"type": "reported", "job_id": "id", "event": {"type": "nothing"}}\n',
        b'{"type": "reported", "job_id": "id", "event": {"type": "cancelled"}}\n',
        b'{"type": "reported", "job_id": "id", "event": {"type": "phase_finished", "phase": "load", "seconds": NaN}}\n',
        b'{"type": "started", "job_id": "id", "pid": \xff}\n',
    ],
)
def test_a_line_that_is_no_report_is_an_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_report(line)


def test_a_report_is_no_command() -> None:
    with pytest.raises(ProtocolError):
        decode_command(encode(Idle("id")))
