"""The service as one visitor may use it: whose a job is decides about every call, and about every file. A guest looks
on: what changes anything is refused."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
from gradio.routes import App, Request

from i2v.events import Event
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import AT_WORK, State
from i2v.jobs.job.training import TrainingSeen
from i2v.messages import UserError
from i2v.training.asked import WORK
from i2v.ui.gate.access import (
    ASGI,
    GUEST,
    LOCAL,
    Scope,
    client_of,
    may,
    may_see,
    owner_of,
    refuse,
    sees_all,
    steers_all,
    who_asks,
)
from i2v.ui.gate.intake import is_upload
from i2v.ui.shown.download_names import download_name
from i2v.video.steadiness import Steadiness
from i2v.video.steadiness_files import kept_summary

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

log = logging.getLogger(__name__)

Send = Callable[[Scope], Awaitable[None]]

_FILE = re.compile(r"/+gradio_api/+file[=/](.*)", re.DOTALL)


@dataclass(frozen=True)
class OwnJobs:
    """`service` for `who`. Another's job is as unknown as one that never was: every method raises the same UserError
    for both, beside what the service's own method of that name raises. Each refusal is logged."""

    service: JobService
    who: str
    address: str = ""

    @classmethod
    def of(cls, service: JobService, request: Request | None) -> OwnJobs:
        """The jobs of whoever sent `request`."""
        client = getattr(request, "client", None)
        return cls(service, owner_of(request), client.host if client else "")

    def known(self, job_id: str) -> str:
        """The id again, where the job may be seen; deleted ones too."""
        owner = self.service.owner(job_id)
        if not may_see(owner, self.who):
            self._log(f"{job_id}, which is {owner!r}'s")
            raise UserError("jobs.unknown", id=str(job_id))
        return job_id

    def steered(self, job_id: str) -> str:
        """The id again, where the job may be steered too."""
        if not may(self.service.owner(self.known(job_id)), self.who):
            self._log(f"a change of {job_id}")
            raise UserError("ui.guest_only_looks")
        return job_id

    def no_guest(self, act: str) -> None:
        """Raises UserError where a guest asks for `act`."""
        if self.who == GUEST:
            self._log(act)
            raise UserError("ui.guest_only_looks")

    def _log(self, act: str) -> None:
        log.warning("Refused: %r asked for %s (from %s)", self.who, act, self.address or "here")

    def submit(
        self,
        values: Mapping[str, Any],
        picture: Path | None,
        *,
        clip: Path | None = None,
        last_picture: Path | None = None,
        pictures_at: Mapping[int, Path] | None = None,
        stop_at: int | None = None,
    ) -> str:
        """The new job is of who asks for it."""
        self.no_guest("a new job")
        try:
            return self.service.submit(
                values,
                picture,
                self.who,
                clip=clip,
                last_picture=last_picture,
                pictures_at=pictures_at,
                stop_at=stop_at,
            )
        except UserError as error:
            self._log(f"a job that cannot be: {error.message.id}")
            raise

    def train(self, values: Mapping[str, Any], clips: Path | None = None) -> str:
        """As `submit`, a training on the uploaded `clips`, else on the folder that `values` name: files of this machine
        are for whoever sits at it."""
        self.no_guest("a new training")
        if self.who != LOCAL and any(values.get(name) for name in ("clips", "image")):
            self._log("a training on files of this machine")
            raise UserError("training_page.files_of_here")
        try:
            return self.service.train({**values, "clips": str(clips)} if clips else values, self.who)
        except UserError as error:
            self._log(f"a training that cannot be: {error.message.id}")
            raise

    def training(self, job_id: str) -> TrainingSeen:
        return self.service.training(self.known(job_id))

    def jobs(self, limit: int | None = None, states: Collection[State] | None = None) -> list[JobStatus]:
        """The jobs that may be seen, oldest first."""
        return self.service.jobs(None if sees_all(self.who) else self.who, limit, states)

    def others_at_work(self) -> bool:
        """Whether a job is at work that is not for this visitor to see: they learn that it is, and no more."""
        return any(not may_see(job.owner, self.who) for job in self.service.jobs(states=AT_WORK))

    def status(self, job_id: str) -> JobStatus:
        return self.service.status(self.known(job_id))

    def events(self, job_id: str) -> list[tuple[int, Event]]:
        return self.service.events(self.known(job_id))

    def result(self, job_id: str) -> Path:
        return self.service.result(self.known(job_id))

    def export(self, job_id: str, values: Mapping[str, Any] | None = None) -> Path:
        return self.service.export(self.steered(job_id), values)

    def steadiness(self, job_id: str) -> Steadiness:
        """A guest sees a report that is there, and has none measured."""
        if kept_summary(self.status(job_id).folder) is None:
            self.steered(job_id)
        return self.service.steadiness(job_id)

    def cancel(self, job_id: str) -> bool:
        return self.service.cancel(self.steered(job_id))

    def pause(self, job_id: str) -> bool:
        return self.service.pause(self.steered(job_id))

    def resume(self, job_id: str) -> bool:
        return self.service.resume(self.steered(job_id))

    def move(self, job_id: str, position: int) -> None:
        self.service.move(self.steered(job_id), position)

    def retry(self, job_id: str, changes: Mapping[str, Any] | None = None) -> str:
        """The new job is of who asks for it."""
        return self.service.retry(self.steered(job_id), changes, self.who)

    def redecode(self, job_id: str, changes: Mapping[str, Any] | None = None) -> str:
        """The new job is of who asks for it."""
        return self.service.redecode(self.steered(job_id), changes, self.who)

    def extend(self, job_id: str, values: Mapping[str, Any] | None = None) -> str:
        """The new job is of who asks for it."""
        return self.service.extend(self.steered(job_id), values, self.who)

    def last_frame(self, job_id: str) -> Path:
        """It is written into the job's folder."""
        return self.service.last_frame(self.steered(job_id))

    def delete(self, job_id: str) -> None:
        self.service.delete(self.steered(job_id))

    def restore(self, job_id: str) -> None:
        self.service.restore(self.steered(job_id))

    def pause_queue(self, paused: bool) -> None:
        """Raises UserError for who may not steer everybody's jobs."""
        self.everybodys("pause_queue")
        self.service.pause_queue(paused)

    def lend_card(self) -> None:
        """Give the card away, or take it back where the queue rests. Raises UserError as `pause_queue` does."""
        self.everybodys("lend_card")
        self.service.lend_card(not self.service.queue_paused)

    def everybodys(self, act: str) -> None:
        """Raises UserError for who may not do `act`, which concerns everybody."""
        self.no_guest(act)
        if not steers_all(self.who):
            self._log(act)
            raise UserError("ui.admin_only")


