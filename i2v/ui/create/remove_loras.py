"""A LoRA leaves the shelf: asked about first, with the jobs that need it, and never while one is at work with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.jobs.asked.adapters import parted
from i2v.jobs.job.again import kept_step
from i2v.jobs.job.states import AT_WORK, LIVE
from i2v.messages import Message, UserError, message
from i2v.models.adapters import adapters_for
from i2v.models.lora_places import is_adapter, lora_folders
from i2v.models.lora_removal import own_lora, remove_lora
from i2v.ui.api import unexpected
from i2v.ui.create.choices import loras_for_model
from i2v.ui.create.choose_loras import rows_for
from i2v.ui.create.lora_rows import LoraQuestion
from i2v.ui.gate.own import OwnJobs
from i2v.ui.shown import panels
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known
from i2v.units import amount

if TYPE_CHECKING:
    from i2v.jobs.service import JobService
    from i2v.settings.settings import Settings
    from i2v.ui.create.form import Form

_ACT = "removing a LoRA"
_ACTS = ("remove", "keep", "erase")
_SHOWN = 10  # jobs in a sentence
_SPOKEN = f"(_, model, ...rest) => {{ window.i2vLorasToldFor = model; return [{LANGUAGE}, model, ...rest]; }}"


def connect_removing(form: Form, service: JobService, settings: Settings, language: gr.Radio) -> None:
    """Let the buttons of the rows ask, and delete."""
    shelf, model, field = form.shelf, form.fields["model"], form.fields["lora"]

    def pressed(
        request: gr.Request | None, locale: str, name: Any, loras: Any, kept: Any, asked: Any, event: gr.EventData
    ) -> list[Any]:
        act, lora, locale = getattr(event, "act", None), getattr(event, "id", None), known(locale)
        if act not in _ACTS or not isinstance(lora, str):
            return [gr.skip()] * 5
        own, question, told, chosen = OwnJobs.of(service, request), None, "", [gr.skip()] * 2
        try:
            if act == "remove":
                question = asked_about(own, lora, service, settings)
            elif act == "erase" and asked == lora:
                files = {one.name for one in adapters_for(settings)}
                told = panels.note(erased(own, lora, service, settings).render(locale), calm=True)
                left = without(loras, lora, files)
                offered = loras_for_model(name, settings)
                chosen = [gr.update(choices=offered, value=left), kept_without(kept, lora, files)]
        except UserError as error:
            told = panels.problem(error.message, locale)
        except Exception as error:
            told = panels.problem(unexpected(error, settings).message, locale)
        return [question and question.name, told, rows_for(name, settings, locale, question), *chosen]

    asked_before = gr.State(None)
    shelf.rows.click(
        pressed,
        [language, model, field, shelf.kept, asked_before],
        [asked_before, shelf.told, shelf.rows, field, shelf.kept],
        js=_SPOKEN,
        **QUIET,
    )


def asked_about(own: OwnJobs, name: str, service: JobService, settings: Settings) -> LoraQuestion:
    """What deleting the LoRA would mean. Raises UserError where that may not be."""
    own.everybodys(_ACT)
    file = own_lora(name, settings.models_dir)
    goes = message("ui.lora_erase_means", name=name, size=amount(file.stat().st_size, up=True))
    return LoraQuestion(name, (goes, *_needing(file, service, settings)))


def erased(own: OwnJobs, name: str, service: JobService, settings: Settings) -> Message:
    """Delete the LoRA, and say so. Raises UserError as `asked_about` does; a job may have begun since."""
    own.everybodys(_ACT)
    file = own_lora(name, settings.models_dir)
    list(_needing(file, service, settings))
    remove_lora(file)
    return message("ui.lora_erased", name=name)


def _needing(file: Path, service: JobService, settings: Settings) -> Iterator[Message]:
    """What is told of the jobs that need the LoRA: those that wait or were laid down, and those that ended early and
    can go on. Raises UserError where one is at work with it."""
    waiting, early = [], []
    elsewhere = lora_folders(settings.model_folders)
    for job in service.jobs():
        named = (is_adapter(one.source, settings.models_dir, elsewhere) for one in job.request.adapters)
        if os.path.abspath(file) not in map(str, named):
            continue
        if job.state in AT_WORK:
            raise UserError("ui.lora_at_work", name=file.stem, job=job.id)
        if job.state in LIVE:
            waiting.append(job.id)
        elif job.state in ("failed", "cancelled") and kept_step(job.folder) is not None:
            early.append(job.id)
    if waiting:
        yield message("cli.remove_needed_waiting", count=len(waiting), names=_listed(waiting))
    if early:
        yield message("ui.lora_needed_early", count=len(early), names=_listed(early))


def _listed(jobs: Sequence[str]) -> str:
    return ", ".join(jobs[:_SHOWN]) + (" …" if len(jobs) > _SHOWN else "")


def without(loras: Any, name: str, files: set[str]) -> list[str]:
    """What is typed in the field, but for the LoRA that has gone. `files`: the names of those that were there."""
    typed = [one for one in loras if isinstance(one, str)] if isinstance(loras, Sequence) else []
    return [one for one in typed if parted(one, files.__contains__)[0] != name]


def kept_without(kept: Any, name: str, files: set[str]) -> dict[str, list[str]]:
    """The same of what the browser keeps for each model."""
    return {model: without(loras, name, files) for model, loras in kept.items()} if isinstance(kept, Mapping) else {}
