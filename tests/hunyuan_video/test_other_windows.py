"""Other windows of the autoencoder than its own: what diffusers makes with these windows, in what was foretold, and
never mistaken for what the own windows give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.engine.checkpoint import identity_of
from i2v.engine.encoded import EncodedCache
from i2v.families.base import Stage
from i2v.families.hunyuan_video.spec import SPEC
from i2v.families.hunyuan_video.vae import _windows, decoded, encoded
from i2v.memory.windows import Extent
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.vae_window import LEAST, OWN
from tests.checkpoints import redraw_zeros
from tests.hunyuan_checkpoints import small_vae

# Windows and what diffusers calls them, in pixels and frames: lengths in time, height and width, then strides.
WINDOWS = {"3x4x6": ((8, 32, 48), (4, 24, 32)), "5x8x7": ((16, 64, 56), (12, 48, 40))}
MEASURED = Path(__file__).parents[2] / "bench/results/vae_windows.json"
SIZES = [(2, 4, 13), (4, 9, 8), (7, 5, 8)]  # latent frames, rows, columns


def vae_with(lengths: tuple[int, int, int], strides: tuple[int, int, int]) -> AutoencoderKLHunyuanVideo:
    torch.manual_seed(0)
    vae = small_vae().eval().requires_grad_(False)
    redraw_zeros(vae)
    names = "num_frames", "height", "width"
    vae.enable_tiling(
        **{f"tile_sample_min_{name}": length for name, length in zip(names, lengths, strict=True)},
        **{f"tile_sample_stride_{name}": stride for name, stride in zip(names, strides, strict=True)},
    )
    return vae


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_is_what_diffusers_makes_of_it_to_the_bit(window, size):
    theirs, ours = vae_with(*WINDOWS[window]), vae_with((16, 256, 256), (12, 192, 192))
    latents = torch.randn(1, 16, *size)
    frames = torch.cat(list(decoded(ours, latents, window=window)), dim=2)
    assert torch.equal(frames, theirs.decode(latents, return_dict=False)[0])
    pixels = torch.rand(1, 3, 4 * size[0] - 3, 8 * size[1], 8 * size[2]) * 2 - 1
    found = encoded(ours, pixels.shape[2:], lambda part: pixels[:, :, *part], window=window)
    assert torch.equal(found, theirs.encode(pixels).latent_dist.mode())
    assert not torch.equal(frames, torch.cat(list(decoded(ours, latents)), dim=2))


def test_the_name_of_the_own_window_is_what_diffusers_has():
    vae = small_vae()
    for time, space in ((4, 8), (1, 1)):
        assert _windows(vae, SPEC.windows.own, time, space) == _windows(vae, OWN, time, space)


def test_what_a_plan_tells_of_a_window_is_what_was_measured():
    rows = {row["window"]: row for row in json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]}
    assert SPEC.windows.others == {window: rows[window]["psnr_db"] for window in SPEC.windows.others}
    psnr, held = ([rows[window][name] for window in SPEC.windows.others] for name in ("psnr_db", "decode_gib"))
    assert psnr == sorted(psnr, reverse=True)  # what changes least is tried first
    assert held == sorted(held, reverse=True)
    assert held[0] < rows[SPEC.windows.own]["decode_gib"]


@given(st.integers(2, 1024), st.sampled_from([1, 4, 8]))
@settings(max_examples=200, deadline=None)
def test_windows_overlap_by_a_quarter_and_bring_more_than_they_repeat(length, scale):
    extent = Extent.of(length, scale)
    assert extent.length == length * scale
    assert length / 4 <= extent.overlap / scale < length / 4 + 1
    assert extent.overlap <= extent.stride


def test_the_least_window_is_one_that_works():
    vae, latents = small_vae(), torch.randn(1, 16, 5, 6, 6)
    with torch.no_grad():
        frames = torch.cat(list(decoded(vae, latents, window="x".join(map(str, LEAST)))), dim=2)
    assert (frames.shape, bool(frames.isfinite().all())) == ((1, 3, 17, 48, 48), True)


def test_what_was_encoded_in_other_windows_is_not_taken_for_it(checkpoint, job: GenerationRequest, tmp_path):
    """Neither latents of a clip that are kept, nor the steps that were made from them."""
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    request = replace(job, task="v2v", inputs=(Input("video", "clip.mp4", None, 0.5),))
    other = Plan(vae_window="5x16x16")

    def whose(request, plan):
        return identity_of(request, plan, tmp_path, checkpoint, "hunyuan_video")

    assert whose(request, Plan()).precision != whose(request, other).precision
    assert whose(job, Plan()) == whose(job, other)  # from a sentence all steps are the same
    stage = Stage("clip", ("vae",), lambda *_: None, (), sees=("video",))
    EncodedCache(tmp_path, request, Plan(), whose(request, Plan())).put(stage, {"clip": torch.ones(1)})
    assert EncodedCache(tmp_path, request, Plan(), whose(request, Plan())).has(stage)
    assert not EncodedCache(tmp_path, request, other, whose(request, Plan())).has(stage)
