"""What chunking saves, counted in live tensor bytes; the full-size UNet on fake tensors."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch.utils._pytree import tree_leaves

from bench.unet_memory import CASES, GIB, activation_peak, full_size_peak, full_size_unet
from i2v.dryrun.shortcuts import Shortcuts
from i2v.memory.chunking import ChunkSizes, sampled_chunks
from i2v.memory.storages import StorageTracker, tensors_in


@pytest.fixture(scope="module")
def published() -> tuple[torch.nn.Module, Shortcuts]:
    """The network, and what its layers were found to hold."""
    unet = full_size_unet()
    assert sum(parameter.numel() for parameter in unet.parameters()) == 1_420_469_224
    return unet, Shortcuts()


@pytest.mark.parametrize(("side", "frames", "limit_gib"), CASES, ids=["512", "768", "1024"])
def test_full_size_activations_stay_small(published, side, frames, limit_gib):
    peak = full_size_peak(*published, batch=1, side=side, frames=frames, sizes=ChunkSizes(1, 512))
    assert peak / GIB <= limit_gib


def test_each_chunk_setting_lowers_the_peak(family):
    """From the whole to one frame and few pixels: every step down holds less, and CFG in one batch holds more."""

    @cache
    def peak(frames: int, pixels: int, batch: int = 1) -> int:
        with sampled_chunks():  # the peak is the same, as the next test shows
            return activation_peak(family.unet, batch=batch, frames=8, h=16, w=16, sizes=ChunkSizes(frames, pixels))

    ladder = [peak(0, 0), peak(4, 128), peak(2, 64), peak(1, 16)]
    assert ladder == sorted(ladder, reverse=True)
    assert len(set(ladder)) == len(ladder)
    assert ladder[-1] < 0.5 * ladder[0]
    assert peak(1, 16, batch=2) > 1.5 * peak(1, 16)
    assert peak(1, 16) < peak(0, 16)
    assert peak(0, 16) < peak(0, 0)


@pytest.mark.parametrize("sizes", [ChunkSizes(1, 16), ChunkSizes(3, 30), ChunkSizes(0, 50)], ids=str)
def test_sampled_chunks_reach_the_same_peak(family, sizes):
    """The dry run leaves out the chunks in the middle; the peak is that of the whole loop, to the byte."""

    def peak() -> int:
        return activation_peak(family.unet, batch=1, frames=8, h=16, w=16, sizes=sizes)

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


def test_tensors_are_found_wherever_an_operation_keeps_them():
    """As torch's own walk finds them."""
    a, b, c, d = (torch.zeros(1) for _ in range(4))
    given = (a, [b, None, 2.5], {"weight": c, "others": (d, "mean", [a])})
    leaves = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)]
    assert [id(one) for one in tensors_in(*given)] == [id(leaf) for leaf in leaves]
    assert len(leaves) == 5


def test_tracker_ignores_views_of_outside_tensors():
    outside = torch.ones(64)
    with StorageTracker() as tracker:
        view = outside[:32]
        assert tracker.live_bytes == 0
        del view
