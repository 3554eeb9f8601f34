"""Weights in one file, as other programs keep them: which part of which model such a file is, by the names of its
tensors, and what a model still needs beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.gguf_files import GGUF, read_gguf_header
from i2v.models.verify import SAFETENSORS, raw_header

CONVERTED = ("transformer", "vae")
"""Components of which an import makes a model, with the rest of one that is here already."""
_IN_A_CHECKPOINT = r"(?:model\.diffusion_model\.)?"  # what ComfyUI's checkpoints put before a transformer's names


@dataclass(frozen=True)
class SinglePart:
    """A file that is the `component` of a family's model, or several of them in one, of which the first is named (in
    the marks below: that may be in one with it). The
    family is the one that the others of its architecture were made from. `here`: it has the names that diffusers gives,
    so that it can lie in a model's folder as it is. `beside`: components that another file has, which goes into the
    same model (`experts`)."""

    family: str
    component: str
    here: bool = False
    with_others: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    gguf: bool = False

    @property
    def spec(self) -> FamilySpec:
        return SPECS[self.family]

    @property
    def missing(self) -> tuple[str, ...]:
        """The folders of a model that the file does not stand for."""
        return tuple(name for name in self.spec.components if name not in self.held)

    @property
    def held(self) -> tuple[str, ...]:
        """The folders of a model that come from the file, or the one beside it."""
        return (self.component, *self.with_others, *self.beside)


# A tensor that is in every such file and in no other. Those of authors' own files are the ones that diffusers'
# converters go by.
_MARKS: tuple[tuple[str, SinglePart], ...] = (
    (r"blocks\.0\.attn1\.to_q\.weight", SinglePart("wan", "transformer", here=True)),
    (rf"{_IN_A_CHECKPOINT}(?:head\.modulation|blocks\.0\.self_attn\.q\.weight)", SinglePart("wan", "transformer")),
    (r"decoder\.middle\.0\.residual\.0\.gamma", SinglePart("wan", "vae")),
    (r"patch_embed\.text_proj\.bias", SinglePart("cogvideox", "transformer", here=True)),  # before the next one's
    (r"transformer_blocks\.0\.attn1\.to_q\.weight", SinglePart("ltx", "transformer", here=True)),
    (r"model\.diffusion_model\.patchify_proj\.weight", SinglePart("ltx", "transformer", with_others=("vae",))),
    (r"patchify_proj\.weight", SinglePart("ltx", "transformer")),
    (
        r"x_embedder\.proj\.weight|context_embedder\.time_text_embed\..*|transformer_blocks\.0\.attn\.add_q_proj\.weight",
        SinglePart("hunyuan_video", "transformer", here=True),
    ),
    (
        rf"{_IN_A_CHECKPOINT}txt_in\.individual_token_refiner\.blocks\.0\.adaLN_modulation\.1\.bias",
        SinglePart("hunyuan_video", "transformer"),
    ),
    (r"token_refiner\.blocks\.0\.attn\.qkv_proj\.weight", SinglePart("minimax_h3", "transformer")),
    (
        r"model\.diffusion_model\.input_blocks\.1\.0\.time_stack\..*",
        SinglePart("svd", "unet", with_others=("vae", "image_encoder")),
    ),
    (r"(?:text_model\.)?encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight", SinglePart("wan", "text_encoder")),
    (r"(?:model\.)?layers\.0\.self_attn\.q_proj\.weight", SinglePart("hunyuan_video", "text_encoder")),
    (r"vision_model\.encoder\.layers\.0\.self_attn\.q_proj\.weight", SinglePart("wan_i2v", "image_encoder")),
)


# What the names of the others in one file begin with.
_BEGIN = {"vae": ("vae.", "first_stage_model."), "image_encoder": ("conditioner.",)}

# Those of one architecture that are wider: the last dimension of the tensor above.
_BY_WIDTH = {
    ("wan", "transformer", 5120): "wan_14b",
    ("wan", "transformer", 3072): "wan22_5b",
    ("cogvideox", "transformer", 3072): "cogvideox_5b",
}


def part_in(file: Path) -> SinglePart | None:
    """What a file of weights is a part of; None where that cannot be told from its names, or it is not whole."""
    if file.suffix not in (SAFETENSORS, GGUF):
        return None
    try:
        shapes = shapes_in(file)
    except UserError:
        return None
    for pattern, part in _MARKS:
        known = re.compile(pattern)
        name = next((name for name in shapes if known.fullmatch(name)), None)
        if name is not None:
            width = next(iter(shapes[name][-1:]), 0)
            others = tuple(one for one in part.with_others if any(name.startswith(_BEGIN[one]) for name in shapes))
            family = _BY_WIDTH.get((part.family, part.component, width), part.family)
            return replace(part, family=family, with_others=others, gguf=file.suffix == GGUF)
    return None


def shapes_in(file: Path) -> Mapping[str, Sequence[int]]:
    """Of all tensors in a file, by its own names. Raises UserError where it cannot be read, or is cut off."""
    if file.suffix != GGUF:
        return {name: tensor["shape"] for name, tensor in raw_header(file).items()}
    try:
        return {name: tensor.numbers for name, tensor in read_gguf_header(file).items()}
    except (LookupError, ValueError) as error:
        raise UserError("models.gguf_damaged", file=str(file)) from error


def told(file: Path, part: SinglePart) -> Message:
    """What such a file is, what it lacks, and where it would have to be."""
    spec = part.spec
    where = spec.hub_id or f"docs/models/{spec.name}.md"
    said = "models.single_here" if part.here else "models.single_part"
    if part.component in CONVERTED:
        said = "models.single_import"
    missing = ", ".join(part.missing)
    return message(said, file=str(file), component=part.component, title=spec.title, missing=missing, hub=where)
