"""`python -m i2v models pause`, `resume` and `cancel`: a download of the app that runs, else one on the list that the
next start takes up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from i2v.cli.downloads import InApp
from i2v.cli.exits import Exit
from i2v.cli.joined import joined_app
from i2v.downloads.list import LIST
from i2v.downloads.service import Downloads
from i2v.downloads.state import Download
from i2v.messages import Message, UserError, message
from i2v.settings.settings import Settings
from i2v.units import amount


class Steered(Protocol):
    """Downloads that can be steered, here or in the app. Every method raises UserError; False: nothing was changed."""

    def all(self) -> list[Download]: ...
    def pause(self, download_id: str) -> bool: ...
    def resume(self, download_id: str) -> bool: ...
    def cancel(self, download_id: str) -> bool: ...


def steer_download(action: str, name: str, settings: Settings, *, as_json: bool, locale: str) -> Exit:
    """Pause, resume or cancel (`action`) the download of the model called `name`. Raises UserError where there is none,
    or it stands in a way that this changes nothing of."""
    if not name:
        raise UserError("cli.models_name_missing", action=action)
    with _steered(settings) as (queue, in_app):
        one = next((one for one in queue.all() if one.called(name)), None)
        if one is None:
            raise UserError("downloads.unknown", id=name)
        if not getattr(queue, action)(one.id):
            state = message(f"downloads.state_{one.state}").to_json()
            raise UserError("downloads.not_changed", model=one.title, state=state)
    if as_json:
        print(json.dumps({"id": one.id, "model": one.model, "done": action}, ensure_ascii=False))
    else:
        print(_done(action, one, in_app=in_app).render(locale))
    return Exit.DONE


def _done(action: str, one: Download, *, in_app: bool) -> Message:
    """What has become of the download, which was `one` before."""
    match action:
        case "pause":
            return message("downloads.laid_down", model=one.title, done=amount(one.done_bytes))
        case "resume" if in_app:
            return message("downloads.goes_on", model=one.title)
        case "resume":
            return message("downloads.goes_on_later", model=one.title, name=one.model)
    return message("downloads.off_the_list" if one.state == "done" else "downloads.cancelled", model=one.title)


@contextmanager
def _steered(settings: Settings) -> Iterator[tuple[Steered, bool]]:
    """The downloads, and whether they are an app's. Raises UserError where a program has them that cannot be asked."""
    app = joined_app(settings)
    if app is not None:
        yield InApp(app), True
        return
    on_disk = Downloads(settings, go_on=False, fetches=False)
    try:
        if not on_disk.keeps_list and (settings.models_dir / LIST).exists():
            raise UserError("downloads.list_taken", folder=str(settings.models_dir.absolute()))
        yield on_disk, False
    finally:
        on_disk.close()
