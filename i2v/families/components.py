"""A checkpoint's networks by name, each read from its files when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import nn

Read = Callable[[], nn.Module]


class Components(Mapping[str, nn.Module]):
    """Looking one up loads it onto the host, and there it stays until it is dropped. `reads_by` is called for every
    reading, with the name and what reads it: whoever owns the model may check and change what comes."""

    def __init__(self, reads: Mapping[str, Read]) -> None:
        self._reads = dict(reads)
        self._loaded: dict[str, nn.Module] = {}
        self.reads_by: Callable[[str, Read], nn.Module] = lambda _name, read: read()

    @classmethod
    def of(cls, modules: Mapping[str, nn.Module]) -> Components:
        """Those that are there already, and stay."""
        return cls({name: lambda module=module: module for name, module in modules.items()})

    def __getitem__(self, name: str) -> nn.Module:
        if name not in self._loaded:
            self._loaded[name] = self.reads_by(name, self._reads[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of those that are on the host now."""
        return tuple(self._loaded)

    def load(self, names: Iterable[str]) -> None:
        """Load those of `names` that are not there yet."""
        for name in names:
            self[name]

    def drop(self, names: Iterable[str]) -> None:
        """Forget those of `names` that are there. Their memory is free once nobody else holds them."""
        for name in names:
            self._loaded.pop(name, None)
