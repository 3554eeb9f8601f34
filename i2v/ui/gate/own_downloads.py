"""The queue of downloads as one visitor may use it. A guest looks on; who asks for a model may be anybody else; what
lays downloads down or takes them away is for whoever steers everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradio.routes import Request

from i2v.downloads.service import Downloads
from i2v.downloads.state import Download
from i2v.messages import UserError
from i2v.ui.gate.own import OwnJobs

if TYPE_CHECKING:
    from i2v.jobs.service import JobService


@dataclass(frozen=True)
class OwnDownloads:
    """`downloads` for who asks. Each method raises what that of `Downloads` raises, and UserError where it is not for
    them; each refusal is logged."""

    downloads: Downloads
    own: OwnJobs

    @classmethod
    def of(cls, service: JobService, request: Request | None) -> OwnDownloads:
        """The queue for whoever sent `request`. Raises UserError where there is none."""
        if service.downloads is None:
            raise UserError("downloads.closed")
        return cls(service.downloads, OwnJobs.of(service, request))

    def all(self) -> list[Download]:
        return self.downloads.all()

    def add(self, model: str) -> Download:
        self.own.no_guest("a download")
        return self.downloads.add(model)

    def resume(self, download_id: str) -> bool:
        self.own.everybodys("resume_download")
        return self.downloads.resume(download_id)

    def pause(self, download_id: str) -> bool:
        self.own.everybodys("pause_download")
        return self.downloads.pause(download_id)

    def cancel(self, download_id: str) -> bool:
        self.own.everybodys("cancel_download")
        return self.downloads.cancel(download_id)
