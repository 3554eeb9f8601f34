"""How LoRA files name the layers of a network. No torch here: a file is told by the names in its header.

A LoRA changes a layer's weight by the product of two small matrices, which peft calls A and B and others down and up.
Layers are called as the network's first authors called them, or as diffusers does; trainers of the kohya line write
the authors' names with underscores in place of dots. Files that were cut out of a distilled model also hold whole
differences: of biases, norms and tables, which have no such product.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

Part = Literal["A", "B", "alpha", "difference"]

_TENSOR = re.compile(
    r"(?P<layer>.+)\.(?:lora_(?P<part>A|B|down|up)|lora\.(?P<old>down|up))(?:\.default)?\.(?P<kind>weight|bias)"
)
_ALPHA = re.compile(r"(?P<layer>.+)\.alpha")
_DIFFERENCE = re.compile(r"(?P<layer>.+)\.(?P<of>diff|diff_b|diff_m)")
_DIFFERENCES = {"diff": "weight", "diff_b": "bias", "diff_m": "table"}
_NUMBER = "<n>"
_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "unet.",
    "lora_unet__",
    "lora_unet_",
)
_PARTS: Mapping[str, Part] = {"A": "A", "B": "B", "down": "A", "up": "B"}


@dataclass(frozen=True)
class LoraTensor:
    """What the name of a tensor says: its `layer` without what trainers write before it, and which `part` of the LoRA
    it is. `kind`: weight or bias; "alpha" is one number, which sets the scale together with the rank. A "difference" is
    what is added to a parameter as it is, of which a block's table is one."""

    layer: str
    part: Part
    kind: str = "weight"


def lora_tensor(name: str) -> LoraTensor | None:
    """What `name` says; None where it is no part of a LoRA that can be read here."""
    if found := _TENSOR.fullmatch(name):
        return LoraTensor(_bare(found["layer"]), _PARTS[found["part"] or found["old"]], found["kind"])
    if found := _ALPHA.fullmatch(name):
        return LoraTensor(_bare(found["layer"]), "alpha")
    if found := _DIFFERENCE.fullmatch(name):
        return LoraTensor(_bare(found["layer"]), "difference", _DIFFERENCES[found["of"]])
    return None


@dataclass(frozen=True, eq=False)
class LoraNames:
    """What the layers of a network are called: by its `authors` and by `diffusers`, where <n> stands for a number and
    words in braces for one of them. `fused`: by the end of an author's name, how many layers of diffusers it is.
    `renamed`: authors' names as diffusers has them, where one layer is one layer, and of `table`, their parameter, too;
    `unmatched`: the same of parts that no LoRA goes on, of which a file may hold differences.
    `stated`: a pattern of what files for this network say in their header under `modelspec.architecture`. `alpha_key`:
    under which their header may have one alpha for all layers."""

    authors: tuple[str, ...]
    diffusers: tuple[str, ...]
    stated: str
    fused: Mapping[str, int] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    unmatched: Mapping[str, str] = field(default_factory=dict)
    table: str = ""
    alpha_key: str = ""

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

    def diffusers_layer(self, layer: str) -> str:
        """What diffusers calls `layer`, one of this network, where `renamed` tells."""
        return _renamed(layer, self.renamed) or layer

    def parameter(self, found: LoraTensor) -> str | None:
        """The parameter of diffusers' network that a difference is added to; None where there is none."""
        if found.part != "difference":
            return None
        dotted = self.layer(found.layer) if self.renamed else None
        layer = self.diffusers_layer(dotted) if dotted else _renamed(found.layer, self.unmatched)
        if layer is None or (found.kind == "table" and not self.table):
            return None
        return ".".join(filter(None, (layer, self.table if found.kind == "table" else found.kind)))

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


def _renamed(layer: str, renamed: Mapping[str, str]) -> str | None:
    """The name that `renamed` has for `layer`, its number in the same place; None where it has none."""
    numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", layer)
    for number in numbers[:1]:
        name = re.sub(rf"(?<=\.){number}(?=\.|$)", _NUMBER, layer, count=1)
        if name in renamed:
            return renamed[name].replace(_NUMBER, number)
    return renamed.get(layer)


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

_WAN = {
    "patch_embedding": "patch_embedding",
    **{f"text_embedding.{at}": f"condition_embedder.text_embedder.linear_{number}" for at, number in ((0, 1), (2, 2))},
    **{f"time_embedding.{at}": f"condition_embedder.time_embedder.linear_{number}" for at, number in ((0, 1), (2, 2))},
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    **{
        f"blocks.<n>.{theirs}.{name}": f"blocks.<n>.{ours}.{to}"
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for name, to in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
    },
    "blocks.<n>.cross_attn.k_img": "blocks.<n>.attn2.add_k_proj",
    "blocks.<n>.cross_attn.v_img": "blocks.<n>.attn2.add_v_proj",
    "blocks.<n>.ffn.0": "blocks.<n>.ffn.net.0.proj",
    "blocks.<n>.ffn.2": "blocks.<n>.ffn.net.2",
    "head.head": "proj_out",
}
WAN = LoraNames(
    authors=tuple(_WAN),
    diffusers=tuple(_WAN.values()),
    stated="wan",
    renamed=_WAN,
    unmatched={
        "blocks.<n>.norm3": "blocks.<n>.norm2",
        **{
            f"blocks.<n>.{theirs}.{norm}": f"blocks.<n>.{ours}.{norm}"
            for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
            for norm in ("norm_q", "norm_k")
        },
        "blocks.<n>.cross_attn.norm_k_img": "blocks.<n>.attn2.norm_added_k",
        "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
        "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
        "blocks.<n>": "blocks.<n>",
        "head": "",
    },
    table="scale_shift_table",
)
"""Wan, of all versions. Of its files diffusers' own conversion leaves differences of norms and tables out, and those of
biases without a matrix, silently: files of few steps have them."""

