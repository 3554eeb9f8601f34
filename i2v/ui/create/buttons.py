"""What can be asked of a job now, as buttons: their words and whether they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from i2v.jobs.job.again import kept_step, to_decode
from i2v.ui.shown.view import JobView
from i2v.ui.texts import text


def job_buttons(view: JobView, wish: str, folder: Path, locale: str) -> list[Any]:
    """Updates for cancel, pause, retry and redecode. `wish`: "cancel" or "pause" where that was asked for and has
    not happened yet. `folder` is the job's: what lies there says what can still be made of it."""
    if not view.progress.final:
        paused = view.progress.state == "paused"
        return [
            gr.update(interactive=wish != "cancel"),
            gr.update(visible=True, interactive=not wish, value=text("resume" if paused else "pause", locale)),
            *(gr.update(visible=False), gr.update(visible=False)),
        ]
    kept, done = to_decode(folder) is not None, view.progress.state == "done"
    return [
        gr.update(interactive=False),
        gr.update(visible=False),
        gr.update(visible=not done, value=_again(folder, kept, locale)),
        gr.update(visible=kept, value=text("redecode" if done else "redecode_draft", locale)),
    ]


def _again(folder: Path, kept: bool, locale: str) -> str:
    """What trying again comes to: from the start, from a step, or from finished latents."""
    if not kept:
        return text("retry", locale)
    step = kept_step(folder)
    return text("retry_kept_at", locale, step=step) if step else text("retry_kept", locale)


def no_job_buttons() -> list[Any]:
    """The same for a page without a job."""
    return [gr.update(interactive=False), *[gr.update(visible=False)] * 3]
