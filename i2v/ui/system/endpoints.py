"""The named endpoints /downloads, /download, /pause_download, /resume_download and /cancel_download, for any client, as
those in `ui/api.py`.

Gradio reads their type hints as they stand, so this module does without postponed annotations.
"""

from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.messages import DEFAULT_LOCALE, UserError
from i2v.settings.settings import Settings
from i2v.ui.api import readable
from i2v.ui.gate.own_downloads import OwnDownloads

if TYPE_CHECKING:
    from i2v.jobs.service import JobService


def add_download_endpoints(service: "JobService", settings: Settings) -> None:
    """Offer the endpoints in the current Blocks."""
    locale = settings.language if settings.language != "auto" else DEFAULT_LOCALE

    def downloads(request: gr.Request) -> list:
        """Models on their way, in the order in which they come, and those that have ended: id, model, hub_id, family,
        title, state (waiting, coming, paused, done, failed), total_bytes, done_bytes, bytes_per_second, seconds_left,
        route, error, note."""
        return [one.told(locale) for one in OwnDownloads.of(service, request).all()]

    def download(model: str, request: gr.Request) -> dict:
        """Fetch a model, by its name in the catalogue or its hub id: it stands in the list of /downloads then. Of one
        that is on the disk the state is “done”, and nothing is fetched."""
        return OwnDownloads.of(service, request).add(_name(model)).told(locale)

    def pause_download(id: str, request: gr.Request) -> bool:
        """Lay a download down; what has come stays. False if it neither comes nor waits."""
        return OwnDownloads.of(service, request).pause(_name(id))

    def resume_download(id: str, request: gr.Request) -> bool:
        """Let a download that was paused, or has failed, go on. False for another."""
        return OwnDownloads.of(service, request).resume(_name(id))

    def cancel_download(id: str, request: gr.Request) -> bool:
        """Take a download off the list, and what it has brought so far off the disk. A model that is whole stays."""
        return OwnDownloads.of(service, request).cancel(_name(id))

    for endpoint in (downloads, download, pause_download, resume_download, cancel_download):
        gr.api(readable(endpoint, locale, settings), api_name=endpoint.__name__, queue=False)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError("downloads.unknown", id=str(value)[:80])
    return value.strip()
