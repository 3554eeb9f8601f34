"""A small untrained FramePack checkpoint in the real layout, made from the real classes."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import HunyuanVideoFramepackPipeline, HunyuanVideoFramepackTransformer3DModel
from transformers import LlamaModel, SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from tests.hunyuan_checkpoints import common, language, llama_tokenizer, small_transformer, write

SIDE = 28  # pixels of a picture as SigLIP sees it


def build_framepack(folder: Path, seed: int = 0, *, forward: bool = False) -> Path:
    """Write a checkpoint to `folder`, which need not be there, and return it; `forward`: one of F1."""
    torch.manual_seed(seed)
    config = {name: value for name, value in small_transformer().config.items() if not name.startswith("_")}
    transformer = HunyuanVideoFramepackTransformer3DModel(
        **config, has_image_proj=True, image_proj_dim=16, has_clean_x_embedder=True
    )
    if forward:  # as diffusers writes it where it has read the transformer from the hub
        transformer.register_to_config(_name_or_path="lllyasviel/FramePack_F1_I2V_HY_20250503")
    sees = SiglipVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=14
    )
    pipeline = HunyuanVideoFramepackPipeline(
        text_encoder=LlamaModel(language()),
        tokenizer=llama_tokenizer(),
        image_encoder=SiglipVisionModel(sees),
        feature_extractor=SiglipImageProcessor(size={"height": SIDE, "width": SIDE}),
        **common(transformer),
    )
    return write(pipeline, folder)
