"""The models of the System tab without a browser: what a row says and offers, what its buttons do, who may press them,
and looking through models beside the page."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from huggingface_hub import constants
from jobs_support import SCRIPTED, fake_model, settings_in, small_picture, values, wait_until
from model_folders import make_checkpoint
from tabs_support import chosen, is_skip
from test_off_disk import write_wan_lora

from i2v.downloads.state import Download
from i2v.families import SPECS
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.families.spec import Licence
from i2v.jobs.service import JobService
from i2v.messages import LOCALES, UserError, message
from i2v.models.catalogue import find_model
from i2v.models.check import Checked
from i2v.models.fetch import routes
from i2v.models.kinds import ModelKind, kind_of
from i2v.settings.settings import Settings
from i2v.ui.create.model_cards import model_cards
from i2v.ui.shown.download import Coming, download_told, rate
from i2v.ui.system.checks import Check, ModelChecks
from i2v.ui.system.model_by_id import ModelById, model_named
from i2v.ui.system.model_panel import ModelPanel, ModelsShown
from i2v.ui.system.model_rows import ModelQuestion, ModelRow, Room, model_list
from i2v.units import GIB
from tests.hub_server import Hub, serve_hub

REPO = "ali-vilab/i2vgen-xl"
NAME = "i2vgen-xl"
MARKUP = '<img src=x onerror="alert(1)">'
HERE = message("ui.model_here_models", size="3.00 GiB", folder="/m")
UNET = "unet/diffusion_pytorch_model.safetensors"
ROOM = Room("/models", 40 * GIB)


def row(standing: str = "here", **more: Any) -> ModelRow:
    return ModelRow("one", "One", standing, HERE, **more)  # type: ignore[arg-type]


def download(state: str = "coming", before: int = 0, **more: Any) -> Coming:
    plain: dict[str, Any] = {"id": "one", "model": "one", "hub_id": "a/one", "family": "wan", "title": "One"}
    plain |= {"added": 0.0, "state": state, "total_bytes": 8 * GIB, "done_bytes": 2 * GIB}
    return Coming(Download(**plain | more), before)


def acts(html: str) -> list[str]:
    return re.findall(r'data-act="(\w+)"', html)


# --- rows ---


@pytest.mark.parametrize(
    ("shown", "offered"),
    [
        (row(), ["verify"]),
        (row(removable=True), ["verify", "remove"]),
        (row("missing"), ["download"]),
        (row("short"), ["download"]),
        (row("missing", removable=True), ["download", "remove"]),
        (row("damaged", removable=True), ["verify", "remove"]),
        (row("missing", removable=True, coming=download("waiting")), ["pause", "cancel"]),
        (row("missing", coming=download("coming")), ["pause", "cancel"]),
        (row("missing", coming=download("paused")), ["resume", "cancel"]),
        (row("missing", coming=download("failed")), ["resume", "cancel"]),
        (row("missing", coming=download("waiting", note=HERE)), ["resume", "pause", "cancel"]),
        (row("missing", coming=replace(download(), elsewhere=True)), []),
        (row(check=Check("reading")), ["stop"]),
        (row(check=Check("waiting"), removable=True), ["stop", "remove"]),
        (row(check=Check("done", checked=Checked(ModelKind(Path("/m")), ()))), ["verify"]),
        (row(removable=True, question=ModelQuestion("one", "remove", (HERE,))), ["keep", "bin", "delete"]),
        (row("missing", coming=download(), question=ModelQuestion("one", "cancel", (HERE,))), ["keep", "discard"]),
    ],
)
def test_a_row_offers_what_can_be_done_now_and_what_loses_nothing_first(shown: ModelRow, offered: list[str]) -> None:
    for locale in LOCALES:
        html = model_list([shown], ROOM, locale)
        assert acts(html) == offered
        assert "ui." not in html
        assert html.count('role="alert"') == (shown.question is not None)


def test_a_download_says_how_far_it_is_how_fast_and_how_long_still() -> None:
    coming = download(bytes_per_second=12.5 * 2**20, seconds_left=503.0, route="xet")
    told = download_told(coming, "en")
    assert "Downloading · 2.00 GiB of 8.00 GiB · 12.5 MiB/s · 8:23 left · The hub by Xet" in unescape(told)
    assert f'<progress max="{8 * GIB}" value="{2 * GIB}" aria-label="One">' in told

    def changed(**values: Any) -> Coming:
        return Coming(replace(coming.download, **values))

    waiting = replace(changed(state="waiting"), before=2)
    assert "Waits: 2 before it · 2.00 GiB of 8.00 GiB<" in unescape(download_told(waiting, "en"))
    off = changed(state="waiting", note=message("downloads.broke_off", minutes=2, reason=HERE.to_json()))
    assert "Broke off, and is tried again later · 2.00 GiB of 8.00 GiB<" in unescape(download_told(off, "en"))
    assert "tried again in 2 minutes" in download_told(off, "en")
    laid_down = unescape(download_told(changed(state="paused"), "en"))
    assert "Paused · 2.00 GiB of 8.00 GiB<" in laid_down
    assert "progress" not in download_told(changed(total_bytes=0, done_bytes=0), "en")
    failed = changed(state="failed", error=message("models.not_on_hub", model=MARKUP))
    assert message("models.not_on_hub", model=MARKUP).render("en") in unescape(download_told(failed, "en"))
    assert "<img" not in download_told(failed, "zh-CN")
    assert (rate(2**20), rate(2**20 - 1), rate(3)) == ("1.0 MiB/s", "1024 KiB/s", "0 KiB/s")


@pytest.mark.parametrize("locale", LOCALES)
def test_names_and_messages_are_text(locale: str) -> None:
    bad = ModelRow(
        MARKUP, MARKUP, "damaged", message("models.missing_file", file=MARKUP), Licence(MARKUP, f"https://{MARKUP}"),
        coming=download(title=MARKUP, note=message("models.fetch_waits", host=MARKUP, seconds=3)),
        question=ModelQuestion(MARKUP, "remove", (message("cli.remove_link", folder=MARKUP),)),
    )  # fmt: skip
    html = model_list([bad, replace(bad, standing="short")], replace(ROOM, folder=MARKUP), locale)
    assert "<img" not in html
    assert html.count("&lt;img") > 10


def test_what_is_here_stands_before_what_can_be_downloaded_and_the_room_is_told() -> None:
    rows = [replace(row("missing"), name="a", title="A"), row("here"), replace(row("short"), name="c", title="C")]
    html = model_list(rows, replace(ROOM, downloads=2, coming_bytes=3 * GIB), "en")
    assert re.findall(r'data-model="(\w+)"', html) == ["one", "a", "c"]
    assert "Can be downloaded (2)" in html
    assert "40.0 GiB are free on the disk of /models · 2 downloads in the queue, 3.00 GiB still to come" in html


# --- buttons, on a service with a hub of this machine ---


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(routes, "HUB", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve_hub({REPO: make_checkpoint(tmp_path / "hub" / NAME, SPEC)}) as hub:
        yield hub


@pytest.fixture
def settings(hub: Hub, tmp_path: Path) -> Settings:
    fake_model(tmp_path)
    return settings_in(tmp_path, hf_endpoint=hub.url)[0]


@pytest.fixture
def service(settings: Settings, tmp_path: Path) -> Iterator[JobService]:
    with JobService(settings, settings_in(tmp_path)[1], worker_command=SCRIPTED) as running:
        running.pause_queue()
        yield running


def by(who: str) -> Any:
    return SimpleNamespace(username=who, client=None)


class Pressing:
    """A browser tab on the models: what it shows, and a person who presses buttons."""

    def __init__(self, service: JobService, settings: Settings) -> None:
        with gr.Blocks(), gr.Tabs(), gr.Tab() as tab:
            language, timer, came = gr.Radio(["en", "zh-CN"]), gr.Timer(2), gr.Textbox()
            self.panel = ModelPanel(service, settings, tab, timer, language, came)
            self.by_id = ModelById(service, settings, self.panel, language, gr.I18n())
        self.shown, self.question = ModelsShown(), None
        self.html, self.told, self.came = "", "", []
        self.look()

    def look(self) -> str:
        self._take(self.panel.look(self.shown, self.question, "en"))
        return self.html

    def press(self, act: str, name: str, who: str | None = None) -> str:
        """What the page says to it."""
        request = by(who) if who else None
        question, told, *drawn = self.panel.act(request, self.shown, self.question, "en", chosen(act, name))
        self.question, self.told = question, told
        self._take(drawn)
        return unescape(told)

    def fetch(self, typed: str, who: str | None = None) -> str:
        """What the page says in the end to the id that somebody typed."""
        *_, (told, _) = self.by_id.fetch(by(who) if who else None, "en", typed)
        return unescape(told)

    def _take(self, drawn: list[Any]) -> None:
        shown, html, came = drawn
        self.shown = self.shown if is_skip(shown) else shown
        self.html = self.html if is_skip(html) else html
        self.came += [] if is_skip(came) else [came]

    def row(self, name: str = NAME) -> str:
        """What the model's row says; nothing where there is none."""
        rows = self.look().split('<li class="i2v-model-row')
        return unescape(next((one for one in rows if f'data-model="{name}"' in one), ""))


