"""Where models are looked for: those that come with the app, the models folder, folders of other programs, and the
cache of the hub's own library."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from huggingface_hub import constants

from i2v.models.entry import ASSETS
from i2v.models.gguf_files import GGUF
from i2v.models.hub_cache import HUB_FOLDER, newest_snapshot
from i2v.models.verify import PICKLES, SAFETENSORS, index_of

if TYPE_CHECKING:
    from i2v.settings.settings import Settings

LORAS = "loras"
WEIGHTS = (SAFETENSORS, GGUF, *PICKLES)
_DEPTH = 3  # folders below each other in which other programs keep a model
_MOST_FOLDERS = 2000  # looked into for one place, so that a whole disk that somebody names is not walked

PlaceKind = Literal["app", "models", "folder", "hub"]


@dataclass(frozen=True)
class ModelPlace:
    """A folder in which models are looked for: `app` (they come with it), `models` (the setting models_dir), `folder`
    (one of model_folders) or `hub` (the cache of the hub's own library)."""

    kind: PlaceKind
    folder: Path


Places = Mapping[ModelPlace, Sequence[tuple[Path, Path]]]
"""Places, and what `checkpoints_in` has found in each of them."""


def look_into(places: Iterable[ModelPlace]) -> Places:
    """What is in each of these places. Those that come with the app are known without looking."""
    return {place: () if place.kind == "app" else tuple(checkpoints_in(place)) for place in places}


def places_of(settings: Settings) -> tuple[ModelPlace, ...]:
    """Every place, in the order in which a name is looked for."""
    others = (ModelPlace("folder", folder) for folder in settings.model_folders)
    return (
        ModelPlace("app", ASSETS),
        ModelPlace("models", settings.models_dir),
        *others,
        ModelPlace("hub", hub_folder()),
    )


def place_of(folder: Path, settings: Settings) -> ModelPlace | None:
    """The place that `folder` is in; None where it is in none."""
    path = Path(os.path.abspath(folder))
    return next((one for one in places_of(settings) if path.is_relative_to(os.path.abspath(one.folder))), None)


def hub_folder() -> Path:
    """Where the hub's own library keeps what it has fetched (HF_HUB_CACHE, HF_HOME)."""
    return Path(constants.HF_HUB_CACHE)


def checkpoints_in(place: ModelPlace) -> Iterator[tuple[Path, Path]]:
    """Every checkpoint in diffusers layout of a place: the folder that a person would name, and the one that has its
    index, which is another in the layout of the hub's cache. What may not be read is passed over."""
    if place.kind == "hub":
        tops = (top for top in _folders(place.folder) if top.name.startswith(HUB_FOLDER))
        yield from ((top, snapshot) for top in tops if (snapshot := newest_snapshot(top)) is not None)
        return
    itself = newest_snapshot(place.folder) or place.folder
    if place.kind == "folder" and index_of(itself) is not None:
        yield place.folder, itself
        return
    for top, is_model in _walk(place):
        if is_model:
            yield top, newest_snapshot(top) or top


def top_folders_in(place: ModelPlace) -> Iterator[Path]:
    """Every folder of a place that is to be a model: in the models folder each but the one of LoRAs, else those with an
    index."""
    if place.kind == "models":
        yield from (folder for folder in _folders(place.folder) if folder.name != LORAS)
    else:
        yield from (top for top, _ in checkpoints_in(place))


def loose_files_in(place: ModelPlace) -> Iterator[Path]:
    """The files of weights in a place that are in no checkpoint's folder: the kind that other programs keep."""
    if place.kind in ("app", "hub") or index_of(place.folder) is not None:
        return
    below = () if place.kind == "models" else (top for top, is_model in _walk(place) if not is_model)
    for folder in (place.folder, *below):
        yield from _weights(folder)


def _walk(place: ModelPlace) -> Iterator[tuple[Path, bool]]:
    """The folders below a place's own, and whether each is a model's; what is in those is not looked into."""
    left, level = _MOST_FOLDERS, [place.folder]
    for _ in range(_DEPTH if place.kind == "folder" else 1):
        below: list[Path] = []
        for top in (top for folder in level for top in _folders(folder)):
            left -= 1
            if left < 0:
                return
            is_model = index_of(top) is not None or newest_snapshot(top) is not None
            yield top, is_model
            if not is_model:
                below.append(top)
        level = below


def _weights(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            names = sorted(one.name for one in found if Path(one.name).suffix in WEIGHTS and one.is_file())
    except OSError:
        return []
    return [folder / name for name in names]


def _folders(folder: Path) -> list[Path]:
    """The folders in one, by name, links to folders too; what is hidden is nobody's model."""
    try:
        with os.scandir(folder) as found:
            names = sorted(one.name for one in found if not one.name.startswith(".") and one.is_dir())
    except OSError:
        return []
    return [folder / name for name in names]
