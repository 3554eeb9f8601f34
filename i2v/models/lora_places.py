"""Where LoRAs lie, and which file a name means: the folder `loras` of the models folder first, then those of other
programs whose models are named in the setting `model_folders`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from i2v.models.verify import PICKLES, SAFETENSORS

FOLDER = "loras"
MOST_FILES = 5000  # of one folder, so that a whole disk that somebody names is not walked
_CALLED = ("lora", "loras")
_MODELS = "models"


def lora_folders(model_folders: Iterable[Path]) -> tuple[Path, ...]:
    """The folders of LoRAs of other programs: of these folders those that are called so, and those in them or in their
    folder `models`."""
    found: dict[Path, None] = {}
    for folder in model_folders:
        if folder.name.casefold() in _CALLED:
            found[folder] = None
            continue
        for inside in (folder, folder / _MODELS):
            found |= dict.fromkeys(one for one in _folders(inside) if one.name.casefold() in _CALLED)
    return tuple(found)


def files_in(folder: Path) -> Iterator[Path]:
    """The files in `folder` and below it that may be LoRAs, without what is hidden. Not by `rglob`, which stops where a
    folder goes while it looks: what is fetched has one for a time."""
    left = MOST_FILES
    for inner, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(inner, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix in (SAFETENSORS, *PICKLES) and path.is_file():
                if left == 0:
                    return
                left -= 1
                yield path


def is_adapter(
    source: str, models_dir: Path, elsewhere: Sequence[Path] = (), *, listed_only: bool = False
) -> Path | None:
    """The file that is called `source`: by its name in the folder of LoRAs or in one of the folders `elsewhere`, or by
    its path, which has to lie in one of these where only listed files may be named. None where there is none."""
    try:
        for folder in _all(models_dir, elsewhere):
            for name in (f"{source}{SAFETENSORS}", source):
                path = Path(os.path.abspath(folder / name))
                if path.is_relative_to(folder) and path.is_file():
                    return path
        path = Path(source).expanduser().absolute()
        return path if not listed_only and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no name that a file could have
        return None


def name_of(path: Path, models_dir: Path, elsewhere: Sequence[Path] = ()) -> str:
    """What the file at `path` is called in a request: its path where another file has its name."""
    path = Path(os.path.abspath(path))
    for folder in _all(models_dir, elsewhere):
        if path.is_relative_to(folder):
            name = path.relative_to(folder).as_posix().removesuffix(SAFETENSORS)
            return name if is_adapter(name, models_dir, elsewhere) == path else str(path)
    return str(path)


def _all(models_dir: Path, elsewhere: Sequence[Path]) -> list[Path]:
    return [Path(os.path.abspath(one)) for one in (models_dir / FOLDER, *elsewhere)]


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return sorted(Path(one.path) for one in found if not one.name.startswith(".") and one.is_dir())
    except OSError:
        return []
