"""LoRAs that come to the shelf: sent or fetched from a hub, looked at, numbered, whole or not at all; and who may."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gradio.utils import get_upload_folder
from jobs_support import settings_in
from page_support import scripted_service
from safetensors.torch import save_file

from i2v.jobs.service import JobService
from i2v.messages import LOCALES, UserError
from i2v.models import lora_intake
from i2v.models.adapters import FOLDER, list_adapters
from i2v.models.fetch import routes
from i2v.models.lora_intake import take_in
from i2v.ui.create.add_loras import Fetches, fetch_asked, fetching, take_upload, taken, too_large
from i2v.ui.gate.access import ADMIN, GUEST, LOCAL
from i2v.ui.gate.own import OwnJobs
from tests.hub_server import Hub, serve_hub
from tests.lora_files import MUSUBI, named, pairs
from tests.refused import refusal

WAN = {f"blocks.{number}.self_attn.q": (16, 16) for number in range(2)}


def lora(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(named(pairs(WAN, 4, seed), MUSUBI), path)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """With a LoRA, which another hub than this one is not asked for."""
    monkeypatch.setattr(routes, "HUB", "http://127.0.0.1:9")
    lora(tmp_path / "two/low.safetensors")
    lora(tmp_path / "two/high.safetensors", seed=1)
    with serve_hub({"owner/two": tmp_path / "two"}) as running:
        yield running


def lying(models: Path) -> list[str]:
    return sorted(path.relative_to(models).as_posix() for path in models.rglob("*") if path.is_file())


def test_a_file_is_copied_whole_and_numbered_where_its_name_is_taken(tmp_path: Path) -> None:
    models, sent = tmp_path / "models", tmp_path / "sent"
    first, second = lora(sent / "a.safetensors"), lora(sent / "b.safetensors", seed=1)
    assert take_in(first, "Snow.safetensors", models) == "Snow"
    assert take_in(second, "snow.safetensors", models) == "snow (2)"
    assert take_in(first, "other.safetensors", models) == "Snow"  # it is there already
    assert lying(models) == ["loras/Snow.safetensors", "loras/snow (2).safetensors"]
    assert (models / FOLDER / "snow (2).safetensors").read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("../../etc/x.safetensors", "x"), (r"C:\loras\snow v1.2.safetensors", "snow v1.2"),
        ("a:0.5.safetensors", "a_0.5"),
        (".hidden.safetensors", "hidden"), ("...safetensors", "lora"), ("雪花.safetensors", "雪花"),
        ("x" * 300 + ".safetensors", "x" * 80), ("\0\n.safetensors", "lora"), ("SNOW.SAFETENSORS", "SNOW"),
    ],
)  # fmt: skip
def test_whatever_it_is_called_it_lies_on_the_shelf(tmp_path: Path, sent: str, name: str) -> None:
    models = tmp_path / "models"
    assert take_in(lora(tmp_path / "a.safetensors"), sent, models) == name
    assert lying(models) == [f"loras/{name}.safetensors"]
    assert [one.name for one in list_adapters(models)] == [name]


def _cut(path: Path) -> None:
    whole = lora(path).read_bytes()
    path.write_bytes(whole[:-10])


@pytest.mark.parametrize(
    ("make", "name", "told"),
    [
        (_cut, "x.safetensors", "models.truncated"),
        (lambda path: save_file({"blocks.0.weight": torch.zeros(2)}, path), "x.safetensors", "models.adapter_no_lora"),
        (lambda path: torch.save({}, path), "x.safetensors", "models.adapter_pickle"),
        (lora, "x.pt", "models.adapter_pickle"),
        (
            lambda path: save_file(named(pairs(WAN, 2, 0)) | {"x.hada_w1_a": torch.zeros(2)}, path),
            "x.safetensors",
            "models.adapter_key",
        ),
        (lora, "x.zip", "models.adapter_ending"),
        (
            lambda path: save_file(named(pairs({"nobody.0.knows": (4, 4)}, 2, 0)), path),
            "x.safetensors",
            "models.adapter_no_family",
        ),
    ],
)
def test_what_is_no_lora_stays_away(tmp_path: Path, make, name: str, told: str) -> None:
    make(tmp_path / "a.safetensors")
    with pytest.raises(UserError) as refused:
        take_in(tmp_path / "a.safetensors", name, tmp_path / "models")
    assert refused.value.message.id == told
    assert str(tmp_path) not in refused.value.message.render()
    assert lying(tmp_path / "models") == []


def test_a_disk_that_is_full_or_fills_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, file = tmp_path / "models", lora(tmp_path / "a.safetensors")
    monkeypatch.setattr(lora_intake, "MOST_BYTES", 10)
    assert refusal(lambda: take_in(file, "x.safetensors", models)) == "models.adapter_too_large"
    monkeypatch.undo()

    def fills(_source: Path, to: Path) -> None:
        to.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fills)
    assert refusal(lambda: take_in(file, "x.safetensors", models)) == "models.not_writable"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert refusal(lambda: take_in(file, "x.safetensors", models)) == "models.disk_too_small"
    assert lying(models) == []


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path / "app") as running:
        yield running


def upload(name: str) -> dict[str, str]:
    """Gradio's data of a LoRA that was sent."""
    return {"path": str(lora(Path(get_upload_folder()) / "here" / "a.safetensors")), "orig_name": name}


