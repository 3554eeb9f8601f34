"""HunyuanVideo's blocks in chunks of tokens give what diffusers' own give, for every kind of transformer; and a program
that gets something wrong is seen."""

from __future__ import annotations

import pytest
import torch
from diffusers import HunyuanVideoTransformer3DModel
from torch import Tensor

from i2v.families.hunyuan_video import programs
from i2v.families.hunyuan_video.programs import PROGRAMS
from i2v.memory.tokens import token_chunks
from tests.checkpoints import redraw_zeros
from tests.hunyuan_checkpoints import WIDTH, small_transformer

KINDS = (None, "latent_concat", "token_replace")


def answer(network: HunyuanVideoTransformer3DModel, padding: int = 0) -> Tensor:
    """What `network` answers to numbers that are always the same; `padding`: tokens of text that stand for nothing."""
    draws = torch.Generator().manual_seed(3)
    precision = network.dtype
    text = torch.randn(1, 9, WIDTH, generator=draws)
    latents = torch.randn(1, network.config.in_channels, 3, 8, 12, generator=draws)
    mask = torch.ones(1, 9 + padding)
    mask[:, 9:] = 0
    with torch.no_grad():
        return network(
            hidden_states=latents.to(precision),
            timestep=torch.tensor([700.0]),
            encoder_hidden_states=torch.cat([text, torch.ones(1, padding, WIDTH)], dim=1).to(precision),
            encoder_attention_mask=mask.to(precision),
            pooled_projections=torch.randn(1, 16, generator=draws).to(precision),
            guidance=torch.tensor([6000.0]).to(precision) if network.config.guidance_embeds else None,
            return_dict=False,
        )[0].float()


@pytest.fixture(scope="module", params=KINDS, ids=str)
def network(request: pytest.FixtureRequest) -> HunyuanVideoTransformer3DModel:
    torch.manual_seed(0)
    network = small_transformer(request.param).eval()
    redraw_zeros(network, std=0.2)
    return network


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("size", [0, 1, 7, 16, 1000])
def test_chunks_of_any_size_are_diffusers_own(network, size):
    with token_chunks(network, PROGRAMS, size):
        ours = answer(network)
    assert relative(ours, answer(network)) < 1e-6


def test_padding_that_is_left_out_is_padding_that_is_masked(network):
    with token_chunks(network, PROGRAMS, 16):
        ours = answer(network)
    assert relative(ours, answer(network, padding=5)) < 1e-6


def test_half_precision_is_as_near_as_diffusers(network):
    exact = answer(network)
    half = network.to(torch.bfloat16)
    try:
        theirs = relative(answer(half), exact)
        with token_chunks(half, PROGRAMS, 16):
            ours = relative(answer(half), exact)
    finally:
        network.to(torch.float32)
    assert ours < 1.2 * theirs


def test_afterwards_every_module_is_as_it_was(network):
    with token_chunks(network, PROGRAMS, 16):
        assert any("forward" in vars(module) for module in network.modules())
    assert not any("forward" in vars(module) for module in network.modules())


@pytest.mark.parametrize("fault", ["place", "first", "text"])
def test_a_wrong_program_is_seen(monkeypatch, fault):
    torch.manual_seed(0)
    network = small_transformer("token_replace").eval()
    redraw_zeros(network, std=0.2)
    if fault == "place":
        monkeypatch.setattr(programs._Span, "placed", lambda self, rows: rows)
    elif fault == "first":
        monkeypatch.setattr(
            programs, "_spans", lambda tokens, modulation, *_: [programs._Span(slice(0, tokens), modulation)]
        )
    with token_chunks(network, PROGRAMS, 7):
        ours = answer(network, padding=5 if fault == "text" else 0)
    assert relative(ours, answer(network)) > 1e-4
