"""The page's place for a picture that the video ends with: for which models it is seen, what Generate sends or says,
and how the picture comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gradio.utils import get_upload_folder
from jobs_support import MODEL, settings_in, values
from page_support import is_skip, uploaded_picture
from PIL import Image
from tabs_support import finish, resting_service

from i2v.families import SPECS
from i2v.families.spec import InputSlot
from i2v.jobs.service import JobService
from i2v.messages import LOCALES, Message
from i2v.request import GenerationRequest, Input
from i2v.ui.create.clip import SHOWN
from i2v.ui.create.form import FIELDS
from i2v.ui.create.kept import KeptForm, Tickets
from i2v.ui.create.restore import refilled
from i2v.ui.create.scout import Scouts
from i2v.ui.create.task import Dropped, places
from i2v.ui.gallery.opened import about, side_by_side
from i2v.ui.page import _Page
from i2v.ui.shown.sources import sources_of
from i2v.ui.shown.view import JobView
from i2v.video.clip import ClipFacts
from tests.video_support import moving_frames, write_video

NOTHING, PICTURE, CLIP = Dropped(), Dropped((96, 64)), Dropped(facts=ClipFacts(96, 64, 32, 16.0, 2.0, ".mp4"))


@pytest.fixture(autouse=True)
def takes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model's family takes a last picture, nano takes none."""
    inputs = {"i2v": (InputSlot("image"), InputSlot("image", -1, needed=False))}
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs=inputs))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with resting_service(tmp_path, max_queue_per_owner=20) as running:
        yield running


@pytest.fixture
def page(service: JobService, tmp_path: Path) -> _Page:
    return _Page(service, *settings_in(tmp_path, max_queue_per_owner=20))


@pytest.fixture
def first(tmp_path: Path) -> dict[str, str]:
    return {"path": str(uploaded_picture(tmp_path, f"{tmp_path.name}-first"))}


@pytest.fixture
def last(tmp_path: Path) -> dict[str, str]:
    """A navy picture, as the browser names its upload."""
    upload = Path(get_upload_folder()) / f"{tmp_path.name}-last" / "evening.png"
    upload.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 48), "navy").save(upload)
    return {"path": str(upload)}


def raw(**more: object) -> list[Any]:
    asked = values(**more)
    return [asked.get(name) for name in FIELDS]


def told(page: _Page, outputs: list[Any]) -> str:
    return outputs[page._job_outputs.index(page.told)]


# --- where it is seen ---


@pytest.mark.parametrize(
    ("family", "dropped", "seen", "needed"),
    [
        ("nano", PICTURE, False, False),
        ("wan", NOTHING, False, False),
        ("wan_i2v", PICTURE, False, False),
        ("wan22_i2v", NOTHING, True, False),
        ("wan22_i2v", CLIP, False, False),
        ("wan_flf2v", NOTHING, True, True),
        ("ltx2", NOTHING, False, False),  # the sentence alone makes the video as long as there is no first picture
        ("ltx2", PICTURE, True, False),
    ],
)
def test_the_place_is_seen_for_models_that_take_one(family: str, dropped: Dropped, seen: bool, needed: bool) -> None:
    there = places(SPECS[family], dropped)
    assert there.last is seen
    assert not seen or there.last_needed is needed


@pytest.mark.parametrize("locale", LOCALES)
def test_the_label_says_whether_it_is_needed(page: _Page, locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(model: str, before: Any = None) -> dict[str, Any]:
        asked = raw(model=model, task="i2v", preset="auto", fps=8)
        sent = page.answers.at_once(None, locale, *asked, "picture", "standard", None, None, before, None)
        return dict(zip(SHOWN, sent[-1 - len(SHOWN) : -1], strict=True))

    now = answered(MODEL)
    assert now["last_picture"]["visible"] is True
    assert now["last_picture"]["label"] == Message("ui.last_picture_optional").render(locale)
    assert is_skip(answered(MODEL, now["shown"])["last_picture"])
    assert answered("nano", now["shown"])["last_picture"]["visible"] == "hidden"
    needed = {"i2v": (InputSlot("image"), InputSlot("image", -1))}
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs=needed))
    assert answered(MODEL, now["shown"])["last_picture"]["label"] == Message("ui.last_picture").render(locale)


# --- what is sent ---


def test_both_pictures_are_sent(page: _Page, service: JobService, first: Any, last: Any) -> None:
    page._generate(None, "en", "", first, None, last, *raw())
    page._generate(None, "en", "", first, None, None, *raw())
    both, one = service.jobs()
    assert [(image.kind, image.at) for image in both.request.inputs] == [("image", 0), ("image", -1)]
    assert [image.at for image in one.request.inputs] == [0]
    with Image.open(sources_of(both.folder, both.request)[2]) as kept:
        assert kept.getpixel((0, 0)) == (0, 0, 128)
    kept, said, *_ = page.scout.sent(None, "en", 2, "", first, None, last, *raw())
    assert said == ""
    assert all(service.status(scout).request.last_image_path for scout in Scouts.of(kept).ids)


