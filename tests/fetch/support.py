"""Somebody who fetches a small repository and looks on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from i2v.messages import Message
from i2v.models.fetch.fetch import FetchFailed, Limits, fetch
from i2v.models.fetch.look_up import look_up
from i2v.models.fetch.parts import PARTS
from i2v.models.fetch.published import Published
from i2v.models.fetch.routes import Route
from i2v.models.fetch.stall import StallLimits
from tests.hub_server import Hub

REPO = "someone/model"
LARGE = "unet/weights 权重.safetensors"
SIZES = {LARGE: 400_000, "unet/config.json": 90, "model_index.json": 0, "vae/other.safetensors": 30_000}
SHORT = Limits(StallLimits(silent_seconds=2.0, slow_bytes_per_second=0), 3.0, 0, 0.05)
SLOW = replace(SHORT, stall=StallLimits(slow_seconds=1.0, slow_bytes_per_second=150_000))


SCRIPT = """
import sys
from pathlib import Path
from i2v.models.fetch.fetch import fetch
from i2v.models.fetch.look_up import look_up
from i2v.models.fetch.routes import Route
url, folder = sys.argv[1:]
fetch(look_up("someone/model", url), Path(folder), [Route("plain", url)],
      on_progress=lambda done, total: print(done, flush=True))
"""
"""What another process runs, to be killed: it prints how many bytes there are."""


class Enough(Exception):
    """Whoever looks on wants no more."""


class Fetching:
    """Fetches, and looks at every moment whether what has a name is whole."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.repository, self.folder = repository, folder
        self.progress: list[tuple[int, int]] = []
        self.notes: list[Message] = []

    def __call__(self, *hubs: Hub, published: Published | None = None, limits: Limits = SHORT) -> Route | None:
        routes = [Route(name, hub.url) for name, hub in zip(("plain", "mirror"), hubs, strict=False)]
        return self.by(routes, published or look_up(REPO, hubs[0].url), limits)

    def by(self, routes: list[Route], published: Published, limits: Limits = SHORT) -> Route | None:
        return fetch(published, self.folder, routes, on_progress=self.look, on_note=self.notes.append, limits=limits)

    def stop_at(self, count: int, hub: Hub, published: Published) -> None:
        """Fetch until so many bytes have come."""

        def look(done: int, total: int) -> None:
            self.look(done, total)
            if done >= count:
                raise Enough

        with pytest.raises(Enough):
            fetch(published, self.folder, [Route("plain", hub.url)], on_progress=look, limits=SHORT)

    def look(self, done: int, total: int) -> None:
        self.progress.append((done, total))
        for name in self.names():
            assert (self.folder / name).read_bytes() == (self.repository / name).read_bytes(), name

    def names(self) -> set[str]:
        found = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        return {name for name in found if not name.startswith(".")}

    def whole(self) -> bool:
        self.look(0, 0)
        assert not list((self.folder / PARTS).rglob("*.part"))
        return self.names() == set(SIZES)


def kinds(failed: pytest.ExceptionInfo[FetchFailed]) -> list[str]:
    for route, trouble in failed.value.said:
        assert "{" not in trouble.message().render("en") + trouble.message().render("zh-CN"), route
    return [trouble.kind for _, trouble in failed.value.said]
