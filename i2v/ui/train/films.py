"""Clips that were uploaded to train on: each looked at, then laid down together in a folder of their own, with their
captions beside them, as `training/clips.py` reads it. The folder is hidden: no address of the page leads into it."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2v.jobs.job.stored import hidden_folder
from i2v.messages import UserError
from i2v.settings.settings import Settings
from i2v.training.asked import WORK, lora_file
from i2v.training.clips import CAPTION, FILMS, caption_of
from i2v.ui.api import uploaded_path
from i2v.ui.gate.access import steers_all
from i2v.ui.gate.own import OwnJobs
from i2v.video.clip import clip_facts
from i2v.whole_file import discard_folder, whole_folder

FOLDER = "clips"
LONGEST_NAME = 56  # characters, of up to four bytes: a disk takes 255 bytes
_UNUSUAL = re.compile(r"[^\w ()+-]")
_KIND = re.compile(r"\.[A-Za-z0-9]{1,8}")


@dataclass(frozen=True)
class Film:
    """An uploaded file, under the name that it has with whoever sent it, and the caption which that name is."""

    path: Path
    name: str
    caption: str = ""


def films_of(files: Any) -> tuple[Film, ...]:
    """The films behind Gradio's file data, each under a name that no other has. Raises UserError for what is no
    upload."""
    films: list[Film] = []
    for file in files if isinstance(files, Sequence) and not isinstance(files, str) else filter(None, [files]):
        path = uploaded_path(file, "video")
        if path is None:
            raise UserError("ui.bad_video_upload")
        name = _plain(str(file.get("orig_name") or path.name))
        films.append(Film(path, _unlike(name, {film.name for film in films}), caption_of(Path(name))))
    return tuple(films)


def proposed_captions(films: Sequence[Film], before: Any = None) -> list[list[str]]:
    """The table of names and captions: those that stand there already, else the words of the name."""
    kept = captions_in(before)
    return [[film.name, kept.get(film.name, film.caption)] for film in films]


def captions_in(table: Any) -> dict[str, str]:
    """Captions by the names of their clips, of the table as the browser sends it or of a mapping."""
    if isinstance(table, Mapping) and "data" not in table:
        return {str(name): str(caption) for name, caption in table.items()}
    rows = table.get("data") if isinstance(table, Mapping) else table
    return {str(row[0]): str(row[1] or "") for row in rows or () if isinstance(row, Sequence) and len(row) > 1}


def train(
    own: OwnJobs, settings: Settings, values: Mapping[str, Any], films: Sequence[Film], captions: Mapping[str, str]
) -> str:
    """The id of a new training, on `films` where there are any, else on the folder that `values` name. Raises UserError
    with nothing left behind."""
    own.no_guest("a new training")
    name = str(values.get("name") or "").strip()
    _check_free(name, own, settings)
    if not films:
        if not str(values.get("clips") or "").strip():
            raise UserError("training_page.clips_needed", kinds=", ".join(sorted(FILMS)))
        return own.train(values)
    if not name:
        raise UserError("training_page.name_needed")
    for film in films:
        _check(film, settings)
    with _laid_down(films, captions, hidden_folder(settings.outputs_dir) / FOLDER) as folder:
        return own.train(values, folder)


def _check_free(name: str, own: OwnJobs, settings: Settings) -> None:
    """Raises UserError where a LoRA is called `name`, or a training that is another's: its progress lies in the folder
    of that name, and its clips are for who has a training of it."""
    taken = bool(name) and lora_file(settings, name).exists()
    if name and not steers_all(own.who):
        named = [job.owner for job in own.service.jobs() if job.task == "train" and _same(job.request.prompt, name)]
        begun = (settings.outputs_dir / WORK / name).exists()
        taken = taken or any(owner != own.who for owner in named) or (begun and not named)
    if taken:
        raise UserError("training_page.name_taken", name=name)


def _same(one: str, other: str) -> bool:
    """Whether two names may be one on a disk."""
    return one.casefold() == other.casefold()


def _check(film: Film, settings: Settings) -> None:
    if Path(film.name).suffix.lower() not in FILMS:
        raise UserError("training_page.no_film", file=film.name, kinds=", ".join(sorted(FILMS)))
    clip_facts(film.path, max_megapixels=settings.max_picture_megapixels)


@contextmanager
def _laid_down(films: Sequence[Film], captions: Mapping[str, str], parent: Path) -> Iterator[Path]:
    """The folder with `films`, which stays when the block ends well."""
    folder = parent / secrets.token_hex(8)
    try:
        with whole_folder(folder) as part:
            for film in films:
                shutil.copyfile(film.path, part / film.name)
                caption = " ".join(captions.get(film.name, film.caption).split())
                (part / film.name).with_suffix(CAPTION).write_text(caption + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError("training_page.not_kept", reason=error.strerror or str(error)) from error
    try:
        yield folder
    except BaseException:
        discard_folder(folder)
        raise


def _plain(name: str) -> str:
    """A name that every disk can have, of the same kind of file. It has one dot at most, before that kind, so that its
    stem is the same to whoever takes it apart."""
    path = Path(name.replace("\\", "/"))
    stem = _UNUSUAL.sub("_", path.stem).strip("_ ")[:LONGEST_NAME].rstrip()
    kind = path.suffix if _KIND.fullmatch(path.suffix) else ""
    return (stem or "clip") + kind


def _unlike(name: str, others: set[str]) -> str:
    """`name`, or one made of it whose stem no other has: captions are found by it, where capitals may not count."""
    taken = {Path(other).stem.casefold() for other in others}
    path, number = Path(name), 2
    stem = path.stem
    while stem.casefold() in taken:
        stem, number = f"{path.stem} ({number})", number + 1
    return stem + path.suffix