@pytest.fixture
def page(service: JobService, settings: Settings) -> Pressing:
    return Pressing(service, settings)


def test_a_model_is_downloaded_paused_resumed_cancelled_and_comes(
    page: Pressing, hub: Hub, service: JobService, settings: Settings
) -> None:
    folder = settings.models_dir / NAME
    assert acts(page.row()) == ["download"]
    assert "4.7 GiB to download" in page.row()
    assert all(map(is_skip, page.panel.look(page.shown, None, "en")))  # nothing is sent twice
    hub.file_stalls_after = 100
    assert page.press("download", NAME) == ""
    wait_until(lambda: "Downloading" in page.row())
    assert page.came == []
    page.press("pause", NAME)
    assert "Paused" in page.row()
    hub.file_stalls_after = None
    page.press("cancel", NAME)
    assert acts(page.row()) == ["keep", "discard"]
    assert "Pause keeps it" in page.row()
    page.press("keep", NAME)
    assert acts(page.row()) == ["resume", "cancel"]
    assert page.press("discard", NAME) == ""  # nobody was asked
    assert service.downloads.of(REPO) is not None
    page.press("cancel", NAME)
    page.press("discard", NAME)
    wait_until(lambda: not folder.exists())
    assert acts(page.row()) == ["download"]
    page.press("download", NAME)
    wait_until(lambda: "On this computer" in page.row())
    assert acts(page.row()) == ["verify", "remove"]
    assert page.came == [f"models {NAME}\nnano\nsmall"]
    page.press("cancel", NAME)  # too late: nothing is asked, nothing goes
    assert (page.question, kind_of(folder).whole) == (None, True)


