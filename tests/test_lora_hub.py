"""A LoRA from the hub by its name: which file, whole or not at all, gone on with, and nothing left behind for ever."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from i2v.messages import Message
from i2v.models import lora_hub
from i2v.models.adapters import FOLDER, list_adapters
from i2v.models.fetch import fetch as fetching
from i2v.models.fetch import routes
from i2v.models.fetch.fetch import Limits
from i2v.models.fetch.stall import StallLimits
from i2v.models.lora_hub import FETCHING, KEPT_DAYS, HubName, clear_old, fetch_lora, hub_name
from tests.hub_server import Hub, serve_hub
from tests.lora_files import MUSUBI, named, pairs
from tests.refused import refusal

WAN = {f"blocks.{number}.self_attn.q": (512, 512) for number in range(3)}
DAY = 24 * 3600
PIECE = 16 * 1024  # bytes that the hub sends at once


class Enough(Exception):
    """Whoever waits wants no more."""


def lora(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(named(pairs(WAN, 32, seed), MUSUBI), path)
    return path


def shelf(models: Path) -> list[str]:
    """Everything in the folder of LoRAs, hidden or not."""
    folder = models / FOLDER
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other hub is asked, and nothing waits long."""
    monkeypatch.setattr(routes, "HUB", "http://127.0.0.1:9")
    limits = Limits(StallLimits(silent_seconds=2.0, slow_bytes_per_second=0), seconds_between_tries=0.05)
    monkeypatch.setattr(fetching, "USUAL", limits)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models 模型"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Repositories with one LoRA, with two, with one that has no name of its own, with none, and with another file."""
    lora(tmp_path / "one/snow.safetensors")
    lora(tmp_path / "two/low.safetensors")
    lora(tmp_path / "two/deep/high.safetensors", seed=1)
    lora(tmp_path / "nameless/pytorch_lora_weights.safetensors", seed=2)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/x.bin").write_bytes(b"x")
    (tmp_path / "model").mkdir()
    save_file({"blocks.0.weight": torch.zeros(2)}, tmp_path / "model/model.safetensors")
    repositories = ("one", "two", "nameless", "none", "model")
    with serve_hub({f"owner/{name}": tmp_path / name for name in repositories}) as running:
        yield running


class Fetching:
    """Fetches from a hub, and keeps what was told."""

    def __init__(self, hub: Hub, models: Path) -> None:
        self.hub, self.models = hub, models
        self.progress: list[tuple[int, int]] = []
        self.notes: list[Message] = []
        self.stop_at: int | None = None

    def __call__(self, typed: str) -> str:
        return fetch_lora(
            typed, self.models, endpoint=self.hub.url, offline=False, on_progress=self._look, on_note=self.notes.append
        )

    def _look(self, done: int, total: int) -> None:
        self.progress.append((done, total))
        if self.stop_at is not None and done >= self.stop_at:
            raise Enough


@pytest.fixture
def fetch(hub: Hub, models: Path) -> Fetching:
    return Fetching(hub, models)


@pytest.mark.parametrize(
    ("typed", "repo", "file"),
    [
        (" owner/name ", "owner/name", None),
        ("owner/name/deep/x.safetensors", "owner/name", "deep/x.safetensors"),
        ("https://huggingface.co/owner/name", "owner/name", None),
        (
            "https://huggingface.co/owner/name/blob/main/a%20b.safetensors?x=1",
            "owner/name",
            "a b.safetensors",
        ),
        ("https://hf-mirror.com/owner/name/resolve/main/x.safetensors", "owner/name", "x.safetensors"),
        ("https://huggingface.co/owner/name/tree/main", "owner/name", None),
    ],
)
def test_how_a_lora_on_the_hub_is_named(typed: str, repo: str, file: str | None) -> None:
    assert hub_name(typed) == HubName(repo, file)


@pytest.mark.parametrize("typed", ["", "name", "owner/name/x.bin", "owner/name/../../x.safetensors", "a b/c", "../x/y"])
def test_what_names_none_is_told(typed: str) -> None:
    assert refusal(lambda: hub_name(typed)) == "models.adapter_hub_name"


def test_a_lora_comes_by_its_name_and_nothing_else_stays(
    fetch: Fetching, hub: Hub, models: Path, tmp_path: Path
) -> None:
    size = (tmp_path / "one/snow.safetensors").stat().st_size
    assert fetch("owner/one") == "snow"
    assert fetch.progress[-1] == (size, size)
    assert fetch("owner/two/deep/high.safetensors") == "high"
    assert fetch("owner/nameless") == "nameless"
    assert shelf(models) == ["high.safetensors", "nameless.safetensors", "snow.safetensors"]
    assert (models / FOLDER / "snow.safetensors").read_bytes() == (tmp_path / "one/snow.safetensors").read_bytes()
    assert not (models / FOLDER / FETCHING).exists()
    assert hub.fetched == ["snow.safetensors", "deep/high.safetensors", "pytorch_lora_weights.safetensors"]
    assert fetch.notes == []


