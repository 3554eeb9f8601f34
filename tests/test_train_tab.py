"""The Train tab without a browser: clips kept with their captions, who may train, the list and the losses drawn."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.utils import get_upload_folder
from hypothesis import example, given
from hypothesis import strategies as st
from jobs_support import settings_in
from tabs_support import chosen, is_skip, resting_service

from i2v.families import SPECS
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import ALLOWED, STATES
from i2v.jobs.job.training import TrainingSeen
from i2v.jobs.service import JobService
from i2v.messages import UserError, catalogue
from i2v.models.catalogue import list_models
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.settings.settings import Settings
from i2v.training.asked import KEYS, resolve
from i2v.training.clips import read_folder
from i2v.ui.gate.own import OwnFiles, OwnJobs
from i2v.ui.page import _Page
from i2v.ui.queue.tab import QueueShown
from i2v.ui.train.fields import FIELDS, trainable, training_values
from i2v.ui.train.films import Film, captions_in, films_of, proposed_captions, train
from i2v.ui.train.loss_chart import MOST_POINTS, loss_chart, running_mean, thinned
from i2v.ui.train.rows import ACTIONS, Training, clips_panel, training_list
from i2v.ui.train.tab import TrainShown, TrainTab
from tests.video_support import moving_frames, write_video

SMALL = {"model": "nano", "name": "rolling", "steps": 3, "width": 64, "height": 64, "frames": 8, "fps": 8, "batch": 1}
SEEN = TrainingSeen("rolling", "zz", 3, ((1, 0.5), (2, 0.25)), (), None, 2**30, 3 * 2**29, 75.0)
REQUEST = GenerationRequest("nano", "rolling", 64, 64, 8, 8, 3, 1.0, 1)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with resting_service(tmp_path) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)[0]


@pytest.fixture
def page(service: JobService, tmp_path: Path) -> _Page:
    return _Page(service, *settings_in(tmp_path))


@pytest.fixture
def tab(page: _Page) -> TrainTab:
    return page.train_tab


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a_ball_rolls-1.mp4"
    write_video(path, moving_frames(10, 64, 64), fps=8)
    return path


def uploaded(path: Path, *names: str) -> list[dict[str, str]]:
    """Gradio's file data for copies of `path`."""
    files = []
    for number, name in enumerate(names):
        kept = Path(get_upload_folder()) / f"train-tab-{number}" / "file.mp4"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        files.append({"path": str(kept), "orig_name": name})
    return files


def kept_folders(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "outputs" / ".i2v" / "clips").glob("*"))


def job(state: str = "running", **more: object) -> JobStatus:
    made = JobStatus(
        "20260101-000000-abcdef", state, "denoise", 2, 3, None, None, None, 0, Path("/o/job"), REQUEST, Plan(), "local",
        task="train",
    )  # fmt: skip
    return replace(made, **more)


@contextmanager
def refused(message_id: str) -> Iterator[None]:
    with pytest.raises(UserError) as error:
        yield
    assert error.value.message.id == message_id


# --- clips ---


@given(st.lists(st.text(max_size=120), max_size=6))
@example(["0", "0.\u07eb", "0.\u07eb"])
@example(["\U00020000" * 120])
@example(["a.b.mp4", "a.b (2).mp4", "A.B.mp4", "a_b.mp4"])
def test_every_clip_has_a_name_of_its_own_that_any_disk_can_have(names: list[str]) -> None:
    upload = Path(get_upload_folder()) / "x" / "y.mp4"
    films = films_of([{"path": str(upload), "orig_name": name} for name in names])
    stems = [Path(film.name).stem.casefold() for film in films]
    assert len(set(stems)) == len(stems)
    for film in films:
        assert Path(film.name).name == film.name
        assert not film.name.startswith(".")
        assert len(film.name.encode()) < 255
        assert not set(film.name) & set('<>:"/\\|?*\0')


