"""Weights that stream: bit for bit what resident ones compute, within the bytes that were said, whatever the waits."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from i2v.memory.card import SimulatedCard
from i2v.memory.lanes import CopyQueue, EarlyLane, Mark, Pairs
from i2v.memory.parts import parts_bytes, weights_of
from i2v.memory.streaming import Parted, Streamer, parted
from i2v.planning.pipeline import ALIGN_BYTES, held_bytes, pass_seconds, stays
from tests.late_lane import LateLane

ROOM = 2**30
INNER = (8, 40, 16, 24, 8, 64, 16)


class Layer(nn.Module):
    """One block: a product, a norm with a buffer, something of another precision."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.wide, self.back = nn.Linear(width, inner), nn.Linear(inner, width, bias=False)
        self.register_buffer("shift", torch.randn(width, dtype=torch.float64))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + torch.tanh(self.back(torch.tanh(self.wide(hidden)))) + self.shift.to(hidden.dtype) * 0.01


class Network(nn.Module):
    """Blocks of unequal sizes between parts that are in none; with `tied`, two blocks share a weight."""

    def __init__(
        self, inner: Sequence[int] = (8, 40, 16, 24, 8, 64, 16), width: int = 12, *, tied: bool = False
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)
        self.layers = nn.ModuleList(Layer(width, size) for size in inner)
        if tied:
            self.layers[4].wide.weight = self.layers[0].wide.weight
        self.requires_grad_(False)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.first(hidden)
        for layer in self.layers:
            hidden = torch.cat([layer(part) for part in hidden.chunk(3)])  # a block may be called for each chunk
        return self.last(hidden)


class Forgetful(LateLane):
    """Does not wait every fifth time."""

    waits = 0

    def wait(self, done: Mark) -> None:
        self.waits += 1
        if self.waits % 5:
            super().wait(done)


def lanes() -> dict[str, Callable[[], CopyQueue]]:
    return {"early": EarlyLane, "late": LateLane}


