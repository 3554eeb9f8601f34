"""Small untrained Wan checkpoints in the real layout, made from the real classes. Zero-initialised parameters are drawn
anew, since an identity hides mistakes; and what
diffusers' own pipeline makes of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    DiffusionPipeline,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from i2v.request import GenerationRequest, Task
from tests.checkpoints import CORPUS, redraw_zeros

TEXT_WIDTH, PICTURE_WIDTH = 32, 16
END = "</s>"
JOB = GenerationRequest(
    model="small", task="t2v", prompt="the camera zooms in and pans left over a lake with hills at dusk",
    negative_prompt="snow falls", width=96, height=128, num_frames=9, fps=16, num_inference_steps=4,
    guidance_scale=5.0, seed=7,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint: its family, the pipeline that is its oracle, and how it differs from text-to-video."""

    family: str
    pipeline: type[DiffusionPipeline]
    transformer: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)
    flow_shift: float = 3.0
    boundary: float | None = None
    expanded: bool = False
    task: Task | None = None  # None for the usual one


SMALL_LATENTS = {"in_channels": 48, "out_channels": 48}
SMALL_VAE = {
    "decoder_base_dim": 8, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2,
    "scale_factor_spatial": 16, "latents_mean": [0.01 * n for n in range(48)],
    "latents_std": [1 - 0.01 * n for n in range(48)],
}  # fmt: skip
SEEING = {"in_channels": 36, "image_dim": PICTURE_WIDTH, "added_kv_proj_dim": 144}
KINDS = {
    "wan_i2v": Kind("wan_i2v", WanImageToVideoPipeline, SEEING),
    "wan_flf2v": Kind("wan_flf2v", WanImageToVideoPipeline, {**SEEING, "pos_embed_seq_len": 10}, flow_shift=16.0),
    "wan22": Kind("wan22", WanPipeline, boundary=0.875),
    "wan22_i2v": Kind("wan22_i2v", WanImageToVideoPipeline, {"in_channels": 36}, boundary=0.9),
    "wan22_5b": Kind("wan22_5b", WanPipeline, SMALL_LATENTS, SMALL_VAE, flow_shift=5.0, expanded=True),
    "wan22_5b from a picture": Kind(
        "wan22_5b", WanImageToVideoPipeline, SMALL_LATENTS, SMALL_VAE, flow_shift=5.0, expanded=True, task="i2v"
    ),
}


def build_wan(folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint of text-to-video to `folder`, which need not be there, and return it."""
    torch.manual_seed(seed)
    tokenizer = wan_tokenizer()
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=48, num_layers=3, num_heads=4,
                feed_forward_proj="gated-gelu",
            )
        ),
        transformer=WanTransformer3DModel(
            num_attention_heads=6, attention_head_dim=24, text_dim=TEXT_WIDTH, freq_dim=32, ffn_dim=192, num_layers=4
        ),
        vae=AutoencoderKLWan(base_dim=8),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    )  # fmt: skip
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            redraw_zeros(module)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def build(folder: Path, kind: Kind, seed: int = 0) -> Path:
    """Write a checkpoint of another kind to `folder`, which need not be there, and return it."""
    torch.manual_seed(seed)
    tokenizer = wan_tokenizer()

    def transformer() -> WanTransformer3DModel:
        return WanTransformer3DModel(
            num_attention_heads=6, attention_head_dim=24, text_dim=TEXT_WIDTH, freq_dim=32, ffn_dim=192, num_layers=4,
            **kind.transformer,
        )  # fmt: skip

    parts = {
        "tokenizer": tokenizer,
        "text_encoder": UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=48, num_layers=3, num_heads=4,
                feed_forward_proj="gated-gelu",
            )
        ),
        "transformer": transformer(),
        "vae": AutoencoderKLWan(base_dim=8, **kind.vae),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=kind.flow_shift
        ),
    }  # fmt: skip
    if kind.boundary is not None:
        parts |= {"transformer_2": transformer(), "boundary_ratio": kind.boundary}
    if "image_dim" in kind.transformer:
        config = CLIPVisionConfig(
            hidden_size=PICTURE_WIDTH, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=28,
            patch_size=14,
        )  # fmt: skip
        size = {"height": 28, "width": 28}
        parts |= {
            "image_encoder": CLIPVisionModel(config),
            "image_processor": CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=size),
        }
    published = WanPipeline if kind.expanded else kind.pipeline  # one checkpoint does both tasks
    pipeline = published(**parts, expand_timesteps=kind.expanded)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            redraw_zeros(module)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def wan_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word of our corpus, and one for the end of a sentence."""
    splits = pre_tokenizers.Whitespace()
    words = sorted({word for text in CORPUS for word, _ in splits.pre_tokenize_str(text)})
    vocabulary = {token: number for number, token in enumerate(("<pad>", END, "<unk>", *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splits
    tokenizer.add_special_tokens(["<pad>", END, "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=END, unk_token="<unk>", model_max_length=512
    )


def stock(pipeline: DiffusionPipeline, request: GenerationRequest, output: str, **more: object) -> Tensor:
    """What diffusers' pipeline makes of `request`, as its `output_type` says; `more`: what it is given beside."""
    return pipeline(
        prompt=request.prompt, negative_prompt=request.negative_prompt, width=request.width, height=request.height,
        num_frames=request.num_frames, num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale, generator=torch.Generator().manual_seed(request.seed),
        output_type=output, **more,
    ).frames  # fmt: skip