class OwnFiles:
    """ASGI layer that answers 404 to whoever asks for a file of another's job, or for one in the outputs folder that
    is no job's. The path is judged by where it ends, not by how it is written. A guest uploads nothing.

    What is sent of a job has its download's name, so that the browser's own "save as" says no `video.mp4` either."""

    def __init__(self, app: ASGI, gradio_app: App, service: JobService, outputs: Path) -> None:
        self.app = app
        self.gradio_app = gradio_app
        self.service = service
        self.outputs = outputs

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        who = who_asks(scope, self.gradio_app)
        asked = _FILE.match(scope["path"])
        if asked and not await anyio.to_thread.run_sync(self._allowed, asked[1], who, client_of(scope)):
            await refuse(send, 404, b'{"detail":"Not found"}')
        elif who == GUEST and is_upload(scope):
            await refuse(send, 403, b'{"detail":"A guest uploads nothing"}')
        elif asked and (name := await anyio.to_thread.run_sync(self._name, asked[1])):
            await self.app(scope, receive, _naming(send, name))
        else:
            await self.app(scope, receive, send)

    def _name(self, path: str) -> str | None:
        """What the file is called when it is saved; None for one that is no job's."""
        try:
            job_id = job_in(path, self.outputs)
            return download_name(self.service.status(job_id).request, job_id, Path(path).name) if job_id else None
        except (UserError, ValueError, OSError):  # as in `_allowed`; or the job is in the bin
            return None

    def _of_own_training(self, own: OwnJobs, path: str, name: str) -> bool:
        """Whether the file lies in the work folder of a training called `name` that may be seen."""
        folder = self.outputs / WORK / name
        if not name or not Path(os.path.abspath(path)).resolve().is_relative_to(folder):
            return False
        return any(job.task == "train" and job.request.prompt == name for job in own.jobs())

    def _allowed(self, path: str, who: str, address: str) -> bool:
        if steers_all(who):
            return True
        try:
            own, job_id = OwnJobs(self.service, who, address), job_in(path, self.outputs)
            if job_id is not None and not self._of_own_training(own, path, job_id):
                own.known(job_id)
        except (UserError, ValueError, OSError):  # a path that cannot be: a zero byte, a name too long, a loop of links
            log.warning("Refused: %r asked for the file %r (from %s)", who, path[:500], address)
            return False
        return True


def _naming(send: Send, name: str) -> Send:
    """`send`, with the file's name in the answer; whether it is shown or saved stays as it was."""

    async def named(answer: Scope) -> None:
        if answer["type"] == "http.response.start" and answer["status"] in (200, 206):
            headers = dict(answer["headers"])
            how = headers.get(b"content-disposition", b"inline").partition(b";")[0]
            headers[b"content-disposition"] = how + f"; filename*=UTF-8''{quote(name)}".encode()
            answer = {**answer, "headers": list(headers.items())}
        await send(answer)

    return named


def job_in(path: str, outputs: Path) -> str | None:
    """The id of the job in whose folder the file lies to which `path` leads, as Gradio reads it; "" for one in
    `outputs` but in no job's folder, None for one elsewhere. Raises ValueError or OSError for what is no path."""
    real = Path(os.path.abspath(path)).resolve()
    for ancestor in (real, *real.parents):
        # The same folder by its number on the disk: where capitals do not count, its name may be another.
        if ancestor == outputs or (ancestor.exists() and ancestor.samefile(outputs)):
            inside = real.relative_to(ancestor).parts
            return inside[1] if len(inside) > 2 else ""
    return None
