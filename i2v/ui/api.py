"""The named endpoints for any client: /submit, /status, /result, /cancel.

Gradio reads their type hints as they stand, so this module does without postponed annotations.
"""

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from i2v.messages import DEFAULT_LOCALE, UserError
from i2v.settings import Settings

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

log = logging.getLogger(__name__)


def add_endpoints(service: "JobService", settings: Settings) -> None:
    """Offer the endpoints in the current Blocks. A refusal reaches the client as one readable sentence."""
    locale = settings.language if settings.language != "auto" else DEFAULT_LOCALE

    def submit(picture: dict | None, settings: dict) -> str:
        """Queue a video of an uploaded picture. `settings` has the command line's keys (prompt, model, width,
        height, frames, fps, steps, guidance, seed, ...); what is left out is chosen for you. Returns the job's id."""
        if not isinstance(settings, dict):
            raise UserError("ui.settings_not_object", value=str(settings)[:80])
        return service.submit(settings, uploaded_path(picture))

    def status(id: str) -> dict:
        """Where a job stands: id, state, phase, step, steps, seconds_left, error, worker_pid."""
        return service.status(id).to_json()

    def result(id: str) -> dict:
        """The finished video as a file."""
        path = service.result(id)
        return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def cancel(id: str) -> bool:
        """Stop a job after its current step. False if it had already ended."""
        return service.cancel(id)

    for endpoint in (submit, status, result, cancel):
        gr.api(readable(endpoint, locale, settings), api_name=endpoint.__name__, queue=False)


def uploaded_path(picture: Any) -> Path | None:
    """The file behind Gradio's file data. Only what was uploaded counts: no path of this machine can be named."""
    if not picture:
        return None
    given = picture.get("path") if isinstance(picture, dict) else None
    if not isinstance(given, str) or "\0" in given:
        raise UserError("ui.bad_picture_upload")
    path = Path(given).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise UserError("ui.bad_picture_upload")
    return path


def readable(function: Callable[..., Any], locale: str, settings: Settings) -> Callable[..., Any]:
    """`function` with its refusals as sentences in `locale`; the unexpected goes to the log, its name to the client."""

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            raise gr.Error(error.message.render(locale), print_exception=False) from None
        except Exception as error:
            raise gr.Error(unexpected(error, settings).message.render(locale), print_exception=False) from error

    return called


def unexpected(error: Exception, settings: Settings) -> UserError:
    """The words for a fault of ours; the traceback goes to the application's log."""
    log.exception("unexpected on the page")
    path = str(settings.logs_dir / "app.log")
    return UserError("ui.unexpected", problem=type(error).__name__, path=path)