def test_a_download_that_fails_says_why_and_is_tried_again(page: Pressing, hub: Hub) -> None:
    hub.status, hub.error_code = 403, "GatedRepo"
    page.press("download", NAME)
    wait_until(lambda: "The download failed" in page.row())
    assert "asks for agreement" in page.row() or "licence" in page.row().lower()
    assert "Try again" in page.row()
    hub.status = None
    page.press("resume", NAME)
    wait_until(lambda: "On this computer" in page.row())


def test_a_model_that_was_fetched_is_verified_and_a_flipped_bit_is_found(
    page: Pressing, service: JobService, settings: Settings
) -> None:
    page.panel.checks = ModelChecks(kind_of, lambda checked: checked)
    service.downloads.add(NAME)
    wait_until(lambda: "On this computer" in page.row())
    page.press("verify", NAME)
    wait_until(lambda: "it is what it should be" in page.row())
    assert re.search(r"Contents compared with what was published: \d+ files", page.row())
    file = settings.models_dir / NAME / UNET
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    page.press("verify", NAME)
    wait_until(lambda: "something is wrong with it" in page.row())
    assert UNET in page.row()


def test_removing_asks_first_and_says_what_needs_the_model(
    page: Pressing, service: JobService, settings: Settings, tmp_path: Path
) -> None:
    make_checkpoint(settings.models_dir / "mine", SPECS["wan"])
    (settings.models_dir / "loras").mkdir()
    write_wan_lora(settings.models_dir / "loras" / "style.safetensors")
    job = service.submit(values(), small_picture(tmp_path))
    page.press("remove", "small")
    assert job in page.row("small")
    assert "1 jobs that wait or were laid down need it" in page.row("small")
    assert page.press("delete", "mine") == ""  # asked about another
    assert (settings.models_dir / "mine").exists()
    page.press("remove", "mine")
    assert "style" in page.row("mine")
    told = page.press("bin", "mine")
    assert str(settings.models_dir / ".bin" / "mine") in told
    assert page.row("mine") == ""
    assert page.came == ["models mine\nnano\nsmall", "models nano\nsmall"]
    page.press("remove", "small")
    assert service._board.change(job, "running", expected=("queued",))
    assert "is at work" in page.press("delete", "small") or job in unescape(page.told)
    assert (settings.models_dir / "small").exists()
    assert acts(page.row("nano")) == ["verify"]
    assert "comes with the app" in page.press("remove", "nano")


