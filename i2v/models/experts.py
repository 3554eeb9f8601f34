"""The two transformers of Wan 2.2, one for much noise and one for little, each in a file of its own. Their tensors are
alike, and like those of Wan 2.1's large one: their names alone say which they are, or whoever brings them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.single_files import SinglePart, part_in, shapes_in

NOISE = {"high": "transformer", "low": "transformer_2"}
"""What a file may be said to be, and the component that it then is."""
_ALIKE = ("wan", "wan_14b")  # families whose transformers an expert's may be taken for
_FROM_PICTURES = 36  # channels of the latents with the picture
_WORD = re.compile(r"(?<![a-z])(?P<noise>high|low)(.?noise)?(?![a-z])", re.IGNORECASE)


def has_experts(spec: FamilySpec) -> bool:
    """Whether a model of the family has both."""
    return all(component in spec.components for component in NOISE.values())


def as_expert(file: Path, part: SinglePart, said: str = "", base: FamilySpec | None = None) -> SinglePart:
    """The part that `file` is where it is one of the two: by what somebody `said` (high, low), else by its name; else
    `part`. `base`: the family of the model that it is to be put into, where that was named. Raises UserError where it
    cannot be told, and where something is said of a file that is neither."""
    may_be = may_be_expert(part) and (base is None or has_experts(base))
    if not may_be:
        if said:
            raise UserError("models.no_expert", file=str(file), title=(base or part.spec).title)
        return part
    component = NOISE[said] if said else _by_name(file)
    if component is not None:
        return _expert(file, part, component)
    if base is not None:
        raise unknown_expert(file, base)
    return part


def may_be_expert(part: SinglePart) -> bool:
    """Whether by its tensors a file may be one of the two."""
    return part.component == "transformer" and part.family in _ALIKE


def unknown_expert(file: Path, spec: FamilySpec) -> UserError:
    """That nobody knows which of the two a file is."""
    return UserError("models.expert_unknown", file=str(file), title=spec.title)


def other_expert(file: Path, part: SinglePart) -> Path | None:
    """The file of the other one beside that of `part`: of the same name but for the word for the noise. None where
    there is none."""
    word = _WORD.search(file.stem) if _by_name(file) is not None and has_experts(part.spec) else None
    if word is None:
        return None
    noise, (start, end) = word["noise"], word.span("noise")
    other = "low" if noise.casefold() == "high" else "high"
    other = other.upper() if noise.isupper() else other.capitalize() if noise[0].isupper() else other
    beside = file.with_name(f"{file.stem[:start]}{other}{file.stem[end:]}{file.suffix}")
    found = part_in(beside) if beside.is_file() else None
    return beside if found is not None and may_be_expert(found) else None


def name_without_noise(file: Path) -> str:
    """What a model of both is called: as the file, without the word for its noise."""
    word = _WORD.search(file.stem)
    if word is None:
        return file.stem
    left = file.stem[: word.start()].rstrip("-_. ") + file.stem[word.end() :]
    return left.lstrip("-_. ") or file.stem


def _expert(file: Path, part: SinglePart, component: str) -> SinglePart:
    shapes = shapes_in(file)
    known = (one for name, one in shapes.items() if name.endswith("patch_embedding.weight") and len(one) > 1)
    channels = next((one[1] for one in known), 0)
    return replace(part, family="wan22_i2v" if channels == _FROM_PICTURES else "wan22", component=component)


def _by_name(file: Path) -> str | None:
    """The component that a file of this name is; None where the name says neither of the two, or both."""
    found = {word["noise"].casefold() for word in _WORD.finditer(file.stem)}
    return NOISE[found.pop()] if len(found) == 1 else None