_LTX2_EMBEDDINGS = {
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
}
_LTX2_ATTENTIONS = (
    "attn1", "audio_attn1", "attn2", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn"
)  # fmt: skip
_LTX2_ALIKE = (
    *(
        f"transformer_blocks.<n>.{attention}.{layer}"
        for attention in _LTX2_ATTENTIONS
        for layer in ("to_q", "to_k", "to_v", "to_out.0", "to_gate_logits")
    ),
    *(f"transformer_blocks.<n>.{part}.net.{layer}" for part in ("ff", "audio_ff") for layer in ("0.proj", "2")),
    *(f"{part}.linear_{number}" for part in ("caption_projection", "audio_caption_projection") for number in (1, 2)),
    "proj_out", "audio_proj_out",
)  # fmt: skip
_LTX2 = {
    "patchify_proj": "proj_in",
    "audio_patchify_proj": "audio_proj_in",
    **{
        f"{theirs}.{layer}": f"{ours}.{layer}"
        for theirs, ours in _LTX2_EMBEDDINGS.items()
        for layer in ("emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2", "linear")
    },
    **{name: name for name in _LTX2_ALIKE},
}
LTX2 = LoraNames(
    authors=tuple(_LTX2),
    diffusers=tuple(_LTX2.values()),
    stated="ltx-?2|ltxav",
    renamed=_LTX2,
    unmatched={
        f"transformer_blocks.<n>.{attention}.{theirs}": f"transformer_blocks.<n>.{attention}.{ours}"
        for attention in _LTX2_ATTENTIONS
        for theirs, ours in (("q_norm", "norm_q"), ("k_norm", "norm_k"))
    },
)
"""LTX-2 and LTX-2.3. What goes on the connectors, which read the sentence, is not taken."""

_LTX = {
    theirs: ours
    for theirs, ours in _LTX2.items()
    if not any(part in theirs for part in ("audio", "av_ca", "video", "prompt_adaln", "gate_logits"))
}
LTX = LoraNames(
    authors=tuple(_LTX),
    diffusers=tuple(_LTX.values()),
    stated="ltxv|ltx-video",
    renamed=_LTX,
    unmatched={
        theirs: ours for theirs, ours in LTX2.unmatched.items() if "audio" not in theirs and "video" not in theirs
    },
)
"""LTX-Video, of all versions: what LTX-2 has of it."""

_H3_BLOCK = "{attn.qkv_proj,attn.out_proj,mlp.fc1,mlp.fc2}"
_H3_OWN_BLOCK = "{attn.to_q,attn.to_k,attn.to_v,attn.to_out.0,ff.net.0.proj,ff.net.2}"
MINIMAX_H3 = LoraNames(
    authors=(
        f"blocks.<n>.{_H3_BLOCK}", f"token_refiner.blocks.<n>.{_H3_BLOCK}", "blocks.<n>.adaln_proj.linear",
        "{video,audio}_patch_proj", "condition_proj", "time_embedder.{proj_in,proj_out}",
        "final_layer.{adaln_proj.linear,video_out,audio_out}",
    ),
    diffusers=(
        f"transformer_blocks.<n>.{_H3_OWN_BLOCK}", f"token_refiner.refiner_blocks.<n>.{_H3_OWN_BLOCK}",
        "transformer_blocks.<n>.adaln_proj.linear", "{proj_in,audio_proj_in,context_embedder}",
        "time_embedder.linear_{1,2}", "norm_out.linear", "{proj_out,audio_proj_out}",
    ),
    stated="minimax.?h3",
    fused={"attn.qkv_proj": 3},
    alpha_key="alpha",
)  # fmt: skip
"""MiniMax-H3. Of its two transformers, those made for the one that takes references have the same names."""

_COGVIDEOX = (
    "transformer_blocks.<n>.{attn1.to_q,attn1.to_k,attn1.to_v,attn1.to_out.0,ff.net.0.proj,ff.net.2}",
    "transformer_blocks.<n>.{norm1,norm2}.linear",
    "patch_embed.{proj,text_proj}", "{time_embedding,ofs_embedding}.linear_{1,2}", "norm_out.linear", "proj_out",
)  # fmt: skip
COGVIDEOX = LoraNames(authors=(), diffusers=_COGVIDEOX, stated="cogvideo")
"""CogVideoX, of all versions: its trainers use diffusers' names alone."""
