"""What chunking saves, counted in live tensor bytes; the full-size UNet on fake tensors."""

from __future__ import annotations

import pytest
import torch
from diffusers import I2VGenXLUNet
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.memory.chunking import ChunkSizes, exact_chunks, sampled_chunks
from i2v.memory.tracker import StorageTracker

GIB = 2**30


def activation_peak(unet: torch.nn.Module, *, batch: int, frames: int, h: int, w: int, sizes: ChunkSizes) -> int:
    """Peak bytes of one UNet call beyond weights and inputs; h, w in latent pixels."""
    dtype, text_dim = unet.dtype, unet.config.cross_attention_dim
    inputs = {
        "sample": torch.zeros(batch, 4, frames, h, w, dtype=dtype),
        "timestep": torch.zeros((), dtype=torch.int64),
        "fps": torch.full((batch,), 8),
        "image_latents": torch.zeros(batch, 4, frames, h, w, dtype=dtype),
        "image_embeddings": torch.zeros(batch, 1, text_dim, dtype=dtype),
        "encoder_hidden_states": torch.zeros(batch, 77, text_dim, dtype=dtype),
    }
    with torch.no_grad(), exact_chunks(unet, sizes), StorageTracker() as tracker:
        unet(**inputs, return_dict=False)
    return tracker.peak_bytes


@pytest.fixture(scope="module")
def full_size_unet() -> torch.nn.Module:
    """The published configuration (1,420,469,224 parameters) in float16, without a byte of weights."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            unet = I2VGenXLUNet().eval()
    finally:
        torch.set_default_dtype(default)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 1_420_469_224
    return unet


@pytest.mark.parametrize(
    ("side", "frames", "limit_gib"), [(512, 16, 0.45), (768, 24, 1.4), (1024, 32, 3.1)], ids=["512", "768", "1024"]
)
def test_full_size_activations_stay_small(full_size_unet, side, frames, limit_gib):
    with FakeTensorMode(allow_non_fake_inputs=True), sampled_chunks():
        peak = activation_peak(
            full_size_unet, batch=1, frames=frames, h=side // 8, w=side // 8, sizes=ChunkSizes(1, 512)
        )
    assert peak / GIB <= limit_gib


def test_each_chunk_setting_lowers_the_peak(family):
    """From the whole to one frame and few pixels: every step down holds less, and CFG in one batch holds more."""

    def peak(frames: int, pixels: int, batch: int = 1) -> int:
        return activation_peak(family.unet, batch=batch, frames=8, h=24, w=24, sizes=ChunkSizes(frames, pixels))

    ladder = [peak(0, 0), peak(4, 288), peak(2, 144), peak(1, 36)]
    assert ladder == sorted(ladder, reverse=True)
    assert len(set(ladder)) == len(ladder)
    assert ladder[-1] < 0.5 * ladder[0]
    assert peak(1, 36, batch=2) > 1.5 * peak(1, 36)
    assert peak(1, 36) < peak(0, 36)
    assert peak(0, 36) < peak(0, 0)


@pytest.mark.parametrize("sizes", [ChunkSizes(1, 36), ChunkSizes(3, 50), ChunkSizes(0, 100)], ids=str)
def test_sampled_chunks_reach_the_same_peak(family, sizes):
    """The dry run leaves out the chunks in the middle; the peak is that of the whole loop, to the byte."""

    def peak() -> int:
        return activation_peak(family.unet, batch=1, frames=8, h=24, w=24, sizes=sizes)

    with sampled_chunks():
        sampled = peak()
    assert sampled == peak()


def test_tracker_counts_storages_once_and_forgets_the_dead():
    with StorageTracker() as tracker:
        first = torch.ones(256)
        view = first.view(16, 16).t()
        assert tracker.live_bytes == 1024
        second = view + 1
        assert tracker.live_bytes == 2048
        del first
        assert tracker.live_bytes == 2048  # the view keeps the storage
        del view
        assert tracker.live_bytes == 1024
        second.mul_(2)
        assert (tracker.live_bytes, tracker.peak_bytes) == (1024, 2048)


def test_tracker_ignores_views_of_outside_tensors():
    outside = torch.ones(64)
    with StorageTracker() as tracker:
        view = outside[:32]
        assert tracker.live_bytes == 0
        del view
