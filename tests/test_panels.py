"""What the page makes of a job's events: the status line, the bar, the stage, the log, the memory curve."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs_support import settings_in, small_picture, values
from machines import card, no_card
from page_support import GIB, sampled, view_of, whole_run

from i2v import events as ev
from i2v.messages import LOCALES, message
from i2v.ui.shown import charts, format, panels
from i2v.ui.shown.view import JobView, advance


def test_the_bar_only_grows_and_ends_full() -> None:
    bars, view = [], JobView()
    for event in whole_run():
        before, view = view, advance(view, event)
        bars.append(view.bar)
        assert view.bar > before.bar or not isinstance(event, ev.StepFinished), event
    assert bars == sorted(bars)
    assert bars[-1] == 1.0
    assert view.progress.final
    assert (view.video, view.preview_step, view.revision) == ("video.mp4", 4, len(view.events))


def test_a_job_that_queues_again_starts_its_bar_anew() -> None:
    view = view_of(*list(whole_run())[:12], ev.StateChanged("queued"))
    assert view.bar == 0.0
    assert not view.progress.final


def line_of(view: JobView, *more: Any) -> str:
    return " · ".join(part.render("en") for part in format.status_parts(view, *more))


def resumed_run() -> Iterator[ev.Event]:
    """Laid down after step 3 of 4, and on its way again."""
    run = list(whole_run())
    yield from run[: run.index(ev.PreviewReady(3, "preview.webp")) + 1]
    yield ev.Paused(3, message("jobs.lent", program="a game"))
    yield ev.StateChanged("paused")


def test_a_paused_job_says_where_and_why_and_goes_on_from_there() -> None:
    view = view_of(*resumed_run())
    assert line_of(view, 0) == "Paused · step 3 of 4"
    assert "a game needs the card" in panels.status(view, 0, "", "en")
    assert not view.progress.final
    view = view_of(*resumed_run(), ev.StateChanged("queued"))
    assert line_of(view, 2, 70) == "Waiting: 1 before it · starts in about 1:10"
    assert line_of(view, 1, None, True) == "Waiting: next in line · the queue is paused"
    assert (view.bar, "a game" in panels.status(view, 2, "", "en")) == (0.0, False)
    again = (ev.StateChanged("running"), ev.PhaseStarted("load"), ev.Resumed(3), ev.PhaseStarted("encode"))
    view = view_of(*resumed_run(), ev.StateChanged("queued"), *again, ev.PhaseStarted("denoise"))
    assert line_of(view, 0) == "Denoising · step 3 of 4"
    assert view.bar > 0.6
    # A run that could not use what was kept begins at the beginning.
    fresh = (ev.StateChanged("running"), ev.PhaseStarted("load"), ev.PhaseStarted("denoise"))
    assert view_of(*resumed_run(), ev.StateChanged("queued"), *fresh).progress.step == 0


def test_healing_is_told_on_the_page_and_the_bar_stays() -> None:
    said = message("engine.healed", phase="denoise", step=3, changes="chunk_frames 0 → 4")
    before = list(resumed_run())[:-2]
    view = view_of(*before, ev.Healed("denoise", 3, {"chunk_frames": 4}, {}, said), ev.PhaseStarted("denoise"))
    assert "chunk_frames 0 → 4" in panels.status(view, 0, "", "en")
    assert "chunk_frames 0 → 4" in format.log_text(view, "zh-CN")
    assert (view.progress.step, view.bar) == (3, view_of(*before).bar)


def test_decoded_frames_take_the_place_of_the_preview(tmp_path: Path) -> None:
    from i2v.jobs.asked.prepare import build_request

    settings, _ = settings_in(tmp_path)
    request = build_request(values(model="nano", image=str(small_picture(tmp_path))), settings)
    run = list(whole_run())
    denoised = view_of(*run[: run.index(ev.PhaseStarted("decode")) + 1])
    decoded = advance(denoised, ev.PreviewReady(6, "preview.webp"))
    shown = [panels.stage(view, request, tmp_path, "en") for view in (denoised, decoded)]
    assert denoised.stage != decoded.stage
    assert ["v=4" in shown[0], "v=6" in shown[1]] == [True, True]
    assert ["expects" in shown[0], "decoded so far" in shown[1]] == [True, True]


def test_the_status_line_says_phase_step_speed_and_time_left() -> None:
    running = [event for event in whole_run() if not isinstance(event, ev.StateChanged | ev.Done)]
    view = view_of(ev.StateChanged("running"), *running[:8])
    line = " · ".join(part.render("en") for part in format.status_parts(view, 0))
    assert line == "Denoising · step 1 of 4 · 1.25 s per step · 0:04 left"


@pytest.mark.parametrize("locale", LOCALES)
def test_every_state_has_its_words(locale: str) -> None:
    """No bare id and no place left open, in either language, wherever a run may stand."""
    ends = [ev.Failed(message("ui.no_picture")), ev.Cancelled(3), ev.Noted("warning", message("ui.no_picture"))]
    ends += [ev.Paused(3), ev.Resumed(3), ev.Healed("denoise", 3, {}, {}, message("ui.no_picture"))]
    for stop in range(len(list(whole_run()))):
        for end in ([], *[[end] for end in ends]):
            view = view_of(*list(whole_run())[:stop], *end)
            shown = panels.status(view, 2, "cancel", locale, 30) + format.log_text(view, locale)
            assert "ui." not in shown.replace("aria-value", "")
            assert "{" not in shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (-3, "0:00")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert format.clock(seconds) == shown


def test_the_log_has_the_line_people_know() -> None:
    """In the unit of everything else on the page."""
    assert "[Memory] Step 3: Allocated=3.00 GiB, Reserved=4.00 GiB" in format.log_text(view_of(*whole_run()), "en")


def test_an_error_is_shown_as_text_never_as_markup() -> None:
    failed = view_of(ev.Failed(message("ui.unexpected", problem="<img src=x onerror=alert(1)>", path="a&b")))
    shown = panels.status(failed, 0, "", "en")
    assert "<img" not in shown
    assert "&lt;img" in shown
    assert "a&amp;b" in shown


def test_the_header_names_a_real_card() -> None:
    assert "Test card · 3.3 of 6.0 GiB" in panels.header(card(3.3, 6), "06gb", "en")


@pytest.mark.parametrize("locale", LOCALES)
def test_one_note_on_the_computer_is_said_and_not_counted(locale: str) -> None:
    note = message("hardware.no_driver")
    whole = note.render(locale)
    (summary,) = re.findall(
        "<summary>(.*?)</summary>", panels.header(replace(no_card(), problems=(note,)), "cpu", locale)
    )
    assert whole.startswith(summary)
    assert len(summary) < len(whole)
    both = panels.header(replace(no_card(), problems=(note, message("jobs.closed"))), "cpu", locale)
    assert re.findall("<summary>(.*?)</summary>", both)[0].startswith(summary)
    assert "1" in re.findall("<summary>(.*?)</summary>", both)[0].removeprefix(summary)


def test_the_status_of_a_waiting_job_says_that_somebody_elses_runs() -> None:
    assert "somebody else" in panels.status(JobView(), 2, "", "en", others=True)
    assert "somebody else" not in panels.status(JobView(), 2, "", "en")


@pytest.mark.parametrize(
    ("budget_gib", "source", "opened"),
    [(6, "cuda", True), (100, "cuda", False), (None, "process", False), (6, "process", True)],
)
def test_memory_that_is_nobodys_worry_is_folded(budget_gib: int | None, source: str, opened: bool) -> None:
    budget = budget_gib and budget_gib * GIB
    assert (" open>" in charts.memory_panel([sampled(1, source)], budget, "en")) is opened
    assert " open>" not in charts.memory_panel((), budget, "en")


def test_the_log_is_closed_at_first() -> None:
    shown = panels.log_panel("a line", "en")
    assert re.match(r'<details [^>]*data-fold="log"><summary>Log</summary>', shown)
    assert "a line" in shown


def test_a_card_is_drawn_with_three_curves_under_its_budget() -> None:
    drawn = charts.memory_chart([sampled(1), sampled(2)], 6 * GIB, "en")
    assert re.findall(r'polyline class="(\w+)"', drawn) == ["device", "reserved", "allocated"]
    heights = [float(y) for y in re.findall(r'points="[\d.]+,([\d.]+)', drawn)]
    assert heights == sorted(heights)  # the device uses most and so lies highest: SVG counts from the top
    budget = float(re.search(r'class="budget"[^>]* y1="([\d.]+)"', drawn)[1])
    assert charts._TOP <= budget < heights[0]
    assert "available 6.00" in drawn


def test_without_a_card_the_one_curve_is_the_program_and_says_so() -> None:
    drawn = charts.memory_chart([sampled(1, "process"), sampled(2, "process")], None, "en")
    assert drawn.count("<polyline") == 1
    assert "this program 2.00" in drawn
    assert "no card in use" in drawn
    assert "budget" not in drawn


def test_the_first_sample_alone_is_a_point() -> None:
    assert charts.memory_chart([sampled(1)], None, "en").count("<circle") == 3


@pytest.mark.parametrize("size", [1, 10**6, 10**8, GIB, 1.99 * GIB, 11.9 * GIB, 79 * GIB, 640 * GIB])
def test_the_axis_ends_above_the_highest_value_but_not_far(size: float) -> None:
    top = charts.nice_top(size)
    assert size <= top <= max(2.2 * size, 0.02 * GIB)


def test_the_axis_numbers_are_the_denoising_steps() -> None:
    before, after = replace(sampled(0), phase="encode"), replace(sampled(8), phase="decode")
    drawn = charts.memory_chart([before, sampled(1), sampled(2), sampled(3), after], None, "en")
    numbers = re.findall(r'<text x="([\d.]+)" y="184" text-anchor="middle">(\d+)</text>', drawn)
    assert sorted((number, float(x)) for x, number in numbers) == [("1", 187.5), ("3", 482.5)]
