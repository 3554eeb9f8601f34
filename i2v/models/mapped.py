"""Which of a model's weights are computed with as they lie in its files. Those are mapped when they are loaded: the
system keeps of them in RAM what it has room for, and they take none that another program could not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path

from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.verify import read_header
from i2v.models.weight_files import weight_files
from i2v.plan import Precision

FEW_SHARE = 0.01  # of all numbers
KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def mapped_components(folder: Path | None, spec: FamilySpec, precision: Precision) -> frozenset[str]:
    """The components in `folder` all of whose weights stand in their files in `precision`. What cannot be read counts
    as copied; of a model that is not there yet, all that is not known to be published in it."""
    if folder is None:
        return frozenset(name for name, published in spec.published.items() if published == precision)
    return frozenset(
        name for name, files in weight_files(folder, spec, precision).items() if KINDS[precision] == _kind(files)
    )


def _kind(files: Sequence[Path]) -> str | None:
    """The kind of number of nearly all in these files; None where there are several, or none. The few layers that a
    library keeps in float32 are stored so, and are mapped as well."""
    try:
        counted = sum((Counter(_kinds(file, file.stat().st_mtime_ns)) for file in files), Counter())
    except (OSError, UserError):
        return None
    kind, count = max(counted.items(), key=lambda one: one[1], default=(None, 0))
    return kind if counted.total() - count <= FEW_SHARE * count else None


@cache
def _kinds(file: Path, _changed_ns: int) -> Mapping[str, int]:
    """How many numbers of each kind are in a file. The page asks at every change of a value, so that a header is read
    once."""
    found: Counter[str] = Counter()
    for place in read_header(file).values():
        found[place.kind] += prod(place.shape)
    return found
