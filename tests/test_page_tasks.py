"""The page for models that make videos from a sentence alone or from a video: what was dropped decides the task, what
is seen of the form, and what Generate sends or says; and such jobs come back into the form and into the lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from gradio.utils import get_upload_folder
from jobs_support import MODEL, settings_in, values, wait_until
from page_support import is_skip, uploaded_picture
from PIL import Image
from tabs_support import finish, resting_service

from i2v.families import SPECS
from i2v.families.spec import FROM_AN_IMAGE, FamilySpec, InputSlot
from i2v.jobs.service import JobService
from i2v.messages import LOCALES
from i2v.request import TASKS, GenerationRequest, Input
from i2v.ui.create.answers import Answers
from i2v.ui.create.clip import SHOWN, note
from i2v.ui.create.form import FIELDS
from i2v.ui.create.restore import refilled
from i2v.ui.create.scout import Scouts
from i2v.ui.create.task import Dropped, Places, places, refusal_of, task_of
from i2v.ui.gallery.opened import about, side_by_side
from i2v.ui.page import _Page
from i2v.ui.queue.rows import thumbnail
from i2v.ui.shown.posters import Posters
from i2v.ui.shown.sources import sources_of
from i2v.ui.shown.view import JobView
from i2v.video.clip import ClipFacts
from tests.video_support import film, moving_frames, write_video

SLOTS = {"t2v": (), **FROM_AN_IMAGE, "v2v": (InputSlot("video", None),)}
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(TASKS, size)]
NOTHING, PICTURE, CLIP = Dropped(), Dropped((96, 64)), Dropped(facts=ClipFacts(96, 64, 32, 16.0, 2.0, ".mp4"))


def able(*tasks: str) -> FamilySpec:
    """A family that has these tasks."""
    return replace(SPECS["i2vgen_xl"], inputs={task: SLOTS[task] for task in tasks})


@pytest.fixture(autouse=True)
def every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the models there are, one family makes videos from everything, and nano from a photograph alone."""
    monkeypatch.setitem(SPECS, "i2vgen_xl", able(*TASKS))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with resting_service(tmp_path, max_queue_per_owner=20) as running:
        yield running


@pytest.fixture
def page(service: JobService, tmp_path: Path) -> _Page:
    return _Page(service, *settings_in(tmp_path, max_queue_per_owner=20))


@pytest.fixture
def clip(tmp_path: Path) -> dict[str, str]:
    """A film of two seconds, as the browser names its upload."""
    upload = Path(get_upload_folder()) / tmp_path.name / "film.mp4"
    upload.parent.mkdir(parents=True, exist_ok=True)
    return {"path": str(film(upload, size="96x64", seconds=2))}


def raw(**more: object) -> list[Any]:
    asked = values(**more)
    return [asked.get(name) for name in FIELDS]


def told(page: _Page, outputs: list[Any]) -> str:
    return outputs[page._job_outputs.index(page.told)]


# --- what was dropped decides ---


@pytest.mark.parametrize("tasks", SUBSETS)
def test_the_task_follows_what_is_dropped_and_that_stays_in_sight(tasks: tuple[str, ...]) -> None:
    spec = able(*tasks)
    for dropped, wanted in ((PICTURE, "i2v"), (CLIP, "v2v")):
        assert task_of(spec, picture=dropped.picture, clip=dropped.clip) == wanted
        assert (places(spec, dropped).picture, places(spec, dropped).clip) == (dropped.picture, dropped.clip)
    nothing = task_of(spec, picture=False, clip=False)
    assert nothing in tasks
    assert (nothing == "t2v") == ("t2v" in tasks)
    there = places(spec, NOTHING)
    assert (there.picture, there.clip, there.alone) == ("i2v" in tasks, "v2v" in tasks, "t2v" in tasks)
    assert (there.strength, there.first_frame) == (False, False)
    assert places(spec, CLIP).strength == ("v2v" in tasks)
    assert not places(spec, CLIP).examples


def test_for_a_model_that_takes_a_photograph_alone_nothing_is_other_than_before() -> None:
    for dropped in (NOTHING, PICTURE):
        seen = places(SPECS["nano"], dropped)
        assert seen == Places(True, alone=False, clip=False, strength=False, first_frame=False, examples=True)
        assert note(SPECS["nano"], dropped, "en") == ""
        assert task_of(SPECS["nano"], picture=dropped.picture, clip=False) == "i2v"


