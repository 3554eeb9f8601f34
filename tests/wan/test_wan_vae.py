"""Wan's autoencoder in strips of rows is diffusers' own, both ways, and holds what is promised at full size."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanUpsample
from hypothesis import given
from hypothesis import strategies as some
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.wan_vae import CLIPS, MODELS, Coded, coded
from i2v.dryrun.work_tracker import WorkTracker
from i2v.families.wan.vae_rows import RowLayers, Rows
from i2v.families.wan.vae_strips import _cut, _enlarging, _shrinking, decode, encode
from i2v.memory.card import Card
from i2v.memory.chunking import sampled_chunks
from i2v.units import GIB
from tests.small_networks import redrawn

SMALL = {"base_dim": 8, "z_dim": 4, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
EXTRAS = {"2.1": {}, "2.2": {key: value for key, value in MODELS["2.2"].items() if key not in SMALL}}

DOUBLE = 1e-12
# Latent frames and rows. Of 60 rows in four strips the inner ones are cut on both sides, in every layer.
CLIP_SIZES = [(1, 9), (2, 34), (2, 60), (3, 7)]


def small(kind: str) -> AutoencoderKLWan:
    return AutoencoderKLWan(**SMALL, **EXTRAS[kind] | {"decoder_base_dim": 12}).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=EXTRAS)
def vae(request: pytest.FixtureRequest) -> AutoencoderKLWan:
    torch.manual_seed(0)
    return redrawn(small(request.param))


@pytest.fixture(scope="module")
def fine(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """In double precision, in which a single row too few shows: by way of eight convolutions it changes little. One
    layer of diffusers' would go back to single precision; it only repeats pixels."""
    fine = deepcopy(vae).double()
    for layer in fine.modules():
        if isinstance(layer, WanUpsample):
            layer.forward = partial(nn.Upsample.forward, layer)
    return fine


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def most_apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of any number, against the largest."""
    assert found.shape == wanted.shape
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def rows_for(height: int, strips: int) -> int:
    """How many rows a strip has where so many make up the picture."""
    return math.ceil(height / strips)


def decoded_apart(vae: AutoencoderKLWan, latents: torch.Tensor, *, strips: int) -> float:
    found = list(decode(vae, latents, rows_for(latents.shape[3], strips)))
    assert len(found) == 4 * latents.shape[2] - 3
    return most_apart(torch.cat(found, dim=2), vae.decode(latents).sample)


def encoded_apart(vae: AutoencoderKLWan, clip: torch.Tensor, *, strips: int) -> float:
    rows = rows_for(clip.shape[3] // vae.spatial_compression_ratio, strips)
    found = encode(vae, clip.shape[2:], lambda part: clip[:, :, *part], rows)
    return most_apart(found, vae.encode(clip).latent_dist.mode())


@pytest.mark.parametrize(("frames", "height"), CLIP_SIZES)
def test_decoding_is_diffusers_own(fine, frames, height):
    latents = 0.5 * noise(1, 4, frames, height, 2).double()
    # Pixels that are clamped would hide mistakes.
    assert (fine.decode(latents).sample.abs() < 1).double().mean() > 0.5
    for strips in (1, 2, 4):
        assert decoded_apart(fine, latents, strips=strips) < DOUBLE


@pytest.mark.parametrize(("frames", "height"), [*((4 * f - 3, h) for f, h in CLIP_SIZES), (7, 8)])
def test_encoding_is_diffusers_own(fine, frames, height):
    """Also of seven frames, of which diffusers leaves out the last two."""
    scale = fine.spatial_compression_ratio
    clip = noise(1, 3, frames, scale * height, 2 * scale).double()
    for strips in (1, 2, 4):
        assert encoded_apart(fine, clip, strips=strips) < DOUBLE


def test_single_precision_is_as_near_as_it_can_be(vae):
    scale = vae.spatial_compression_ratio
    assert decoded_apart(vae, 0.5 * noise(1, 4, 2, 34, 2), strips=2) < 1e-5
    assert encoded_apart(vae, noise(1, 3, 5, 34 * scale, 2 * scale), strips=2) < 1e-5


def test_inner_strips_are_cut_on_both_sides(vae):
    """Else the tests above would never see two cuts at once."""
    rows = _cut(60, 15)[1]
    for layers in (RowLayers(_enlarging(vae), rows.times(8)), RowLayers(_shrinking(vae), rows)):
        assert not layers.needed.at_an_edge


@given(height=some.integers(1, 300), of=some.integers(0, 400))
def test_strips_are_all_rows_once(height, of):
    cut = _cut(height, of)
    assert [row for rows in cut for row in range(rows.start, rows.stop)] == list(range(height))
    *sizes, last = [rows.stop - rows.start for rows in cut]
    assert all(size == of for size in sizes)
    assert 1 <= last <= (of or height)


@given(start=some.integers(0, 50), length=some.integers(1, 50), below=some.integers(0, 50), by=some.integers(0, 9))
def test_rows_never_leave_the_picture(start, length, below, by):
    rows = Rows(start, start + length, start + length + below)
    wide = rows.wider(by)
    assert 0 <= wide.start <= rows.start < rows.stop <= wide.stop <= rows.height
    doubled = rows.times(2)
    assert doubled.halved() == rows
    narrow = Rows(doubled.start, doubled.stop - 1, doubled.height)
    assert narrow.halved() == rows


def test_frames_come_as_they_are_final(vae):
    """Whole pictures: before anything later is looked at. In strips: with the last strip, from where they waited."""
    latents = noise(1, 4, 3, 9, 2)
    for rows, before_the_first in ((0, 1), (3, 2 * 9 + 1)):
        taken: list[torch.Tensor] = []

        def to_host(pixels: torch.Tensor, taken: list[torch.Tensor] = taken) -> torch.Tensor:
            taken.append(pixels)
            return pixels.mul(127).to(torch.int8)

        frames = decode(vae, latents, rows, to_host)
        first = next(frames)
        assert len(taken) == before_the_first
        found = torch.cat([first.clone(), *frames], dim=2)
        assert torch.equal(found, torch.cat(list(decode(vae, latents, rows)), dim=2).mul(127).to(torch.int8))


@pytest.mark.parametrize("rows", [0, 7])
@pytest.mark.parametrize("kind", EXTRAS)
def test_a_dry_run_finds_what_a_real_run_holds_and_does(kind, rows):
    """On fake tensors, with some of the frames: the same bytes and work as all of them, real ones."""

    def to_host(pixels: torch.Tensor) -> torch.Tensor:
        with Card.on_host():
            return pixels.clone()

    def both_ways() -> tuple[WorkTracker, WorkTracker]:
        vae = small(kind)
        scale = vae.spatial_compression_ratio
        latents, clip = torch.zeros(1, 4, 5, 20, 2), torch.zeros(1, 3, 17, 20 * scale, 2 * scale)
        there, back = WorkTracker(), WorkTracker()
        with there:
            for frame in decode(vae, latents, rows, to_host):
                del frame
        with back:
            encode(vae, clip.shape[2:], lambda part: clip[:, :, *part], rows)
        return there, back

    real = both_ways()
    with FakeTensorMode(), sampled_chunks():
        fake = both_ways()
    for one, other in zip(real, fake, strict=True):
        assert one.peak_bytes == other.peak_bytes
        assert one.live_bytes == other.live_bytes == 0
        assert other.work().curve == pytest.approx(one.work().curve, rel=1e-9)
        assert other.work().launches == one.work().launches


# At full size in float32: rows of latents in a strip, and the most that may be held beside weights, with what cuDNN
# holds.
LIMITS = {
    ("480p", 15): (1.7, 1.6),
    ("720p", 23): (3.5, 3.1),
    ("720p", 15): (2.6, 2.6),
    ("2.2", 11): (3.2, 2.0),
}


@pytest.mark.parametrize(("clip", "rows"), LIMITS)
def test_full_size_fits(clip, rows):
    ways: tuple[Callable[..., Coded], ...] = coded(CLIPS[clip])
    for limit, way in zip(LIMITS[clip, rows], ways, strict=True):
        assert way(rows).on_card_bytes / GIB <= limit