def run(network: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [network(one) for one in inputs]


def streamed(
    network: Network,
    inputs: Sequence[Tensor],
    lane: CopyQueue,
    kept_bytes: int,
    slots: int,
    parts: Parted | None = None,
) -> list[Tensor]:
    """What `network` computes while it streams on a card, all passes in one stream; held bytes are as was said."""
    card = SimulatedCard(ROOM)
    card.lane = lambda: lane
    parts = parts or parted(network, network.layers)
    with card.running():
        card.stream(network, parts, kept_bytes=kept_bytes, slots=slots)
        held = held_bytes(parts.sizes_bytes, kept_bytes, slots)
        assert card.read_memory().allocated_bytes == parts.outside_bytes + held
        on_card = [card.to_card(one) for one in inputs]
        results = [card.to_host(network(one)) for one in on_card]
        card.evict(network)
    return results


@pytest.fixture
def inputs() -> list[Tensor]:
    return [torch.randn(6, 12, generator=torch.Generator().manual_seed(number)) for number in range(4)]


@pytest.mark.parametrize("lane", lanes())
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("gathered", [False, True], ids=["as it lies", "gathered"])
def test_streamed_is_resident_bit_for_bit(inputs: list[Tensor], lane: str, slots: int, gathered: bool):
    network = Network()
    wanted = run(network, inputs)
    parts = parted(network, network.layers)
    sizes = parts.sizes_bytes
    if gathered:
        for block in parts.blocks:
            block.gather()
    for budget in (0, *(sum(sizes[:count]) for count in range(1, len(sizes) + 1))):
        results = streamed(network, inputs, lanes()[lane](), budget, slots, parts)
        assert all(map(torch.equal, results, wanted))
    assert all(map(torch.equal, run(network, inputs), wanted))  # its own weights are in their places again


def test_a_lane_that_forgets_a_wait_is_seen(inputs: list[Tensor]):
    network = Network()
    wanted = run(network, inputs)
    assert not all(map(torch.equal, streamed(network, inputs, Forgetful(), 0, 2), wanted))


def test_a_copy_into_a_slot_that_is_still_read_is_seen(inputs: list[Tensor]):
    """With early copies, a streamer that frees a block's slot before the block has run computes something else."""
    network = Network()
    wanted = run(network, inputs)

    class Early(Streamer):
        def _come(self, number, module, given):
            super()._come(number, module, given)
            if number not in self._resident:
                self._used += 1
                self._run_ahead()
                self._used -= 1

    card, blocks = SimulatedCard(ROOM), parted(network, network.layers).blocks
    with card.running():
        stream = Early(card, blocks, EarlyLane(), kept_bytes=0, slots=2)
        results = run(network, inputs)
        stream.close()
    assert not all(map(torch.equal, results, wanted))


def test_a_weight_that_blocks_share_stays(inputs: list[Tensor]):
    network = Network(tied=True)
    wanted = run(network, inputs)
    parts = parted(network, network.layers)
    shared = network.layers[0].wide.weight
    assert [entry for entry in parts.outside if entry.tensor is shared]
    card = SimulatedCard(ROOM)
    with card.running():
        card.stream(network, parts, kept_bytes=0, slots=2)
        assert network.layers[4].wide.weight is network.layers[0].wide.weight is not shared
        results = [card.to_host(network(card.to_card(one))) for one in inputs]
        card.evict(network)
    assert all(map(torch.equal, results, wanted))
    assert network.layers[4].wide.weight is network.layers[0].wide.weight is shared


def test_blocks_in_another_order_are_right_too(inputs: list[Tensor]):
    """Some layers are left out of a pass, as a cache of steps does it, or come twice."""
    network = Network()
    order = [(0, 1, 2, 3, 4, 5, 6), (0, 5, 6), (3, 2, 2, 1), (6,), (0, 1, 2, 3, 4, 5, 6)]

    def passes() -> list[Tensor]:
        results = []
        for numbers in order:
            hidden = inputs[0]
            for number in numbers:
                hidden = network.layers[number](hidden)
            results.append(hidden)
        return results

    wanted = passes()
    for lane in lanes().values():
        for kept in (0, 6000):
            card = SimulatedCard(ROOM)
            with card.running():
                stream = Streamer(card, parted(network, network.layers).blocks, lane(), kept_bytes=kept, slots=2)
                assert all(map(torch.equal, passes(), wanted))
                stream.close()


def test_a_step_allocates_nothing(inputs: list[Tensor]):
    network = Network()
    card = SimulatedCard(ROOM)
    parts = parted(network, network.layers)
    with card.running():
        card.stream(network, parts, kept_bytes=parts.sizes_bytes[0], slots=2)
        network(inputs[0])
        before = card.read_memory().allocated_bytes
        network(inputs[1])
        assert card.read_memory().allocated_bytes == before
        card.evict(network)
    assert card.read_memory().allocated_bytes == 0


def test_too_little_memory_leaves_everything_on_the_host(inputs: list[Tensor]):
    network = Network()
    wanted = run(network, inputs)
    parts = parted(network, network.layers)
    needed = parts.outside_bytes + held_bytes(parts.sizes_bytes, 0, 2)
    for capacity in (1000, needed - 1):
        card = SimulatedCard(capacity)
        with card.running(), pytest.raises(torch.OutOfMemoryError):
            card.stream(network, parts, kept_bytes=0, slots=2)
        assert card.placed == frozenset()
        assert card.read_memory().allocated_bytes == 0
        assert all(map(torch.equal, run(network, inputs), wanted))


def test_gathered_blocks_hold_the_weights_once():
    """All of a block's weights are views of one buffer, and what they were views of before is let go."""
    network = Network()
    before = [weakref.ref(tensor.untyped_storage()) for tensor in network.layers.parameters()]
    for block in parted(network, network.layers).blocks:
        whole = block.gather()
        own = {tensor.untyped_storage().data_ptr() for tensor in block.module.state_dict().values()}
        assert own == {whole.untyped_storage().data_ptr()}
        weights = weights_of(block.module)
        assert whole.nbytes < sum(parts_bytes(weights)) + ALIGN_BYTES * len(weights)
    assert not any(storage() for storage in before)


@dataclass
class ClockLane:
    """A link with a clock: a mark is a moment in seconds. `now` is what was computed."""

    bytes_per_second: float
    now: float = 0.0
    link: float = 0.0
    copied_bytes: int = field(default=0)

    def copy(self, pairs: Pairs, after: Mark) -> Mark:
        for there, here in pairs:
            there.copy_(here)
            self.copied_bytes += here.nbytes
            self.link = max(self.link, after) + here.nbytes / self.bytes_per_second
            after = 0.0
        return self.link

    def computed(self, seconds: float, *_: object) -> None:
        self.now += seconds

    def wait(self, done: Mark) -> None:
        self.now = max(self.now, done)

    def mark(self) -> Mark:
        return self.now

    def finish(self) -> None: ...


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("balance", [0.3, 0.8, 1.0, 1.5, 3.0], ids=lambda share: f"copying {share} x computing")
def test_seconds_of_a_pass_are_those_of_the_link(balance: float, slots: int):
    """The arithmetic of `pass_seconds` against the streamer's own copies and waits on a link with a clock."""
    network = Network(inner=[8, 40, 16, 24, 8, 64, 16, 16, 8, 32, 8, 24])
    blocks = parted(network, network.layers).blocks
    for block in blocks:
        block.gather()
    sizes = [block.size_bytes for block in blocks]
    compute = [0.5 + (number % 3) * 0.5 for number in range(len(blocks))]
    rate = sum(sizes) / sum(compute) / balance
    for budget in (0, sum(sizes) // 3, 2 * sum(sizes) // 3):
        lane, card = ClockLane(rate), SimulatedCard(ROOM)
        handles = [
            layer.register_forward_hook(partial(lane.computed, seconds))
            for layer, seconds in zip(network.layers, compute, strict=True)
        ]
        with card.running():
            stream = Streamer(card, blocks, lane, kept_bytes=budget, slots=slots)
            ends = []
            for _ in range(4):
                hidden = torch.zeros(1, 12)
                for layer in network.layers:
                    hidden = layer(hidden)
                ends.append(lane.now)
            stream.close()
        for handle in handles:
            handle.remove()
        predicted = pass_seconds(compute, [size / rate for size in sizes], stays(tuple(sizes), budget), slots)
        assert ends[-1] - ends[-2] == pytest.approx(predicted, rel=0.05)