def test_a_model_that_is_coming_is_not_removed(page: Pressing, hub: Hub, settings: Settings) -> None:
    hub.file_stalls_after = 100
    page.press("download", NAME)
    wait_until(lambda: "Downloading" in page.row())
    assert "still being downloaded" in page.press("remove", NAME)
    assert page.question is None
    hub.file_stalls_after = None
    page.press("cancel", NAME)
    page.press("discard", NAME)


@pytest.mark.parametrize("act", ["download", "verify", "stop", "remove"])
def test_a_guest_only_looks(page: Pressing, service: JobService, act: str) -> None:
    name = NAME if act == "download" else "small"
    assert message("ui.guest_only_looks").render("en") in page.press(act, name, "guest")
    assert service.downloads.all() == []
    assert page.question is None


def test_anybody_else_downloads_and_verifies_and_what_takes_away_is_the_admins(
    page: Pressing, service: JobService, hub: Hub
) -> None:
    hub.file_stalls_after = 100
    refused = message("ui.admin_only").render("en")
    assert page.press("download", NAME, "ann") == ""
    assert page.press("verify", "small", "ann") == ""
    page.press("stop", "small", "ann")
    assert refused in page.press("pause", NAME, "ann")
    page.press("cancel", NAME, "ann")
    assert refused in page.press("discard", NAME, "ann")
    assert service.downloads.of(NAME).state in ("waiting", "coming")
    assert refused in page.press("remove", "small", "ann")
    page.press("cancel", NAME, "admin")
    hub.file_stalls_after = None
    assert page.press("discard", NAME, "admin") == ""
    assert service.downloads.of(NAME) is None


def test_a_press_for_what_is_no_model_does_nothing(page: Pressing, service: JobService) -> None:
    for act, name in (("download", "owner/any"), ("remove", "/etc"), ("verify", None), (None, NAME), ("x", NAME)):
        assert page.press(act, name) == ""
    assert (service.downloads.all(), page.question) == ([], None)


def test_a_model_in_another_place_says_where_and_stays(service: JobService, settings: Settings, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    make_checkpoint(theirs / "other", SPECS["svd"])
    page = Pressing(service, replace(settings, model_folders=(theirs,)))
    assert f"On this computer, in {theirs / 'other'}" in page.row("other")
    assert acts(page.row("other")) == ["verify"]
    assert "is not a model's folder" in page.press("remove", "other")


def test_a_card_downloads_beside_choosing(service: JobService) -> None:
    found = service.outlooks()
    (one,) = (one for one in found if one.entry.name == NAME)
    html = model_cards([one], "nano", "en")
    assert f'data-get="{NAME}"' in html
    coming = model_cards([one], "nano", "en", [download(hub_id=REPO, title="I2VGen-XL")])
    assert "data-get" not in coming
    assert "Downloading · 2.00 GiB of 8.00 GiB" in unescape(coming)
    elsewhere = model_cards([one], "nano", "en", [replace(download(hub_id=REPO), elsewhere=True)])
    assert "data-get" not in elsewhere
    assert "Another program" in elsewhere
    assert "under System" not in elsewhere
    failed = model_cards([one], "nano", "en", [download("failed", hub_id=REPO)])
    assert re.search(f'data-get="{NAME}"[^>]*>Try again<', failed)
    here = replace(one, entry=replace(one.entry, present=True))
    assert "data-get" not in model_cards([here], "nano", "en")


# --- a model that the list does not have ---

OTHER, OTHER_ID = "maker/own.model-1", "maker--own.model-1"


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (" maker/own ", "maker/own"),
        ("nano", "nano"),
        ("https://huggingface.co/maker/own", "maker/own"),
        ("https://huggingface.co/maker/own/tree/main?not-for-all-audiences=true", "maker/own"),
        ("https://mirror.example/maker/o%77n/blob/main/model_index.json", "maker/own"),
    ],
)
def test_a_model_is_named_by_its_id_or_its_address(typed: str, name: str) -> None:
    assert model_named(typed) == name


@pytest.mark.parametrize("typed", ["", "  ", None, 3, "https://huggingface.co/"])
def test_nothing_names_no_model(typed: Any) -> None:
    with pytest.raises(UserError) as told:
        model_named(typed)
    assert told.value.message.id == "ui.model_by_id_empty"