def test_a_model_that_takes_none_is_sent_none(page: _Page, service: JobService, first: Any, last: Any) -> None:
    page._generate(None, "en", "", first, None, last, *raw(model="nano", frames=8))
    (job,) = service.jobs()
    assert [image.at for image in job.request.inputs] == [0]


@pytest.mark.parametrize(("locale", "words"), [("en", "no last picture"), ("zh-CN", "还没有尾帧图片")])
def test_what_is_missing_is_said(
    page: _Page, service: JobService, first: Any, last: Any, locale: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"i2v": (InputSlot("image"), InputSlot("image", -1))}
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs=needed))
    assert words in told(page, page._generate(None, locale, "", first, None, None, *raw()))
    assert words in page.scout.sent(None, locale, 2, "", first, None, None, *raw())[1]
    assert words not in told(page, page._generate(None, locale, "", None, None, last, *raw()))
    assert service.jobs() == []


def test_a_file_of_this_computer_is_no_upload(page: _Page, service: JobService, first: Any, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    for inside in ({"path": str(tmp_path / "mine.png")}, {"path": f"{first['path']}/../../../mine.png"}, "x"):
        assert "did not arrive" in told(page, page._generate(None, "en", "", first, None, inside, *raw()))
    assert service.jobs() == []


# --- and how it comes back ---


def test_a_reload_brings_it_back_to_its_owner_alone(page: _Page, first: Any, last: Any) -> None:
    count, uploads = len(page._job_outputs), [Path(one["path"]).resolve() for one in (first, last)]
    form = {"ticket": page._ticket(None, *uploads), "values": {"task": "i2v"}}
    picture, clip, end, *_ = page._restored(None, "", "en", None, form)[count:-1]
    assert (picture, is_skip(clip), end) == (str(uploads[0]), True, str(uploads[1]))
    tickets = Tickets("a key")
    alone = tickets.give("ann", None, uploads[1])
    assert (tickets.picture(alone, "ann"), tickets.last_picture(alone, "ann")) == (None, uploads[1])
    assert tickets.last_picture(tickets.give("ann", uploads[0]), "ann") is None
    assert tickets.last_picture(alone, "bob") is None
    assert KeptForm.of({"ticket": alone, "values": {}}, "bob", tickets) is None
    swapped = (
        alone.partition(":")[0] + ":" + "\n".join(one.relative_to(get_upload_folder()).as_posix() for one in uploads)
    )
    assert tickets.last_picture(swapped, "ann") is None


def test_a_name_of_two_lines_opens_no_file_beside_the_uploads(tmp_path: Path) -> None:
    uploads = Path(get_upload_folder()).resolve()
    secret = uploads.parent / f"{tmp_path.name}-secret"
    secret.write_text("x")
    tickets = Tickets("a key")
    try:
        for places in ((uploads / f"x\n../{secret.name}", None), (None, uploads / f"\n../{secret.name}")):
            ticket = tickets.give("ann", *places)
            assert (tickets.picture(ticket, "ann"), tickets.last_picture(ticket, "ann")) == (None, None)
        forged = f"{tickets._seal('ann', f'../{secret.name}')}:../{secret.name}"
        assert tickets.picture(forged, "ann") is None
    finally:
        secret.unlink()


def test_a_job_gives_both_pictures_back(page: _Page, service: JobService, tmp_path: Path, last: Any) -> None:
    job_id = finish(service, tmp_path, last_picture=Path(last["path"]))
    job, count = service.status(job_id), len(page._job_outputs)
    picture, clip, end, *_ = page._restored(None, job_id, "en")[count:-1]
    assert [Path(picture).name, clip, Path(end).name] == ["input.png", None, "input-last.png"]
    words = "<dt>Made from</dt><dd>a photograph and a last picture</dd>"
    assert words in about(job, JobView(), "en")
    other = service.status(finish(service, tmp_path))
    assert "<td>a photograph and a last picture</td><td>a photograph</td>" in side_by_side(job, other, "en")


def test_a_video_gives_its_first_and_last_frames_back(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    (tmp_path / "models").mkdir()
    frames = moving_frames(5, 64, 64)
    inputs = (Input("image", "input.png"), Input("image", "input-last.png", -1))
    request = GenerationRequest("nano", "waves", 64, 64, 8, 12, 6, 1.5, 1, inputs=inputs)
    for asked, has_last in ((request, True), (replace(request, inputs=inputs[:1]), False)):
        video = write_video(tmp_path / f"v{has_last}.mp4", frames, request=asked.to_json())
        _, picture, clip, end, *_ = refilled(str(video), "en", "nano", settings)
        assert (Path(picture).is_file(), clip, bool(end)) == (True, None, has_last)
        if has_last:
            for still, frame in ((picture, frames[0]), (end, frames[-1])):
                with Image.open(still) as shown:
                    seen = list(shown.convert("RGB").resize((1, 1)).getpixel((0, 0)))
                meant = Image.fromarray(frame).resize((1, 1)).getpixel((0, 0))
                assert seen == pytest.approx(list(meant), abs=6)
            assert Path(picture).read_bytes() != Path(end).read_bytes()
