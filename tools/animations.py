"""Make the small animations of README.md with the app's own command line and the pictures that ship with it.

python -m tools.animations
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "i2v" / "assets" / "examples"
OUT = ROOT / "docs" / "animations"
SIDE = 300  # pixels, the longer side


@dataclass(frozen=True)
class Animation:
    """One of them: the example picture's name, what is asked of it, and how many frames."""

    name: str
    picture: str
    prompt: str
    frames: int = 16


ANIMATIONS = (
    Animation("lake", "lake.jpg", "slow zoom in while the water ripples"),
    Animation("rose", "rose.jpg", "the flower blooms"),
    Animation("lamp", "lamp.jpg", "zoom in, the light flickers"),
    Animation("night", "lake.jpg", "夜幕降临"),
)


def make(animation: Animation, out: Path) -> Path:
    """Generate one clip and write it as an animated WebP that runs for ever; returns its path."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "i2v", "generate", "--model", "nano", "--image", EXAMPLES / animation.picture,
            "--prompt", animation.prompt, "--frames", str(animation.frames), "--seed", "1", "--out", folder, "--cpu",
        ]  # fmt: skip
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        video = ROOT / done.stdout.strip().splitlines()[-1]
        target = out / f"{animation.name}.webp"
        scale = f"scale='if(gt(iw,ih),{SIDE},-2)':'if(gt(iw,ih),-2,{SIDE})':flags=lanczos"
        convert = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", video, "-vf", scale, "-c:v", "libwebp_anim",
            "-quality", "70", "-compression_level", "6", "-loop", "0", "-an", target,
        ]  # fmt: skip
        subprocess.run(convert, check=True)
        return target


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    for animation in ANIMATIONS:
        path = make(animation, OUT)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB, {animation.prompt}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
