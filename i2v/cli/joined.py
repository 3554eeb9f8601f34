"""The jobs of an outputs folder as the command line works with them: here in this process, or in the app that holds
the folder already, through the endpoints of its page."""

from __future__ import annotations

import getpass
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from i2v.cli.exits import NO_ROOM_IDS
from i2v.events import FINAL_STATES, Event, StateChanged, from_json
from i2v.hardware.probe import MemoryProbe
from i2v.jobs.asked.plans import Plans
from i2v.jobs.job.folder import VIDEO
from i2v.jobs.job.steadiness import told_with_steadiness
from i2v.jobs.list.lease import Lease, holder
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.planning.load import Processor
from i2v.settings.settings import Settings
from i2v.video.clip import clip_facts
from i2v.video.picture import load_picture

LOOK_SECONDS = 0.1


class Jobs(Protocol):
    """What can be asked of jobs. Every method raises UserError; `status` and the rows of `listed` are what
    `told_with_steadiness` says; `retry`, `redecode` and `extend` return the new job's id; `steadiness` is a report's
    `to_json`. `address` is the app's, empty for none."""

    address: str

    def submit(
        self,
        values: Mapping[str, Any],
        picture: Path | None,
        *,
        clip: Path | None = None,
        last_picture: Path | None = None,
        pictures_at: Mapping[int, Path] | None = None,
    ) -> str: ...
    def retry(self, job_id: str, changes: Mapping[str, Any]) -> str: ...
    def redecode(self, job_id: str, changes: Mapping[str, Any]) -> str: ...
    def extend(self, job_id: str, changes: Mapping[str, Any]) -> str: ...
    def attach(self, job_id: str, after: int = -1) -> Iterator[tuple[int, Event]]: ...
    def cancel(self, job_id: str) -> bool: ...
    def pause(self, job_id: str) -> bool: ...
    def resume(self, job_id: str) -> bool: ...
    def status(self, job_id: str) -> dict[str, Any]: ...
    def listed(self, limit: int) -> list[dict[str, Any]]: ...
    def folder(self, job_id: str) -> Path: ...
    def result(self, job_id: str) -> Path: ...
    def export(self, job_id: str, values: Mapping[str, Any]) -> Path: ...
    def steadiness(self, job_id: str) -> dict[str, Any]: ...


@contextmanager
def open_jobs(settings: Settings, probe: MemoryProbe) -> Iterator[Jobs]:
    """The jobs of the settings' outputs folder. Raises UserError where another program has it that cannot be joined."""
    jobs: AbstractContextManager[Jobs]
    try:
        jobs = _Here(JobService(settings, probe, plans=Plans.of(settings, processor=Processor()), own_jobs_only=True))
    except UserError as taken:
        if taken.message.id != "jobs.outputs_taken_at":
            raise
        jobs = nullcontext(Joined(str(taken.message.params["address"]), settings, taken))
    with jobs as opened:
        yield opened


def joined_app(settings: Settings) -> Joined | None:
    """The app that holds the settings' outputs folder and has a page; None where there is none. Raises UserError where
    it does not let us in."""
    said = holder(settings.outputs_dir)
    if said is None or not said["address"]:
        return None
    try:
        Lease(settings.outputs_dir).release()  # what the lease says may be out of date: whoever holds it says it
    except UserError as taken:
        if taken.message.id == "jobs.outputs_taken_at":
            return Joined(str(taken.message.params["address"]), settings, taken)
    return None


class _Here:
    """A service of our own."""

    address = ""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self.submit, self.retry, self.redecode = service.submit, service.retry, service.redecode
        self.extend = service.extend
        self.attach, self.result, self.export = service.attach, service.result, service.export
        self.cancel, self.pause, self.resume = service.cancel, service.pause, service.resume

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.close()

    def status(self, job_id: str) -> dict[str, Any]:
        return told_with_steadiness(self._service.status(job_id))

    def listed(self, limit: int) -> list[dict[str, Any]]:
        return [told_with_steadiness(job) for job in self._service.jobs(limit=limit)]

    def steadiness(self, job_id: str) -> dict[str, Any]:
        return self._service.steadiness(job_id).to_json()

    def folder(self, job_id: str) -> Path:
        return self._service.status(job_id).folder


