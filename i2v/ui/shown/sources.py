"""What a job's video was made from, as files in its folder."""

from __future__ import annotations

from pathlib import Path

from i2v.request import GenerationRequest


def sources_of(folder: Path, request: GenerationRequest) -> list[str | None]:
    """The photograph, the video and the last picture that the job in `folder` has; None for each that it has not, or no
    more."""
    paths = (request.image_path, request.clip_path, request.last_image_path)
    names = (Path(name).name if name else None for name in paths)
    return [str(folder / name) if name and (folder / name).is_file() else None for name in names]
