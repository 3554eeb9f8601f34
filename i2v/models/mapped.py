"""Which of a model's weights are computed with as they lie in its files. Those are mapped when they are loaded: the
system keeps of them in RAM what it has room for, and they take none that another program could not have."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.verify import SAFETENSORS, find_weights, read_header
from i2v.plan import Precision

KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def mapped_components(folder: Path | None, spec: FamilySpec, precision: Precision) -> frozenset[str]:
    """The components in `folder` all of whose weights stand in their files in `precision`. What cannot be read counts as
    copied; of a model that is not there yet, all that is not known to be published in it."""
    if folder is None:
        return frozenset(name for name, published in spec.published.items() if published == precision)
    return frozenset(name for name in spec.components if KINDS[precision] == _kind(folder / name, spec, precision))


def _kind(component: Path, spec: FamilySpec, precision: Precision) -> str | None:
    """The one kind of number in the files that are loaded for `precision`; None where there are several, or none."""
    names = [name for name in spec.components[component.name] if name.endswith(SAFETENSORS)]
    files = [file for name in names for file in find_weights(component, name, half=precision != "float32")]
    try:
        kinds = {kind for file in files for kind in _kinds(file, file.stat().st_mtime_ns)}
    except (OSError, UserError):
        return None
    return kinds.pop() if len(kinds) == 1 else None


@cache
def _kinds(file: Path, _changed_ns: int) -> frozenset[str]:
    """The kinds of numbers in a file. The page asks at every change of a value, so that a header is read once."""
    return frozenset(place.kind for place in read_header(file).values())
