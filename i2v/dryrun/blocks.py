"""Which blocks of a network a dry run went through, and how its work is spread over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from i2v.dryrun.work_tracker import WorkTracker
from i2v.planning.known import LEVELS, BlockPasses
from i2v.planning.work import RIDGES

_RIDGE = RIDGES[len(RIDGES) // 2]
"""Operations a byte of the card by which computing and moving are weighed against each other here: 64, about that of
the cards in cards.toml in half precision."""


@dataclass
class Passed:
    """Passes through a network, and the work of its blocks in all of these; both by the component's name."""

    passes: dict[str, int] = field(default_factory=dict)
    work: dict[str, list[float]] = field(default_factory=dict)


class BlockWatch:
    """Of those of `modules` that have `blocks`: how often they ran, and the work of each of their blocks, since the
    last `take`."""

    def __init__(
        self, tracker: WorkTracker, modules: Mapping[str, nn.Module], blocks: Mapping[str, Sequence[nn.Module]]
    ) -> None:
        self._tracker, self._blocks = tracker, blocks
        self._names = {modules[name]: name for name in blocks}
        self._reset()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the `with` lasts."""
        hooks = [
            module.register_forward_pre_hook(partial(self._come, name, number))
            for name, modules in self._blocks.items()
            for number, module in enumerate(modules)
        ]
        # What is done before a network begins, and after it has ended, is none of its work.
        for network in self._names:
            hooks.append(network.register_forward_pre_hook(lambda *_: self._pass_on(None)))
            hooks.append(network.register_forward_hook(lambda *_: self._pass_on(None)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def take(self) -> dict[str, BlockPasses]:
        """What was seen since the last call, of the networks that ran."""
        self._pass_on(None)
        seen = {name: BlockPasses(passes, self._shares(name)) for name, passes in self._passes.items() if passes}
        self._reset()
        return seen

    def restart(self) -> None:
        """To be called when the tracker's own work was taken."""
        self._mark = self._total()

    @contextmanager
    def recording(self, network: nn.Module) -> Iterator[Passed]:
        """What happens to the blocks of `network`, if it has any, while the `with` lasts: to be repeated where the same
        happens unseen."""
        passed, name = Passed(), self._names.get(network)
        if name is None:
            yield passed
            return
        self._pass_on(None)
        passes, work = self._passes[name], list(self._work[name])
        yield passed
        self._pass_on(None)
        passed.passes = {name: self._passes[name] - passes}
        passed.work = {name: [now - then for now, then in zip(self._work[name], work, strict=True)]}

    @contextmanager
    def repeating(self, passed: Passed) -> Iterator[None]:
        """What is counted while the `with` lasts is the work of these passes."""
        if not passed.passes:
            yield
            return
        self._pass_on(None)
        yield
        self._mark = self._total()
        for name, passes in passed.passes.items():
            self._passes[name] += passes
            self._work[name] = [one + more for one, more in zip(self._work[name], passed.work[name], strict=True)]

    def _reset(self) -> None:
        self._current: tuple[str, int] | None = None
        self._mark = self._total()
        self._passes = dict.fromkeys(self._blocks, 0)
        self._work = {name: [0.0] * (len(modules) + 1) for name, modules in self._blocks.items()}

    def _come(self, name: str, number: int, _module: nn.Module, _inputs: Any) -> None:
        if self._current == (name, number):
            return
        self._pass_on((name, number))
        if number == 0:
            self._passes[name] += 1

    def _pass_on(self, following: tuple[str, int] | None) -> None:
        """What was done since the last block began was that block's; what was done before the first of a network is
        outside of its blocks."""
        done, self._mark = self._total() - self._mark, self._total()
        if self._current is not None:
            name, number = self._current
            self._work[name][number] += done
        elif following is not None:
            self._work[following[0]][-1] += done
        self._current = following

    def _total(self) -> float:
        return self._tracker.work().at_ridge(_RIDGE)

    def _shares(self, name: str) -> str:
        work = self._work[name]
        largest = max(work) or 1.0
        return "".join(LEVELS[round((len(LEVELS) - 1) * one / largest)] for one in work)
