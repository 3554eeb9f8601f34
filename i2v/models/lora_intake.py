"""A LoRA file that comes from elsewhere is put into the folder of LoRAs: looked at first, whole or not at all, and
under a name that no other has."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

from i2v.messages import UserError
from i2v.models.adapters import FOLDER, content_of, list_adapters, name_of, refusals_of
from i2v.models.verify import PICKLES, SAFETENSORS
from i2v.units import GIB
from i2v.whole_file import whole_file

MOST_BYTES = 8 * GIB  # of a LoRA; the largest known have two
LONGEST_NAME = 80  # characters, of up to three bytes: a disk takes 255 bytes
SPARE_BYTES = GIB // 4  # left free on the disk
_UNUSUAL = re.compile(r"[^\w ().+-]")
_NOT_FOR_IT = ("models.adapter_layer", "models.adapter_stated")
_adding = threading.Lock()


def take_in(file: Path, name: str, models_dir: Path, *, move: bool = False) -> str:
    """Copy `file`, called `name` by whoever gives it, into the folder of LoRAs, or `move` it there, and return what it
    is called there. One that is there already is not put there again. Raises UserError, with nothing left behind, where
    it is no LoRA for any model that is known here, or does not fit on the disk."""
    shown = Path(name.replace("\\", "/")).name
    if Path(shown).suffix.lower() in PICKLES:
        raise UserError("models.adapter_pickle", file=shown)
    if Path(shown).suffix.lower() != SAFETENSORS:
        raise UserError("models.adapter_ending", file=shown)
    check_for_any(file, shown)
    size_bytes = file.stat().st_size
    if size_bytes > MOST_BYTES:
        raise UserError("models.adapter_too_large", file=shown, gib=round(size_bytes / GIB, 1), limit=MOST_BYTES // GIB)
    folder = models_dir / FOLDER
    with _adding:
        content = content_of(file)
        for other in list_adapters(models_dir):
            if other.size_bytes == size_bytes and other.problem is None and content_of(other.path) == content:
                return other.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not move:
                check_room(folder, shown, size_bytes)
            place = _free_place(folder, shown)
            with whole_file(place) as part:
                (shutil.move if move else shutil.copyfile)(file, part)
                if part.stat().st_size != size_bytes:
                    raise UserError("models.truncated", file=shown, size=part.stat().st_size, needed=size_bytes)
        except OSError as error:
            raise UserError("models.not_writable", folder=str(folder), reason=error.strerror or str(error)) from error
    return name_of(place, models_dir)


def check_for_any(file: Path, shown: str) -> None:
    """Raise UserError, which calls the file `shown`, where it is no LoRA for any family."""
    refusals = refusals_of(file).values()
    if None in refusals:
        return
    # Other families say only that it is not for them.
    told = next((one for one in refusals if one is not None and one.id not in _NOT_FOR_IT), None)
    if told is None:
        raise UserError("models.adapter_no_family", file=shown)
    raise UserError(told.id, **{**told.params, "file": shown})


def check_room(folder: Path, name: str, size_bytes: int) -> None:
    """Raise UserError where the disk of `folder` has too little room for `size_bytes` more."""
    free = shutil.disk_usage(folder).free
    if free < size_bytes + SPARE_BYTES:
        needed_gib, free_gib = (round(one / GIB, 1) for one in (size_bytes + SPARE_BYTES, free))
        raise UserError(
            "models.disk_too_small", model=name, folder=str(folder), needed_gib=needed_gib, free_gib=free_gib
        )


def _free_place(folder: Path, name: str) -> Path:
    """Where a file called `name` comes to lie: numbered where the name is taken. Whether capitals count is the disk's
    affair, so they do not here."""
    stem = _UNUSUAL.sub("_", Path(name).stem).strip("_. ")[:LONGEST_NAME].rstrip(" .") or "lora"
    taken = {one.stem.casefold() for one in folder.iterdir() if one.suffix.lower() == SAFETENSORS}
    numbered, number = stem, 2
    while numbered.casefold() in taken:
        numbered, number = f"{stem} ({number})", number + 1
    return folder / f"{numbered}{SAFETENSORS}"
