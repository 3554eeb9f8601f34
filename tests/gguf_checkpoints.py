"""Small checkpoints whose transformer is a GGUF file, written by the package `gguf`, in its authors' names or
diffusers'."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers import HunyuanVideoTransformer3DModel, LTXVideoTransformer3DModel, WanTransformer3DModel
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from torch import nn

from tests.checkpoints import redraw_zeros
from tests.hunyuan_checkpoints import build_hunyuan, small_transformer
from tests.ltx_checkpoints import TRANSFORMER, build_ltx
from tests.wan_checkpoints import TEXT_WIDTH, build_wan

NAME = "small-Q.gguf"
OWN_NAMES = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1", "attn2": "cross_attn", "attn1": "self_attn",
    ".to_out.0.": ".o.", ".to_q.": ".q.", ".to_k.": ".k.", ".to_v.": ".v.", "proj_out": "head.head",
    "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2", "norm2": "norm_second", "norm3": "norm2", "norm_second": "norm3",
}  # fmt: skip


def wan_name(name: str) -> str:
    """What Wan's authors call a tensor that diffusers calls `name`."""
    for theirs, own in OWN_NAMES.items():
        name = name.replace(theirs, own)
    return "head.modulation" if name == "scale_shift_table" else name.replace("scale_shift_table", "modulation")


def write_gguf(
    file: Path,
    network: nn.Module,
    kinds: Mapping[str, GGMLQuantizationType],
    named: Callable[[str], str] = lambda name: name,
) -> None:
    """Write the weights of `network` as it is called by `named`. `kinds`: of matrices, by a part of their diffusers
    name, the first that fits; all else stays float32, and so do matrices whose rows are not whole blocks."""
    writer = GGUFWriter(file, "wan")
    for name, tensor in network.state_dict().items():
        values = tensor.float().numpy()
        kind = next((kind for part, kind in kinds.items() if part in name), None)
        if kind is None or values.ndim != 2 or values.shape[1] % 32 or not name.endswith(".weight"):
            writer.add_tensor(named(name), values)
        else:
            writer.add_tensor(named(name), quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def wan_transformer() -> WanTransformer3DModel:
    """Like `build_wan`'s, with rows of whole blocks."""
    return redrawn(
        WanTransformer3DModel(
            num_attention_heads=4, attention_head_dim=24, text_dim=TEXT_WIDTH, freq_dim=32, ffn_dim=192, num_layers=4
        )
    )


def hunyuan_transformer() -> HunyuanVideoTransformer3DModel:
    return redrawn(small_transformer())


def redrawn(network: nn.Module) -> nn.Module:
    redraw_zeros(network)
    return network.eval().requires_grad_(False)


def with_gguf(folder: Path, network: nn.Module, **how: object) -> Path:
    """The checkpoint in `folder` with `network` for its transformer, whose weights are a GGUF file; returns it."""
    shutil.rmtree(folder / "transformer")
    network.save_config(folder / "transformer")
    write_gguf(folder / "transformer" / NAME, network, **how)
    return folder


def build_wan_gguf(folder: Path) -> Path:
    kinds = {
        "time_embedder": GGMLQuantizationType.Q8_0, "attn1.to_v": GGMLQuantizationType.Q8_0,
        "ffn": GGMLQuantizationType.Q4_0, "blocks": GGMLQuantizationType.Q5_1,
        "text_embedder": GGMLQuantizationType.BF16,
    }  # fmt: skip
    torch.manual_seed(3)
    return with_gguf(build_wan(folder), wan_transformer(), kinds=kinds, named=wan_name)


LTX_NAMES = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}


def ltx_name(name: str) -> str:
    """What LTX-Video's authors call a tensor that diffusers calls `name`."""
    for theirs, own in LTX_NAMES.items():
        name = name.replace(theirs, own)
    return f"model.diffusion_model.{name}"


def build_ltx_gguf(folder: Path) -> Path:
    torch.manual_seed(3)
    wide = {"attention_head_dim": 24, "cross_attention_dim": 96}  # rows of whole blocks
    network = redrawn(LTXVideoTransformer3DModel(**{**TRANSFORMER, **wide}))
    kinds = {"attn": GGMLQuantizationType.Q5_0, "ff": GGMLQuantizationType.Q4_0, "linear": GGMLQuantizationType.Q8_0}
    return with_gguf(build_ltx(folder, "0.9.0"), network, kinds=kinds, named=ltx_name)


def build_hunyuan_gguf(folder: Path) -> Path:
    torch.manual_seed(3)
    kinds = {"transformer_blocks": GGMLQuantizationType.Q4_1}
    return with_gguf(build_hunyuan(folder), hunyuan_transformer(), kinds=kinds)
