"""The bundled ffmpeg, run by its absolute path.

It is never put on PATH: other libraries change what they do when they find a program called ffmpeg there.
"""

from __future__ import annotations

import subprocess
from pathlib import Path


def command(*arguments: str) -> list[str]:
    """The command line of a quiet, non-interactive ffmpeg."""
    import imageio_ffmpeg  # only where a video is made: the engine alone runs without it

    return [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", *arguments]


def file_url(path: Path) -> str:
    """`path` as ffmpeg reads it literally, whatever characters it holds."""
    return f"file:{path.absolute()}"


def run(*arguments: str, timeout_seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run ffmpeg to its end; output and log as text. Raises subprocess.TimeoutExpired, ffmpeg ended by then."""
    return subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout_seconds,
    )
