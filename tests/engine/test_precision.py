"""Weights in eight bits: rounded as torch rounds, kept where they must be, one layer wide at a time, never mixed up."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from i2v.dryrun.runner import DryRunner
from i2v.engine.engine import Engine
from i2v.families.base import FamilyModel, Inputs, change_weights
from i2v.families.i2vgen_xl.model import load as load_i2vgen_xl
from i2v.families.nano.model import load as load_nano
from i2v.families.phases import Phases
from i2v.memory.card import HostCard, SimulatedCard
from i2v.memory.precision import STORAGE, STORED, WideConv2d, narrowed, store_weights, widen_convolutions, widened
from i2v.models.catalogue import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.units import GIB
from tests.latents import load_latents
from tests.planning.real_runs import follow

NANO = Path(__file__).parents[2] / "i2v/assets/nano"
EIGHT_BITS = ("float8", "int8")
HALF_STEP = {"float8": 2.0**-4, "int8": 0.0}  # e4m3 has three bits after the point: at most half of the last, relative
LEAST_STEP = {"float8": 2.0**-10, "int8": 0.5}  # and half the smallest step there is, in units of the scale
SHAPES = {"linear": (6, 20), "conv2d": (6, 5, 3, 3), "conv3d": (6, 5, 3, 1, 1)}


def weight_of(shape: tuple[int, ...], seed: int, spread: float) -> Tensor:
    """Output channels that differ by up to 10**spread, one of them all zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    sizes = 10 ** (torch.rand(shape[0], generator=generator) * 2 * spread - spread)
    sizes[0] = 0
    return weight * sizes.view(-1, *[1] * (len(shape) - 1))


@given(st.sampled_from(EIGHT_BITS), st.sampled_from(sorted(SHAPES)), st.integers(0, 10**6), st.floats(0, 3))
@settings(max_examples=80, deadline=None)
def test_every_weight_comes_back_within_half_a_step(weights, kind, seed, spread):
    weight = weight_of(SHAPES[kind], seed, spread)
    stored, scale = narrowed(weight, weights)
    assert stored.dtype == STORAGE[weights]
    assert scale.shape == (6, *[1] * (weight.ndim - 1))
    back = widened(stored, scale, torch.float32)
    allowed = (HALF_STEP[weights] * weight.abs() + LEAST_STEP[weights] * scale) * (1 + 1e-5)
    assert ((back - weight).abs() <= allowed).all()
    assert (back[0] == 0).all()


