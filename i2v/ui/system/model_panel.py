"""The models of the System tab: what is on this computer, what can be fetched, how far it is, and what a press of a
button does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.cli.off_disk import jobs_with, meaning, needed_by
from i2v.families import SPECS
from i2v.hardware.host import disk_free
from i2v.messages import UserError, message
from i2v.models.catalogue import list_models
from i2v.models.entry import ModelEntry
from i2v.models.kinds import kind_of
from i2v.models.places import PlaceKind, place_of, places_of
from i2v.models.removal import removal_of, remove
from i2v.ui.api import unexpected
from i2v.ui.gate.own import OwnJobs
from i2v.ui.gate.own_downloads import OwnDownloads
from i2v.ui.shown import panels
from i2v.ui.shown.download import Coming, coming_of, under_way
from i2v.ui.shown.format import gib
from i2v.ui.system.checks import ModelChecks
from i2v.ui.system.model_rows import ModelQuestion, ModelRow, Room, Standing, model_list
from i2v.ui.tabs import CHOOSE, LANGUAGE, QUIET
from i2v.ui.texts import known
from i2v.units import amount

if TYPE_CHECKING:
    from i2v.downloads.state import Download
    from i2v.jobs.service import JobService
    from i2v.messages import Message
    from i2v.settings.settings import Settings

_CHECKING = "looking through a model"
_REMOVING = "removing a model"


@dataclass(frozen=True)
class ModelsShown:
    """What the last look sent, so that the next sends only what is new. `present`: the names of the models that are
    here, a line for each."""

    html: str = ""
    present: str | None = None


@dataclass(frozen=True)
class _ServiceJobs:
    """The service's jobs, as far as removing a model asks after them."""

    service: JobService

    def listed(self, limit: int) -> list[dict[str, Any]]:
        jobs = self.service.jobs(limit=limit)
        return [{"id": job.id, "model": job.request.model, "state": job.state} for job in jobs]

    def folder(self, job_id: str) -> Path:
        return self.service.status(job_id).folder


