"""A download as page, command line and jobs see it, and how fast it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from i2v.messages import Message, UserError
from i2v.models.entry import ModelEntry

State = Literal["waiting", "coming", "paused", "done", "failed"]
STATES: tuple[State, ...] = get_args(State)
WINDOW_SECONDS = 20.0
_LEAST_SECONDS = 1.0  # before which a rate says nothing


@dataclass(frozen=True)
class Download:
    """`id` is the name of the model's folder in the models folder, `model` what a request calls it. `added`: unix
    seconds. `total_bytes` is an estimate until the hub was asked. `route`: how the last file came, the end of its
    text's id `models.route_<route>`; empty while that is not known. `note` is what a person may want to know meanwhile,
    `error` why it failed."""

    id: str
    model: str
    hub_id: str
    family: str
    title: str
    added: float
    state: State = "waiting"
    total_bytes: int = 0
    done_bytes: int = 0
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    route: str = ""
    error: Message | None = None
    note: Message | None = None

    @property
    def missing_bytes(self) -> int:
        return max(0, self.total_bytes - self.done_bytes)

    def called(self, name: str) -> bool:
        """Whether `name` is one of the model's names."""
        return name in (self.id, self.model, self.hub_id)

    def to_json(self) -> dict[str, Any]:
        """This download as plain JSON values; `from_json` reads it back unchanged."""
        return asdict(self) | {
            "error": self.error and self.error.to_json(),
            "note": self.note and self.note.to_json(),
        }

    def told(self, locale: str) -> dict[str, Any]:
        """The same, with the texts of `error` and `note` in `locale`."""
        said = {"error": self.error, "note": self.note}
        return self.to_json() | {
            name: text and {**text.to_json(), "text": text.render(locale)} for name, text in said.items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Download:
        """Read back what `to_json` wrote. Raises LookupError, TypeError or ValueError for what is no download."""
        if values["state"] not in STATES:
            raise ValueError(values["state"])
        told = {name: values[name] and Message.from_json(values[name]) for name in ("error", "note")}
        if not values["id"] or "/" in values["id"] or values["id"].startswith("."):
            raise ValueError(values["id"])  # it names a folder in the models folder
        return cls(**{**values, **told})


def new_download(entry: ModelEntry, added: float) -> Download:
    """A download of the model; of one that is on the disk one that is done. Raises UserError where there is nothing to
    fetch it from."""
    if entry.hub_id is None and not entry.present:
        raise UserError("downloads.no_hub_id", model=entry.title)
    folder_name = entry.folder.name if entry.folder else entry.name.replace("/", "--")
    return Download(
        id=folder_name, model=entry.name, hub_id=entry.hub_id or entry.name, family=entry.family, title=entry.title,
        added=added, total_bytes=entry.size_bytes, state="done" if entry.present else "waiting",
        done_bytes=entry.size_bytes if entry.present else 0,
    )  # fmt: skip


class Rate:
    """How fast bytes come: those of the last `WINDOW_SECONDS`."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, done_bytes: int) -> None:
        """So many bytes are there at `now`, in seconds of a clock that never goes back."""
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def bytes_per_second(self) -> float | None:
        """None while too little is known."""
        if not self._samples:
            return None
        (began, before), (now, done) = self._samples[0], self._samples[-1]
        return (done - before) / (now - began) if now - began >= _LEAST_SECONDS else None

    def seconds_left(self, missing_bytes: int) -> float | None:
        """None while nothing comes."""
        rate = self.bytes_per_second
        return missing_bytes / rate if rate else None