@given(st.integers(0, 10**6), st.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_rounding_is_torchs_own(seed, spread):
    """float8 against the cast, int8 against torch's per-channel quantisation."""
    weight = weight_of((6, 20), seed, spread)
    largest = weight.abs().amax(dim=1, keepdim=True)
    largest[largest == 0] = 1

    scale = largest / torch.finfo(torch.float8_e4m3fn).max
    assert torch.equal(narrowed(weight, "float8")[0].float(), (weight / scale).to(torch.float8_e4m3fn).float())

    scale, zero = largest / 127, torch.zeros(6, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, scale.flatten(), zero, 0, -127, 127)
    steps = ((widened(*narrowed(weight, "int8"), torch.float32) - expected) / scale).abs()
    # torch multiplies by 1/scale where we divide: what lies in the middle may go to either side.
    assert steps.max() < 1.001
    assert (steps > 1e-3).float().mean() <= 0.01


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(12, 7), (3, 12)),
        (nn.Linear(12, 7, bias=False), (3, 12)),
        (nn.Conv2d(4, 7, 3, stride=2, padding=1, groups=1), (2, 4, 9, 9)),
        (nn.Conv2d(4, 8, 3, groups=2), (2, 4, 9, 9)),
        (nn.Conv3d(4, 7, (3, 1, 1), padding=(1, 0, 0)), (1, 4, 5, 3, 3)),
    ],
    ids=["linear", "no bias", "strided", "grouped", "conv3d"],
)
@pytest.mark.parametrize("weights", EIGHT_BITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_stored_layer_is_torchs_own_with_the_rounded_weight(layer, shape, weights, dtype):
    plain = copy.deepcopy(layer).to(dtype).requires_grad_(False)
    model = nn.ModuleDict({"layer": plain})
    rounded = widened(*narrowed(plain.weight.data, weights), dtype)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    options = {"bias": plain.bias}
    if isinstance(plain, nn.Linear):
        expected = nn.functional.linear(x, rounded, **options)
    else:
        function = nn.functional.conv2d if isinstance(plain, nn.Conv2d) else nn.functional.conv3d
        options |= {"stride": plain.stride, "padding": plain.padding, "groups": plain.groups}
        expected = function(x, rounded, **options)
    store_weights(model, weights)
    assert plain.weight.dtype == STORAGE[weights]
    assert isinstance(plain, type(layer))
    result = plain(x)
    assert result.dtype == dtype
    assert torch.equal(result, expected)


KEPT_IN = {
    "nano": ("conv_in", "conv_out", "time_embedding"),
    "i2vgen_xl": ("conv_in", "conv_out", "time_embedding", "fps_embedding", "context_embedding"),
}


@pytest.fixture(scope="module")
def load(checkpoint) -> Callable[..., FamilyModel]:
    def load(family: str, weights: str = "full", precision: torch.dtype = torch.float32) -> FamilyModel:
        model = load_nano(NANO, precision) if family == "nano" else load_i2vgen_xl(checkpoint, precision)
        change_weights(model, weights)
        return model

    return load


@pytest.fixture(scope="module")
def stored(load):
    """`stored(family, weights)`: a model that is loaded once, and only read."""
    return cache(load)


@pytest.mark.parametrize("family", KEPT_IN)
@pytest.mark.parametrize("weights", EIGHT_BITS)
def test_what_weighs_little_and_errs_most_is_kept(stored, family, weights):
    model, full = stored(family, weights), stored(family, "full")
    kept, types = KEPT_IN[family], tuple(STORED)
    for name, layer in model.unet.named_modules():
        if isinstance(layer, types) and "blocks" in name:
            assert layer.weight.dtype == STORAGE[weights], name
        for key, parameter in layer.named_parameters(recurse=False):
            if key == "bias" or "norm" in name or name.startswith(kept):
                assert torch.equal(parameter, full.unet.get_submodule(name).get_parameter(key)), (name, key)
    for name in set(model.modules) - {"unet"}:
        assert {p.dtype for p in model.modules[name].parameters()} <= {torch.float32}


def test_the_published_network_loses_almost_half_of_its_bytes():
    full, stored = (DryRunner("i2vgen_xl", None, "float16", w).weights_bytes for w in ("full", "int8"))
    assert full["unet"] / GIB == pytest.approx(2.65, abs=0.01)
    assert 0.5 < stored["unet"] / full["unet"] < 0.52
    assert {**full, "unet": 0} == {**stored, "unet": 0}


def one_step(model: FamilyModel, request, photo, plan: Plan) -> Tensor:
    """The network's prediction of the first step."""
    card = HostCard()
    with card.running():
        phases = Phases(model, card, request, plan)
        made = {}
        for _, conditioning in phases.encode(Inputs({0: photo.resize((request.width, request.height))})):
            made |= conditioning
        latents = model.prepare(request, plan, conditioning)
        predict = getattr(model, "_predict_noise", None) or model._predict_velocity
        timestep = model._timesteps[0]
        if isinstance(timestep, list):  # one or two calls of the network, each with its position
            ((_, timestep),) = timestep
        return predict(card, made, latents, timestep, request, plan).double()


def error(result: Tensor, expected: Tensor) -> float:
    return ((result - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module")
def short(request_):
    return dataclasses.replace(request_, num_frames=3, num_inference_steps=1)


@pytest.fixture(scope="module")
def whole(stored, short, photo):
    """`whole(family, weights)`: its first step's prediction in one piece, computed once."""

    @cache
    def whole(family: str, weights: str) -> Tensor:
        return one_step(stored(family, weights), short, photo, Plan(weights=weights, lossless=weights == "full"))

    return whole


@pytest.fixture(scope="module")
def noise_errors(load, stored, whole, short, photo):
    """`noise_errors(family, weights)`: the errors of two steps with noise on the weights, see `noisy`."""

    @cache
    def noise_errors(family: str, weights: str) -> list[float]:
        models = (noisy(load(family), stored(family, weights), seed) for seed in (1, 2))
        return [error(one_step(model, short, photo, Plan()), whole(family, "full")) for model in models]

    return noise_errors


def noisy(model: FamilyModel, like: FamilyModel, seed: int) -> FamilyModel:
    """`model` with noise on every weight that `like` stores, as large as its rounding error and of no system."""
    generator = torch.Generator().manual_seed(seed)
    for name, layer in like.unet.named_modules():
        if type(layer) in STORED.values():
            weight = model.unet.get_submodule(name).weight
            rounded = (widened(layer.weight, layer.weight_scale, weight.dtype) - weight).abs()
            signs = torch.randint(0, 2, rounded.shape, generator=generator) * 2 - 1
            weight.data += rounded * signs
    return model


@pytest.mark.parametrize("family", KEPT_IN)
def test_a_step_errs_as_rounding_does_and_no_more(stored, whole, noise_errors, family, short, photo):
    """float8 errs like noise of its rounding's size put on the weights by another way, int8 the same and less; and in
    chunks as a whole."""
    errors = {}
    for weights in EIGHT_BITS:
        errors[weights] = error(whole(family, weights), whole(family, "full"))
        noise = noise_errors(family, weights)
        assert min(noise) / 1.6 < errors[weights] < max(noise) * 1.6
        plan = Plan(weights=weights, lossless=False, cfg="split", chunk_frames=2, chunk_pixels=20)
        chunked = one_step(stored(family, weights), short, photo, plan)
        assert error(chunked, whole(family, weights)) < 1e-5
    assert 0 < errors["int8"] < 0.5 * errors["float8"]
    if family == "nano":  # trained; the other one's random weights multiply any error
        assert errors["float8"] < 0.03
        assert errors["int8"] < 0.01


def test_one_layer_is_wide_at_a_time_and_none_after():
    """Ten layers: the card holds ten stored weights, and never more than one wide one."""
    side, card = 256, SimulatedCard(GIB)
    model = nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(10))).requires_grad_(False)
    store_weights(model, "float8")
    with card.running():
        card.place(model)
        placed = card.read_memory().allocated_bytes
        assert placed == 10 * (side * side + 4 * side)
        x = card.to_card(torch.ones(1, side))
        card.reset_peak()
        out = model(x)
        after = card.read_memory()
        assert after.peak_allocated_bytes - placed < 4 * side * side + 16 * side
        assert after.allocated_bytes - placed == 2 * out.numel() * 4
        card.evict(model)
    assert card.placed == frozenset()


def test_storing_twice_and_storing_nothing_change_nothing(load):
    model = load("nano", "int8")
    before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    store_weights(model.unet, "float8")
    store_weights(model.unet, "full")
    for name, tensor in model.unet.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_a_stored_model_is_never_taken_for_a_whole_one(checkpoint, request_, photo, tmp_path):
    """One engine, one checkpoint: whole, eight bits, whole again. Under a card that every weight moves to."""
    photo.save(tmp_path / "input.png")
    entry = ModelEntry("small", "i2vgen_xl", "small", checkpoint, None, True, 0, None)
    request = dataclasses.replace(
        request_, width=64, height=64, num_frames=2, num_inference_steps=1, guidance_scale=1.0
    )
    engine, results = Engine(), []
    for weights in ("full", "float8", "int8", "full"):
        plan = Plan(
            device="simulated",
            memory_cap_bytes=GIB,
            places=everywhere("staged"),
            weights=weights,
            lossless=weights == "full",
        )
        engine.run(
            request, plan, entry=entry, job_folder=tmp_path, emit=lambda event: None, cancelled=lambda: False
        )  # fmt: skip
        results.append(load_latents(tmp_path / "latents.safetensors").clone())
    assert torch.equal(results[0], results[3])
    assert not any(torch.equal(results[0], other) for other in results[1:3])
    assert not torch.equal(results[1], results[2])


# --- convolutions in float32 ---


@pytest.fixture
def broken_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions as some cards compute them in half precision."""

    def convolution(own, input, weight, bias=None, *rest, **options):
        if input.dtype != torch.float16:
            return own(input, weight, bias, *rest, **options)
        assert weight.dtype == torch.float16
        # A processor is slow at it, and what comes out is the same.
        out = own(input.float(), weight.float(), None if bias is None else bias.float(), *rest, **options)
        return (out * float("nan")).half()

    for name in ("conv2d", "conv3d"):
        monkeypatch.setattr(functional, name, partial(convolution, getattr(functional, name)))


@pytest.mark.parametrize("weights", ["full", "int8"])
@pytest.mark.parametrize("chunks", [{}, {"chunk_frames": 1, "chunk_pixels": 24}], ids=["whole", "chunked"])
@pytest.mark.usefixtures("broken_halves")
def test_where_half_convolutions_are_broken_wide_ones_give_the_picture(
    light_checkpoint, request_, photo, weights, chunks
):
    request = dataclasses.replace(request_, width=64, height=64, num_frames=2, num_inference_steps=1)
    made = {}
    for precision in ("float32", "float16"):
        model = load_i2vgen_xl(light_checkpoint, getattr(torch, precision))
        change_weights(model, weights)
        if precision == "float16":
            change_weights(model, "full", wide=True)
        phases, conditioning = Phases(model, HostCard(), request, Plan(cfg="split", precision=precision, **chunks)), {}
        with torch.no_grad():
            for _, stage in phases.encode(Inputs({0: photo.resize((64, 64))})):
                conditioning |= stage
            (latents,) = phases.denoise(conditioning)
            frames = torch.stack(list(phases.decode(conditioning, latents))).float()
        assert latents.dtype == getattr(torch, precision)
        assert torch.isfinite(latents).all()
        made[precision] = latents.float(), frames
    (exact, exact_frames), (wide, wide_frames) = made["float32"], made["float16"]
    assert (wide - exact).norm() / exact.norm() < 0.02
    assert (wide_frames - exact_frames).abs().mean() < 2


@pytest.mark.parametrize("weights", ["full", "int8"])
def test_the_planner_knows_what_wide_convolutions_hold(light_checkpoint, request_, weights):
    request = dataclasses.replace(
        request_, width=32, height=48, num_frames=2, num_inference_steps=1, guidance_scale=1.0
    )
    plan = Plan(precision="float16", weights=weights, wide_convolutions=True)
    model = load_i2vgen_xl(light_checkpoint, torch.float16)
    change_weights(model, weights, wide=True)
    ran = follow(model, request, plan, steps=1)
    held = {}
    for wide in (False, True):
        dry = DryRunner("i2vgen_xl", light_checkpoint, "float16", weights, wide).phases(request, plan)
        held[wide] = [phase.activations_bytes for phase in dry]
    assert held[True] == [phase.activations_bytes for phase in ran]
    assert held[True][-1] > held[False][-1]


def test_wide_convolutions_change_nothing_in_float32():
    layer = nn.Conv2d(4, 7, 3, stride=2, padding=1)
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    before = layer(x)
    widen_convolutions(nn.ModuleDict({"layer": layer}))
    assert torch.equal(layer(x), before)


def test_the_engine_widens_where_the_plan_says_so(light_checkpoint):
    entry = ModelEntry("light", "i2vgen_xl", "light", light_checkpoint, None, True, 0, None)
    engine = Engine()
    for wide in (False, True, False):
        model = engine._open(entry, Plan(precision="float16", wide_convolutions=wide))
        assert isinstance(model.vae.encoder.conv_in, WideConv2d) is wide