class ModelPanel:
    """Components and callbacks of the models, laid out where it is made. `came` changes when a model has come or gone:
    what depends on that follows. `looking` is the event that draws them anew."""

    def __init__(
        self,
        service: JobService,
        settings: Settings,
        tab: gr.Tab,
        timer: gr.Timer,
        language: gr.Radio,
        came: gr.Textbox,
    ) -> None:
        self.service, self.settings = service, settings
        self.checks = ModelChecks(lambda folder: kind_of(folder, [place.folder for place in places_of(settings)]))
        self.shown = gr.State(ModelsShown())
        self.question = gr.State(None)
        self.told = gr.HTML("", elem_id="i2v-models-told")
        self.list = gr.HTML("", js_on_load=CHOOSE, elem_id="i2v-models")
        state = [self.shown, self.question, language]
        drawn = [self.shown, self.list, came]
        spoken = f"(shown, question) => [shown, question, {LANGUAGE}]"
        self.looking: dict[str, Any] = {"fn": self.look, "inputs": state, "outputs": drawn, "js": spoken, **QUIET}
        tab.select(**self.looking)
        timer.tick(self.look, state, drawn, **QUIET)
        language.change(self.translated, state, drawn, **QUIET)
        self.list.click(self.act, state, [self.question, self.told, *drawn], **QUIET)

    def look(self, shown: ModelsShown, question: ModelQuestion | None, locale: str) -> list[Any]:
        """The models as they are; what the browser has already is skipped."""
        rows, present = self._rows(question)
        latest = ModelsShown(model_list(rows, self._room(), known(locale)), present)
        return [
            gr.skip() if latest == shown else latest,
            gr.skip() if latest.html == shown.html else latest.html,
            gr.skip() if shown.present in (None, present) else f"models {present}",
        ]

    def translated(self, shown: ModelsShown, question: ModelQuestion | None, locale: str) -> list[Any]:
        """The same in another language, where it was ever looked at."""
        return self.look(shown, question, locale) if shown.html else [gr.skip()] * 3

    def act(
        self,
        request: gr.Request | None,
        shown: ModelsShown,
        question: ModelQuestion | None,
        locale: str,
        chosen: gr.EventData,
    ) -> list[Any]:
        """What a button says, done, or asked first."""
        act, name, told = getattr(chosen, "act", None), getattr(chosen, "id", None), ""
        asked: ModelQuestion | None = None
        try:
            if (entry := self._entry(name)) is not None:
                asked, said = self._do(request, str(act), entry, question)
                told = panels.note(said.render(known(locale)), calm=True) if said is not None else ""
        except UserError as error:
            told = panels.problem(error.message, known(locale))
        except Exception as error:
            told = panels.problem(unexpected(error, self.settings).message, known(locale))
        return [asked, told, *self.look(shown, asked, locale)]

    # --- what buttons do ---

    def _do(
        self, request: gr.Request | None, act: str, entry: ModelEntry, question: ModelQuestion | None
    ) -> tuple[ModelQuestion | None, Message | None]:
        """The question to put before it is done, and what to tell. Raises UserError."""
        jobs, downloads = OwnJobs.of(self.service, request), OwnDownloads.of(self.service, request)
        agreed = question.asked if question is not None and question.name == entry.name else None
        coming = self._download(entry)
        if act == "download":
            self.checks.forget(entry.folder)
            downloads.add(entry.name)
        elif act in ("pause", "resume") and coming is not None:
            (downloads.pause if act == "pause" else downloads.resume)(coming.id)
        elif act == "cancel" and coming is not None:
            return ModelQuestion(entry.name, "cancel", (_cancel_means(coming),)), None
        elif act == "discard" and coming is not None and agreed == "cancel":
            downloads.cancel(coming.id)
        elif act == "verify" and entry.folder is not None:
            jobs.no_guest(_CHECKING)
            self.checks.start(entry.folder)
        elif act == "stop":
            jobs.no_guest(_CHECKING)
            self.checks.forget(entry.folder)
        elif act == "remove":
            jobs.everybodys(_REMOVING)
            return ModelQuestion(entry.name, "remove", tuple(self._removal_means(entry))), None
        elif act in ("bin", "delete") and agreed == "remove":
            jobs.everybodys(_REMOVING)
            return None, self._remove(entry, keep=act == "bin")
        return None, None

    def _removal_means(self, entry: ModelEntry) -> Iterator[Message]:
        """What removing the model would mean. Raises UserError where that cannot be."""
        removal = removal_of(self._removable(entry), self.settings)
        needed = needed_by(removal, _ServiceJobs(self.service), self.settings)
        goes, *needing = meaning(removal, needed, keep=False)
        size = amount(removal.size_bytes)
        yield goes if removal.is_link else message("ui.model_remove_means", folder=str(removal.top), size=size)
        yield from needing

    def _remove(self, entry: ModelEntry, *, keep: bool) -> Message:
        """Take the model away, and say so. Raises UserError where a job has begun with it in the meantime."""
        removal = removal_of(self._removable(entry), self.settings)
        jobs_with(removal, _ServiceJobs(self.service))
        self.checks.forget(entry.folder)
        place = remove(removal, keep=keep)
        said = "cli.model_binned" if place else "cli.model_removed"
        return message(said, folder=str(removal.top), place=str(place))

    def _removable(self, entry: ModelEntry) -> Path:
        """The folder of a model that may go. Raises UserError while it is coming."""
        if entry.folder is None or self._download(entry) is not None:
            raise UserError("models.remove_coming", folder=str(entry.folder))
        return entry.folder

    # --- what there is ---

    def _rows(self, question: ModelQuestion | None) -> tuple[list[ModelRow], str]:
        entries = list_models(self.settings)
        coming = under_way(self.service)
        free = disk_free(self.settings.models_dir)
        rows = [self._row(entry, coming, free, question) for entry in entries]
        return rows, "\n".join(sorted(row.name for row in rows if row.standing == "here"))

    def _row(
        self, entry: ModelEntry, coming: Sequence[Coming], free_bytes: int, question: ModelQuestion | None
    ) -> ModelRow:
        place = place_of(entry.folder, self.settings) if entry.folder is not None else None
        there = entry.folder is not None and entry.folder.is_dir()
        its_own = coming_of(entry, coming)
        standing, state = _state(entry, place and place.kind, free_bytes, its_own and its_own.download, there=there)
        return ModelRow(
            name=entry.name,
            title=entry.title,
            standing=standing,
            state=state,
            licence=SPECS[entry.family].licence,
            coming=its_own,
            check=self.checks.of(entry.folder),
            removable=there and place is not None and place.kind == "models",
            question=question if question is not None and question.name == entry.name else None,
        )

    def _room(self) -> Room:
        left = [one.download.missing_bytes for one in under_way(self.service)]
        folder = self.settings.models_dir
        return Room(str(folder), disk_free(folder), len(left), sum(left))

    def _download(self, entry: ModelEntry) -> Download | None:
        """The one that brings a model; None where none does."""
        its_own = coming_of(entry, under_way(self.service))
        return its_own.download if its_own is not None else None

    def _entry(self, name: object) -> ModelEntry | None:
        return next((one for one in list_models(self.settings) if one.name == name), None)


def _state(
    entry: ModelEntry, place: PlaceKind | None, free_bytes: int, download: Download | None, *, there: bool
) -> tuple[Standing, Message]:
    """How a model stands, in a word and in a sentence. `there`: its folder is. One that has come is looked through
    before its download is done."""
    if entry.present and download is None:
        size = amount(entry.size_bytes, up=True)
        return "here", message(f"ui.model_here_{place or 'folder'}", size=size, folder=str(entry.folder))
    if download is None and entry.problem is not None and (there or entry.hub_id is None):
        return "missing" if entry.hub_id else "damaged", entry.problem
    needed = download.missing_bytes if download is not None else entry.size_bytes
    if not needed:
        return "missing", message("ui.model_missing_unknown")
    word: Standing = "missing" if needed <= free_bytes else "short"
    return word, message(f"ui.model_{word}", gib=gib(needed), free=gib(free_bytes))


def _cancel_means(download: Download) -> Message:
    """What goes with a download that is cancelled."""
    return message("ui.model_cancel_means", title=download.title, done=amount(download.done_bytes))
