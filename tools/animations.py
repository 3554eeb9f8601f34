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

from i2v.ui.create.examples import WAYS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "i2v" / "assets" / "examples"
OUT = ROOT / "docs" / "animations"
SIDE = 300  # pixels, the longer side
FPS = 12


@dataclass(frozen=True)
class Animation:
    """One of them: the example's name, what is asked of it, and whether what is painted there is to move."""

    name: str
    picture: str
    prompt: str
    painted: bool = False


ANIMATIONS = (
    Animation("clouds", "mountains", "clouds drift across the sky"),
    Animation("brook", "brook", "the water flows", painted=True),
    Animation("dandelion", "dandelion", "the dandelion sways in the wind", painted=True),
    Animation("orbit", "mountains", "镜头向左环绕"),
)


def make(animation: Animation, out: Path) -> Path:
    """Generate one clip and write it as an animated WebP that runs for ever; returns its path."""
    with tempfile.TemporaryDirectory() as folder:
        picture = EXAMPLES / f"{animation.picture}.jpg"
        command = [
            sys.executable, "-m", "i2v", "generate", "--model", "nano", "--image", picture, "--prompt",
            animation.prompt, "--seed", "1", "--out", folder, "--cpu",
        ]  # fmt: skip
        if animation.painted:
            command += ["--region", EXAMPLES / f"{animation.picture}.png"]
            command += [f"--way={WAYS[animation.picture]}"] if animation.picture in WAYS else []
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        video = ROOT / done.stdout.strip().splitlines()[-1]
        target = out / f"{animation.name}.webp"
        scale = f"fps={FPS},scale='if(gt(iw,ih),{SIDE},-2)':'if(gt(iw,ih),-2,{SIDE})':flags=lanczos"
        convert = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", video, "-vf", scale, "-c:v", "libwebp_anim",
            "-quality", "60", "-compression_level", "6", "-loop", "0", "-an", target,
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
