"""The folder of clips that somebody wants a model to learn: films, folders of frames, and what is to be seen in them.

A clip is a film or a folder of pictures in the order of their names. Its caption stands in a text file of the same name
beside it ("waterfall.mp4" and "waterfall.txt"), else its own name is the caption ("the_water_falls-03.mp4"). Nothing
is read twice and nothing of the folder is changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError
from i2v.models.parts_digest import parts_digest
from i2v.training.request import TrainingRequest
from i2v.video.clip import clip_facts, read_clip
from i2v.video.picture import fit_picture, load_picture

FILMS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".wmv"))
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
CAPTION = ".txt"
MOST_CAPTION_BYTES = 16 * 1024

# Proportions (width over height) that clips are brought to, so that many of them can be trained on together.
PROPORTIONS = (9 / 21, 9 / 16, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9, 21 / 9)


@dataclass(frozen=True)
class TrainingClip:
    """A clip as it will be trained on: in this size, its first `num_frames` frames. `digest`: of its contents."""

    path: Path
    caption: str
    width: int
    height: int
    num_frames: int
    digest: str

    @property
    def bucket(self) -> tuple[int, int, int]:
        """What clips must have in common to be in one batch."""
        return self.width, self.height, self.num_frames


@dataclass(frozen=True)
class ClipFolder:
    """The clips of a folder that can be trained on, and why the others cannot."""

    clips: tuple[TrainingClip, ...]
    left_out: tuple[Message, ...]


def read_folder(request: TrainingRequest, spec: FamilySpec) -> ClipFolder:
    """The clips of `request` for a model of `spec`'s family. Raises UserError where the folder cannot be read or holds
    no clip that can be used."""
    folder = Path(request.clips)
    found = _found(folder)
    if not found:
        raise UserError("training.no_clips", folder=str(folder), kinds=", ".join(sorted(FILMS)))
    clips, left_out = [], []
    for path in found:
        try:
            clips.append(_clip(path, request, spec))
        except UserError as error:
            left_out.append(error.message)
    if not clips:
        raise UserError("training.no_good_clips", folder=str(folder), count=len(found), reason=left_out[0].to_json())
    return ClipFolder(tuple(clips), tuple(left_out))


def frames_of(clip: TrainingClip, fps: int) -> list[Image.Image]:
    """The frames of `clip`, RGB, in its size. Raises UserError where the file is no longer what it was."""
    if not clip.path.is_dir():
        return read_clip(clip.path, clip.width, clip.height, clip.num_frames, fps, "crop")
    pictures = _pictures(clip.path)[: clip.num_frames]
    if len(pictures) < clip.num_frames:
        raise UserError("training.clip_changed", clip=clip.path.name)
    return [fit_picture(load_picture(one), clip.width, clip.height, "crop") for one in pictures]


def bucket_size(width: int, height: int, request: TrainingRequest, spec: FamilySpec) -> tuple[int, int]:
    """The size in which a clip of `width` x `height` is trained on: about as many pixels as was asked for, in the
    nearest of PROPORTIONS."""
    proportion = min(PROPORTIONS, key=lambda one: abs(math.log(one * height / width)))
    pixels = request.width * request.height
    return spec.nearest_size(math.sqrt(pixels * proportion)), spec.nearest_size(math.sqrt(pixels / proportion))


def caption_of(path: Path) -> str:
    """What stands in the text file beside `path`, in one line; else the words of its name, without a number behind.
    Raises UserError for a text that cannot be read."""
    beside = path.with_suffix(CAPTION) if path.suffix and not path.is_dir() else path.with_name(path.name + CAPTION)
    if beside.is_file():
        try:
            with beside.open("rb") as file:
                text = file.read(MOST_CAPTION_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError("training.caption_unreadable", file=str(beside)) from error
        return " ".join(text.split())
    name = path.name if path.is_dir() else path.stem
    return " ".join(re.sub(r"[\s_-]*\(?\d+\)?$", "", name).replace("_", " ").replace("-", " ").split())


def _found(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise UserError("training.clips_unreadable", folder=str(folder)) from error
    return [path for path in inside if not path.name.startswith(".") and _is_clip(path)]


def _is_clip(path: Path) -> bool:
    return bool(_pictures(path)) if path.is_dir() else path.suffix.lower() in FILMS


def _pictures(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    except OSError:
        return []


def _clip(path: Path, request: TrainingRequest, spec: FamilySpec) -> TrainingClip:
    if path.is_dir():
        pictures = _pictures(path)
        size, most = load_picture(pictures[0]).size, len(pictures)
        digest = _joined_digest(pictures)
    else:
        facts = clip_facts(path)
        size, most = (facts.width, facts.height), facts.frames_at(request.fps)
        digest = parts_digest(path)
    frames = _frames(most, request, spec)
    least = max(2, spec.min_frames)
    if frames < least:
        raise UserError("training.clip_short", clip=path.name, frames=most, least=least, fps=request.fps)
    width, height = bucket_size(*size, request, spec)
    words = (request.trigger.strip(), caption_of(path))
    return TrainingClip(path, ", ".join(filter(None, words)), width, height, frames, digest)


def _frames(most: int, request: TrainingRequest, spec: FamilySpec) -> int:
    """The largest allowed number of frames up to what was asked for that a clip of `most` frames has; 0 for none."""
    wanted = min(most, request.num_frames)
    rest = (wanted - spec.frame_offset) % spec.frame_step
    return max(0, wanted - rest)


def _joined_digest(pictures: Iterable[Path]) -> str:
    return "-".join((f"{len(list(pictures))}", *(parts_digest(one)[:8] for one in _some(list(pictures)))))


def _some(pictures: Sequence[Path]) -> list[Path]:
    """The first, a middle one and the last: a folder that was made anew differs in these."""
    return [pictures[0], pictures[len(pictures) // 2], pictures[-1]]
