"""Clips of an earlier version of nano, as a control: its code and weights, taken out of git, run in their own process.

The process that draws runs this file itself, with the earlier `i2v` first on its path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from types import TracebackType

import numpy as np

COMMIT = "a00453f6"  # the last one whose latents have every frame, and no brush
FRAMES, FPS = 16, 12  # its default clip


class Before:
    """`clip` makes the earlier version's frames; used as a context, since a process and a folder stand behind it."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._folder = tempfile.TemporaryDirectory()
        root = Path(self._folder.name)
        packed = subprocess.run(["git", "archive", COMMIT, "i2v"], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(root, filter="data")
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())], cwd=root, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __enter__(self) -> Before:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stdin.close()
        self._child.wait()
        self._folder.cleanup()

    def clip(self, picture: np.ndarray, prompt: str, seed: int) -> np.ndarray:
        """(F, H, W, 3) uint8 from `picture` (H, W, 3) uint8. RuntimeError where the process has ended."""
        path = Path(self._folder.name) / "clip.npy"
        np.save(path, picture)
        order = {"path": str(path), "prompt": prompt, "seed": seed, "steps": self._steps}
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        if not self._child.stdout.readline():
            raise RuntimeError(f"the version before ended with exit code {self._child.wait()}")
        return np.load(path)


def serve() -> None:
    """Make the clip of every order that comes in, over its own picture's file."""
    import torch
    from PIL import Image

    from i2v.families.nano.model import load
    from i2v.memory.card import HostCard
    from i2v.plan import Plan
    from i2v.request import GenerationRequest

    torch.set_num_threads(1)
    model, plan, card = load(Path("i2v/assets/nano"), torch.float32), Plan(), HostCard()
    for line in sys.stdin:
        order = json.loads(line)
        picture = Image.fromarray(np.load(order["path"]))
        request = GenerationRequest(
            model="nano", prompt=order["prompt"], width=picture.width, height=picture.height, num_frames=FRAMES,
            fps=FPS, num_inference_steps=order["steps"], guidance_scale=1.0, seed=order["seed"],
        )  # fmt: skip
        conditioning: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for stage in model.encode_stages(request, picture, plan):
                stage.run(card, conditioning)
            latents = model.prepare(request, plan)
            for index in range(request.num_inference_steps):
                latents = model.denoise_step(card, conditioning, latents, index, request, plan).latents
            frames = [frame.numpy() for frame in model.decode(card, conditioning, latents, request, plan)]
        np.save(order["path"], np.stack(frames))
        print("made", flush=True)


if __name__ == "__main__":
    serve()
