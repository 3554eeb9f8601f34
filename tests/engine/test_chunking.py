"""Exact chunking against diffusers' own forward on the same weights."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor

from i2v.memory import chunking
from i2v.memory.chunking import ChunkSizes, chunks, exact_chunks

FRAMES = 5
SETTINGS = [
    ChunkSizes(frames, pixels)
    for frames, pixels in itertools.product((0, 1, 2, FRAMES), (0, 1, 7, 16, 10_000))
    if frames or pixels
]


@pytest.fixture(scope="module", params=[1, 2], ids=["split", "batch"])
def inputs(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """One UNet call; batch 2 is classifier-free guidance as one batch. Latents 9x7: an odd side at every level."""
    batch, generator = request.param, torch.Generator().manual_seed(3)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "sample": noise(batch, 4, FRAMES, 9, 7),
        "timestep": torch.tensor(500),
        "fps": torch.full((batch,), 8),
        "image_latents": noise(batch, 4, FRAMES, 9, 7),
        "image_embeddings": noise(batch, 1, 32),
        "encoder_hidden_states": noise(batch, 77, 32),
    }


@pytest.fixture(scope="module")
def stock(family, inputs) -> Tensor:
    """What diffusers' own forward makes of it."""
    with torch.no_grad():
        return family.unet(**inputs, return_dict=False)[0]


def _relative(ours: Tensor, stock: Tensor) -> float:
    return ((ours - stock).norm() / stock.norm()).item()


def _forward(unet: torch.nn.Module, inputs: dict[str, Tensor], sizes: ChunkSizes) -> Tensor:
    with torch.no_grad(), exact_chunks(unet, sizes):
        return unet(**inputs, return_dict=False)[0]


@pytest.mark.parametrize("sizes", SETTINGS, ids=lambda s: f"frames{s.frames}-pixels{s.pixels}")
def test_every_chunk_setting_gives_the_stock_result(family, inputs, stock, sizes):
    assert _relative(_forward(family.unet, inputs, sizes), stock) < 2e-6


def test_a_card_never_gets_more_rows_of_attention_than_its_grid_has(family, inputs, stock, monkeypatch):
    """Also where the plan asks for no chunks, and where its chunks are larger than that."""
    rows, attend = [], torch.nn.functional.scaled_dot_product_attention

    def attended(query, *args, **kwargs):
        rows.append(query.shape[0])
        return attend(query, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attended)
    whole = _forward(family.unet, inputs, ChunkSizes())
    assert max(rows) == inputs["sample"].shape[0] * 9 * 7  # as diffusers does it
    assert _relative(whole, stock) < 2e-6
    monkeypatch.setattr(chunking, "MOST_ROWS", 20)
    for sizes in (ChunkSizes(), ChunkSizes(pixels=10_000)):
        rows.clear()
        assert _relative(_forward(family.unet, inputs, sizes), stock) < 2e-6
        assert max(rows) == 20


def test_the_same_plan_gives_the_same_bytes(family, inputs):
    sizes = ChunkSizes(2, 7)
    assert torch.equal(_forward(family.unet, inputs, sizes), _forward(family.unet, inputs, sizes))


def test_statistics_per_chunk_would_be_seen(family, inputs, stock, monkeypatch):
    """The comparison can fail: norm statistics of a part instead of the whole are off by far more than the limit."""
    whole = chunking.group_norm_coefficients
    monkeypatch.setattr(
        chunking, "group_norm_coefficients", lambda clip, norm, frames: whole(clip[:, :, :16], norm, frames)
    )
    assert _relative(_forward(family.unet, inputs, ChunkSizes(1, 16)), stock) > 1e-3


def test_a_model_without_zero_layers_is_compared(family):
    """diffusers leaves temporal layers at zero, which would hide a wrong temporal chunk."""
    assert all(parameter.any() for parameter in family.unet.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_no_further_from_float32_than_stock(family, inputs, stock, dtype):
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    unet = copy.deepcopy(family.unet).to(dtype)
    half = {name: cast(tensor) for name, tensor in inputs.items()}
    with torch.no_grad():
        stock_error = _relative(unet(**half, return_dict=False)[0].float(), stock)
    for sizes in (ChunkSizes(1, 7), ChunkSizes(2, 16), ChunkSizes(0, 50)):
        error = _relative(_forward(unet, half, sizes).float(), stock)
        assert error <= 1.2 * stock_error, (sizes, error, stock_error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("offset", [0.0, 30.0], ids=["centred", "far from zero"])
def test_the_two_pass_norm_is_as_good_as_torchs(dtype, offset):
    """Group norm of a whole clip, in chunks, against float64; far from zero a plain sum of squares loses digits."""
    norm = torch.nn.GroupNorm(4, 16).to(dtype)
    clip = (torch.randn(6, 16, 50, generator=torch.Generator().manual_seed(5)) + offset).to(dtype)
    whole = clip.transpose(0, 1).unsqueeze(0)  # (1, C, F, P): statistics over frames and pixels
    with torch.no_grad():
        exact = norm.double()(whole.double())[0].transpose(0, 1)
        norm.to(dtype)
        stock = norm(whole)[0].transpose(0, 1)
        coefficients = chunking.group_norm_coefficients(clip, norm, 2)
        parts = [chunking.normalised(clip[:, :, part], *coefficients) for part in chunks(50, 20)]
    assert _relative(torch.cat(parts, dim=2).double(), exact) <= 1.2 * _relative(stock.double(), exact) + 1e-7


def test_diffusers_forward_is_back_after_use(family):
    with exact_chunks(family.unet, ChunkSizes(1, 7)):
        assert any("forward" in vars(module) for module in family.unet.modules())
    assert not any("forward" in vars(module) for module in family.unet.modules())


@pytest.mark.parametrize(("total", "size"), [(5, 2), (5, 5), (5, 9), (1, 1), (4, 0)])
def test_chunks_cover_everything_once(total, size):
    covered = [index for part in chunks(total, size) for index in range(part.start, part.stop)]
    assert covered == list(range(total))
    assert all(part.stop - part.start <= (size or total) for part in chunks(total, size))
