"""How a request is run: every decision about placement and chunking, and nothing about the picture itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Precision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")

CfgMode = Literal["batch", "split"]
CFG_MODES: tuple[CfgMode, ...] = ("batch", "split")

Offload = Literal["resident", "staged"]
OFFLOADS: tuple[Offload, ...] = ("resident", "staged")


@dataclass(frozen=True)
class Plan:
    """Every placement decision for one run. Two plans of equal precision give the same picture.

    `device` is "cpu", "cuda" (the worker sees one card, chosen through CUDA_VISIBLE_DEVICES) or "simulated"
    (a card of `memory_cap_bytes` made of host memory).
    `chunk_frames`, `chunk_pixels`, `decode_frames`: how many at once, 0 means all.
    `offload`: "resident" keeps every component on the card, "staged" holds only what the running phase needs.
    `memory_cap_bytes`: what the run may hold on the card, or None for all that is free.
    """

    device: Literal["cpu", "cuda", "simulated"] = "cpu"
    precision: Precision = "float32"
    chunk_frames: int = 0
    chunk_pixels: int = 0
    cfg: CfgMode = "batch"
    offload: Offload = "resident"
    decode_frames: int = 1
    memory_cap_bytes: int | None = None
    preset: str = "cpu"
    lossless: bool = True

    def to_json(self) -> dict[str, Any]:
        """This plan as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plan:
        """Read back what `to_json` wrote; keys of newer versions are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})
