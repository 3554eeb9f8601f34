"""The page without a browser: what it makes of events, how it reads its form, whom it lets in."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from fastapi.testclient import TestClient
from gradio.utils import get_upload_folder
from jobs_support import SCRIPTED, fake_standin, settings_in, small_picture, values, wait_until
from machines import card, no_card
from PIL import Image

from i2v import events as ev
from i2v.families import SPECS
from i2v.hardware import MemoryProbe, Probe
from i2v.jobs.plans import Plans
from i2v.jobs.service import JobService
from i2v.jobs.states import LIVE
from i2v.messages import LOCALES, UserError, message
from i2v.plan import POLICIES, PRECISIONS
from i2v.request import PlanOptions
from i2v.settings import ROOT
from i2v.ui import answers, charts, follow, form, format, panels, texts
from i2v.ui.access import owner_of, password_for
from i2v.ui.api import uploaded_path
from i2v.ui.follow import Followers
from i2v.ui.hints import hints
from i2v.ui.login import login_message
from i2v.ui.page import _Page
from i2v.ui.secret import browser_secret
from i2v.ui.serve import build_app, open_port
from i2v.ui.view import JobView, Shown, advance
from i2v.ui.visitor import ADMINS, STEERING, visitor_line
from i2v.video.picture import load_picture

GIB = 2**30
SHAPE = ("picture", "standard", None)  # what the form says beside FIELDS


class FixedProbe(MemoryProbe):
    """A machine that does not change."""

    def __init__(self, reading: Probe) -> None:
        self.reading = reading

    def read(self) -> Probe:
        return self.reading


def sampled(step: int, source: str = "cuda", allocated: int = 3 * GIB) -> ev.MemorySampled:
    return ev.MemorySampled("denoise", step, allocated, 4 * GIB, 5 * GIB, 12 * GIB, 2 * GIB, source)


def whole_run() -> Iterator[ev.Event]:
    yield ev.StateChanged("queued")
    yield ev.StateChanged("running")
    for phase in ("load", "encode"):
        yield ev.PhaseStarted(phase, "")
        yield ev.PhaseFinished(phase, 0.5)
    yield ev.PhaseStarted("denoise")
    for step in range(1, 5):
        yield ev.StepFinished("denoise", step, 4, 1.5, 1.25, 1.25 * (4 - step))
        yield sampled(step)
        yield ev.PreviewReady(step, "preview.webp")
    yield ev.StateChanged("decoding")
    yield ev.PhaseStarted("decode")
    for frame in (1, 2):
        yield ev.StepFinished("decode", frame, 2, 0.1, 0.1, 0.1 * (2 - frame))
    yield ev.Done("video.mp4", 75.0, 2)
    yield ev.StateChanged("done")


def view_of(*events: ev.Event) -> JobView:
    view = JobView()
    for event in events:
        view = advance(view, event)
    return view


# What the page makes of events


def test_the_bar_only_grows_and_ends_full() -> None:
    bars, view = [], JobView()
    for event in whole_run():
        before, view = view, advance(view, event)
        bars.append(view.progress)
        assert view.progress > before.progress or not isinstance(event, ev.StepFinished), event
    assert bars == sorted(bars)
    assert bars[-1] == 1.0
    assert view.final
    assert (view.video, view.preview_step, view.revision) == ("video.mp4", 4, len(view.events))


def test_a_job_that_queues_again_starts_its_bar_anew() -> None:
    view = view_of(*list(whole_run())[:12], ev.StateChanged("queued"))
    assert view.progress == 0.0
    assert not view.final


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
    assert not view.final
    view = view_of(*resumed_run(), ev.StateChanged("queued"))
    assert line_of(view, 2, 70) == "Waiting: 1 before it · starts in about 1:10"
    assert line_of(view, 1, None, True) == "Waiting: next in line · the queue is paused"
    assert (view.progress, "a game" in panels.status(view, 2, "", "en")) == (0.0, False)
    again = (ev.StateChanged("running"), ev.PhaseStarted("load"), ev.Resumed(3), ev.PhaseStarted("encode"))
    view = view_of(*resumed_run(), ev.StateChanged("queued"), *again, ev.PhaseStarted("denoise"))
    assert line_of(view, 0) == "Denoising · step 3 of 4"
    assert view.progress > 0.6
    # A run that could not use what was kept begins at the beginning.
    fresh = (ev.StateChanged("running"), ev.PhaseStarted("load"), ev.PhaseStarted("denoise"))
    assert view_of(*resumed_run(), ev.StateChanged("queued"), *fresh).step == 0


def test_healing_is_told_on_the_page_and_the_bar_stays() -> None:
    said = message("engine.healed", phase="denoise", step=3, changes="chunk_frames 0 → 4")
    before = list(resumed_run())[:-2]
    view = view_of(*before, ev.Healed("denoise", 3, {"chunk_frames": 4}, {}, said), ev.PhaseStarted("denoise"))
    assert "chunk_frames 0 → 4" in panels.status(view, 0, "", "en")
    assert "chunk_frames 0 → 4" in format.log_text(view, "zh-CN")
    assert (view.step, view.progress) == (3, view_of(*before).progress)


def test_decoded_frames_take_the_place_of_the_preview(tmp_path: Path) -> None:
    from i2v.jobs.prepare import build_request

    settings, _ = settings_in(tmp_path)
    request = build_request(values(image=str(small_picture(tmp_path))), settings)
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


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(("who", "hidden"), [("admin", ()), ("ann", ADMINS), ("guest", (*ADMINS, *STEERING))])
def test_a_login_is_named_may_leave_and_is_offered_what_it_may_do(who: str, hidden: tuple, locale: str) -> None:
    shown = visitor_line(who, locale)
    assert f'{who} · <a href="logout">' in shown
    (style,) = re.findall(r"<style>([^{]*) { display: none", shown) or [""]
    assert style == ", ".join(hidden)
    assert "&lt;b&gt;" in visitor_line("<b>", locale)


def test_the_status_of_a_waiting_job_says_that_somebody_elses_runs() -> None:
    assert "somebody else" in panels.status(JobView(), 2, "", "en", others=True)
    assert "somebody else" not in panels.status(JobView(), 2, "", "en")


# The memory curve


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


# The form


def test_empty_fields_are_left_to_us_and_the_rest_arrives() -> None:
    raw = dict.fromkeys(form.FIELDS) | {"prompt": "waves", "seed": "", "chunk_frames": "0", "steps": 5}
    assert form.request_values(list(raw.values())) == {"prompt": "waves", "chunk_frames": "0", "steps": 5}


@pytest.mark.parametrize("shape", [(600, 900), (1920, 1080), (20, 20), (1000, 1), (6000, 4000)])
def test_the_size_follows_the_picture_at_the_same_number_of_pixels(shape: tuple[int, int], tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    for spec in SPECS.values():
        plain = form.default_numbers(spec, settings)
        fitted = form.default_numbers(spec, settings, shape)
        width, height = fitted["width"], fitted["height"]
        spec.check(task="i2v", width=width, height=height, num_frames=fitted["frames"])
        assert (width > height) == (shape[0] > shape[1])
        if 0.5 <= shape[0] / shape[1] <= 2:
            assert abs(width / height / (shape[0] / shape[1]) - 1) < 0.1
            assert 0.8 <= width * height / (plain["width"] * plain["height"]) <= 1


def test_auto_says_what_it_stands_for_under_each_preset(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    for preset in ("cpu", "06gb", "80gb"):
        under = settings.with_overrides(PlanOptions(preset=preset))
        labels = form.auto_labels(under, "en")
        assert labels["precision"][0] == (f"auto ({under.precision})", "auto")
        assert labels["chunk_frames"] == f"auto ({under.chunk_frames or 'all'})"
        assert [value for _, value in labels["precision"][1:]] == list(PRECISIONS)
    assert form.auto_labels(settings, "zh-CN")["chunk_frames"].startswith("自动")


def test_a_job_comes_back_into_the_form_as_it_was_asked(tmp_path: Path) -> None:
    from i2v.jobs.prepare import build_request

    settings, _ = settings_in(tmp_path)
    asked = values(chunk_frames=2, cfg="split", negative="fog", image=str(small_picture(tmp_path)))
    request = build_request(asked, settings)
    again = build_request({**form.request_values(form.form_values(request)), "image": asked["image"]}, settings)
    assert replace(again, seed=request.seed) == request


def test_only_uploads_count_as_pictures(tmp_path: Path) -> None:
    uploaded = Path(get_upload_folder()) / "abc" / "photo.jpg"
    assert uploaded_path({"path": str(uploaded)}) == uploaded.resolve()
    assert uploaded_path(None) is None
    for bad in (str(tmp_path / "x.jpg"), f"{get_upload_folder()}/../x.jpg", "a\0b", 7, None):
        with pytest.raises(UserError):
            uploaded_path({"path": bad})


@pytest.mark.parametrize("locale", LOCALES)
def test_fixed_labels_reach_the_browser_in_each_language(locale: str) -> None:
    table = texts.build_i18n().translations_dict[locale]
    assert table["ui.generate"] == message("ui.generate").render(locale)
    assert all("{" not in label for label in table.values())


# The page and the service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    fake_standin(tmp_path)
    settings, probe = settings_in(tmp_path)
    with JobService(settings, probe, worker_command=SCRIPTED) as running:
        yield running


def uploaded_picture(tmp_path: Path, name: str) -> Path:
    """A picture where Gradio puts those that browsers send."""
    upload = Path(get_upload_folder()) / name / "p.jpg"
    upload.parent.mkdir(parents=True, exist_ok=True)
    return small_picture(tmp_path).rename(upload)


def is_skip(update: Any) -> bool:
    return isinstance(update, dict) and update == {"__type__": "update"}


def test_a_picture_that_browsers_cannot_show_is_shown_as_it_was_read(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    sent = uploaded_picture(tmp_path, "shown")
    shown = page._pictured(None, "en", "auto", "standin", {"path": str(sent)})
    assert (shown[0], is_skip(shown[1])) == ("", True)
    for suffix in ("tif", "jp2", "tga", "ppm"):
        strange = sent.with_name(f"{'长' * 60}.{suffix}")
        load_picture(sent).save(strange)
        told, picture, *size = page._pictured(None, "en", "auto", "standin", {"path": str(strange)})
        assert told == ""  # and what was said of an earlier picture goes
        assert size == shown[2:]
        with Image.open(picture) as copy:
            assert copy.format == "PNG"
            np.testing.assert_array_equal(np.asarray(copy), np.asarray(load_picture(strange)))


def test_a_file_that_is_no_picture_leaves_the_good_one(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    good = uploaded_picture(tmp_path, "good")
    bad = good.with_name("notes.jpg")
    bad.write_text("not a picture")
    ticket = page._ticket(None, good)
    told, picture, *size = page._pictured(None, "en", "auto", "standin", {"path": str(bad)}, ticket)
    assert ("notes.jpg" in told, picture) == (True, str(good))
    assert all(is_skip(update) for update in size)
    assert page._pictured(None, "en", "auto", "standin", {"path": str(bad)})[1] is None


def test_a_reload_brings_back_what_was_filled_in_and_not_sent(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    sent = service.submit(values("waves"), small_picture(tmp_path))
    picture = uploaded_picture(tmp_path, "kept")
    kept = {"ticket": page._ticket(None, picture), "values": {"prompt": "the tide comes in", "seed": "7", "steps": 9}}
    _, *restored, ticket = page._restored(None, sent, "en", None, kept)[len(page._job_outputs) - 1 :]
    assert (restored[0], ticket) == (str(picture), kept["ticket"])
    found = dict(zip(form.FIELDS, restored[1:], strict=True))
    assert [found[name] for name in ("prompt", "seed", "steps")] == ["the tide comes in", "7", 9]
    assert is_skip(found["model"])
    other = SimpleNamespace(username="ann", client=None)  # at the same browser
    assert all(is_skip(update) for update in page._restored(other, "", "en", None, kept)[len(page._job_outputs) : -1])


def test_another_model_and_back_brings_the_numbers_back(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    kept = {"at": "nano auto", "by": {}}
    kept, *there = page._numbers(kept, "auto", "i2vgen-xl", None, "16:9", "standard", 680, 384, 20, 8, 9, 7.5)
    assert there[0] / there[1] == pytest.approx(16 / 9, rel=0.02)  # the shape is kept, within the other's own size
    assert there[4] != 9
    kept, *back = page._numbers(kept, "auto", "nano", None, "16:9", "standard", *there)
    assert back == [680, 384, 20, 8, 9, 7.5]
    assert set(kept["by"]) == {"nano auto", "i2vgen-xl auto"}


def test_a_client_is_told_of_a_name_that_begins_with_a_dot(service: JobService, tmp_path: Path) -> None:
    """The page sends such a file under another name; a client hears one sentence, and not Gradio's own."""
    client = TestClient(build_app(service, *settings_in(tmp_path), None), base_url="http://127.0.0.1")
    for name in ("..hidden", ".jpg"):
        (path,) = client.post("/gradio_api/upload", files={"files": (name, b"x")}).json()
        sent = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, {}]}
        answer = client.post("/gradio_api/call/submit", json=sent)
        assert (answer.status_code, answer.json()["title"]) == (400, "ui.hidden_name")
        assert name in answer.json()["error"]


