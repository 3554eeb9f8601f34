"""Small untrained CogVideoX checkpoints in the real layout, made from the real classes, of all versions. Parameters
that are zero at first are drawn anew, since an identity hides mistakes; and what diffusers' own pipelines make of a
request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DiffusionPipeline,
)
from PIL import Image
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from i2v.families.cogvideox.skeleton import scheduler
from i2v.families.schedulers import STEP_SEED_OFFSET
from i2v.request import GenerationRequest, Input, first_image
from i2v.video.picture import fit_picture, load_picture
from tests.checkpoints import redraw_zeros
from tests.ltx_checkpoints import ltx_tokenizer, pieces, write_pieces
from tests.photos import photograph

TEXT_WIDTH = 32
JOB = GenerationRequest(
    model="small", task="t2v", prompt="the camera zooms in and pans left over a lake with hills at dusk",
    negative_prompt="snow falls", width=64, height=64, num_frames=9, fps=8, num_inference_steps=3,
    guidance_scale=6.0, seed=7,
)  # fmt: skip
PICTURES: tuple[Input, ...] = first_image(str(photograph()))
SMALL: Mapping[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "time_embed_dim": 24,
    "text_embed_dim": TEXT_WIDTH, "num_layers": 4, "sample_width": 8, "sample_height": 8, "sample_frames": 9,
}  # fmt: skip
TURNED: Mapping[str, Any] = {**SMALL, "use_rotary_positional_embeddings": True}
IN_PAIRS: Mapping[str, Any] = {
    **TURNED, "patch_size_t": 2, "patch_bias": False, "sample_width": 30, "sample_height": 30
}  # fmt: skip
TRANSFORMERS: Mapping[str, Mapping[str, Any]] = {
    "cogvideox": {**SMALL, "sample_width": 12},
    "cogvideox_5b": {**TURNED, "sample_width": 12},
    "cogvideox_5b_i2v": {**TURNED, "in_channels": 8, "use_learned_positional_embeddings": True},
    "cogvideox_15": IN_PAIRS,
    "cogvideox_15_i2v": {**IN_PAIRS, "in_channels": 8, "ofs_embed_dim": 24},
}
"""By family. What has learned where tokens stand is for the size and length of JOB."""
VAE: Mapping[str, Any] = {
    "latent_channels": 4, "block_out_channels": (8, 16, 16, 16), "layers_per_block": 1, "norm_num_groups": 4,
    "scaling_factor": 0.7,
}  # fmt: skip


def job_of(family: str, **change: Any) -> GenerationRequest:
    """JOB as this family does it."""
    made = {"task": "i2v", "inputs": PICTURES} if family.endswith("i2v") else {}
    return replace(JOB, **{**made, **change})


def build_cogvideox(folder: Path, family: str, seed: int = 0) -> Path:
    """Write a checkpoint to `folder`, which need not be there, and return it. That of the family that is made from
    pictures in one size names the scheduler of second order."""
    torch.manual_seed(seed)
    tokenizer = ltx_tokenizer()
    cls = CogVideoXImageToVideoPipeline if family.endswith("i2v") else CogVideoXPipeline
    stepping = scheduler()
    pipeline = cls(
        scheduler=CogVideoXDPMScheduler.from_config(stepping.config) if family == "cogvideox_5b_i2v" else stepping,
        vae=AutoencoderKLCogVideoX(**VAE, invert_scale_latents=family == "cogvideox_15_i2v"),
        text_encoder=T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=48, num_layers=3, num_heads=4,
                feed_forward_proj="gated-gelu",
            )
        ),
        tokenizer=tokenizer,
        transformer=CogVideoXTransformer3DModel(**TRANSFORMERS[family]),
    )  # fmt: skip
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            redraw_zeros(module)
    if family == "cogvideox_5b_i2v":
        pipeline.transformer.patch_embed.pos_embedding.normal_(std=0.5)
    pipeline.save_pretrained(folder, safe_serialization=True)
    write_pieces(folder / "tokenizer" / "spiece.model", pieces())
    return folder


def pipeline_of(family: str, checkpoint: Path, **more: Any) -> DiffusionPipeline:
    """diffusers' own, on the same weights."""
    cls = CogVideoXImageToVideoPipeline if family.endswith("i2v") else CogVideoXPipeline
    pipeline = cls.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock(pipeline: DiffusionPipeline, request: GenerationRequest, output: str = "latent") -> Tensor:
    """What diffusers' pipeline makes of `request`, as its `output_type` says."""
    if request.scheduler == "cogvideox_dpm":
        pipeline.scheduler = CogVideoXDPMScheduler.from_config(pipeline.scheduler.config)
    if isinstance(pipeline.scheduler, CogVideoXDPMScheduler):
        _with_noise_by_step(pipeline.scheduler, request)
    given = {"image": picture(request)} if request.inputs else {}
    return pipeline(
        prompt=request.prompt, negative_prompt=request.negative_prompt, width=request.width, height=request.height,
        num_frames=request.num_frames, num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale, output_type=output,
        generator=torch.Generator().manual_seed(request.seed), return_dict=False, **given,
    )[0]  # fmt: skip


def _with_noise_by_step(stepping: CogVideoXDPMScheduler, request: GenerationRequest) -> None:
    """Have it draw its noise by seed and step, as a run does that may go on from any."""
    index = 0

    def step(*arguments: Any, **named: Any) -> Any:
        nonlocal index
        index += 1
        named["generator"] = torch.Generator().manual_seed(request.seed + STEP_SEED_OFFSET * index)
        return CogVideoXDPMScheduler.step(stepping, *arguments, **named)

    stepping.step = step


def picture(request: GenerationRequest) -> Image.Image:
    """The input as the network sees it."""
    return fit_picture(load_picture(Path(request.image_path)), request.width, request.height, request.fit)
