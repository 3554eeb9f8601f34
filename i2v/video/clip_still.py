"""The first frame of a clip as a picture, whole or small."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from i2v.video.clip import clip_facts, read_clip
from i2v.video.stills import SMALL_PIXELS
from i2v.whole_file import whole_file


def first_image(path: Path, longest_side: int | None = None) -> Image.Image:
    """The first frame of the clip at `path` as it is shown, its longer side at most `longest_side` pixels. Raises
    UserError as `clip_facts` does."""
    facts = clip_facts(path)
    scale = min(1.0, longest_side / max(facts.width, facts.height)) if longest_side else 1.0
    width, height = (max(1, round(side * scale)) for side in (facts.width, facts.height))
    (frame,) = read_clip(path, width, height, 1, facts.fps, "crop")
    return frame


def small_first_image(clip: Path, target: Path) -> None:
    """Write the first frame of `clip`, its longer side at most SMALL_PIXELS, as the WebP `target`. Raises UserError as
    `first_image` does, and OSError."""
    frame = first_image(clip, SMALL_PIXELS)
    with whole_file(target) as part:
        frame.save(part, "WEBP")
