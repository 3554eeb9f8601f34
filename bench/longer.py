"""Clips longer than a model was trained on: memory, seams between windows, and motion to the end.

    python -m bench.longer

- nano, whose latents are motions of the whole clip: memory on a simulated card for 16, 96 and 720 frames, and whether
  the motion that was asked for goes on in every sixth of the clip, by optical flow.
- The version of nano that came before, a trained network with attention and convolutions over time that was made for
  sixteen frames: its motion fields for 32 frames at once and in windows, and for 96 frames in windows, with every third
  of a frame's time. A *seam* is the step from one frame to the next where a window begins or ends, as a multiple of the
  mean step elsewhere; hard cuts (windows that do not overlap) are the control.
- I2VGen-XL, an untrained small checkpoint: peak for 16 to 256 frames on a simulated card, seams of its latents; and at
  full size, from dry runs, what half a minute holds and takes on a card beside what sixteen frames do.

Minutes on two cores. Writes bench/results/longer.json; exits 1 where a limit is not kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.dryrun.runner import DryRunner
from i2v.families import SPECS
from i2v.families.anchors import Anchors
from i2v.families.base import FamilyModel, Inputs
from i2v.families.fused import fused
from i2v.families.i2vgen_xl.model import load as load_i2vgen_xl
from i2v.families.long_clips import SIXTEEN_FRAMES, LongClips
from i2v.families.nano.fields import CAMERA_UNIT, picture_channels
from i2v.families.nano.model import load as load_nano
from i2v.families.phases import Phases
from i2v.families.pixels import to_tensor
from i2v.families.text import token_ids
from i2v.memory.card import HostCard, SimulatedCard
from i2v.plan import Plan, everywhere
from i2v.planning.cost import predict
from i2v.planning.known import PHASES, joined
from i2v.planning.machine import imagined_machine
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.checkpoints import Size, build_checkpoint
from tools.train_nano.before import COMMIT
from tools.train_nano.measures import flow

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "longer.json"
PHOTOGRAPH = ROOT / "i2v/assets/examples/mountains.jpg"
SPLIT = Plan(cfg="split", places=everywhere("staged"), decode_frames=1)
MOST_MEMORY, MOST_SEAM = 1.05, 1.1
STEPS = 10  # of the version before; more change its fields by little
CARD = "RTX 3060"
PARTS = 6  # of a clip in which motion is looked for


def request(
    model: str, prompt: str, side: int, frames: int, fps: int, steps: int, guidance: float
) -> GenerationRequest:
    return GenerationRequest(
        model=model, prompt=prompt, width=side, height=side, num_frames=frames, fps=fps, num_inference_steps=steps,
        guidance_scale=guidance, seed=1,
    )  # fmt: skip


def run(model: FamilyModel, asked: GenerationRequest, *, keeps: bool = False) -> tuple[int, Tensor, list[np.ndarray]]:
    """The most bytes on a simulated card, the latents, and the frames where they are to be kept."""
    card, made, peak, frames = SimulatedCard(64 * GIB), {}, 0, []
    picture = Image.open(PHOTOGRAPH).convert("RGB").resize((asked.width, asked.height))
    with card.running():
        phases = Phases(model, card, asked, SPLIT)
        for _, entries in phases.encode(Inputs({0: picture})):
            made |= entries
        for stepped in phases.denoise(made):
            latents = card.to_host(stepped)
        del stepped
        for frame in phases.decode(made, latents):
            frames += [frame.numpy()] if keeps else []
        peak = card.read_memory().peak_allocated_bytes
    return peak, latents, frames


def seams(steps: Sequence[float], long: LongClips) -> dict[str, float]:
    """Of the steps from frame to frame, those where a window begins or ends, as multiples of the mean of the others:
    their mean and the largest; 1 where there is one window."""
    frames = len(steps) + 1
    borders = {edge - 1 for window in long.windows(frames) for edge in (window.start, window.stop) if 0 < edge < frames}
    inside = float(np.mean([step for place, step in enumerate(steps) if place not in borders]))
    at = [steps[place] / inside for place in sorted(borders)] or [1.0]
    return {"mean": round(float(np.mean(at)), 3), "most": round(float(np.max(at)), 3)}


def steps_of(fields: Tensor) -> list[float]:
    """How far (C, F, h, w) goes from each frame to the next, on the mean."""
    return (fields[:, 1:] - fields[:, :-1]).float().norm(dim=0).mean((1, 2)).tolist()


def bundled() -> dict[str, Any]:
    """nano as it ships."""
    model = load_nano(ROOT / "i2v/assets/nano", torch.float32)
    rows = {}
    for frames in (16, 96, 720):
        peak, _, made = run(model, request("nano", "pan right", 128, frames, 24, 10, 1.0), keeps=True)
        every = max(1, len(made) // 48)  # so that each step is seen
        ways = [float(np.median(flow(one, other)[..., 0])) for one, other in zip(made, made[every:], strict=False)]
        parts = [float(np.mean(part)) for part in np.array_split(ways[::every], PARTS)]
        rows[frames] = {"peak_bytes": peak, "pixels_right_by_sixths": [round(part, 3) for part in parts]}
    return rows


class Before:
    """The version of nano before this one, whose latents have every frame."""

    def __init__(self, folder: Path) -> None:
        packed = subprocess.run(["git", "archive", COMMIT, "i2v/assets/nano"], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        self.folder = folder / "i2v/assets/nano"
        local = {"local_files_only": True, "use_safetensors": True}
        self.unet = UNet3DConditionModel.from_pretrained(self.folder / "unet", torch_dtype=torch.float32, **local)
        encoder = CLIPTextModel.from_pretrained(self.folder / "text_encoder", dtype=torch.float32, **local)
        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        self.unet.eval().requires_grad_(False)
        with torch.no_grad():
            self.text = encoder(token_ids(tokenizer, "pan right")).last_hidden_state
        self.seen = picture_channels(to_tensor(Image.open(PHOTOGRAPH).convert("RGB").resize((384, 384))), 24, 24, 1.0)

    @torch.no_grad()
    def camera(self, frames: int, long: LongClips, pace: float, *, anchors: bool) -> Tensor:
        """Where the camera takes each cell (2, F, 24, 24) in short sides, with `pace` of the taught time a frame."""
        scheduler = DDIMScheduler.from_pretrained(self.folder / "scheduler", local_files_only=True)
        scheduler.set_timesteps(STEPS)
        at = torch.arange(frames) * pace
        times = torch.stack([at / 16, torch.exp(-at / 2)])[None, :, :, None, None].expand(-1, -1, -1, 24, 24)
        seen = self.seen[:, :, None].expand(-1, -1, frames, -1, -1)
        latents = torch.randn(1, 7, frames, 24, 24, generator=torch.Generator().manual_seed(1))
        for timestep in scheduler.timesteps:
            sample, shared = torch.cat([latents, seen, times], 1), Anchors(HostCard(), self.unet, long.anchor_frames)

            def asked(window: slice, sample: Tensor = sample, timestep: Tensor = timestep) -> Tensor:
                answer = self.unet(sample[:, :, window], timestep, self.text, timestep_cond=self.text[:, -1])
                return answer.sample

            def sharing(window: slice, asked: Any = asked, shared: Anchors = shared) -> Tensor:
                with shared.shared(keeps=window.start == 0):
                    return asked(window)

            answer = fused(HostCard(), long, latents, sharing if anchors and long.is_long(frames) else asked)
            latents = scheduler.step(answer, timestep, latents).prev_sample
        return latents[0, :2] * CAMERA_UNIT


def trained() -> dict[str, Any]:
    """The version before."""
    whole, cut = LongClips(32), LongClips(16, overlap_frames=0)
    with tempfile.TemporaryDirectory() as folder:
        before = Before(Path(folder))
        ways = {
            "32 at once": (32, whole, 1.0, False), "32 in windows": (32, SIXTEEN_FRAMES, 1.0, True),
            "32 cut": (32, cut, 1.0, False), "96 in windows": (96, SIXTEEN_FRAMES, 1 / 3, True),
        }  # fmt: skip
        rows = {}
        for name, (frames, long, pace, anchors) in ways.items():
            camera = before.camera(frames, long, pace, anchors=anchors)
            along = camera[0].mean((1, 2))
            thirds = [float(part[-1] - part[0]) for part in along.chunk(PARTS)]
            rows[name] = {
                "seams": seams(steps_of(camera), cut if name.endswith("cut") else SIXTEEN_FRAMES),
                "x_at_the_end": round(float(along[-1]), 4), "x_by_sixths": [round(part, 4) for part in thirds],
            }  # fmt: skip
    return rows


def untrained() -> dict[str, Any]:
    """A small checkpoint of I2VGen-XL."""
    with tempfile.TemporaryDirectory() as folder:
        size = Size(channels=(16, 32), groups=4, head_dim=8, vae_channels=(8, 8, 8, 16))
        model = load_i2vgen_xl(build_checkpoint(Path(folder) / "small", size), torch.float32)
        rows = {}
        for frames in (2, 16, 17, 64, 256):  # the first only fills caches
            peak, latents, _ = run(model, request("small", "a lake", 64, frames, 8, 4, 6.0))
            rows[frames] = {"peak_bytes": peak, "seams": seams(steps_of(latents[0]), SIXTEEN_FRAMES)}
    return {frames: row for frames, row in rows.items() if frames > 2}


def full_size() -> dict[str, Any]:
    """I2VGen-XL at 512x512, as the planner has it."""
    dry, spec, rows = DryRunner("i2vgen_xl", None, "float16"), SPECS["i2vgen_xl"], {}
    plan = Plan(precision="float16", places=everywhere("staged"), **spec.rungs[2])
    for frames in (16, 28, 480):
        asked = request("i2vgen_xl", "", 512, frames, 16, spec.defaults.num_inference_steps, 9.0)
        found = dry.run(asked, plan)
        found = joined([found.part(phase) for phase in PHASES], spec.shares(frames))
        prediction = predict(found, asked, plan, imagined_machine(CARD, 12 * GIB, 64 * GIB, 500 * GIB))
        rows[frames] = {
            "peak_bytes": prediction.peak.peak_bytes, "seconds": round(prediction.seconds),
            "windows": len(SIXTEEN_FRAMES.windows(frames)),
        }  # fmt: skip
    return rows


def broken(results: Mapping[str, Any]) -> list[str]:
    """The limits that are not kept."""
    nano, before, small = results["nano"], results["nano before"], results["i2vgen_xl small"]
    said = []
    for name, rows in (("nano", nano), ("i2vgen_xl small", small), ("i2vgen_xl full size", results["i2vgen_xl"])):
        peaks = {frames: row["peak_bytes"] for frames, row in rows.items()}
        said += [
            f"{name}: {frames} frames hold {peak}" for frames, peak in peaks.items() if peak > MOST_MEMORY * peaks[16]
        ]
    if len({row["peak_bytes"] for frames, row in small.items() if frames > 16}) > 1:
        said.append("i2vgen_xl small: memory grows with the length")
    for name, row in (*before.items(), *small.items()):
        if "cut" not in str(name) and row["seams"]["mean"] > MOST_SEAM:
            said.append(f"{name}: seams {row['seams']}")
    if before["32 cut"]["seams"]["mean"] <= MOST_SEAM:
        said.append("cuts are not seen as seams")
    for name, row in before.items():
        if max(row["x_by_sixths"]) >= 0:
            said.append(f"{name}: the picture does not go left in every sixth: {row['x_by_sixths']}")
    for frames, row in nano.items():
        if max(row["pixels_right_by_sixths"]) >= 0:
            said.append(f"nano, {frames} frames: the picture does not go left in every sixth")
    return said


def main() -> int:
    torch.set_num_threads(1)
    parts = {"nano": bundled, "nano before": trained, "i2vgen_xl small": untrained, "i2vgen_xl": full_size}
    results: dict[str, Any] = {}
    for name, part in parts.items():
        results[name] = part()
        for row, told in results[name].items():
            print(f"{name}, {row}: {told}", flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for said in (missed := broken(results)):
        print(f"Not kept: {said}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
