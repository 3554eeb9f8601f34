"""A download as the page shows it: how far it is, how fast, how long still. Pure functions; every text is escaped
here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from i2v.messages import Message, message
from i2v.ui.shown.format import clock
from i2v.units import amount

if TYPE_CHECKING:
    from i2v.downloads.state import Download
    from i2v.jobs.service import JobService
    from i2v.models.entry import ModelEntry

UNDER_WAY = ("waiting", "coming", "paused", "failed")


@dataclass(frozen=True)
class Coming:
    """A download that has not brought its model yet, and how many others come `before` it. `elsewhere`: it is another
    program's, which alone can pause or cancel it."""

    download: Download
    before: int = 0
    elsewhere: bool = False

    @property
    def broke_off(self) -> bool:
        """Whether it is tried again later by itself."""
        return self.download.state == "waiting" and self.download.note is not None

    @property
    def stands(self) -> bool:
        """Whether nothing comes now, and somebody may have it tried again."""
        return self.broke_off or self.download.state == "failed"

    def is_of(self, entry: ModelEntry) -> bool:
        """Whether it is the model of the catalogue that comes."""
        one = self.download
        return one.hub_id == entry.hub_id or (entry.hub_id is None and one.id == entry.name)


def under_way(service: JobService) -> list[Coming]:
    """The downloads of the app that have not brought their model, in the order in which they come; then those of other
    programs."""
    if service.downloads is None:
        return []
    others = service.downloads.elsewhere()
    found = [one for one in service.downloads.all() if one.state in UNDER_WAY]
    own = [
        Coming(one, sum(other.state in ("coming", "waiting") for other in found[:place]))
        for place, one in enumerate(found)
    ]
    return [*own, *(Coming(one, elsewhere=True) for one in others if one.id not in {each.id for each in found})]


def coming_of(entry: ModelEntry, coming: Sequence[Coming]) -> Coming | None:
    """The one that brings a model of the catalogue; None where none does."""
    return next((one for one in coming if one.is_of(entry)), None)


def rate(bytes_per_second: float) -> str:
    """“11.2 MiB/s”, or “820 KiB/s” where it is less than one."""
    if bytes_per_second >= 2**20:
        return f"{bytes_per_second / 2**20:.1f} MiB/s"
    return f"{bytes_per_second / 2**10:.0f} KiB/s"


def download_parts(coming: Coming) -> Iterator[Message | str]:
    """What there is to say of it in one line: its state, bytes, rate, time left, and the way by which they come."""
    download = coming.download
    if coming.broke_off:
        yield message("ui.download_later")
    elif download.state == "waiting" and coming.before:
        yield message("ui.download_behind", count=coming.before)
    else:
        yield message(f"ui.download_{download.state}")
    if download.total_bytes:
        total = amount(download.total_bytes, up=True)
        yield message("ui.download_bytes", done=amount(download.done_bytes), total=total)
    if download.state != "coming":
        return
    if download.bytes_per_second is not None:
        yield rate(download.bytes_per_second)
    if download.seconds_left is not None:
        yield message("ui.time_left", time=clock(download.seconds_left))
    if download.route:
        yield message(f"models.route_{download.route}")


def download_told(coming: Coming, locale: str) -> str:
    """The line with a bar below it, and what more a person should know: why it failed, what it waits for."""
    download = coming.download
    said = (part if isinstance(part, str) else part.render(locale) for part in download_parts(coming))
    told = f'<p class="i2v-download-line">{escape(" · ".join(said))}</p>'
    told += progress(download.done_bytes, download.total_bytes, download.title)
    if download.error is not None:
        told += f'<p class="i2v-job-error">{escape(download.error.render(locale))}</p>'
    elif download.note is not None:
        told += f"<p>{escape(download.note.render(locale))}</p>"
    if coming.elsewhere:
        told += f"<p>{escape(message('ui.download_elsewhere').render(locale))}</p>"
    return f'<div class="i2v-coming {download.state}">{told}</div>'


def progress(done_bytes: int, total_bytes: int, label: str) -> str:
    """A bar that a browser draws; nothing where nobody knows yet how much there is."""
    if not total_bytes:
        return ""
    return (
        f'<progress max="{total_bytes}" value="{min(done_bytes, total_bytes)}" aria-label="{escape(label)}"></progress>'
    )
