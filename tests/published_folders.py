"""Checkpoint folders as they are published: the configurations that come with each family, and every tensor that the
network made of them has, under its own name and in its own shape. The weights are holes in the files, so that 118 GiB
take a few hundred kB."""

from __future__ import annotations

import importlib
import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from model_folders import make_checkpoint

from i2v.families import SPECS
from i2v.families.skeletons import read_configs
from i2v.families.spec import FamilySpec, Mark

Shapes = Mapping[str, tuple[int, ...]]
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1}


@lru_cache(32)
def tensors_of(family: str) -> Mapping[str, Shapes]:
    """The tensors of each network of the family as published, by its folder."""
    spec = SPECS[family]
    module = importlib.import_module(f"i2v.families.{family}.skeleton")
    with torch.device("meta"):
        configs = read_configs(Path(module.CONFIGS), module.CONFIGURED)
        modules = module.skeleton(configs, torch.bfloat16, spec.max_prompt_tokens).modules
    return {name: {one: tuple(t.shape) for one, t in network.state_dict().items()} for name, network in modules.items()}


def published(folder: Path, spec: FamilySpec, kind: str = "BF16") -> Path:
    """`folder` as the family's checkpoint is published, with the marks that tell it from others of its class."""
    make_checkpoint(folder, spec)
    module = importlib.import_module(f"i2v.families.{spec.name}.skeleton")
    for component in module.CONFIGURED:
        shutil.copy(Path(module.CONFIGS) / component / "config.json", folder / component / "config.json")
    for component, shapes in tensors_of(spec.name).items():
        for name in spec.components.get(component, ()):
            if name.endswith(".safetensors"):
                write_hollow(folder / component / name, shapes, kind)
    for mark in spec.marks:
        put_mark(folder, mark)
    return folder


def put_mark(folder: Path, mark: Mark) -> None:
    """Have the checkpoint's file say what the mark asks for."""
    if mark.there or mark.value is not None:
        said = {None: 0.9, r"F1": "lllyasviel/FramePack_F1_I2V_HY_20250503"}.get(mark.pattern)
        values = json.loads((folder / mark.file).read_text())
        if not mark.is_on(values):
            (folder / mark.file).write_text(json.dumps({**values, mark.key: mark.value if said is None else said}))


def write_hollow(file: Path, shapes: Shapes, kind: str = "BF16") -> None:
    """A safetensors file of these tensors whose numbers are a hole."""
    header, place = {}, 0
    for name, shape in shapes.items():
        size = prod(shape) * BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + place)


def in_shards(component: Path, name: str, shapes: Shapes, kind: str = "BF16", *, half: bool = False) -> None:
    """The weights `name` in three files with an index, as diffusers writes them."""
    stem = name.removesuffix(".safetensors") + (".fp16" if half else "")
    names = list(shapes)
    parts = {f"{stem}-{number + 1:05}-of-00003.safetensors": names[number::3] for number in range(3)}
    for part, inside in parts.items():
        write_hollow(component / part, {one: shapes[one] for one in inside}, kind)
    index = f"{name}.index.fp16.json" if half else f"{name}.index.json"
    weight_map = {one: part for part, inside in parts.items() for one in inside}
    (component / index).write_text(json.dumps({"weight_map": weight_map}))


def write_gguf_names(file: Path, names: Iterable[str]) -> None:
    """A GGUF file with tensors of these names, of a few bytes each."""
    writer = GGUFWriter(file, "wan")
    for name in names:
        writer.add_tensor(name, np.zeros((2, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
