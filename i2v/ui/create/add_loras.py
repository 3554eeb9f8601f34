"""LoRAs that come to the shelf: files that were sent, and one that the hub has."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.adapters import AdapterFile
from i2v.models.download import Note
from i2v.models.fetch.fetch import Progress
from i2v.models.lora_hub import KEPT_DAYS, clear_old, fetch_lora
from i2v.models.lora_intake import LONGEST_NAME, take_in
from i2v.models.lora_list import list_loras, titles_of
from i2v.models.lora_places import FOLDER
from i2v.ui.api import unexpected, uploaded_path
from i2v.ui.create.choose_loras import rows_for
from i2v.ui.create.given import entry_named
from i2v.ui.gate.access import steers_all
from i2v.ui.gate.own import OwnJobs
from i2v.ui.shown import panels
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text
from i2v.units import amount

if TYPE_CHECKING:
    from i2v.jobs.service import JobService
    from i2v.settings.settings import Settings
    from i2v.ui.create.form import Form

LOOK_SECONDS = 0.5
_ACT = "a LoRA for the shelf"
_STILL_TOLD = "(model, told) => (window.i2vLorasToldFor === model ? told : '')"


def connect_adding(form: Form, service: JobService, settings: Settings, language: gr.Radio) -> None:
    """Let files that are sent, and the one that is asked of the hub, come to the shelf, which is drawn anew."""
    shelf, model = form.shelf, form.fields["model"]
    outputs = [shelf.told, shelf.rows, shelf.opened]
    fetches = Fetches()
    clear_old(settings.models_dir)  # at the start of the app too: nobody may ever fetch one again

    def sent(request: gr.Request | None, locale: str, files: Any, name: Any) -> list[Any]:
        told = taken(OwnJobs.of(service, request), files, name, settings, known(locale))
        return [told, rows_for(name, settings, known(locale)), True]

    def fetched(request: gr.Request | None, locale: str, typed: Any, name: Any) -> Iterator[list[Any]]:
        own, language_now = OwnJobs.of(service, request), known(locale)
        with fetches.of(request) as stopped:
            for told in fetching(own, typed, name, settings, language_now, stopped):
                yield [told, gr.skip(), gr.skip(), gr.update(visible=True)]
        yield [gr.skip(), rows_for(name, settings, language_now), True, gr.update(visible="hidden")]

    def stop(request: gr.Request | None) -> None:
        fetches.stop(request)

    js = f"(_, what, model) => {{ window.i2vLorasToldFor = model; return [{LANGUAGE}, what, model]; }}"
    shelf.add.upload(sent, [language, shelf.add, model], outputs, js=js, **{**QUIET, "preprocess": False})
    # In the queue, since only from there can an answer come in parts.
    parts: dict[str, Any] = {**QUIET, "queue": True, "preprocess": False, "concurrency_limit": 2}
    asked = [language, shelf.hub, model]
    gr.on([shelf.fetch.click, shelf.hub.submit], fetched, asked, [*outputs, shelf.stop], js=js, **parts)
    shelf.stop.click(stop, **QUIET)

    def large(locale: str, _told: Any, _model: Any, event: gr.EventData) -> Any:
        if getattr(event, "act", None) != "large":
            return gr.skip()
        return too_large(getattr(event, "id", None), getattr(event, "bytes", None), settings, known(locale))

    shelf.rows.click(large, [language, shelf.told, model], shelf.told, js=js, **QUIET)
    # What was said of a file was said to who had another model chosen; while one comes, it is said again in a moment.
    model.change(None, [model, shelf.told], shelf.told, js=_STILL_TOLD, **QUIET)


class Fetches:
    """What stops the fetches of each open page."""

    def __init__(self) -> None:
        self._stops: dict[str, list[threading.Event]] = {}
        self._changing = threading.Lock()

    @contextmanager
    def of(self, request: gr.Request | None) -> Iterator[threading.Event]:
        """The event that is set when somebody on the page of `request` wants no more of this fetch."""
        page, stopped = _page_of(request), threading.Event()
        with self._changing:
            self._stops.setdefault(page, []).append(stopped)
        try:
            yield stopped
        finally:
            with self._changing:
                self._stops[page].remove(stopped)
                if not self._stops[page]:
                    del self._stops[page]

    def stop(self, request: gr.Request | None) -> None:
        """Stop what the page of `request` fetches now."""
        with self._changing:
            for stopped in self._stops.get(_page_of(request), ()):
                stopped.set()


class _Stopped(Exception):
    """Nobody wants the rest."""


def _page_of(request: gr.Request | None) -> str:
    return str(getattr(request, "session_hash", None) or "")


def taken(own: OwnJobs, files: Any, model: Any, settings: Settings, locale: str) -> str:
    """What is told of the uploaded `files`, each put on the shelf or refused, to somebody who has this `model`
    chosen."""
    names, refusals = [], []
    for file in files if isinstance(files, Sequence) and not isinstance(files, str) else [files]:
        try:
            names.append(take_upload(own, file, settings))
        except UserError as error:
            refusals.append(error.message)
        except Exception as error:
            refusals.append(unexpected(error, settings).message)
    return _told(names, refusals, model, settings, locale)


def too_large(name: Any, size_bytes: Any, settings: Settings, locale: str) -> str:
    """What is told of a file that is larger than the page takes, which was not sent."""
    size = amount(size_bytes, up=True) if isinstance(size_bytes, int) else "?"
    limit = amount(settings.max_upload_mb * 2**20)
    folder = str(settings.models_dir / FOLDER)
    told = message("ui.lora_large", file=str(name)[:LONGEST_NAME], size=size, limit=limit, folder=folder)
    return panels.problem(told, locale)


def take_upload(own: OwnJobs, file: Any, settings: Settings) -> str:
    """What the uploaded LoRA behind Gradio's data is called on the shelf. Raises UserError."""
    own.no_guest(_ACT)
    path = uploaded_path(file, "lora")
    if path is None or not path.is_file():
        raise UserError("ui.bad_lora_upload")
    name = take_in(path, str(file.get("orig_name") or path.name), settings.models_dir)
    with suppress(OSError):  # it lies on the shelf now, and may be large
        path.unlink()
    return name


