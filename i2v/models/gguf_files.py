"""A network's weights as one GGUF file, in the place of safetensors: which file that is, and whether it can be read.
The package that reads them is an extra (requirements-quantised.txt)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from i2v.messages import UserError

GGUF = ".gguf"
PLAIN = ("F32", "F16")
"""The kinds whose numbers stand as they are."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a file, in its own names: its shape, for a quantised one with the bytes of a row last, and the name
    and number of its kind."""

    shape: tuple[int, ...]
    kind: str
    number: int

    @property
    def is_quantised(self) -> bool:
        return self.kind not in PLAIN

    @property
    def numbers(self) -> tuple[int, ...]:
        """Its shape in numbers, of a quantised one too. Raises LookupError or ValueError for a kind that the package
        does not know."""
        if not self.is_quantised:
            return self.shape
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        numbers, size_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(self.number)]
        return (*self.shape[:-1], self.shape[-1] // size_bytes * numbers)


def gguf_of(component: Path) -> Path | None:
    """The file that holds the weights of the network in the folder `component`; None where safetensors do, or no file
    does. Raises UserError where there are several."""
    if any(component.glob("*.safetensors")):
        return None
    found = sorted(component.glob(f"*{GGUF}"))
    if len(found) > 1:
        raise UserError("models.gguf_several", folder=str(component), files=", ".join(one.name for one in found))
    return found[0] if found else None


def read_gguf_header(file: Path) -> Mapping[str, GgufTensor]:
    """The tensors of `file` by name, none of them read. Raises UserError where the package is missing, and where the
    file is no GGUF or cut off."""
    if find_spec("gguf") is None:
        raise UserError("models.gguf_package", file=str(file))
    from gguf import GGUFReader

    try:
        tensors = GGUFReader(file).tensors
        return {
            one.name: GgufTensor(tuple(map(int, one.data.shape)), one.tensor_type.name, int(one.tensor_type))
            for one in tensors
        }
    except OSError as error:
        raise UserError("models.unreadable", file=str(file), reason=error.strerror or str(error)) from error
    except (ValueError, TypeError, LookupError, UnicodeError, OverflowError, MemoryError) as error:
        raise UserError("models.gguf_damaged", file=str(file)) from error