def test_uploaded_clips_become_a_folder_that_training_reads(
    service: JobService, settings: Settings, clip: Path, tmp_path: Path
) -> None:
    films = films_of(uploaded(clip, "a_ball_rolls-1.mp4", "A ball rolls-1.MP4", "a_ball_rolls-1.mp4"))
    table = {"headers": ["", ""], "data": [list(row) for row in proposed_captions(films)], "metadata": None}
    assert [row[1] for row in table["data"]] == ["a ball rolls", "A ball rolls", "a ball rolls"]
    table["data"][0][1] = " it rolls\naway "
    assert proposed_captions(films, table)[0][1] == " it rolls\naway "
    job_id = train(OwnJobs(service, "local"), settings, SMALL, films, captions_in(table))
    (folder,) = kept_folders(tmp_path)
    wanted = resolve({**SMALL, "name": "other", "clips": str(folder)}, settings)
    clips = read_folder(wanted.request, wanted.spec)
    assert clips.left_out == ()
    assert sorted(one.caption for one in clips.clips) == ["A ball rolls", "a ball rolls", "it rolls away"]
    status = service.status(job_id)
    assert (status.task, status.state, status.steps) == ("train", "queued", 3)
    assert service.training(job_id).name == "rolling"


@pytest.mark.parametrize(
    ("values", "names", "said"),
    [
        ({}, (), "training_page.clips_needed"),
        ({"name": " "}, ("a.mp4",), "training_page.name_needed"),
        ({"name": "taken"}, ("a.mp4",), "training_page.name_taken"),
        ({}, ("a.mp4", "b.gif"), "training_page.no_film"),
        ({"name": "../up"}, ("a.mp4",), "training.bad_name"),
        ({"rank": 0}, ("a.mp4",), "settings."),
        ({"model": "nowhere"}, ("a.mp4",), "models."),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    service: JobService, settings: Settings, clip: Path, tmp_path: Path, values: dict, names: tuple, said: str
) -> None:
    (tmp_path / "models" / "loras").mkdir(parents=True, exist_ok=True)
    (tmp_path / "models" / "loras" / "taken.safetensors").write_bytes(b"")
    films = films_of(uploaded(clip, *names))
    with pytest.raises(UserError) as error:
        train(OwnJobs(service, "local"), settings, {**SMALL, **values}, films, {})
    assert error.value.message.id.startswith(said)
    assert kept_folders(tmp_path) == []
    assert service.jobs() == []


def test_a_file_that_is_no_film_is_refused_by_what_is_in_it(
    service: JobService, settings: Settings, tmp_path: Path
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("<html>no film</html>")
    with pytest.raises(UserError) as error:
        train(OwnJobs(service, "local"), settings, SMALL, films_of(uploaded(text, "text.mp4")), {})
    assert error.value.message.id.startswith("clip.")
    assert kept_folders(tmp_path) == []


def test_only_uploads_count_as_clips(clip: Path) -> None:
    for files in ([{"path": str(clip), "orig_name": "a.mp4"}], ["a.mp4"], [{}], [None], {"path": "/etc/passwd"}, "a"):
        with pytest.raises(UserError):
            films_of(files)


# --- who may ---


def test_guests_train_nothing_and_folders_are_for_who_sits_at_the_machine(
    service: JobService, settings: Settings, clip: Path, tmp_path: Path
) -> None:
    folder = {**SMALL, "clips": str(clip.parent)}
    films = [Film(clip, "a.mp4")]
    with refused("ui.guest_only_looks"):
        train(OwnJobs(service, "guest"), settings, SMALL, films, {})
    assert kept_folders(tmp_path) == []
    for who in ("ann", "admin", "192.168.1.7"):
        for values in (folder, {**SMALL, "image": str(clip), "name": "pictured"}):
            with refused("training_page.files_of_here"):
                train(OwnJobs(service, who), settings, values, films if "image" in values else [], {})
    assert service.jobs() == []
    theirs = train(OwnJobs(service, "ann"), settings, SMALL, films, {})
    here = train(OwnJobs(service, "local"), settings, {**folder, "name": "here"}, [], {})
    assert [service.owner(one) for one in (theirs, here)] == ["ann", "local"]
    with refused("jobs.unknown"):
        OwnJobs(service, "bob").training(theirs)
    assert OwnJobs(service, "guest").training(theirs).name == "rolling"


def test_nobody_gets_at_a_training_of_another_by_its_name(
    service: JobService, settings: Settings, clip: Path, tmp_path: Path
) -> None:
    films = [Film(clip, "a.mp4")]
    anns = train(OwnJobs(service, "ann"), settings, SMALL, films, {})
    service.cancel(anns)
    for name in ("rolling", " Rolling "):
        with refused("training_page.name_taken"):
            train(OwnJobs(service, "bob"), settings, {**SMALL, "name": name}, films, {})
    assert train(OwnJobs(service, "ann"), settings, SMALL, films, {}) != anns
    (tmp_path / "outputs" / "training" / "left over").mkdir(parents=True)
    with refused("training_page.name_taken"):
        train(OwnJobs(service, "bob"), settings, {**SMALL, "name": "left over"}, films, {})
    train(OwnJobs(service, "local"), settings, {**SMALL, "name": "left over"}, films, {})


def test_clips_of_a_training_are_its_owners(
    service: JobService, settings: Settings, clip: Path, tmp_path: Path
) -> None:
    train(OwnJobs(service, "ann"), settings, SMALL, [Film(clip, "a.mp4")], {})
    outputs = tmp_path / "outputs"
    made = outputs / "training" / "rolling" / "validation" / "000003.mp4"
    files = OwnFiles(None, None, service, outputs)  # type: ignore[arg-type]
    assert files._allowed(str(made), "ann", "")
    assert files._allowed(str(made), "guest", "")
    assert not files._allowed(str(made), "bob", "")
    other = outputs / "training" / "rolling" / ".." / "other" / "validation" / "1.mp4"
    assert not files._allowed(str(other), "ann", "")


# --- the page ---


def test_the_form_says_what_the_command_line_takes(page: _Page, tab: TrainTab, settings: Settings) -> None:
    assert set(FIELDS) <= set(KEYS)
    assert [field.elem_id for field in tab.form.inputs] == [f"i2v-train-{name}" for name in FIELDS]
    values = training_values([field.value for field in tab.form.inputs])
    wanted = resolve({**values, "clips": str(settings.outputs_dir.parent), "name": "x"}, settings)
    plain = resolve({"model": values["model"], "clips": str(settings.outputs_dir.parent), "name": "x"}, settings)
    assert wanted == plain  # what stands in the form at first is what stands for nothing
    shown = {name: int(tab.form.fields[name].placeholder) for name in ("width", "height", "frames", "fps")}
    request = plain.request
    assert shown == {
        "width": request.width, "height": request.height, "frames": request.num_frames, "fps": request.fps,
    }  # fmt: skip


def test_only_models_that_can_be_trained_are_offered(tab: TrainTab, settings: Settings) -> None:
    offered = {one.family for one in trainable(list_models(settings))}
    assert {"nano", "i2vgen_xl", "hunyuan_video"} <= offered
    for family in offered:
        assert (Path(__file__).parents[1] / "i2v" / "families" / family / "training.py").is_file()
    assert offered <= set(SPECS)


def test_a_folder_is_asked_for_on_this_machine_alone(tab: TrainTab) -> None:
    assert tab.opened(None, "en")[0]["visible"] is True
    ann = SimpleNamespace(username="ann", client=SimpleNamespace(host="127.0.0.1"))
    assert tab.opened(ann, "en")[0]["visible"] == "hidden"


def test_train_pressed_begins_one_that_the_queue_shows_too_and_no_video_panel(
    page: _Page, tab: TrainTab, service: JobService, clip: Path
) -> None:
    raw = {**dict.fromkeys(FIELDS), **SMALL}
    told, *_, html, _clips = tab.begin(None, uploaded(clip, "a.mp4"), None, *(raw[name] for name in FIELDS), {}, "en")
    assert told == ""
    assert "rolling" in html
    told, files, *_ = tab.begin(None, uploaded(clip, "a.mp4"), None, *(raw[name] for name in FIELDS), {}, "zh-CN")
    assert "rolling" in told  # there is one of that name that has not ended
    assert is_skip(files)
    (training,) = service.jobs()
    assert page._to_show(OwnJobs(service, "local"), "") == ""
    html = page.queue_tab.look(None, QueueShown(), {}, "en")[1]
    assert "training" in html
    _wishes, told, *_ = tab.act(None, {}, "en", chosen("cancel", training.id))
    assert told == ""
    assert service.status(training.id).state == "cancelled"
    assert is_skip(tab.look(None, tab.look(None, TrainShown(), {}, "en")[0], {}, "en")[1])
    assert all(is_skip(one) for one in tab.use(None, "en", chosen("retry", training.id)))
    assert "is no longer" in tab.use(None, "en", chosen("use", training.id))[0]


@pytest.mark.parametrize("state", STATES)
def test_the_buttons_of_a_training_ask_for_what_its_state_allows(state: str) -> None:
    acts = set(re.findall(r'data-act="(\w+)"', training_list([Training(job(state), SEEN)], "en")))
    leads_to = {"pause": "paused", "cancel": "cancelled", "resume": "queued"}
    assert acts == set(ACTIONS.get(state, ()))
    assert all(leads_to[act] in ALLOWED[state] for act in acts & set(leads_to))
    html = training_list([Training(job("done"), replace(SEEN, file=Path("/m/rolling.safetensors")))], "en")
    assert re.findall(r'data-act="(\w+)"', html) == ["use"]


def test_a_card_tells_peak_against_foretold_and_a_processor_what_its_process_holds() -> None:
    on = {device: training_list([Training(job(plan=Plan(device=device)), SEEN)], "en") for device in ("cuda", "cpu")}
    assert "Peak 1.00 GiB · foretold 1.50 GiB" in on["cuda"]
    assert "The process has held up to 1.00 GiB" in on["cpu"]
    assert "foretold" not in on["cpu"]
    assert "step 2 of 3" in on["cuda"]
    assert "done in about 75 s" in on["cuda"]
    assert 'aria-valuenow="66.7"' in on["cuda"]


def test_what_people_typed_is_no_markup() -> None:
    seen = replace(SEEN, name="<q>x</q>", clips=(Path("/o/training/<i>/1.mp4"),))
    one = Training(job(request=replace(REQUEST, prompt="<q>x</q>", model="<i>m</i>"), owner="<u>"), seen)
    for html in (training_list([one], "en"), clips_panel([one], "en")):
        assert not re.search(r"<[qui]>", html)
        assert "&lt;" in html


# --- the losses ---

LOSSES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=900)


def drawn(html: str, name: str) -> list[tuple[float, float]]:
    found = re.search(rf'<polyline class="{name}" points="([^"]*)"', html)
    return [tuple(map(float, point.split(","))) for point in found[1].split()] if found else []  # type: ignore[misc]


@given(LOSSES)
def test_the_plot_keeps_the_order_of_losses_within_its_box(losses: list[float]) -> None:
    html = loss_chart(list(enumerate(losses, 1)), "en")
    points = drawn(html, "loss")
    assert len(points) == (min(len(losses), MOST_POINTS) if len(losses) > 1 else 0)
    assert all(0 <= x <= 640 and 0 <= y <= 190 for x, y in points)
    shown = [losses[at] for at in thinned(range(len(losses)))]
    for (before, after), (_, y), (_, y_after) in zip(zip(shown, shown[1:]), points, points[1:]):  # noqa: B905, RUF007
        assert (after - before) * (y_after - y) <= 0 or math.isclose(y, y_after)


def test_the_axis_is_logarithmic_where_it_can_be() -> None:
    ys = [y for _, y in drawn(loss_chart([(1, 1.0), (2, 0.1), (3, 0.01)], "en"), "loss")]
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.11)
    ys = [y for _, y in drawn(loss_chart([(1, 1.0), (2, 0.5), (3, 0.0)], "en"), "loss")]
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.11)
    for nothing in ((), ((1, math.nan), (2, math.inf))):
        assert "svg" not in loss_chart(nothing, "en")


@given(LOSSES)
def test_a_running_mean_stays_between_the_least_and_the_most(losses: list[float]) -> None:
    means = running_mean(losses)
    assert len(means) == len(losses)
    assert means[0] == pytest.approx(losses[0])
    assert all(min(losses) * 0.999 <= mean <= max(losses) * 1.001 for mean in means)


def test_every_text_of_the_tab_reaches_the_browser(page: _Page) -> None:
    labels = [field.label for field in tab_fields(page)]
    assert all(str(getattr(label, "key", label)).startswith("training_page.") for label in labels), labels
    assert {str(label.key) for label in labels} <= set(catalogue("en"))


def tab_fields(page: _Page) -> list[gr.components.Component]:
    return [*page.train_tab.form.inputs, page.train_tab.form.films, page.train_tab.form.captions]
