"""The LoRAs that a person typed, as a request has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.adapters import check_adapter, content_of, find_adapter
from i2v.models.lora_fit import check_fit
from i2v.models.lora_places import is_adapter, lora_folders, name_of
from i2v.request import Adapter
from i2v.settings.settings import Settings
from i2v.settings.values import shown

MAX_WEIGHT = 4.0
MAX_ADAPTERS = 16


def adapters_of(value: Any, settings: Settings, spec: FamilySpec, folder: Path | None = None) -> tuple[Adapter, ...]:
    """The LoRAs of `value`: one text, or a list of such, each FILE or FILE:WEIGHT. Raises UserError, saying what is
    needed, where one is not there, is no LoRA for this family, or for the model in `folder`, or has a weight that does
    no good."""
    typed = [value] if isinstance(value, str) else value
    if not isinstance(typed, list | tuple) or not all(isinstance(one, str) for one in typed):
        raise UserError("request.lora_text", value=shown(value))
    if list(typed) == [""]:  # none, in place of those that a job had
        return ()
    if len(typed) > MAX_ADAPTERS:
        raise UserError("request.lora_many", count=len(typed), limit=MAX_ADAPTERS)
    return tuple(_adapter(one, settings, spec, folder) for one in typed)


def parted(typed: str, there: Callable[[str], bool]) -> tuple[str, str | None]:
    """`typed` as file and weight, None where it has none. A name may hold colons itself: what stands behind the last is
    a weight where what stands before it is the name of a file that is `there`, or all of it is none."""
    name, colon, weight = typed.rpartition(":")
    if colon and (there(name) or (_number(weight) is not None and not there(typed))):
        return name, weight
    return typed, None


def with_absolute_paths(typed: list[str]) -> list[str]:
    """The same, whatever folder they are read from: paths that lead to a file from this one are written out."""

    def there(name: str) -> bool:
        return bool(name) and Path(name).is_file()

    made = []
    for one in typed:
        name, weight = parted(one, there)
        full = str(Path(name).absolute()) if there(name) else name
        made.append(full if weight is None else f"{full}:{weight}")
    return made


def _adapter(typed: str, settings: Settings, spec: FamilySpec, folder: Path | None) -> Adapter:
    places, listed_only = (settings.models_dir, lora_folders(settings.model_folders)), settings.listed_models_only

    def there(name: str) -> bool:
        return is_adapter(name, *places, listed_only=listed_only) is not None

    source, said = parted(typed.strip(), there)
    weight = 1.0 if said is None else _number(said)
    if weight is None or not -MAX_WEIGHT <= weight <= MAX_WEIGHT:  # not a number, or NaN, too
        raise UserError("request.lora_weight", value=shown(said), low=-MAX_WEIGHT, high=MAX_WEIGHT)
    if not source:
        raise UserError("request.lora_text", value=shown(typed))
    spec.check_adapters((Adapter(source),))
    file = find_adapter(source, *places, listed_only=listed_only)
    check_adapter(file, spec)
    if folder is not None:
        check_fit(file, spec, folder)
    return Adapter(name_of(file, *places), weight, content_of(file))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
