"""The LoRAs of a run on the model that is loaded: put on what denoises when it is read, exchanged between runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import nn

from i2v.families.adapters import ChosenAdapter, put_on
from i2v.families.base import FamilyModel, denoisers
from i2v.families.spec import FamilySpec
from i2v.models.adapters import checked_file
from i2v.request import Adapter

Chosen = tuple[ChosenAdapter, ...]


class Adapted:
    """What is wanted on the denoising networks of one loaded model, and what is on them."""

    def __init__(self, spec: FamilySpec, precision: str) -> None:
        self._spec, self._dtype = spec, getattr(torch, precision)
        self._wanted: Chosen = ()
        self._on: WeakKeyDictionary[nn.Module, Chosen] = WeakKeyDictionary()

    def want(self, model: FamilyModel, wanted: Chosen) -> None:
        """From now on these are on what denoises, and on what of it is loaded at once. Raises UserError as `put_on`
        does, and then nothing is wanted."""
        self._wanted = wanted
        try:
            for name in denoisers(model).intersection(model.modules.loaded):
                self.adapt(name, model.modules[name])
        except BaseException:
            self._wanted = ()
            raise

    def adapt(self, component: str, network: nn.Module) -> None:
        """Have on `network`, which is this component, what of it is wanted there. Raises UserError as `put_on` does."""
        wanted = tuple(one for one in self._wanted if self._spec.lora_goes_on(one.file.name, component))
        if self._spec.lora_names is None or self._on.get(network, ()) == wanted:
            return
        self._on.pop(network, None)  # in case it is left halfway
        put_on(network, wanted, self._spec.lora_names, self._dtype)
        self._on[network] = wanted


def chosen(adapters: Iterable[Adapter], models_dir: Path, spec: FamilySpec, elsewhere: Sequence[Path] = ()) -> Chosen:
    """The files of a request's LoRAs, as far as their headers tell good for `spec`'s family. Raises UserError as
    `checked_file` does."""
    found = ((one, checked_file(one, models_dir, spec, elsewhere)) for one in adapters)
    return tuple(ChosenAdapter(file, one.weight, content) for one, (file, content) in found)


def told(adapters: Sequence[Adapter]) -> str:
    """The LoRAs of a run as a person reads them, each with its weight."""
    return ", ".join(f"{one.source} × {one.weight:g}" for one in adapters)
