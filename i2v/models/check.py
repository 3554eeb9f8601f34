"""Is a model on the disk what it should be, to the last bit? Headers and sizes, what does not belong to it, and every
file's contents against the digest that the hub tells of it. No weight is loaded; all of it is read once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.expected import ExpectedFile, expected_files
from i2v.models.fetch.contents import Contents
from i2v.models.gguf_files import gguf_of
from i2v.models.kinds import ModelKind
from i2v.models.places import WEIGHTS
from i2v.models.verify import INDEXES, SAFETENSORS, components_in, find_weights
from i2v.units import amount

_PROGRAMS = (".py", ".so", ".dll", ".exe", ".sh")


@dataclass(frozen=True)
class Finding:
    """Something about a model's files. A `fault` keeps it from being what was published; anything else is only told."""

    told: Message
    fault: bool = True


@dataclass(frozen=True)
class Checked:
    """What looking through a model brought. `compared`: how many files' contents were compared with their digests;
    `unknown`: the weights of which no digest is known."""

    kind: ModelKind
    findings: tuple[Finding, ...]
    compared: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with it."""
        return not any(one.fault for one in self.findings)


def check_files(
    kind: ModelKind, on_bytes: Callable[[int], None] = lambda _count: None, *, read: bool = True
) -> Checked:
    """Look through the files of a model that `kind_of` has told; `read` also their contents, telling `on_bytes` of each
    part. Raises nothing: what cannot be read is among the findings."""
    findings = [Finding(problem) for problem in kind.problems]
    if kind.family is None:
        return Checked(kind, tuple(findings))
    spec = SPECS[kind.family]
    expected = expected_files(kind.folder)
    wrong = {str(problem.params.get("file")) for problem in kind.problems}
    if kind.whole:  # of one that is not, a file of another name may be what somebody has in the place of its own
        findings += [Finding(foreign(kind.folder, name), fault=False) for name in foreign_files(kind.folder, spec)]
    compared = 0
    for name, one in expected.items():
        file = kind.folder / name
        if str(file) in wrong or not os.path.isfile(file):  # told already, or not fetched: of two forms one is enough
            continue
        told, looked_at = _differs(file, one, on_bytes, read=read)
        compared += looked_at
        findings += [Finding(told)] if told is not None else []
    unknown = [name for name in _weights(kind.folder, spec) if name not in expected]
    return Checked(kind, tuple(findings), compared, tuple(sorted(unknown)))


def bytes_to_read(kind: ModelKind) -> int:
    """How many bytes `check_files` will read of a model."""
    files = (kind.folder / name for name in expected_files(kind.folder))
    return sum(file.stat().st_size for file in files if os.path.isfile(file))


def foreign_files(folder: Path, spec: FamilySpec) -> Iterator[str]:
    """Files in a model's folder that it has no use for: weights that nothing of it loads, pickles, programs."""
    used = set(_weights(folder, spec))
    for name in _names(folder):
        if Path(name).suffix in _PROGRAMS or (Path(name).suffix in WEIGHTS and name not in used):
            yield name


def foreign(folder: Path, name: str) -> Message:
    """That a file is not of the model, and what it takes."""
    try:
        size = (folder / name).stat().st_size
    except OSError:
        size = 0
    return message("models.foreign_file", file=str(folder / name), size=amount(size))


def _differs(
    file: Path, expected: ExpectedFile, on_bytes: Callable[[int], None], *, read: bool
) -> tuple[Message | None, bool]:
    """In what a file is not as expected, None where it is; and whether its contents were looked at."""
    try:
        size = file.stat().st_size
        if expected.size_bytes not in (None, size):
            return message("models.other_size", file=str(file), size=size, needed=expected.size_bytes), False
        published = expected.published(file.name, size)
        if not read or not published.digest:
            return None, False
        contents = Contents(published)
        contents.add_file(file, on_bytes)
        if contents.right:
            return None, True
        return message("models.other_contents", file=str(file)), True
    except OSError as error:
        reason = error.strerror or str(error)
        return UserError("models.unreadable", file=str(file), reason=reason).message, False


def _weights(folder: Path, spec: FamilySpec) -> Collection[str]:
    """The weights that the family loads, in every form that is there."""
    found: set[Path] = set()
    for component, names in components_in(folder, spec).items():
        for name in names:
            if name.endswith(SAFETENSORS):
                try:
                    gguf = gguf_of(folder / component) if component in spec.gguf_components else None
                    forms = (find_weights(folder / component, name, half=half) for half in (True, False))
                    found |= {*(() if gguf is None else (gguf,)), *(file for form in forms for file in form)}
                except (OSError, UserError):  # told among the problems
                    continue
    return {file.relative_to(folder).as_posix() for file in found}


def _names(folder: Path) -> list[str]:
    """Every file in the folder and the folders in it but what is hidden and its index, by name."""
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        inside = Path(place).relative_to(folder)
        names += [(inside / one).as_posix() for one in sorted(files) if not one.startswith(".") and one not in INDEXES]
    return names
