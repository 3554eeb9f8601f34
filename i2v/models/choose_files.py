"""Which files of a repository a family needs.

Only JSON, tokenizer texts and safetensors are fetched, and of each weight file the half-precision one where the
repository has it: half the download, and what every GPU preset computes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from i2v.families.spec import FamilySpec
from i2v.models.verify import INDEXES, SAFETENSORS

_SHARD = re.compile(r"(?P<stem>.+?)(?P<fp16>\.fp16)?(?P<part>-\d+-of-\d+)?\.safetensors$")


def choose_files(names: Iterable[str], spec: FamilySpec) -> list[str]:
    """Of a repository's file names those to fetch for `spec`, fp16 in place of full weights where there is both."""
    names = set(names)
    chosen = {*INDEXES} & names
    for component, files in spec.every_component.items():
        inside = {name for name in names if name.rpartition("/")[0] == component}
        chosen |= {name for name in inside if name.endswith((".json", ".txt", ".model"))}
        for file in files:
            if file.endswith(SAFETENSORS):
                chosen |= _one_variant(inside, f"{component}/{file.removesuffix(SAFETENSORS)}")
    return sorted(chosen)


def _one_variant(inside: set[str], stem: str) -> set[str]:
    variants: dict[bool, set[str]] = {True: set(), False: set()}
    for name in inside:
        match = _SHARD.fullmatch(name)
        if match and match["stem"] == stem:
            variants[match["fp16"] is not None].add(name)
    return variants[True] or variants[False]
