"""A small untrained checkpoint of Stable Video Diffusion in the real layout, made from the real classes, and what
diffusers' own pipeline makes of a request. Parameters that are zero at first are drawn anew, since an identity hides
mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.resnet import AlphaBlender
from PIL import Image
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from i2v.families.svd.model import PICTURE_SEED_OFFSET
from i2v.families.svd.skeleton import scheduler
from i2v.families.svd.spec import SPEC
from i2v.request import GenerationRequest, first_image
from i2v.video.picture import fit_picture, load_picture
from tests.checkpoints import redraw_zeros
from tests.photos import photograph

JOB = GenerationRequest(
    model="small", task="i2v", prompt="", width=128, height=64, num_frames=5, fps=7, num_inference_steps=3,
    guidance_scale=3.0, seed=7, inputs=first_image(str(photograph())),
)  # fmt: skip


def build_svd(folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint to `folder`, which need not be there, and return it."""
    torch.manual_seed(seed)
    pipeline = StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32, 64, 64, 64), layers_per_block=1
        ),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, image_size=224,
                patch_size=56, projection_dim=24,
            )
        ),
        unet=UNetSpatioTemporalConditionModel(
            block_out_channels=(32, 64, 64, 64), addition_time_embed_dim=8, projection_class_embeddings_input_dim=24,
            layers_per_block=1, cross_attention_dim=24, num_attention_heads=(2, 4, 4, 4), num_frames=5, sample_size=8,
        ),
        scheduler=scheduler(),
        feature_extractor=CLIPImageProcessor(crop_size={"height": 224, "width": 224}, size={"shortest_edge": 224}),
    )  # fmt: skip
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            redraw_zeros(module)
            for part in module.modules():
                if isinstance(part, AlphaBlender):
                    nn.init.uniform_(part.mix_factor, -1, 1)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def pipeline_of(checkpoint: Path, **more: Any) -> StableVideoDiffusionPipeline:
    """diffusers' own, on the same weights. Its picture lies in memory with the colours side by side, which torch sums
    up with an error of 1e-4 on a processor (in float64 both are one): here it lies as elsewhere."""
    pipeline = StableVideoDiffusionPipeline.from_pretrained(checkpoint, local_files_only=True, **more)
    encode = pipeline.vae.encode
    pipeline.vae.encode = lambda pixels: encode(pixels.contiguous())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(request: GenerationRequest) -> Image.Image:
    """The input as the network sees it."""
    return fit_picture(load_picture(Path(request.image_path)), request.width, request.height, request.fit)


def stock(pipeline: StableVideoDiffusionPipeline, request: GenerationRequest, output: str) -> Any:
    """What diffusers' pipeline makes of `request`, as its `output_type` says; all frames are decoded as one clip."""
    noise = torch.Generator().manual_seed(request.seed)
    latents = torch.randn(1, request.num_frames, 4, request.height // 8, request.width // 8, generator=noise)
    asked = {name: getattr(request, name) for name in SPEC.own_settings}
    return pipeline(
        picture(request), width=request.width, height=request.height, num_frames=request.num_frames, fps=request.fps,
        num_inference_steps=request.num_inference_steps, max_guidance_scale=request.guidance_scale,
        **{name: value for name, value in asked.items() if value is not None}, output_type=output,
        generator=torch.Generator().manual_seed(request.seed + PICTURE_SEED_OFFSET),
        latents=latents.to(pipeline.unet.dtype),
    ).frames  # fmt: skip