def test_the_address_of_a_folder_means_the_file_in_it(fetch: Fetching, hub: Hub) -> None:
    assert fetch("https://huggingface.co/owner/two/tree/main/deep") == "high"
    assert refusal(lambda: fetch("https://huggingface.co/owner/two/tree/main")) == "models.adapter_hub_many"
    assert refusal(lambda: fetch("https://huggingface.co/owner/two/tree/main/de")) == "models.adapter_hub_none"
    assert hub.fetched == ["deep/high.safetensors"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("owner/two", "models.adapter_hub_many"),
        ("owner/two/middle.safetensors", "models.adapter_hub_no_file"),
        ("owner/none", "models.adapter_hub_none"),
        ("owner/gone", "models.not_on_hub"),
        ("owner/model", "models.adapter_no_lora"),
    ],
)
def test_what_cannot_be_fetched_is_told_and_leaves_nothing(
    fetch: Fetching, hub: Hub, models: Path, typed: str, told: str
) -> None:
    assert refusal(lambda: fetch(typed)) == told
    assert shelf(models) == []
    assert not (models / FOLDER / FETCHING).exists()


def test_gated_or_offline_is_told(fetch: Fetching, hub: Hub, models: Path) -> None:
    hub.status, hub.error_code = 403, "GatedRepo"
    assert refusal(lambda: fetch("owner/one")) == "models.gated"
    assert refusal(lambda: fetch_lora("owner/one", models, endpoint=None, offline=True)) == "models.offline"


def test_what_is_there_already_is_not_fetched(fetch: Fetching, hub: Hub, models: Path, tmp_path: Path) -> None:
    (models / FOLDER).mkdir(parents=True)
    shutil.copyfile(tmp_path / "one/snow.safetensors", models / FOLDER / "mine.safetensors")
    lora(models / FOLDER / "as large.safetensors", seed=7)
    assert fetch("owner/one") == "mine"
    assert hub.fetched == []
    assert shelf(models) == ["as large.safetensors", "mine.safetensors"]


def test_one_that_was_stopped_goes_on_at_its_byte(fetch: Fetching, hub: Hub, models: Path, tmp_path: Path) -> None:
    size = (tmp_path / "one/snow.safetensors").stat().st_size
    hub.file_piece_seconds, fetch.stop_at = 0.1, size // 3
    with pytest.raises(Enough):
        fetch("owner/one")
    (part,) = (name for name in shelf(models) if name.endswith(".part"))
    had = (models / FOLDER / part).stat().st_size
    assert part.startswith(f"{FETCHING}/")
    assert size // 3 <= had < size
    assert list_adapters(models) == []
    hub.file_piece_seconds, hub.served_bytes, fetch.stop_at = 0.0, 0, None
    assert fetch("owner/one") == "snow"
    assert size - had <= hub.served_bytes < size - had + 2 * PIECE  # the first one may still have been at it
    assert shelf(models) == ["snow.safetensors"]
    assert not (models / FOLDER / FETCHING).exists()


@pytest.mark.parametrize("trouble", [{"file_corrupt": True}, {"file_longer": -9}])
def test_nothing_half_or_wrong_comes_to_the_shelf(fetch: Fetching, hub: Hub, models: Path, trouble: dict) -> None:
    for name, value in trouble.items():
        setattr(hub, name, value)
    assert refusal(lambda: fetch("owner/one")) == "models.no_route"
    assert list_adapters(models) == []
    assert fetch.notes  # that another way is tried
    for name in trouble:
        setattr(hub, name, Hub.__dataclass_fields__[name].default)
    assert fetch("owner/one") == "snow"


def test_it_is_moved_onto_the_shelf_and_not_copied(
    fetch: Fetching, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(*_: object) -> None:
        raise AssertionError("a LoRA may have gigabytes")

    monkeypatch.setattr(shutil, "copyfile", copied)
    monkeypatch.setattr(shutil, "copy2", copied)
    assert fetch("owner/one") == "snow"


def test_too_large_a_file_is_not_begun(fetch: Fetching, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_hub, "MOST_BYTES", 1000)
    assert refusal(lambda: fetch("owner/one")) == "models.adapter_too_large"
    assert hub.fetched == []


def test_what_nobody_asks_for_again_goes_after_a_week(models: Path) -> None:
    fetching = models / FOLDER / FETCHING
    now = time.time()
    for name, days in (("old", KEPT_DAYS + 1), ("newer", KEPT_DAYS - 1)):
        part = fetching / name / ".cache/i2v/x.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"x")
        for path in (part, *list(part.parents)[:3]):
            os.utime(path, (now - days * DAY, now - days * DAY))
    clear_old(models)
    assert [path.name for path in fetching.iterdir()] == ["newer"]
    clear_old(models / "nowhere")
