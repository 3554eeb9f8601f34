"""Looking at a download from outside: by the files that are there."""

from __future__ import annotations

from pathlib import Path

from i2v.downloads.service import Downloads
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.models.fetch.parts import PARTS
from i2v.models.verify import verify_folder
from i2v.settings.settings import Settings
from tests.hub_server import Hub
from tests.jobs_support import settings_in, wait_until

REPO, NAME = "ali-vilab/i2vgen-xl", "i2vgen-xl"
OTHER, OTHER_ID = "someone/other", "someone--other"
UNET_FP16 = "unet/diffusion_pytorch_model.fp16.safetensors"
STOP = 100_000  # of a file's bytes, where the hub says no more
SMALL = 3000  # bytes of all files but the UNet, and more


def settings_for(folder: Path, hub: Hub, **more: object) -> Settings:
    return settings_in(folder, hf_endpoint=hub.url, **more)[0]


def part(folder: Path, download_id: str = NAME) -> Path | None:
    """The beginning of the UNet."""
    found = list((folder / "models" / download_id / PARTS).glob("unet/*.safetensors.*.part"))
    return found[0] if found else None


def part_bytes(folder: Path, download_id: str = NAME) -> int:
    path = part(folder, download_id)
    return path.stat().st_size if path else 0


def come_so_far(folder: Path, download_id: str = NAME) -> None:
    """Wait until the hub has told of the UNet what it tells."""
    wait_until(lambda: part_bytes(folder, download_id) == STOP, 60)


def state(downloads: Downloads, name: str = NAME) -> str:
    found = downloads.of(name)
    return found.state if found else "gone"


def ended(downloads: Downloads, name: str = NAME) -> str:
    wait_until(lambda: state(downloads, name) in ("done", "failed", "gone"), 60)
    return state(downloads, name)


def whole(folder: Path, hub: Hub, repo: str = REPO, download_id: str = NAME) -> bool:
    """Whether all that is needed is there, and equal to what the hub has; nothing is left on its way."""
    place = folder / "models" / download_id
    verify_folder(place, SPEC)
    names = {path.relative_to(place) for path in place.rglob("*") if path.is_file()}
    shown = {name for name in names if not str(name).startswith(".")}
    assert all((place / name).read_bytes() == (hub.repos[repo] / name).read_bytes() for name in shown)
    return not list((place / PARTS).rglob("*.part"))


def size(folder: Path, download_id: str = NAME) -> int:
    """The bytes of all files that were fetched."""
    place = folder / "models" / download_id
    return sum(
        path.stat().st_size
        for path in place.rglob("*")
        if path.is_file() and not str(path.relative_to(place)).startswith(".")
    )


def came_once(hub: Hub, size_bytes: int) -> bool:
    """Whether no byte of the UNets was served twice. A small file that was on its way when a process was killed may
    have been."""
    return size_bytes <= hub.served_bytes < size_bytes + SMALL
