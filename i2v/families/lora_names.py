"""How LoRA files name the layers of a network. No torch here: a file is told by the names in its header.

A LoRA changes a layer's weight by the product of two small matrices, which peft calls A and B and others down and up.
Layers are called as the network's first authors called them, or as diffusers does; trainers of the kohya line write
the authors' names with underscores in place of dots.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

Part = Literal["A", "B", "alpha"]

_TENSOR = re.compile(
    r"(?P<layer>.+)\.(?:lora_(?P<part>A|B|down|up)|lora\.(?P<old>down|up))(?:\.default)?\.(?P<kind>weight|bias)"
)
_ALPHA = re.compile(r"(?P<layer>.+)\.alpha")
_NUMBER = "<n>"
_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "unet.", "lora_unet_")
_PARTS: Mapping[str, Part] = {"A": "A", "B": "B", "down": "A", "up": "B"}


@dataclass(frozen=True)
class LoraTensor:
    """What the name of a tensor says: its `layer` without what trainers write before it, and which `part` of the LoRA
    it is. `kind`: weight or bias; "alpha" is one number, which sets the scale together with the rank."""

    layer: str
    part: Part
    kind: str = "weight"


def lora_tensor(name: str) -> LoraTensor | None:
    """What `name` says; None where it is no part of a LoRA that can be read here."""
    if found := _TENSOR.fullmatch(name):
        return LoraTensor(_bare(found["layer"]), _PARTS[found["part"] or found["old"]], found["kind"])
    if found := _ALPHA.fullmatch(name):
        return LoraTensor(_bare(found["layer"]), "alpha")
    return None


@dataclass(frozen=True, eq=False)
class LoraNames:
    """What the layers of a network are called: by its `authors` and by `diffusers`, where <n> stands for a number and
    words in braces for one of them. `fused`: by the end of an author's name, how many layers of diffusers it is.
    `stated`: a pattern of what files for this network say in their header under `modelspec.architecture`."""

    authors: tuple[str, ...]
    diffusers: tuple[str, ...]
    stated: str
    fused: Mapping[str, int] = field(default_factory=dict)

    def layer(self, name: str) -> str | None:
        """The layer `name` with dots, as its authors or diffusers call it; None where the network has no such layer."""
        if self._as_is.fullmatch(name):
            return name
        for pattern, dotted in self._underscored:
            if found := pattern.fullmatch(name):
                return dotted.replace(_NUMBER, found[1]) if pattern.groups else dotted
        return None

    def is_authors(self, layer: str) -> bool:
        """Whether `layer`, one of this network, has the name that its authors gave it."""
        return self._authors.fullmatch(layer) is not None

    def parts(self, layer: str) -> int:
        """How many layers of diffusers `layer` is."""
        return next((parts for end, parts in self.fused.items() if layer.endswith(end)), 1)

    @cached_property
    def _authors(self) -> re.Pattern[str]:
        return _one_of(self.authors)

    @cached_property
    def _as_is(self) -> re.Pattern[str]:
        return _one_of((*self.authors, *self.diffusers))

    @cached_property
    def _underscored(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        dotted = [one for name in self.authors for one in _spelled_out(name)]
        return tuple((re.compile(re.escape(one.replace(".", "_")).replace(_NUMBER, r"(\d+)")), one) for one in dotted)


def _bare(layer: str) -> str:
    """`layer` without what trainers write before it."""
    prefix = next((one for one in _PREFIXES if layer.startswith(one)), None)
    return layer if prefix is None else _bare(layer.removeprefix(prefix))


def _one_of(names: tuple[str, ...]) -> re.Pattern[str]:
    spelled = (re.escape(one).replace(_NUMBER, r"\d+") for name in names for one in _spelled_out(name))
    return re.compile("|".join(spelled))


def _spelled_out(name: str) -> Iterator[str]:
    """Each name that `name` stands for: "a.{b,c}" for "a.b" and "a.c"."""
    pieces = [piece.split(",") for piece in re.split(r"[{}]", name)]
    return ("".join(chosen) for chosen in product(*pieces))


HUNYUAN_VIDEO = LoraNames(
    authors=(
        "img_in.proj", "time_in.mlp.{0,2}", "guidance_in.mlp.{0,2}", "vector_in.{in_layer,out_layer}",
        "txt_in.input_embedder", "txt_in.t_embedder.mlp.{0,2}", "txt_in.c_embedder.linear_{1,2}",
        "txt_in.individual_token_refiner.blocks.<n>.{self_attn_qkv,self_attn_proj,mlp.fc1,mlp.fc2,adaLN_modulation.1}",
        "double_blocks.<n>.{img,txt}_{mod.linear,attn_qkv,attn_proj,mlp.fc1,mlp.fc2}",
        "single_blocks.<n>.{linear1,linear2,modulation.linear}",
        "final_layer.{linear,adaLN_modulation.1}",
    ),
    diffusers=(
        "x_embedder.proj", "time_text_embed.{timestep,guidance,text}_embedder.linear_{1,2}",
        "context_embedder.proj_in", "context_embedder.time_text_embed.{timestep,text}_embedder.linear_{1,2}",
        "context_embedder.token_refiner.refiner_blocks.<n>.attn.{to_q,to_k,to_v,to_out.0}",
        "context_embedder.token_refiner.refiner_blocks.<n>.{ff.net.0.proj,ff.net.2,norm_out.linear}",
        "transformer_blocks.<n>.attn.{to_q,to_k,to_v,to_out.0,add_q_proj,add_k_proj,add_v_proj,to_add_out}",
        "transformer_blocks.<n>.{ff,ff_context}.net.{0.proj,2}", "transformer_blocks.<n>.{norm1,norm1_context}.linear",
        "single_transformer_blocks.<n>.{attn.to_q,attn.to_k,attn.to_v,norm.linear,proj_mlp,proj_out}",
        "norm_out.linear", "proj_out",
    ),
    stated="hunyuan|framepack",
    fused={"attn_qkv": 3, "linear1": 4},
)  # fmt: skip
"""HunyuanVideo, and what was made from it without other layers."""

_LAYER = "transformer_blocks.<n>.{attn1.to_q,attn1.to_k,attn1.to_v,attn1.to_out.0,attn2.to_q,attn2.to_k,attn2.to_v,"
_LAYER += "attn2.to_out.0,ff.net.0.proj,ff.net.2}"
_VIDEO_UNET = (
    f"transformer_in.{_LAYER}", "transformer_in.{proj_in,proj_out}",
    *(
        f"{part}.{{attentions,temp_attentions}}.<n>.{inside}"
        for part in ("{down,up}_blocks.<n>", "mid_block")
        for inside in (_LAYER, "{proj_in,proj_out}")
    ),
    "{down,up}_blocks.<n>.resnets.<n>.time_emb_proj", "mid_block.resnets.<n>.time_emb_proj",
    "time_embedding.{linear_1,linear_2,cond_proj}",
)  # fmt: skip
"""The linear layers of diffusers' UNets for videos, as it calls them."""

I2VGEN_XL = LoraNames(authors=(), diffusers=(*_VIDEO_UNET, "fps_embedding.{0,2}"), stated="i2vgen")
"""I2VGen-XL's UNet. Those who train it write diffusers' names; its authors published no trainer of LoRAs."""

NANO = LoraNames(authors=(), diffusers=_VIDEO_UNET, stated="nano")
"""The UNet of the model that comes with the app."""
