"""The seed's two buttons: draw another one, or take the last job's again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.messages import UserError
from i2v.ui.create.form import SEED_LIMIT, Form
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.jobs.service import JobService


def connect_seed(form: Form, service: JobService, job_id: gr.BrowserState, language: gr.Radio, page: gr.Blocks) -> None:
    """Let the buttons write the seed; the one that takes it again follows the job that the page shows."""
    seed = form.fields["seed"]

    def offered(shown: str, locale: str) -> Any:
        number = seed_of(service, shown)
        if number is None:
            return gr.update(visible=False)
        return gr.update(visible=True, value=text("reuse_seed", known(locale), seed=number))

    form.dice.click(lambda: random.randrange(SEED_LIMIT), None, seed, **QUIET)
    form.reuse.click(lambda shown: seed_of(service, shown) or gr.skip(), job_id, seed, **QUIET)
    changes = [page.load, job_id.change, language.change]
    gr.on(changes, offered, [job_id, language], form.reuse, js=f"(id) => [id, {LANGUAGE}]", **QUIET)


def seed_of(service: JobService, job_id: str) -> str | None:
    """The seed of a job, as the form has it; None where there is no such job."""
    try:
        return str(service.status(job_id).request.seed)
    except UserError:
        return None