class Joined:
    """The app at `address`. What it refuses comes as its own sentence."""

    def __init__(self, address: str, settings: Settings, taken: UserError) -> None:
        """Raises `taken` where it does not let us in."""
        from gradio_client import Client  # here, since it takes a second that nobody else should wait

        self.address = address
        self._settings = settings
        login = (getpass.getuser(), settings.password) if settings.password else None
        try:
            self._client = Client(
                address,
                token=False,  # type: ignore[arg-type]  # not the hub's, which it would send along
                verbose=False,
                auth=login,
                download_files=False,
                analytics_enabled=False,
                ssl_verify=False,  # a certificate is made out to the name that others call this computer by
                httpx_kwargs={"trust_env": False},  # no proxy knows the way to this computer
            )
        except Exception as error:
            raise taken from error

    def submit(
        self,
        values: Mapping[str, Any],
        picture: Path | None,
        *,
        clip: Path | None = None,
        last_picture: Path | None = None,
        pictures_at: Mapping[int, Path] | None = None,
    ) -> str:
        # With the words that a run here would have for them.
        between = pictures_at or {}
        for file in (picture, last_picture, *between.values()):
            if file is not None:
                load_picture(file, max_megapixels=self._settings.max_picture_megapixels)
        if clip is not None:
            clip_facts(clip)
        image, video, last = (self._handed(file) if file else None for file in (picture, clip, last_picture))
        handed = {frame: self._handed(file) for frame, file in between.items()}
        return self.ask("/submit", image, {**values, "video": video, "last_image": last, "image_at": handed})

    def _handed(self, file: Path) -> Any:
        """The file as the client uploads it, where the app takes one as large."""
        from gradio_client import handle_file

        size_bytes, limit = file.stat().st_size, self._settings.max_upload_mb
        if size_bytes > limit * 2**20:
            raise UserError("cli.file_too_large", file=file.name, size=math.ceil(size_bytes / 2**20), limit=limit)
        return handle_file(file)

    def retry(self, job_id: str, changes: Mapping[str, Any]) -> str:
        return self.ask("/retry", job_id, dict(changes))

    def redecode(self, job_id: str, changes: Mapping[str, Any]) -> str:
        return self.ask("/redecode", job_id, dict(changes))

    def extend(self, job_id: str, changes: Mapping[str, Any]) -> str:
        return self.ask("/extend", job_id, dict(changes))

    def attach(self, job_id: str, after: int = -1) -> Iterator[tuple[int, Event]]:
        following = self._client.submit(job_id, after, api_name="/attach")
        taken, over, final = 0, False, False
        try:
            while not over:
                over = following.done()
                batches = following.outputs()[taken:]
                taken += len(batches)
                for values in chain.from_iterable(batch or () for batch in batches):
                    event = from_json({"path" if name == "file" else name: value for name, value in values.items()})
                    final = isinstance(event, StateChanged) and event.state in FINAL_STATES
                    yield values["seq"], event
                if not over:
                    time.sleep(LOOK_SECONDS)
        finally:
            if not over:
                following.cancel()
        self._in_words(following.result)
        if not final and self.status(job_id)["state"] not in FINAL_STATES:
            raise UserError("cli.app_gone", address=self.address)

    def cancel(self, job_id: str) -> bool:
        return self.ask("/cancel", job_id)

    def pause(self, job_id: str) -> bool:
        return self.ask("/pause", job_id)

    def resume(self, job_id: str) -> bool:
        return self.ask("/resume", job_id)

    def status(self, job_id: str) -> dict[str, Any]:
        return self.ask("/status", job_id)

    def listed(self, limit: int) -> list[dict[str, Any]]:
        return self.ask("/list", limit)

    def folder(self, job_id: str) -> Path:
        self.status(job_id)
        return next(self._settings.outputs_dir.absolute().glob(f"*/{job_id}"))

    def result(self, job_id: str) -> Path:
        return self.folder(job_id) / VIDEO

    def export(self, job_id: str, values: Mapping[str, Any]) -> Path:
        return self.folder(job_id) / self.ask("/export", job_id, dict(values))["orig_name"]

    def steadiness(self, job_id: str) -> dict[str, Any]:
        return self.ask("/steadiness", job_id)

    def ask(self, endpoint: str, *values: Any) -> Any:
        """What the app's endpoint says. Raises UserError with its words."""
        return self._in_words(lambda: self._client.predict(*values, api_name=endpoint))

    def _in_words(self, question: Callable[[], Any]) -> Any:
        from gradio_client.exceptions import AppError

        try:
            return question()
        except AppError as error:
            said = "cli.app_refused" if error.title in NO_ROOM_IDS else "cli.app_said"
            raise UserError(said, text=error.message) from error
        except Exception as error:
            raise UserError("cli.app_gone", address=self.address) from error