def fetching(
    own: OwnJobs, typed: Any, model: Any, settings: Settings, locale: str, stopped: threading.Event
) -> Iterator[str]:
    """What is told while the hub is asked for the LoRA that was `typed`, and after it, until it is `stopped`."""
    done: list[int] = [0, 0]
    notes: list[Message] = []
    names: list[str] = []
    refusals: list[Message] = []

    def progress(done_bytes: int, total_bytes: int) -> None:
        done[:] = done_bytes, total_bytes
        if stopped.is_set():
            raise _Stopped

    def fetch() -> None:
        try:
            names.append(fetch_asked(own, typed, settings, progress, notes.append))
        except _Stopped:
            pass
        except UserError as error:
            refusals.append(error.message)
        except Exception as error:
            refusals.append(unexpected(error, settings).message)

    running = threading.Thread(target=fetch, name="lora", daemon=True)
    running.start()
    last = ""
    while running.is_alive() and not stopped.is_set():
        so_far, total = done
        told = text("lora_looking", locale)
        if total:
            told = text("lora_fetching", locale, done=amount(so_far), total=amount(total, up=True))
        said = "".join(panels.note(one.render(locale)) for one in notes[-1:]) + panels.note(told, calm=True)
        if said != last:
            last = said
            yield said
        running.join(LOOK_SECONDS)
    if stopped.is_set() and not names:
        yield panels.note(text("lora_stopped", locale, days=KEPT_DAYS), calm=True)
    else:
        yield _told(names, refusals, model, settings, locale)


def fetch_asked(
    own: OwnJobs,
    typed: Any,
    settings: Settings,
    progress: Progress = lambda *_: None,
    note: Note = lambda _note: None,
) -> str:
    """What the LoRA that was `typed` is called on the shelf, once the hub has given it. Where others log in, only who
    steers everything has this computer fetch what it is told. Raises UserError."""
    own.no_guest(_ACT)
    if settings.listed_models_only and not steers_all(own.who):
        raise UserError("ui.lora_hub_not_here")
    return fetch_lora(
        typed if isinstance(typed, str) else "", settings.models_dir, endpoint=settings.hf_endpoint,
        offline=settings.offline, on_progress=progress, on_note=note,
    )  # fmt: skip


def _told(names: Sequence[str], refusals: Sequence[Message], model: Any, settings: Settings, locale: str) -> str:
    """What became of each file, and what to do with it now."""
    said = [panels.problem(one, locale) for one in refusals]
    entry = entry_named(model, settings)
    others = {one.file.name: one.file for one in list_loras(settings, entry) if entry and one.refusal is not None}
    if fits := [name for name in names if name not in others]:
        said.append(panels.note(message("ui.lora_added", names=", ".join(fits)).render(locale), calm=True))
    for name in names:
        if entry is not None and name in others:
            told = _added_for(others[name], SPECS[entry.family])
            said.append(panels.note(told.render(locale)))
    return "".join(said)


def _added_for(file: AdapterFile, spec: FamilySpec) -> Message:
    """A file came that the chosen model, one of `spec`, does not take."""
    if spec.name in file.families:
        return message("ui.lora_added_size", name=file.name, title=spec.title)
    return message("ui.lora_added_for", name=file.name, title=spec.title, titles=", ".join(titles_of(file)))
