"""The named endpoints for any client: /submit, /status, /list, /attach, /result, /cancel, /pause, /resume, /retry,
/redecode, /extend, /export, /steadiness, /loras. They know one's own jobs only. A refusal reaches the client as one
readable sentence, under its message's id as the title.

Gradio reads their type hints as they stand, so this module does without postponed annotations.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import wraps
from inspect import isasyncgenfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio
import gradio as gr
from gradio.utils import get_upload_folder

from i2v.events import FINAL_STATES, Event, to_json
from i2v.jobs.asked.between import pictures_at
from i2v.jobs.job.steadiness import told_with_steadiness
from i2v.messages import DEFAULT_LOCALE, UserError
from i2v.models.catalogue import find_model
from i2v.models.lora_list import list_loras
from i2v.settings.settings import Settings
from i2v.settings.values import Whole
from i2v.ui.gate.own import OwnJobs

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
SIGN_OF_LIFE_SECONDS = 10.0
_MOST_LISTED = 10_000


def add_endpoints(service: "JobService", settings: Settings) -> None:
    """Offer the endpoints in the current Blocks."""
    locale = settings.language if settings.language != "auto" else DEFAULT_LOCALE
    kept = settings

    def submit(picture: dict | None, settings: dict, request: gr.Request) -> str:
        """Queue a video of an uploaded picture, of an uploaded video (`video` in `settings`), or of neither, as the
        model can. `last_image` in `settings` is an uploaded picture that the video ends with, `image_at` has
        uploaded pictures by the frames between that they become. `settings` has the
        command line's keys (prompt, model, width, height, frames, fps, steps, guidance, seed, task, strength, way,
        deflicker, interpolate, upscale, ...); what is left out is chosen for you. `region` is what should move: a grey
        PNG of the picture's shape in base64, at most 256 pixels long. Returns the job's id."""
        values = dict(_object(settings))
        clip = uploaded_path(values.pop("video", None), "video")
        last = uploaded_path(values.pop("last_image", None))
        between = {frame: uploaded_path(file) for frame, file in _object(values.pop("image_at", None) or {}).items()}
        return OwnJobs.of(service, request).submit(
            values, uploaded_path(picture), clip=clip, last_picture=last, pictures_at=pictures_at(between)
        )

    def status(id: str, request: gr.Request) -> dict:
        """Where a job stands: id, state, phase, step, steps, seconds_left, error, worker_pid, position, starts_in,
        waits_for, resumed_from_step, healed, steadiness, and more."""
        return told_with_steadiness(OwnJobs.of(service, request).status(id))

    def listed(request: gr.Request, limit: int = 100) -> list:
        """Your newest `limit` jobs, oldest first, each as /status tells it."""
        limit = Whole(1, _MOST_LISTED).parse(limit, "limit")
        return [told_with_steadiness(job) for job in OwnJobs.of(service, request).jobs(limit)]

    async def attach(id: str, request: gr.Request, after: int = -1) -> AsyncIterator[list]:
        """A job's events with a `seq` above `after`, as in events.jsonl but with `file` for `path`: those so far in
        one list, then a list whenever there are more, to the final state. An empty list only keeps the line open."""
        after = Whole(-1, 2**31).parse(after, "after")
        await anyio.to_thread.run_sync(OwnJobs.of(service, request).known, id)
        async with aclosing(follow(service, id, after)) as batches:
            async for batch in batches:
                yield batch

    def result(id: str, request: gr.Request) -> dict:
        """The finished video as a file."""
        path = OwnJobs.of(service, request).result(id)
        return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def cancel(id: str, request: gr.Request) -> bool:
        """Stop a job after its current step. False if it had already ended."""
        return OwnJobs.of(service, request).cancel(id)

    def pause(id: str, request: gr.Request) -> bool:
        """Lay a job down after its current step; what it has done is kept. False if it had ended or is paused."""
        return OwnJobs.of(service, request).pause(id)

    def resume(id: str, request: gr.Request) -> bool:
        """Let a paused job wait for its turn again. False if it is not paused."""
        return OwnJobs.of(service, request).resume(id)

    def retry(id: str, settings: dict | None, request: gr.Request) -> str:
        """Do a job again with `settings` changed, and go on from what it had finished where that is still of use.
        Returns the new job's id."""
        return OwnJobs.of(service, request).retry(id, _object(settings or {}))

    def redecode(id: str, settings: dict | None, request: gr.Request) -> str:
        """Make another video of the latents that a job has kept; `settings` may change fps, decode_frames, decode_rows,
        vae_window, deflicker, match_colours, interpolate (1, 2, 4) and upscale (1, 2). Returns the new job's id."""
        return OwnJobs.of(service, request).redecode(id, _object(settings or {}))

    def extend(id: str, settings: dict | None, request: gr.Request) -> str:
        """Make a video that shows a finished one and goes on from its last frame; `settings` may say for how many
        seconds. Returns the new job's id."""
        return OwnJobs.of(service, request).extend(id, _object(settings or {}))

    def export(id: str, settings: dict | None, request: gr.Request) -> dict:
        """A finished video as another file; nothing is generated again. `settings` may say format (mp4, webm, gif,
        webp), fps, quality (small, good, best), brightness, contrast, saturation and warmth."""
        path = OwnJobs.of(service, request).export(id, _object(settings or {}))
        return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def steadiness(id: str, request: gr.Request) -> dict:
        """How steady a finished video is: flicker, drift (of the colours, in CIE Lab), warping_error, cuts, motion,
        findings in a word each, and lists with a value for each of its frames. A video that was not measured when it
        was made is measured now, in seconds."""
        return OwnJobs.of(service, request).steadiness(id).to_json()

    def loras(request: gr.Request, model: str = "") -> list:
        """The LoRAs on the shelf, each by its name: size_bytes, ranks (lowest and highest), title, base, trigger_words,
        licence, families that it may be for, refusal: why `model` (else the one chosen in the settings) does not take
        it, null where it does; and same_as: another one that has the same contents, else null."""
        entry = find_model(model or kept.model, replace(kept, offline=True))
        return [one.to_json(locale) for one in list_loras(kept, entry)]

    gr.api(readable(loras, locale, settings), api_name="loras", queue=False)
    for endpoint in (submit, status, result, cancel, pause, resume, retry, redecode, extend, export, steadiness):
        gr.api(readable(endpoint, locale, settings), api_name=endpoint.__name__, queue=False)
    gr.api(readable(listed, locale, settings), api_name="list", queue=False)
    # Any number may follow: a follower is a coroutine that sleeps, not a thread.
    gr.api(readable(attach, locale, settings), api_name="attach", concurrency_limit=None)