def test_a_tab_follows_a_job_and_is_sent_only_what_is_new(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    job_id = service.submit(values(), small_picture(tmp_path))
    first = page._look(None, job_id, Shown(), "en")
    assert first[-1] == job_id
    wait_until(lambda: page.followers.view(job_id).final and service.status(job_id).state == "done")
    wait_until(lambda: page.followers.view(job_id).events[-1] == ev.StateChanged("done"))
    last = page._look(None, job_id, first[0], "en")
    shown, status, stage = last[:3]
    assert "Done: 2 frames" in status
    assert f"{job_id}/video.mp4" in stage
    generate, cancel, pause, retry, redecode, following, timer = last[5:12]
    assert (generate["value"], cancel["interactive"], timer["active"]) == ("Generate", False, False)
    # No latents are kept, and no other job waits.
    assert [button["visible"] for button in (pause, retry, redecode, following)] == [False] * 4
    assert all(is_skip(update) for update in page._look(None, job_id, shown, "en"))
    assert not is_skip(page._look(None, job_id, shown, "zh-CN")[1])


def test_a_second_tab_and_a_reload_see_the_same_run(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    job_id = service.submit(values("waves", steps=200), small_picture(tmp_path))
    wait_until(lambda: page.followers.view(job_id).step > 3)
    restored = page._restored(None, job_id, "en")
    count = len(page._job_outputs)
    assert "step" in restored[1]
    assert Path(restored[count]).is_file()
    assert dict(zip(form.FIELDS, restored[count + 1 : -1], strict=True))["prompt"] == "waves"
    stopped = page._cancel(None, job_id, restored[0], "en")
    assert stopped[6]["interactive"] is False
    wait_until(lambda: page.followers.view(job_id).state == "cancelled")


def test_a_tab_closed_before_it_heard_of_its_job_finds_it_again(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    ended = service.submit(values(), small_picture(tmp_path))
    wait_until(lambda: service.status(ended).state == "done")
    assert page._restored(None, ended, "en")[0].job_id == ended
    sent = service.submit(values(steps=400), small_picture(tmp_path))
    service.submit(values(steps=400), small_picture(tmp_path), owner="ann")
    opened = [page._restored(None, known, "en")[0].job_id for known in ("", ended, "20200101-000000-abcdef", sent)]
    assert opened == [sent] * 4
    service.cancel(sent)


def test_more_jobs_are_sent_while_one_runs_and_shown_when_it_has_ended(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    upload = uploaded_picture(tmp_path, "more")

    def generate(showing: str, prompt: str) -> list[Any]:
        raw = (dict.fromkeys(form.FIELDS) | values(prompt, steps=400)).values()
        return page._generate(None, "en", showing, {"path": str(upload)}, *raw)

    first = generate("", "first")[-1]
    wait_until(lambda: service.status(first).state == "running")
    sent = generate(first, "second")
    generate(first, "third")
    jobs = {job.request.prompt: job.id for job in service.jobs()}
    assert (sent[0].job_id, sent[5]["value"]) == (first, "Add to the queue")
    assert "1 more in the queue" in sent[1]
    shown = page._look(None, first, sent[0], "en")
    assert "2 more in the queue" in shown[1]
    service.cancel(first)
    wait_until(lambda: page.followers.view(first).state == "cancelled")
    wait_until(lambda: service.status(jobs["second"]).state == "running")
    ended = page._look(None, first, shown[0], "en")
    generate_button, following, timer = ended[5], ended[10], ended[11]
    assert (generate_button["value"], following["visible"], timer["active"]) == ("Generate", True, True)
    assert "in the queue" not in ended[1]
    following = page._next(None, first, ended[0], "en")
    assert following[-1] == jobs["second"]
    # A look at the first that was on its way comes too late; the second is followed.
    assert all(is_skip(update) for update in page._look(None, first, following[0], "en"))
    wait_until(lambda: not is_skip(page._look(None, jobs["second"], following[0], "en")[1]))
    for name in ("third", "second"):
        service.cancel(jobs[name])
    wait_until(lambda: not service.jobs(states=LIVE))
    assert page._look(None, first, ended[0], "en")[10]["visible"] is False


def test_a_job_of_an_earlier_start_is_told_and_forgotten(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    outputs = page._restored(None, "20200101-000000-abcdef", "en")
    assert "Ready" in outputs[1]
    assert "20200101-000000-abcdef" in outputs[page._job_outputs.index(page.told)]
    assert outputs[len(page._job_outputs) - 1] == ""
    assert len(outputs) == len(page._job_outputs) + 1 + len(form.FIELDS) + 1


def test_a_refusal_stands_on_the_page_and_starts_nothing(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    raw = list((dict.fromkeys(form.FIELDS) | {"prompt": "x", "steps": 0}).values())
    told = page._job_outputs.index(page.told)
    assert "no photograph" in page._generate(None, "en", "", None, *raw)[told]
    upload = uploaded_picture(tmp_path, "t")
    refused = page._generate(None, "zh-CN", "", {"path": str(upload)}, *raw)
    assert "步数须为 1–500 的整数。" in refused.pop(told)
    assert all(is_skip(update) for update in refused)  # the status of a job that runs, too
    assert service.jobs() == []


def planned_for(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(prediction=SimpleNamespace(seconds=seconds))


def test_a_run_of_hours_is_asked_after_whatever_plan_the_page_shows(service: JobService, tmp_path: Path) -> None:
    """Generate may be pressed before the plan of what has just been typed has arrived."""
    page, seconds = _Page(service, *settings_in(tmp_path)), {"5": 10.0, "50": 40_000.0}
    service.pause_queue()
    service.plan = lambda values: (planned_for(seconds[str(values["steps"])]), ())

    picture = {"path": str(uploaded_picture(tmp_path, "hours"))}

    def sent(steps: int, agreed: object) -> tuple[int, str]:
        raw = [values(steps=steps).get(name) for name in form.FIELDS]
        *updates, asked = page._asked_first(None, "en", agreed, "", picture, *raw)
        assert len(updates) == len(page._job_outputs)
        return len(service.jobs()), asked

    assert sent(5, None) == (1, "")
    assert sent(50, None) == (1, "This run will take about 11 h. Start it?")
    assert sent(50, "yes") == (1, "This run will take about 11 h. Start it?")
    assert sent(50, True) == (2, "")
    scouts = [None, 3, "", picture, *[values(steps=50).get(name) for name in form.FIELDS]]
    assert page.scout.asked_first(None, "en", *scouts)[-1] == message("ui.ask_long_scouts").render()
    assert len(service.jobs()) == 2


def test_a_prompt_that_changes_is_not_planned_for(service: JobService, tmp_path: Path) -> None:
    page, visitor, planned = _Page(service, *settings_in(tmp_path)), SimpleNamespace(session_hash="a page"), []
    form_now = dict.fromkeys(form.FIELDS) | {"model": "nano", "width": 2048, "height": 2048, "frames": 16, "steps": 25}

    def answer(page: str | None, locale: str, raw: Any, *, exactly: bool) -> tuple[list[Any], bool]:
        planned.append(page)
        return [gr.skip()] * 3, True

    page.answers._answer = answer
    first = page.answers.at_once(visitor, "en", *form_now.values(), *SHAPE)
    hinted = page.answers.hints_only(visitor, "en", *(form_now | {"prompt": "rain"}).values())
    assert planned == ["a page"]
    assert "larger than usual" not in first[4] + hinted  # it fits
    page.answers.hints_only(visitor, "en", *(form_now | {"steps": 30}).values())  # its answer is still to come
    assert planned == ["a page", None]


def test_a_job_that_waits_for_a_paused_queue_says_so_and_lets_it_go_on(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    unhold, told = (page._job_outputs.index(one) for one in (page.unhold, page.told))
    service.pause_queue()
    job_id = service.submit(values(steps=400), small_picture(tmp_path))
    shown = page._look(None, job_id, Shown(), "en")
    assert "next in line · the queue is paused" in shown[1]
    assert (shown[unhold]["visible"], shown[told]) == (True, "")
    asked = SimpleNamespace(username="ann", client=None)
    theirs = service.submit(values(steps=400), small_picture(tmp_path), "ann")
    assert page._look(asked, theirs, Shown(), "en")[unhold]["visible"] is False  # the queue is everybody's
    gone_on = page._unhold(None, job_id, shown[0], "en")
    assert ("paused" in gone_on[1], gone_on[unhold]["visible"], service.queue_paused) == (False, False, False)
    for one in (theirs, job_id):
        service.cancel(one)


def test_the_policy_on_the_page_reaches_the_plan_and_the_job(tmp_path: Path) -> None:
    """On a card too small for whole weights: the card says what is given up, and the job is run so."""
    settings, _ = settings_in(tmp_path, cpu=False, preset="12gb")
    probe = FixedProbe(card(3.3, 6))
    job = dict.fromkeys(form.FIELDS) | {
        "prompt": "waves",
        "model": "i2vgen-xl",
        "width": 512,
        "height": 512,
        "frames": 16,
        "steps": 50,
        **dict.fromkeys(form.AUTO_FIELDS, "auto"),
    }
    upload = uploaded_picture(tmp_path, "policy")
    plans = Plans(tmp_path / "planner")
    with JobService(settings, probe, worker_command=SCRIPTED, plans=plans) as service:
        page = _Page(service, settings, probe)
        for chosen, verdict, loss in (("auto", "Won't fit", "full quality"), ("lossless", "Won't fit", "full quality")):
            shown = page.answers.at_once(None, "en", *(job | {"policy": chosen}).values(), *SHAPE)[0]
            assert verdict in unescape(shown)
            assert f"· {loss}</div>" in shown
        shown = page.answers.at_once(None, "en", *(job | {"policy": "balanced"}).values(), *SHAPE)[0]
        assert "Won't fit" not in unescape(shown)
        assert "· reduced quality</div>" in shown
        assert "eight bits" in shown
        page._generate(None, "en", "", {"path": str(upload)}, *(job | {"policy": "balanced"}).values())
        (status,) = service.jobs()
        service.cancel(status.id)
        assert (status.request.options.policy, status.plan.lossless) == ("balanced", False)
        restored = dict(zip(form.FIELDS, form.form_values(status.request), strict=True))
        assert (restored["policy"], restored["offload"]) == ("balanced", "auto")


def test_an_answer_to_an_older_form_does_not_cover_the_newer_one(service: JobService, tmp_path: Path) -> None:
    """A plan by dry runs takes seconds, in which the form becomes another one."""
    page, visitor = _Page(service, *settings_in(tmp_path)), SimpleNamespace(session_hash="a page")
    older = dict.fromkeys(form.FIELDS) | {"model": "nano", "width": 512, "height": 512, "frames": 16, "steps": 25}
    older |= {"fps": 8, **dict.fromkeys(form.AUTO_FIELDS, "auto")}
    newer = older | {"width": 1344, "height": 1344}
    plan = service.plan

    def plan_slowly(values, *, exactly, **more):
        if exactly and values["width"] == 512:
            page.answers.at_once(visitor, "en", *newer.values(), *SHAPE)
        return plan(values, exactly=False, **more)

    service.plan = plan_slowly
    assert "Nothing is planned here" in page.answers.at_once(visitor, "en", *older.values(), *SHAPE)[0]
    assert page.answers.exactly(visitor, "en", *older.values()) == [gr.skip()] * 3
    assert page.answers.exactly(visitor, "en", *newer.values()) != [gr.skip()] * 3
    assert page.answers.exactly(visitor, "zh-CN", *newer.values()) == [gr.skip()] * 3  # another language since
    other = SimpleNamespace(session_hash="another page")
    assert page.answers.exactly(other, "en", *newer.values()) != [gr.skip()] * 3


def test_a_size_beyond_the_usual_is_warned_of_only_where_it_may_not_fit(service: JobService, tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    raw = (
        dict.fromkeys(form.FIELDS) | {"model": "nano", "width": 2048, "height": 2048, "frames": 16, "steps": 99}
    ).values()
    may_not, fits = (unescape(hints(list(raw), settings, "en", fits=fits)) for fits in (False, True))
    assert "larger than usual" in may_not
    assert "larger than usual" not in fits
    assert "10 to 50 steps" in fits


def test_only_so_many_pages_newest_questions_are_kept() -> None:
    newest = answers.Newest()
    for number in range(answers.MOST_PAGES + 1):
        newest.ask(f"{number}", (number,))
    assert len(newest._asked) == answers.MOST_PAGES
    assert not newest.is_late("0", (7,))  # long forgotten
    assert newest.is_late("1", (7,))


def test_the_policy_field_starts_with_the_settings_own(service: JobService, tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path, policy="smallest")
    choices = form.auto_labels(settings, "en")["policy"]
    assert [value for _, value in choices] == ["auto", *POLICIES]
    assert choices[0][0] == f"auto ({choices[3][0]})"
    page = _Page(service, *settings_in(tmp_path, policy="smallest"))
    field = page.form.fields["policy"]
    assert (field.value, field.choices) == ("auto", choices)


def test_the_page_says_that_the_stand_in_is_untrained(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    assert "untrained" in page.answers._model_note("standin", "en")
    assert "未经训练" in page.answers._model_note("standin", "zh-CN")
    assert "downloaded" in page.answers._model_note("i2vgen-xl", "en")


def test_followers_forget_finished_jobs_and_can_look_again(service: JobService, tmp_path: Path) -> None:
    followers = Followers(service)
    job_id = service.submit(values(), small_picture(tmp_path))
    followers.view(job_id)
    wait_until(lambda: followers.view(job_id).final)
    again = Followers(service)
    again.view(job_id)
    wait_until(lambda: again.view(job_id) == followers.view(job_id))
    with pytest.raises(UserError):
        followers.view("nobody")


def test_many_jobs_keep_neither_threads_nor_views(service: JobService, tmp_path: Path) -> None:
    followers = Followers(service)
    running = service.submit(values(steps=400), small_picture(tmp_path))
    wait_until(lambda: service.status(running).step > 1)
    jobs = [service.submit(values(steps=1), small_picture(tmp_path)) for _ in range(6)]
    before = threading.active_count()
    for job_id in (running, *jobs):
        followers.view(job_id)
    assert threading.active_count() == before
    service.cancel(running)
    for job_id in jobs:
        wait_until(lambda job_id=job_id: followers.view(job_id).final)
    follow.KEPT, kept = 2, follow.KEPT
    try:
        assert followers.view(jobs[0]).events[-1] == ev.StateChanged("done")
        assert len(followers._views) == 2
        assert followers.view(jobs[3]).events[-1] == ev.StateChanged("done")  # forgotten, and read again
    finally:
        follow.KEPT = kept


def test_a_job_belongs_to_whoever_sent_it() -> None:
    def asked(host: str | None, name: str | None = None) -> str:
        client = SimpleNamespace(host=host) if host else None
        return owner_of(SimpleNamespace(username=name, client=client))  # type: ignore[arg-type]

    assert [asked(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", None)] == ["local"] * 5
    assert [asked(host) for host in ("192.168.1.7", "::ffff:10.0.0.9", "fe80::1")] == [
        "192.168.1.7",
        "10.0.0.9",
        "fe80::1",
    ]
    assert asked("192.168.1.7", "ann") == asked("127.0.0.1", "ann") == "ann"
    assert owner_of(None) == "local"


# The server


def get_routes(client: TestClient) -> Iterator[tuple[str, str]]:
    """Every route below the mounted page with plain values in its places: (method, path)."""
    routes = [*client.app.routes[-1].app.routes]
    for included in [route for route in routes if hasattr(route, "original_router")]:
        routes += included.original_router.routes
    for route in routes:
        path = re.sub(r"\{[^}]*\}", "x", getattr(route, "path", ""))
        for method in sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD", "OPTIONS"}):
            yield method, path


def test_with_a_password_no_route_answers_a_stranger(service: JobService, tmp_path: Path) -> None:
    settings, probe = settings_in(tmp_path, password="open sesame")
    app = build_app(service, settings, probe, password_for(settings))
    open_paths = re.compile(r"/?(|login/?|config/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt|healthz)$")
    open_gradio = re.compile(r"/gradio_api/(theme\.css|app_id|login_check)/?$")
    client = TestClient(app, follow_redirects=False)
    tried = 0
    for method, path in get_routes(client):
        if open_paths.match(path) or open_gradio.match(path) or path.startswith(("/assets/", "/static/", "/svelte/")):
            continue
        tried += 1
        assert client.request(method, path).status_code == 401, (method, path)
    assert tried > 30
    assert client.get("/gradio_api/../gradio_api/info").status_code == 401
    assert client.get("/config").status_code == 401
    assert "i2v-generate" not in client.get("/").text
    assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
    assert client.post("/login", data={"username": "me", "password": "open sesame"}).status_code == 200
    assert client.get("/gradio_api/info").status_code == 200


def test_signing_out_ends_this_login_and_no_other_of_that_name(service: JobService, tmp_path: Path) -> None:
    settings, probe = settings_in(tmp_path, password="open sesame")
    app = build_app(service, settings, probe, password_for(settings))
    here, there = (TestClient(app, follow_redirects=False) for _ in range(2))
    for client in (here, there):
        client.post("/login", data={"username": "me", "password": "open sesame"})
    kept = dict(here.cookies)
    left = here.get("/logout")
    assert (left.status_code, left.headers["location"]) == (302, "./")
    assert not here.cookies
    assert TestClient(app, cookies=kept).get("/gradio_api/info").status_code == 401
    assert there.get("/gradio_api/info").status_code == 200


def test_the_login_page_has_the_products_name_and_the_readers_language(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    english, chinese = (message("ui.login").render(locale) for locale in LOCALES)
    both = login_message(replace(settings, language="auto"))
    assert re.findall(r'<span class="i2v-said" lang="([^"]+)">', both) == list(LOCALES)
    assert "<title>I2V</title>" in both
    one = login_message(replace(settings, language="zh-CN"))
    assert (english in both, chinese in both, english in one, chinese in one) == (True, True, False, True)


def test_a_password_is_asked_for_on_the_network_only(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    assert password_for(settings) is None
    made = {password_for(replace(settings, host="0.0.0.0")) for _ in range(3)}
    assert len(made) == 3
    assert min(map(len, made)) >= 12
    assert password_for(replace(settings, password="mine", host="0.0.0.0")) == "mine"


def test_a_chosen_port_is_that_port_or_an_error_and_the_default_moves_on(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = replace(settings, port=port, sources={**settings.sources, "port": "command line"})
        with pytest.raises(UserError, match=str(port)):
            open_port(chosen)
        moved = replace(chosen, sources={**settings.sources, "port": "default"})
        with open_port(moved) as listener:
            assert port < listener.getsockname()[1] < port + 20
    with pytest.raises(UserError, match=r"203\.0\.113\.7"):
        open_port(replace(settings, host="203.0.113.7", port=port))


def test_the_browser_key_outlives_a_start(tmp_path: Path) -> None:
    kept = browser_secret(tmp_path / "cache")
    assert browser_secret(tmp_path / "cache") == kept
    assert (tmp_path / "cache" / "browser_secret").stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("")
    assert browser_secret(tmp_path / "file") != kept


def test_the_page_loads_nothing_heavy() -> None:
    code = "import sys, i2v.ui.serve; print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_an_upload_beyond_the_limit_is_refused(service: JobService, tmp_path: Path) -> None:
    settings, probe = settings_in(tmp_path, max_upload_mb=1)
    client = TestClient(build_app(service, settings, probe, None), base_url="http://127.0.0.1")

    def status_of(size: int) -> int:
        return client.post("/gradio_api/upload", files={"files": ("p.jpg", b"x" * size)}).status_code

    assert status_of(2**19) == 200
    assert status_of(2**20 + 2**19) == 413