@pytest.mark.parametrize("locale", LOCALES)
def test_a_refusal_names_the_models_that_can_or_says_that_there_is_none(
    locale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = settings_in(tmp_path)
    assert refusal_of(SPECS["nano"], "i2v", settings) is None
    said = refusal_of(SPECS["nano"], "v2v", settings).message.render(locale)
    assert ("Nano" in said, SPECS["i2vgen_xl"].title in said) == (True, True)
    monkeypatch.setitem(SPECS, "i2vgen_xl", able("t2v"))
    assert SPECS["i2vgen_xl"].title not in refusal_of(SPECS["nano"], "v2v", settings).message.render(locale)
    assert "Nano" in refusal_of(SPECS["i2vgen_xl"], "i2v", settings).message.render(locale)


def answered(
    answers: Answers, model: str, dropped: Dropped, task: str, before: Any = None, **more: object
) -> dict[str, Any]:
    """What the page is sent of the task and of the places."""
    asked = raw(model=model, task=task, preset="auto", fps=8, **more)
    sent = answers.at_once(None, "en", *asked, "picture", "standard", dropped.size, dropped.facts, before, None)
    return dict(zip(("task", "note", *SHOWN, "brush"), sent[-3 - len(SHOWN) :], strict=True)) | {"plan": sent[0]}


def test_the_form_is_told_its_task_and_places_and_only_what_is_new(page: _Page) -> None:
    alone = answered(page.answers, MODEL, NOTHING, "i2v")
    assert alone["task"] == "t2v"
    assert "the sentence alone" in alone["note"]
    assert [alone[name]["visible"] for name in SHOWN[1:]] == [True, True, "hidden", "hidden"]
    changing = answered(page.answers, MODEL, CLIP, "t2v", alone["shown"])
    assert changing["task"] == "v2v"
    assert "96 × 64, 2 s" in changing["note"]
    assert [changing[name]["visible"] for name in SHOWN[1:]] == ["hidden", True, True, "hidden"]
    assert "gives" not in answered(page.answers, MODEL, CLIP, "v2v", frames=16)["note"]  # two seconds at eight a second
    assert "gives 16 frames, and 17 are" in answered(page.answers, MODEL, CLIP, "v2v", frames=17)["note"]
    again = answered(page.answers, MODEL, CLIP, "v2v", changing["shown"])
    assert all(is_skip(again[name]) for name in ("task", *SHOWN))
    cannot = answered(page.answers, "nano", CLIP, "v2v", changing["shown"])
    assert "makes no videos from a video" in cannot["plan"]
    assert "i2v-first-frame" in cannot["note"]


# --- a video that is dropped ---


def test_a_video_gives_the_form_its_shape_and_length(page: _Page, tmp_path: Path) -> None:
    wide = {"path": str(film(Path(get_upload_folder()) / f"{tmp_path.name}-wide.mp4", size="192x64", seconds=0.5))}
    width, height, frames = page._numbers_for_clip("auto", MODEL, wide, 8)
    assert width / height == pytest.approx(3, rel=0.1)
    assert frames == 4
    assert page._numbers_for_clip("auto", MODEL, wide, 16)[2] == 8
    assert page._numbers_for_clip("auto", MODEL, wide, 100)[2] == SPECS["i2vgen_xl"].defaults.num_frames
    kept = page._numbers(None, "auto", MODEL, None, wide, "picture", "standard", *[None] * 6)
    assert kept[1:3] == [width, height]


# --- what Generate sends ---


def test_generate_sends_what_was_dropped_and_its_task(
    page: _Page, service: JobService, clip: dict[str, str], tmp_path: Path
) -> None:
    picture = {"path": str(uploaded_picture(tmp_path, "tasks"))}
    # What stands in the field may still be of what was there before.
    for photograph, video, stale, task, kinds in (
        (None, None, "v2v", "t2v", []),
        (picture, None, "t2v", "i2v", ["image"]),
        (None, clip, "i2v", "v2v", ["video"]),
        (picture, clip, "i2v", "v2v", ["video"]),
    ):
        page._generate(None, "en", "", photograph, video, None, *raw(task=stale, strength=0.25))
        request = service.jobs()[-1].request
        assert (request.task, [one.kind for one in request.inputs]) == (task, kinds)
    job = service.jobs()[-1]
    assert job.request.inputs[0].strength == 0.25
    assert Path(sources_of(job.folder, job.request)[1]).read_bytes() == Path(clip["path"]).read_bytes()


def test_scouts_go_out_without_a_photograph_and_with_a_video(page: _Page, service: JobService, clip: Any) -> None:
    for video, task in ((None, "t2v"), (clip, "v2v")):
        kept, said, *_ = page.scout.sent(None, "en", 2, "", None, video, None, *raw(strength=0.5))
        assert said == ""
        assert {service.status(one).request.task for one in Scouts.of(kept).ids} == {task}


def test_generate_says_who_can_where_the_model_cannot(page: _Page, service: JobService, clip: dict[str, str]) -> None:
    nano = raw(model="nano")
    said = told(page, page._generate(None, "en", "", None, clip, None, *nano))
    assert "Nano makes no videos from a video" in said
    assert "I2VGen-XL" in said
    assert "makes no videos from a video" in page.scout.sent(None, "en", 2, "", None, clip, None, *nano)[1]
    assert "no photograph" in told(page, page._generate(None, "en", "", None, None, None, *nano))
    assert service.jobs() == []


def test_where_a_photograph_or_a_video_is_needed_both_are_named(page: _Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "i2vgen_xl", able("i2v", "v2v"))
    assert "no photograph and no video" in told(page, page._generate(None, "en", "", None, None, None, *raw()))


def test_a_file_of_this_computer_is_no_upload(page: _Page, service: JobService, tmp_path: Path) -> None:
    inside = {"path": str(film(tmp_path / "film.mp4"))}
    assert "did not arrive" in told(page, page._generate(None, "en", "", None, inside, None, *raw()))
    assert service.jobs() == []


# --- such jobs come back ---


@pytest.fixture
def jobs(page: _Page, service: JobService, clip: dict[str, str]) -> tuple[str, str]:
    """One job from the sentence alone, and one from a video."""
    for video in (None, clip):
        page._generate(None, "en", "", None, video, None, *raw(strength=0.5))
    alone, changed = (job.id for job in service.jobs())
    return alone, changed


def test_a_reload_brings_back_the_job_and_the_form_with_its_video(
    page: _Page, jobs: tuple[str, str], clip: dict[str, str], service: JobService
) -> None:
    count = len(page._job_outputs)
    for job_id, has_clip, task in zip(jobs, (False, True), ("t2v", "v2v"), strict=True):
        picture, video, _, *fields = page._restored(None, job_id, "en")[count:-1]
        assert (picture, bool(video and Path(video).is_file())) == (None, has_clip)
        assert dict(zip(FIELDS, fields, strict=True))["task"] == task
    upload = Path(clip["path"]).resolve()
    form = {"ticket": page._ticket(None, upload), "values": {"task": "v2v", "strength": 0.3}}
    picture, video, _, *fields = page._restored(None, "", "en", None, form)[count:-1]
    assert (is_skip(picture), video) == (True, str(upload))
    assert dict(zip(FIELDS, fields, strict=True))["strength"] == 0.3


def test_lists_show_a_video_by_its_first_frame_and_a_sentence_by_an_empty_place(
    jobs: tuple[str, str], service: JobService
) -> None:
    posters = Posters()
    alone, changed = (service.status(job_id) for job_id in jobs)
    assert posters.source(alone.folder, *sources_of(alone.folder, alone.request)[:2]) is None
    assert "<img" not in thumbnail(None)
    files = sources_of(changed.folder, changed.request)[:2]
    wait_until(lambda: posters.source(changed.folder, *files) is not None)
    with Image.open(changed.folder / "input-small.webp") as small:
        assert small.size == (96, 64)


def test_the_gallery_tells_the_task_and_gives_the_video_back(
    page: _Page, service: JobService, clip: dict[str, str], tmp_path: Path
) -> None:
    made = [finish(service, tmp_path)]
    for more in ({"task": "t2v"}, {"task": "v2v", "strength": 0.5, "clip": Path(clip["path"])}):
        made.append(finish(service, tmp_path, pictured=False, **more))
    jobs = [service.status(job_id) for job_id in made]
    for job, words in zip(jobs, ("a photograph", "the sentence alone", "a video"), strict=True):
        assert f"<dt>Made from</dt><dd>{words}</dd>" in about(job, JobView(), "en")
    assert "<dt>How far from the video</dt><dd>0.5</dd>" in about(jobs[2], JobView(), "en")
    compared = side_by_side(jobs[0], jobs[2], "en")
    assert "<td>a photograph</td><td>a video</td>" in compared
    assert "<td>–</td><td>0.5</td>" in compared


def test_a_video_made_from_a_sentence_or_a_video_restores_its_settings(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    (tmp_path / "models").mkdir()
    frames = moving_frames(3, 64, 64)
    request = GenerationRequest("i2vgen-xl", "waves", 64, 64, 8, 12, 6, 1.5, 1, task="t2v")
    of_a_clip = replace(request, task="v2v", inputs=(Input("video", "input_clip.mp4", None, 0.3),))
    for asked, strength, said in ((request, 0.8, ""), (of_a_clip, 0.3, "is not in the file")):
        video = write_video(tmp_path / f"{asked.task}.mp4", frames, request=asked.to_json())
        note_, picture, clip, _, *fields = refilled(str(video), "en", "nano", settings)
        found = dict(zip(FIELDS, fields, strict=True))
        assert (picture, clip, found["task"], found["strength"]) == (None, None, asked.task, strength)
        assert said in note_