async def follow(service: "JobService", job_id: str, after: int) -> AsyncIterator[list[dict[str, Any]]]:
    """What /attach yields. Holds no thread between two looks. Raises UserError for an unknown id."""
    told = time.monotonic()
    while True:
        # Asked first: what comes between the two questions is in the answer to the second.
        state = (await anyio.to_thread.run_sync(service.status, job_id)).state
        events = await anyio.to_thread.run_sync(service.events, job_id, after)
        # Only in yielding is it seen that a follower has gone, so now and then something has to be said.
        if events or time.monotonic() - told > SIGN_OF_LIFE_SECONDS:
            told = time.monotonic()
            yield [{"seq": number, **_on_the_wire(event)} for number, event in events]
        after = events[-1][0] if events else after
        if state in FINAL_STATES:
            return
        await anyio.sleep(LOOK_SECONDS)


def _on_the_wire(event: Event) -> dict[str, Any]:
    """A client of Gradio's takes whatever has a `path` for a file, and fetches it unasked."""
    values = to_json(event)
    return {"file" if name == "path" else name: value for name, value in values.items()}


def _object(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise UserError("ui.settings_not_object", value=str(settings)[:80])
    return settings


def uploaded_path(file: Any, kind: Literal["picture", "video", "lora"] = "picture") -> Path | None:
    """The file behind Gradio's file data. Only what was uploaded counts: no path of this machine can be named."""
    if not file:
        return None
    given = file.get("path") if isinstance(file, dict) else None
    if not isinstance(given, str) or "\0" in given:
        raise UserError(f"ui.bad_{kind}_upload")
    path = Path(given).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise UserError(f"ui.bad_{kind}_upload")
    return path


def readable(function: Callable[..., Any], locale: str, settings: Settings) -> Callable[..., Any]:
    """`function`, which may be an async generator, with its refusals as sentences in `locale`; the unexpected goes to
    the log, its name to the client."""

    @contextmanager
    def in_words() -> Iterator[None]:
        try:
            yield
        except UserError as error:
            told = error.message
            raise gr.Error(told.render(locale), title=told.id, print_exception=False) from None
        except Exception as error:
            told = unexpected(error, settings).message
            raise gr.Error(told.render(locale), title=told.id, print_exception=False) from error

    @wraps(function)
    async def followed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with in_words():
            async with aclosing(function(*args, **kwargs)) as values:
                async for value in values:
                    yield value

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with in_words():
            return function(*args, **kwargs)

    return followed if isasyncgenfunction(function) else called


def unexpected(error: Exception, settings: Settings) -> UserError:
    """The words for a fault of ours; the traceback goes to the application's log."""
    log.exception("unexpected on the page")
    path = str(settings.logs_dir / "app.log")
    return UserError("ui.unexpected", problem=type(error).__name__, path=path)
