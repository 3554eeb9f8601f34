"""What other windows than HunyuanVideo's own save in its autoencoder, and what they do to the picture.

    python -m bench.vae_windows

Bytes and work are those of the autoencoder at full size, computed on fake tensors for 129 frames of 1280x720, two at a
time inside a window. The picture: a photograph that is panned over goes through an encoder and a decoder of the real
class with fewer channels; PSNR and the latents' error are against the own windows. The weights are drawn, not trained,
since trained ones are not at hand: what is seen is how far norms and seams of other windows carry through such a
network. That puts the windows in order and is no promise for the published weights. Minutes on two cores; prints a
table and writes bench/results/vae_windows.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLHunyuanVideo
from PIL import Image
from torch import Tensor

from i2v.dryrun.runner import DryRunner
from i2v.families.hunyuan_video.spec import SPEC
from i2v.families.hunyuan_video.vae import decoded, encoded
from i2v.plan import Plan
from i2v.planning.known import Found
from i2v.request import GenerationRequest, Input
from i2v.units import GIB
from i2v.vae_window import OWN

EXAMPLES = Path(__file__).parents[1] / "i2v/assets/examples"
RESULTS = Path(__file__).parent / "results" / "vae_windows.json"
# The own one, those that a lossy policy offers, and others that a person might type.
WINDOWS = (OWN, *SPEC.windows.others, "5x8x8", "3x32x32", "17x16x16")
CHANNELS, GROUPS = (8, 16, 32, 32), 2  # a sixteenth of the published ones: as many channels in a group
SEED = 0
WIDTH, HEIGHT, FRAMES = 256, 192, 21  # pixels; two of the own windows in time
STEP = 3  # pixels that the photograph moves from a frame to the next
FULL_SIZE = GenerationRequest(
    model=SPEC.name, prompt="", width=1280, height=720, num_frames=129, fps=24, num_inference_steps=2,
    guidance_scale=6.0, seed=0, task="v2v", inputs=(Input("video", "", at=None),),
)  # fmt: skip


def photograph_clip() -> Tensor:
    """A part of a photograph that moves over it: (1, 3, F, H, W) in -1..1."""
    picture = Image.open(sorted(EXAMPLES.glob("*.jpg"))[0]).convert("RGB")
    wide = WIDTH + STEP * FRAMES
    scale = max(wide / picture.width, HEIGHT / picture.height)
    enlarged = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    pixels = torch.from_numpy(np.array(enlarged)).permute(2, 0, 1)
    frames = [pixels[:, :HEIGHT, STEP * number : STEP * number + WIDTH] for number in range(FRAMES)]
    return (torch.stack(frames, dim=1).float() / 255 * 2 - 1).unsqueeze(0)


def autoencoder() -> AutoencoderKLHunyuanVideo:
    """The published layers with fewer channels and drawn weights."""
    torch.manual_seed(SEED)
    return AutoencoderKLHunyuanVideo(block_out_channels=CHANNELS, norm_num_groups=GROUPS).eval().requires_grad_(False)


def latents_of(vae: AutoencoderKLHunyuanVideo, clip: Tensor, window: str) -> Tensor:
    return encoded(vae, clip.shape[2:], lambda part: clip[:, :, *part], window=window)


def psnr_db(found: Tensor, expected: Tensor) -> float:
    """Against the whole range of what is expected."""
    span = expected.max() - expected.min()
    return (10 * torch.log10(span.square() / (found - expected).square().mean())).item()


def differences(vae: AutoencoderKLHunyuanVideo, clip: Tensor) -> dict[str, tuple[float, float]]:
    """By window: the PSNR of frames decoded in it, and the relative error of latents encoded in it."""
    own_latents = latents_of(vae, clip, OWN)

    def frames(window: str) -> Tensor:
        return torch.cat(list(decoded(vae, own_latents, window=window)), dim=2)

    own_frames, found = frames(OWN), {}
    for window in WINDOWS[1:]:
        error = (latents_of(vae, clip, window) - own_latents).norm() / own_latents.norm()
        found[window] = psnr_db(frames(window), own_frames), error.item()
        print(window, found[window], flush=True)
    return found


def main() -> None:
    clip, dry = photograph_clip(), DryRunner(SPEC.name, None, "bfloat16")

    def computed(window: str) -> Found:
        plan = Plan(device="cuda", precision="bfloat16", decode_frames=2, vae_window=window)
        return dry.run(FULL_SIZE, plan, ("encode", "decode"))

    own = {phase.name: phase for phase in computed(OWN).phases}
    found = differences(autoencoder(), clip)
    rows = []
    for window in WINDOWS:
        phases = {phase.name: phase for phase in computed(window).phases}
        row = {
            "window": SPEC.windows.own if window == OWN else window,
            "decode_gib": round(phases["decode"].activations_bytes / GIB, 2),
            "encode_gib": round(phases["clip"].activations_bytes / GIB, 2),
            "decode_work": round(phases["decode"].once.at_ridge(100) / own["decode"].once.at_ridge(100), 2),
        }
        if window != OWN:
            psnr, error = found[window]
            row |= {"psnr_db": round(psnr, 1), "latents_error": round(error, 4)}
        rows.append(row)
        print(row)
    RESULTS.write_text(
        json.dumps({"offered": list(SPEC.windows.others), "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
