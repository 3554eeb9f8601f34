"""Small untrained I2VGen-XL checkpoints in the real layout, made from the real classes.

    python tests/checkpoints.py FOLDER          one of the default size

They carry no knowledge, only structure: what is compared and measured on them does not depend on values. diffusers
zero-initialises the last layer of every temporal convolution, and an identity hides mistakes, so all-zero parameters
are drawn anew. `warm_support.small_checkpoint` has one made where the process itself is to stay without torch.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLPipeline, I2VGenXLUNet
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

CORPUS = (
    "a garden rose sways in the wind while petals open slowly",
    "the camera zooms in and pans left over a lake with hills at dusk",
    "clouds drift, water ripples, the light of a street lamp flickers",
    "gentle motion of leaves and grass, a portrait breathes, snow falls",
)

# How I2VGen-XL was trained and is sampled: `Diffusion` in VGen's configs/i2vgen_xl_train.yaml (cosine, zero terminal
# SNR, mean_type v), and the timesteps and the last alpha of its DDIM. A checkpoint's own scheduler_config.json counts.
SCHEDULER = {
    "beta_schedule": "squaredcos_cap_v2",
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@dataclass(frozen=True)
class Size:
    """The proportions of a small checkpoint, `channels` and `vae_channels` by level of their networks; the real one has
    channels (320, 640, 1280, 1280), groups 32."""

    channels: tuple[int, ...] = (32, 64, 64, 64)
    layers: int = 1
    groups: int = 8
    head_dim: int = 16
    text_dim: int = 32
    vae_channels: tuple[int, ...] = (16, 32, 32, 32)


def build_checkpoint(folder: Path, size: Size | None = None, seed: int = 0) -> Path:
    """Write a checkpoint with random weights to `folder`, which need not be there, and return it: about a second."""
    size = size or Size()
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    # As diffusers' own: the innermost level has no attention.
    attending = len(size.channels) - 1
    pipeline = I2VGenXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=size.vae_channels,
            down_block_types=["DownEncoderBlock2D"] * len(size.vae_channels),
            up_block_types=["UpDecoderBlock2D"] * len(size.vae_channels),
            latent_channels=4,
            norm_num_groups=size.groups,
            sample_size=64,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=size.text_dim,
                intermediate_size=size.text_dim * 2,
                projection_dim=size.text_dim,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=77,
                bos_token_id=len(tokenizer) - 2,
                eos_token_id=len(tokenizer) - 1,
                pad_token_id=len(tokenizer) - 1,
            )
        ),
        tokenizer=tokenizer,
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=size.text_dim,
                intermediate_size=size.text_dim * 2,
                projection_dim=size.text_dim,
                num_hidden_layers=2,
                num_attention_heads=4,
                image_size=32,
                patch_size=8,
            )
        ),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        unet=I2VGenXLUNet(
            block_out_channels=size.channels,
            down_block_types=("CrossAttnDownBlock3D",) * attending + ("DownBlock3D",),
            up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * attending,
            layers_per_block=size.layers,
            norm_num_groups=size.groups,
            cross_attention_dim=size.text_dim,
            attention_head_dim=size.head_dim,
        ),
        scheduler=DDIMScheduler(**SCHEDULER),
    )
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.image_encoder):
        redraw_zeros(module)
    pipeline.save_pretrained(folder, safe_serialization=True)
    _write_vocabulary(folder / "tokenizer")
    return folder


def redraw_zeros(module: nn.Module, std: float = 0.05) -> None:
    """Draw every all-zero parameter anew, so that no layer is an identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=std)


def build_tokenizer() -> CLIPTokenizer:
    """A byte-pair tokenizer put together as CLIP's is: bytes, bytes at a word's end, merges, two marks."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(CORPUS, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {token: index for index, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77, pad_token="<|endoftext|>")


def _write_vocabulary(folder: Path) -> None:
    """Store a tokenizer as the published checkpoints do, in vocab.json and merges.txt."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").unlink()


if __name__ == "__main__":
    build_checkpoint(Path(sys.argv[1]))
