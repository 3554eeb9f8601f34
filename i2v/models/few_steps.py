"""LoRAs that make few steps do: which of the files that are there are for a family, and whether a request has one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from i2v.families.spec import FamilySpec
from i2v.models.adapters import list_adapters
from i2v.models.lora_fit import misfit
from i2v.request import GenerationRequest


def is_for_few_steps(name: str, spec: FamilySpec) -> bool:
    """Whether a LoRA of this name makes few steps do. Their files have no other mark: trainers of such LoRAs say it in
    the name of the file, or of the folder that holds it."""
    return spec.few_steps is not None and re.search(spec.few_steps.names, name, re.IGNORECASE) is not None


def asks_for_few_steps(request: GenerationRequest, spec: FamilySpec) -> bool:
    """Whether one of the request's LoRAs is such a one."""
    return any(is_for_few_steps(_seen_of(one.source), spec) for one in request.adapters)


def shift_for_few_steps(sources: Iterable[str], spec: FamilySpec) -> float | None:
    """The flow shift that the first of these LoRAs was distilled with; None where that is the model's own, or nobody
    knows."""
    shifts = spec.few_steps.shifts if spec.few_steps is not None else {}
    seen = [name for name in map(_seen_of, sources) if is_for_few_steps(name, spec)]
    known = (shift for name in seen for found, shift in shifts.items() if re.search(found, name, re.IGNORECASE))
    return next(known, None)


def found_for_few_steps(
    spec: FamilySpec, models_dir: Path, elsewhere: Sequence[Path] = (), folder: Path | None = None
) -> tuple[str, ...]:
    """The names of the first such files in the folders of LoRAs that may be for this family, and for the model in
    `folder`: one that goes on every
    denoiser, or one for each. Empty where there is none."""
    if spec.few_steps is None:
        return ()
    there = (one for one in list_adapters(models_dir, elsewhere) if spec.name in one.families)
    usable = [one.name for one in there if misfit(one.path, spec, folder) is None]
    those = [name for name in usable if is_for_few_steps(_seen_of(name), spec)]
    parts = list(spec.lora_parts) or [""]
    for_all = (name for name in those if all(spec.lora_goes_on(Path(name).name, part) for part in parts))
    if (whole := next(for_all, None)) is not None:
        return (whole,)
    each = [next((name for name in those if spec.lora_goes_on(Path(name).name, part)), None) for part in parts]
    return tuple(name for name in each if name is not None) if all(each) else ()


def _seen_of(source: str) -> str:
    """What of a file's name tells what it is: a path may lie in folders of any name."""
    return "/".join(Path(source).parts[-2:])