def test_any_model_of_a_known_family_is_fetched_by_its_id(
    page: Pressing, hub: Hub, service: JobService, settings: Settings
) -> None:
    hub.repos[OTHER] = hub.repos[REPO]
    hub.file_stalls_after = 1000  # of the weights: the index is smaller
    assert "is in the list of downloads now" in page.fetch(OTHER)
    wait_until(lambda: "Downloading" in page.row(OTHER_ID))
    assert acts(page.row(OTHER_ID)) == ["pause", "cancel"]
    page.press("pause", OTHER_ID)
    hub.file_stalls_after = None
    assert "admin" in page.fetch(OTHER, "ann")  # it was laid down by whoever may
    page.fetch(f"{hub.url}/{OTHER}")
    wait_until(lambda: "On this computer" in page.row(OTHER_ID))
    assert kind_of(settings.models_dir / OTHER_ID).whole
    assert "is on this computer" in page.fetch(OTHER)
    assert [one.hub_id for one in service.downloads.all()] == [OTHER]


def test_what_cannot_be_fetched_says_what_the_command_line_says(
    page: Pressing, hub: Hub, service: JobService, settings: Settings, tmp_path: Path
) -> None:
    strange = tmp_path / "hub" / "strange"
    strange.mkdir()
    (strange / "model_index.json").write_text('{"_class_name": "StrangePipeline"}')
    hub.repos["maker/strange"] = strange

    def same(typed: str) -> str:
        with pytest.raises(UserError) as told:
            find_model(typed, settings)
        said = told.value.message
        assert said.render("en") in page.fetch(typed)
        return said.id

    assert same("maker/strange") == "models.unknown_class"
    assert same("no such id") == "models.unknown"
    assert same("maker/nothing") == "models.not_on_hub"
    hub.status, hub.error_code = 403, "GatedRepo"
    assert same("maker/gated") == "models.gated"
    assert "hf auth login" in page.fetch("maker/gated")
    assert f"{hub.url}/maker/gated" in page.fetch("maker/gated")
    hub.status = hub.error_code = None
    assert message("ui.guest_only_looks").render("en") in page.fetch(REPO, "guest")
    assert service.downloads.all() == []


# --- looking through models ---


def test_models_are_looked_through_one_after_the_other_and_forgotten_ones_are_not(tmp_path: Path) -> None:
    folders = [make_checkpoint(tmp_path / name, SPEC) for name in ("a", "b", "c")]
    going, looked = threading.Semaphore(0), []

    def tensors(checked: Any) -> Any:
        looked.append(checked.kind.folder.name)
        assert going.acquire(timeout=20)
        return checked

    checks = ModelChecks(kind_of, tensors)
    for folder in folders:
        checks.start(folder)
    wait_until(lambda: looked == ["a"])
    assert [checks.of(folder).state for folder in folders] == ["comparing", "waiting", "waiting"]
    checks.forget(folders[1])
    checks.forget(folders[0])
    checks.start(folders[0])  # anew, behind the others
    for _ in range(3):
        going.release()
    wait_until(lambda: looked == ["a", "c", "a"], 20)
    wait_until(lambda: checks.of(folders[0]).state == "done")
    assert checks.of(folders[1]) is None
    assert all(checks.of(folder).checked.well for folder in (folders[0], folders[2]))


def test_looking_that_breaks_is_told_and_the_next_is_looked_through(tmp_path: Path) -> None:
    good = make_checkpoint(tmp_path / "good", SPEC)

    def kind(folder: Path) -> Any:
        if folder != good:
            raise RuntimeError("no")
        return kind_of(folder)

    checks = ModelChecks(kind, lambda checked: checked)
    checks.start(tmp_path / "bad")
    checks.start(good)
    wait_until(lambda: (one := checks.of(good)) is not None and one.state == "done")
    assert checks.of(good).checked.well
    assert not checks.of(tmp_path / "bad").checked.well
    assert "RuntimeError: no" in checks.of(tmp_path / "bad").checked.findings[0].told.render("en")


def test_a_folder_that_went_is_told(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "a", SPEC)
    shutil.rmtree(folder)
    checks = ModelChecks(kind_of, lambda checked: checked)
    checks.start(folder)
    wait_until(lambda: checks.of(folder).state == "done")
    assert not checks.of(folder).checked.well