def test_a_file_that_was_sent_lies_on_the_shelf_and_no_longer_among_the_uploads(
    service: JobService, tmp_path: Path
) -> None:
    settings, file = settings_in(tmp_path / "app")[0], upload("snow.safetensors")
    told = taken(OwnJobs(service, LOCAL), [file, {"path": "/etc/passwd", "orig_name": "x"}], "auto", settings, "en")
    assert "On the shelf: snow. Nano does not take it. It is for: Wan" in told
    assert "was not uploaded" in told
    assert not Path(file["path"]).exists()
    assert [one.name for one in list_adapters(settings.models_dir)] == ["snow"]


def test_a_guest_puts_nothing_there_and_only_the_admin_has_the_hub_asked(
    service: JobService, hub: Hub, tmp_path: Path
) -> None:
    shared = replace(settings_in(tmp_path / "app")[0], listed_models_only=True, hf_endpoint=hub.url)
    file = upload("snow.safetensors")
    assert refusal(lambda: take_upload(OwnJobs(service, GUEST), file, shared)) == "ui.guest_only_looks"
    assert (
        refusal(lambda: fetch_asked(OwnJobs(service, GUEST), "owner/two/low.safetensors", shared))
        == "ui.guest_only_looks"
    )
    assert (
        refusal(lambda: fetch_asked(OwnJobs(service, "mia"), "owner/two/low.safetensors", shared))
        == "ui.lora_hub_not_here"
    )
    assert Path(file["path"]).exists()
    assert hub.fetched == list_adapters(shared.models_dir) == []
    assert take_upload(OwnJobs(service, "mia"), file, shared) == "snow"
    assert fetch_asked(OwnJobs(service, ADMIN), "owner/two/low.safetensors", shared)
    alone = replace(shared, listed_models_only=False)
    *_, told = fetching(OwnJobs(service, LOCAL), "owner/gone", "auto", alone, "en", threading.Event())
    assert "no model owner/gone" in told


def test_a_fetch_that_is_stopped_says_so_and_leaves_nothing_on_the_shelf(
    service: JobService, hub: Hub, tmp_path: Path
) -> None:
    settings = replace(settings_in(tmp_path / "app")[0], hf_endpoint=hub.url)
    page, other = SimpleNamespace(session_hash="a"), SimpleNamespace(session_hash="b")
    wide = {f"blocks.{number}.self_attn.q": (512, 512) for number in range(2)}
    save_file(named(pairs(wide, 16, 0), MUSUBI), hub.repos["owner/two"] / "low.safetensors")
    hub.file_piece_seconds = 30.0  # after the first piece, so that it would take for ever
    fetches, told = Fetches(), []
    with fetches.of(page) as stopped, fetches.of(other) as others:
        for said in fetching(OwnJobs(service, LOCAL), "owner/two/low.safetensors", "auto", settings, "en", stopped):
            told.append(said)
            if "Fetching:" in said:
                fetches.stop(page)
        assert not others.is_set()
    assert "Stopped." in told[-1]
    assert list_adapters(settings.models_dir) == []
    for thread in [one for one in threading.enumerate() if one.name == "lora"]:
        thread.join(20)
        assert not thread.is_alive()


def test_what_is_larger_than_the_page_takes_is_told_where_to_put_it(tmp_path: Path) -> None:
    settings = replace(settings_in(tmp_path)[0], max_upload_mb=1024)
    for locale in LOCALES:
        told = too_large("<b>huge.safetensors", 3 * 2**30, settings, locale)
        for said in ("&lt;b&gt;huge", "3.00 GiB", "1.00 GiB", str(settings.models_dir / FOLDER), "max_upload_mb"):
            assert said in told
    assert "?" in too_large(None, "much", settings, "en")
