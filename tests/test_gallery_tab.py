"""The Gallery tab without a browser: what is found, what is told of a video, what its buttons do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import wait_until
from PIL import Image
from tabs_support import FRAMES, chosen, finish, is_skip, resting_service, submit

from i2v.events import PhaseFinished
from i2v.jobs.job.predicted import PREDICTION, keep_prediction
from i2v.jobs.job.record import JobStatus
from i2v.jobs.service import JobService
from i2v.messages import LOCALES, catalogue
from i2v.plan import PhasePrediction, Plan, Prediction
from i2v.request import GenerationRequest
from i2v.ui.create.form import FIELDS
from i2v.ui.gallery.cards import ORDERS, PAGE, STEADINESS, Wanted, choices, grid, matching, neighbours, size_of
from i2v.ui.gallery.opened import about, opened, run_of, side_by_side
from i2v.ui.gallery.tab import Browsing, Drawn, GalleryTab
from i2v.ui.shown.posters import Posters
from i2v.ui.shown.view import JobView
from i2v.ui.texts import build_i18n
from i2v.video.metadata import probe_video
from i2v.video.steadiness import FrameMeasure, Steadiness, summed_up
from i2v.video.steadiness_files import kept_steadiness

REQUEST = GenerationRequest("nano", "a prompt", 64, 64, 8, 8, 4, 1.0, 1)
AS_MADE = (1, 1, 1, 0)
EVIL = '"><img src=x onerror=alert(1)>'


def job(prompt: str, model: str = "nano", width: int = 64, **more: object) -> JobStatus:
    request = replace(REQUEST, prompt=prompt, model=model, width=width)
    made = JobStatus(prompt, "done", "", 0, 4, None, None, None, 0, Path("/o/j"), request, Plan(), "local")
    return replace(made, **more)


SOME = [job("Waves at night"), job("waves", "i2vgen-xl"), job("城市的灯光", width=512), job("A rose", width=512)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [0, 1, 2, 3]),
        (Wanted("WAVES"), [0, 1]),
        (Wanted("night waves"), [0]),
        (Wanted("i2vgen"), [1]),
        (Wanted("灯"), [2]),
        (Wanted(model="nano", size="512×64"), [2, 3]),
        (Wanted("rose", size="64×64"), []),
    ],
)
def test_search_and_filters_find_what_has_every_word(wanted: Wanted, found: list[int]) -> None:
    assert matching(SOME, wanted) == [SOME[index] for index in found]


@given(st.lists(st.text(max_size=12), max_size=6), st.text(max_size=6))
def test_a_narrower_search_never_finds_more(prompts: list[str], more: str) -> None:
    jobs = [job(prompt) for prompt in prompts]
    assert matching(jobs, Wanted()) == jobs
    for one in jobs:
        assert one in matching(jobs, Wanted(one.request.prompt))
    wide = matching(jobs, Wanted("a"))
    narrow = matching(jobs, Wanted(f"a {more}"))
    assert [one for one in wide if one in narrow] == narrow


def test_a_filter_offers_each_size_once_in_order_of_its_numbers() -> None:
    offered = choices([size_of(one) for one in [job("x", width=1024), *SOME]], "en")
    assert [value for _, value in offered] == ["auto", "64×64", "512×64", "1024×64"]


@pytest.mark.parametrize("locale", LOCALES)
def test_nothing_a_person_wrote_is_markup_and_every_word_is_there(locale: str) -> None:
    evil = job(EVIL, EVIL, id=EVIL, folder=Path(f"/o/{EVIL}"), healed=(EVIL,), plan=Plan(preset=EVIL))
    evil = replace(evil, request=replace(evil.request, negative_prompt=EVIL), seconds_predicted=2.0)
    other = replace(evil, request=replace(evil.request, negative_prompt=f"{EVIL}2"))
    shown = (
        grid([evil], 1, {EVIL: EVIL}, locale, EVIL, "")
        + opened(evil, locale)
        + about(evil, JobView(seconds=3.0), locale)
        + side_by_side(evil, other, locale)
    )
    assert "<img src=x" not in shown
    assert shown.count("&lt;img src=x") > 8
    assert not re.search(r"ui\.\w|[{}]", shown)


def test_side_by_side_tells_what_differs_and_each_pane_has_its_own_buttons() -> None:
    shown = side_by_side(SOME[0], SOME[1], "en")
    assert re.findall("<th scope=row>([^<]*)", shown) == ["Prompt", "Model"]
    assert "same settings" in side_by_side(SOME[0], SOME[0], "en")
    panes = shown.split("<figure>")[1:]
    for pane, letter, one in zip(panes, "AB", SOME, strict=False):
        assert pane.count("<video") == 1
        assert set(re.findall('data-id="([^"]*)"', pane)) == {one.id}
        assert f"Use these settings: {letter}, {one.request.prompt}" in pane


def test_the_neighbours_of_an_open_video_are_those_in_the_grid() -> None:
    ids = [one.id for one in SOME]
    assert [neighbours(SOME, one) for one in ids] == [("", ids[1]), (ids[0], ids[2]), (ids[1], ids[3]), (ids[2], "")]
    assert neighbours(SOME, "deleted") == ("", "")
    shown = opened(SOME[0], "en", *neighbours(SOME, ids[0]))
    assert re.findall(r'data-act="(\w+)" data-id="([^"]*)"[^>]*?( disabled)?>', shown.partition("i2v-stage")[0]) == [
        ("open", "", " disabled"), ("open", ids[1], ""), ("close", ids[0], "")
    ]  # fmt: skip


def test_an_opened_video_shows_itself_and_folds_the_rest() -> None:
    """The grid below stays near: settings, plan and run are opened by who wants them, and each time stands once."""
    folded = about(SOME[0], JobView(seconds=3.0), "en")
    assert "<dt>Quality</dt><dd>unchanged</dd>" in folded
    assert "<dd>full</dd>" not in about(SOME[0], JobView(seconds=3.0), "zh-CN")
    assert re.sub(r"<details.*</details>", "", folded, flags=re.DOTALL) == ""
    assert " open>" not in folded
    assert "<dl" not in opened(SOME[0], "en")
    view = JobView(seconds=3.0, events=(PhaseFinished("denoise", 2.0),))
    assert "Denoising 0:02" in run_of(SOME[0], view, "en")
    predicted = Prediction((PhasePrediction("denoise", 0, 0, 0, 0, 2.2),), 0, 0, 2**33, 0, 0, 0, 0)
    by_phase = run_of(SOME[0], view, "en", predicted)
    assert "2.0 s" in by_phase
    assert "Denoising 0:02" not in by_phase


# The tab and the service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with resting_service(tmp_path, max_queue=100, max_queue_per_owner=100) as running:
        yield running


@pytest.fixture
def tab(service: JobService) -> GalleryTab:
    with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Gallery") as own:
        clip = SimpleNamespace(file=gr.File())
        form = SimpleNamespace(sources=[gr.Image(), clip.file, gr.Image()], inputs=[gr.Textbox() for _ in FIELDS])
        return GalleryTab(service, Posters(), tabs, own, form, "create", gr.HTML(), gr.Radio(), "en", build_i18n())


ANY = ("", "auto", "auto", "auto", "newest")


def look(tab: GalleryTab, drawn: Drawn, filters: tuple = ANY) -> list:
    return tab.look(None, drawn, Browsing(), "en", *filters)


def looked(tab: GalleryTab) -> tuple[Drawn, str]:
    """What is shown once all that comes by itself has come: the state, and the cards."""
    drawn, cards = Drawn(), ""

    def settled() -> bool:
        nonlocal drawn, cards
        answer = look(tab, drawn)
        if not is_skip(answer[0]):
            drawn, cards = answer[:2]
        return not drawn.pending

    wait_until(settled)
    return drawn, cards


def opened_in(tab: GalleryTab, job_id: str) -> Browsing:
    return tab.choose(None, chosen("open", job_id), Browsing(), "en", *ANY)[0]


def alert(told: object) -> bool:
    return 'role="alert"' in str(told)


def test_newest_first_and_only_what_is_finished(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    assert "No finished videos" in look(tab, Drawn())[1]
    first, second = finish(service, tmp_path, "first"), finish(service, tmp_path, "second")
    submit(service, tmp_path, "waits")
    drawn, cards = looked(tab)
    assert re.findall('data-id="([^"]*)"', cards) == [second, first]
    assert cards.count("poster.webp") == 2
    assert all(is_skip(update) for update in look(tab, drawn))
    finish(service, tmp_path, "third")
    assert "third" in look(tab, drawn)[1]
    found = tab.filter(None, Browsing(pages=3), "en", "SECOND", *ANY[1:])
    assert found[0].pages == 1
    assert re.findall('data-id="([^"]*)"', found[1]) == [second]
    assert "fits this search" in tab.filter(None, Browsing(), "en", "nobody", *ANY[1:])[1]


def test_a_look_that_crosses_a_search_does_not_stay(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    """The look began before the words were typed, and its answer comes after: the next look finds by the words."""
    one, other = finish(service, tmp_path, "rose"), finish(service, tmp_path, "waves")
    drawn, _ = looked(tab)
    tab.filter(None, Browsing(), "en", "waves", *ANY[1:])
    cards = look(tab, drawn, filters=("waves", *ANY[1:]))[1]
    assert one not in cards
    assert other in cards


def test_a_video_whose_poster_cannot_be_made_is_shown_without(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path)
    (service.status(job_id).folder / "video.mp4").write_bytes(b"no video")
    _, cards = looked(tab)
    assert job_id in cards
    assert "poster.webp" not in cards


def test_until_a_poster_is_made_the_last_preview_stands_there(tmp_path: Path) -> None:
    (tmp_path / "preview.webp").write_bytes(b"a preview")
    posters = Posters()
    assert str(posters.poster(tmp_path)).endswith("/preview.webp")
    assert posters.coming(tmp_path)
    (tmp_path / "poster.webp").write_bytes(b"a poster")
    assert str(posters.poster(tmp_path)).endswith("/poster.webp")
    assert not posters.coming(tmp_path)


def test_of_many_videos_a_page_is_drawn_and_one_more_with_each_more(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    first = service._board.store.get(finish(service, tmp_path))
    for number in range(3 * PAGE):
        copy = replace(first, id=f"copy{number}", folder=f"none/copy{number}", submitted=1.0 + number)
        service._board.store.add(copy, max_waiting=1)
    drawn = look(tab, Drawn())
    assert drawn[1].count("<li>") == PAGE
    assert drawn[1].count("<video") == 0
    assert drawn[2]["visible"]
    more = tab.show_more(None, Browsing(pages=2), "en", *ANY)
    assert more[1].count("<li>") == 3 * PAGE
    assert more[2]["visible"]
    last = tab.show_more(None, more[0], "en", *ANY)
    assert last[1].count("<li>") == 3 * PAGE + 1
    assert not last[2]["visible"]


def test_an_opened_video_tells_all_of_itself(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    job_id = finish(service, tmp_path, "waves", fps=8, seed=77)
    service._board.store.update(job_id, seconds_predicted=2.0)
    shown, *_, panel, detail, run, fps, link = tab.choose(None, chosen("open", job_id), Browsing(), "en", *ANY)
    assert (shown.opened, panel["visible"], fps, link) == (job_id, True, 8, "")
    for file in ("video.mp4", "request.json", "memory.csv"):
        assert f"{job_id}/{file}" in detail
    assert "seed 77" in detail
    assert "<dd>77</dd>" in run
    assert "Predicted 2.0 s, took 4.0 s (2.00 × the prediction)" in run
    assert "Denoising 0:02" in run
    assert "highest memory 1.50 GiB" in run
    assert "<svg" in run


def test_an_opened_video_tells_each_phase_as_predicted_and_as_it_came(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path)
    folder = service.status(job_id).folder

    def rows() -> list[list[str]]:
        run = tab.choose(None, chosen("open", job_id), Browsing(), "en", *ANY)[7]
        table = run.partition("i2v-by-phase")[2].partition("</table>")[0]
        return [re.findall("<t[dh][^>]*>([^<]*)", row) for row in table.split("<tr>")[1:]]

    assert rows() == []
    mib = 2**20
    phases = (
        PhasePrediction("text", 0, 0, 0, 700 * mib, 9.0),
        PhasePrediction("denoise", 0, 0, 0, 2148 * mib, 2.2),
        PhasePrediction("decode", 0, 0, 0, 900 * mib, 9.0),
    )
    keep_prediction(folder, Prediction(phases, 100 * mib, 0, 2**33, 0, 0, 0, 0))
    assert rows()[1:] == [["Denoising", "2.2 s", "2.5 s", "2.00 GiB", "1.50 GiB"]]
    for broken in ("{", "[]", '{"phases": [{}]}', '{"phases": 3}'):
        (folder / PREDICTION).write_text(broken)
        assert rows() == []


# How steady


def report(**more: object) -> Steadiness:
    frames = tuple(FrameMeasure(0.5 + 0.01 * number, 50, 0, 0, luma_change=0.01) for number in range(8))
    return replace(summed_up(frames, 8, method="opencv-dis"), **more)


REPORTS = {
    "Waves at night": report(flicker=0.001, motion=0.1),
    "waves": report(flicker=0.04, cuts=(3,)),
    "城市的灯光": report(drift=7.0, motion=0.3),
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(steadiness="steady"), [0]),
        (Wanted(steadiness="flickers"), [1]),
        (Wanted(steadiness="cuts"), [1]),
        (Wanted(steadiness="drifts"), [2]),
        (Wanted(steadiness="seams"), []),
        (Wanted(steadiness="unmeasured"), [3]),
        (Wanted("waves", steadiness="steady"), [0]),
        (Wanted(order="steadiest"), [0, 2, 1, 3]),
        (Wanted(order="flicker"), [1, 0, 2, 3]),
        (Wanted(order="motion"), [2, 0, 1, 3]),
    ],
)
def test_videos_are_found_and_put_in_order_by_how_steady_they_are(wanted: Wanted, found: list[int]) -> None:
    assert matching(SOME, wanted, lambda job: REPORTS.get(job.id)) == [SOME[index] for index in found]


def test_every_way_to_choose_by_steadiness_has_its_words() -> None:
    for locale in LOCALES:
        words = {f"ui.gallery_finds_{name}" for name in STEADINESS} | {f"ui.gallery_order_{name}" for name in ORDERS}
        assert words <= catalogue(locale).keys()


@pytest.mark.parametrize("locale", LOCALES)
def test_a_report_is_shown_in_words_and_plots_with_its_cuts_and_seams(locale: str) -> None:
    shown = opened(SOME[0], locale, report=report(cuts=(3,), seams=(2, 6), seam_ratio=3.0))
    assert re.findall('data-plot="([^"]*)"', shown) == ["luma", "drift", "error", "motion"]
    assert shown.count('class="cut"') == 4
    assert shown.count('class="seam"') == 8
    assert "0.38 s" in shown
    assert 'data-act="measure"' not in shown
    assert not re.search(r"ui\.\w|steadiness\.\w|[{}]", shown)
    # The brightness goes up evenly, but for the cut, where it is not known.
    (luma,) = re.findall('data-plot="luma".*?points="([^"]*)"', shown)
    heights = [float(point.partition(",")[2]) for point in luma.split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[2] == heights[3]
    card = grid(SOME[:1], 1, {}, locale, measured=lambda job: report(cuts=(3,)))
    assert {"en": "has cuts", "zh-CN": "有切换"}[locale] in card


def test_a_video_without_a_report_is_measured_by_one_click(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path)
    folder = service.status(job_id).folder
    before = tab.choose(None, chosen("open", job_id), Browsing(), "en", *ANY)
    assert f'data-act="measure" data-id="{job_id}"' in before[6]
    shown, *rest = tab.choose(None, chosen("measure", job_id), before[0], "en", *ANY)
    assert shown.opened == job_id
    assert "from the video file" in rest[5]
    assert rest[5].count('class="i2v-plot"') == 4
    kept = kept_steadiness(folder)
    assert kept is not None
    assert len(kept.frames) == len(FRAMES)
    assert f"{job_id}/steadiness.csv" in rest[5]
    assert tab.filter(None, shown, "en", "", "auto", "auto", "steady", "newest")[1].count("<li>") == 1
    assert tab.filter(None, shown, "en", "", "auto", "auto", "unmeasured", "flicker")[1].count("<li>") == 0
    assert "steadiest first" in tab.filter(None, shown, "en", "", "auto", "auto", "auto", "steadiest")[1]
    assert "newest first" in tab.filter(None, shown, "en", "", "auto", "auto", None, "<b>")[1]


def test_a_video_that_cannot_be_read_is_not_measured(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    job_id = finish(service, tmp_path)
    (service.status(job_id).folder / "video.mp4").write_bytes(b"no video")
    assert alert(tab.choose(None, chosen("measure", job_id), opened_in(tab, job_id), "en", *ANY)[3])


def test_a_finished_row_of_the_queue_opens_here(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    job_id = finish(service, tmp_path)
    assert tab.from_queue(None, chosen("open", job_id), Browsing(), "en", *ANY)[0].opened == job_id
    assert all(is_skip(update) for update in tab.from_queue(None, chosen("pause", job_id), Browsing(), "en", *ANY))


def test_what_is_no_finished_video_cannot_be_opened(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    waiting = submit(service, tmp_path)
    for job_id in (waiting, "nobody", "../../etc", None, ["x"]):
        answer = tab.choose(None, chosen("open", job_id), Browsing(), "en", *ANY)
        assert alert(answer[3])
        assert answer[0].opened == ""


def test_using_a_video_fills_the_form_with_its_seed_and_going_on_with_its_last_frame(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path, "waves", seed=77)
    shown = opened_in(tab, job_id)
    told, tabs, timer, picture, clip, last, *fields = tab.use(None, shown, "en")
    values = dict(zip(FIELDS, fields, strict=True))
    assert (told, tabs.selected, timer.active) == ("", "create", False)
    assert (Path(picture).name, clip, last) == ("input.png", None, None)
    assert (values["prompt"], values["seed"], values["steps"]) == ("waves", "77", 4)
    *_, picture, clip, last = tab.go_on(None, shown, "en")[:6]
    fields = tab.go_on(None, shown, "en")[6:]
    assert (clip, last) == (None, None)
    assert dict(zip(FIELDS, fields, strict=True))["seed"] == ""
    with Image.open(picture) as still:
        errors = [np.abs(np.asarray(still, float) - frame).mean() for frame in FRAMES]
    assert int(np.argmin(errors)) == len(FRAMES) - 1
    (service.status(job_id).folder / "video.mp4").unlink()
    assert alert(tab.use(None, shown, "en")[0])


def test_two_videos_are_compared_after_a_second_choice(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    one, other = finish(service, tmp_path, "one"), finish(service, tmp_path, "other", seed=5)
    waiting = tab.compare(None, opened_in(tab, one), "en", *ANY)
    assert "Choose the video" in waiting[1]
    assert f'data-act="second" data-id="{other}"' in waiting[1]
    shown, *rest = tab.choose(None, chosen("second", other), waiting[0], "en", *ANY)
    detail = rest[5]
    assert [f"{one}/video.mp4" in detail, f"{other}/video.mp4" in detail] == [True, True]
    assert (shown.first, shown.opened) == ("", one)
    told, tabs, _, _, _, _, *fields = tab.use_chosen(None, chosen("use", other), shown, "en")
    assert (told, tabs.selected) == ("", "create")
    assert dict(zip(FIELDS, fields, strict=True))["prompt"] == "other"
    assert all(is_skip(update) for update in tab.choose(None, chosen("use", other), shown, "en", *ANY))
    assert all(is_skip(update) for update in tab.use_chosen(None, chosen("open", other), shown, "en"))
    alone, html, *_ = tab.choose(None, chosen("alone", one), waiting[0], "en", *ANY)
    assert (alone.first, alone.opened, "Choose the video" in html) == ("", one, False)
    assert tab.choose(None, chosen("close", one), shown, "en", *ANY)[0].opened == ""


def test_a_card_names_its_video_for_the_pointer_that_rests_on_it(tmp_path: Path) -> None:
    shown = grid(SOME[:1], 1, {}, "en")
    assert 'data-video="gradio_api/file=/o/j/video.mp4"' in shown
    assert "<video" not in shown


def test_decoding_again_is_a_new_job_and_says_why_where_it_cannot_be(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path)
    shown = opened_in(tab, job_id)
    assert alert(tab.decode_again(None, shown, "en", *ANY)[3])
    (service.status(job_id).folder / "latents.safetensors").write_bytes(b"latents")
    told = tab.decode_again(None, shown, "en", *ANY)[3]
    (again,) = service.jobs(states=("queued",))
    assert again.id in told
    assert (again.parent, again.task) == (job_id, "decode")


def test_extending_is_a_new_job_that_begins_where_the_open_video_ends(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path)
    shown = opened_in(tab, job_id)
    assert alert(tab.extend_by(None, shown, None, "en", *ANY)[3])
    told = tab.extend_by(None, shown, 2, "en", *ANY)[3]
    (longer,) = service.jobs(states=("queued",))
    assert longer.id in told
    assert (longer.request.before, longer.request.num_frames) == ("before.mp4", 2 * longer.request.fps + 1)
    folder = service.status(longer.id).folder
    assert (folder / "before.mp4").read_bytes() == service.result(job_id).read_bytes()
    with Image.open(folder / "input.png") as begins:
        errors = [np.abs(np.asarray(begins, float) - frame).mean() for frame in FRAMES]
    assert int(np.argmin(errors)) == len(FRAMES) - 1


def test_deleting_can_be_undone(service: JobService, tab: GalleryTab, tmp_path: Path) -> None:
    job_id = finish(service, tmp_path)
    shown, html, _, told, undo = tab.delete(None, opened_in(tab, job_id), "en", *ANY)[:5]
    assert service.jobs() == []
    assert "No finished videos" in html
    assert "bin" in told
    assert undo["visible"]
    again, html, *_, undo = tab.restore(None, shown, "en", *ANY)
    assert job_id in html
    assert not undo["visible"]
    assert service.result(job_id).is_file()
    assert alert(tab.restore(None, again, "en", *ANY)[3])


@pytest.mark.parametrize("format", ["gif", "webm", "webp", "mp4"])
def test_a_video_is_written_in_another_format_at_another_rate(
    service: JobService, tab: GalleryTab, tmp_path: Path, format: str
) -> None:
    job_id = finish(service, tmp_path)
    shown = opened_in(tab, job_id)
    told, link = tab.write(None, shown, "en", format, 4, "small", *AS_MADE)
    path = service.status(job_id).folder / f"video-4fps-small.{format}"
    assert (told, path.name in link) == ("", True)
    assert path.stat().st_size > 0
    if format == "mp4":
        assert probe_video(path).fps == 4
    assert alert(tab.write(None, Browsing(opened="nobody"), "en", format, 4, "small", *AS_MADE)[0])


def test_a_video_is_written_in_other_colours_and_what_cannot_be_is_said(
    service: JobService, tab: GalleryTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path, fps=8)
    folder, shown = service.status(job_id).folder, opened_in(tab, job_id)
    told, link = tab.write(None, shown, "en", "webp", None, "best", 1, 1, 0, 0)
    assert (told, "video-8fps-best-saturation0.webp" in link) == ("", True)
    with Image.open(folder / "video-8fps-best-saturation0.webp") as grey:
        red, green, blue = (np.asarray(band, float) for band in grey.convert("RGB").split())
    assert max(np.abs(red - green).max(), np.abs(green - blue).max()) < 4
    assert np.ptp(FRAMES[0].astype(float), axis=2).mean() > 20
    before = sorted(folder.iterdir())
    for wrong in ((9, 1, 1, 0), (1, "x", 1, 0), (1, 1, -0.01, 0), (1, 1, 1, float("nan"))):
        told, link = tab.write(None, shown, "en", "webp", 8, "good", *wrong)
        assert (alert(told), link) == (True, "")
    assert alert(tab.write(None, shown, "en", "../x", 8, "good", *AS_MADE)[0])
    assert alert(tab.write(None, shown, "en", "gif", 8, "../x", *AS_MADE)[0])
    assert sorted(folder.iterdir()) == before
