"""Small untrained LTX-Video checkpoints in the real layout, made from the real classes, of all versions. Parameters
that are zero at first are drawn anew, since an identity hides mistakes; and what diffusers' own pipelines make of a
request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    DiffusionPipeline,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image
from sentencepiece import sentencepiece_model_pb2
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from i2v.families.ltx import skeleton as ltx
from i2v.families.ltx2.layout import SPACE_SCALE, TIME_SCALE
from i2v.families.ltx_13b import skeleton as ltx_13b
from i2v.families.schedulers import STEP_SEED_OFFSET
from i2v.request import GenerationRequest, Input, first_image
from i2v.video.picture import fit_picture, load_picture
from tests.checkpoints import CORPUS, redraw_zeros
from tests.photos import photograph

TEXT_WIDTH = 32
LAST = Input("image", str(photograph("tower.jpg")), at=-1)
JOB = GenerationRequest(
    model="small", task="i2v", prompt="the camera zooms in and pans left over a lake with hills at dusk",
    negative_prompt="snow falls", width=128, height=160, num_frames=17, fps=24, num_inference_steps=3,
    guidance_scale=3.0, seed=7, inputs=first_image(str(photograph())),
)  # fmt: skip
TRANSFORMER: Mapping[str, Any] = {
    "in_channels": 16, "out_channels": 16, "num_attention_heads": 4, "attention_head_dim": 26,
    "cross_attention_dim": 104, "num_layers": 4, "caption_channels": TEXT_WIDTH,
}  # fmt: skip
FIRST: Mapping[str, Any] = {
    "latent_channels": 16, "block_out_channels": (16, 32, 32, 32), "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_block_out_channels": (16, 32, 32, 32), "decoder_layers_per_block": (1, 1, 1, 1, 1),
}  # fmt: skip
LATER: Mapping[str, Any] = {
    **FIRST, "decoder_block_out_channels": (16, 32, 64), "decoder_layers_per_block": (1, 1, 2, 1),
    "decoder_spatio_temporal_scaling": (True,) * 3, "decoder_inject_noise": (True, True, True, False),
    "upsample_residual": (True,) * 3, "upsample_factor": (2,) * 3, "timestep_conditioning": True,
}  # fmt: skip
LATEST: Mapping[str, Any] = {
    **LATER, "block_out_channels": (16, 32, 32, 64, 64), "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "spatio_temporal_scaling": (True,) * 4, "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
}  # fmt: skip
VAES: Mapping[str, Mapping[str, Any]] = {"0.9.0": FIRST, "0.9.1": LATER, "0.9.7": LATEST}
"""Of each version."""
FAMILIES = {"0.9.0": "ltx", "0.9.1": "ltx", "0.9.7": "ltx_13b"}


def build_ltx(folder: Path, version: str, seed: int = 0) -> Path:
    """Write a checkpoint to `folder`, which need not be there, and return it."""
    torch.manual_seed(seed)
    latest = version == "0.9.7"
    tokenizer = ltx_tokenizer()
    pipeline = (LTXConditionPipeline if latest else LTXPipeline)(
        scheduler=(ltx_13b if latest else ltx).scheduler(),
        vae=AutoencoderKLLTXVideo(**VAES[version]),
        text_encoder=T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=48, num_layers=3, num_heads=4,
                feed_forward_proj="gated-gelu",
            )
        ),
        tokenizer=tokenizer,
        transformer=LTXVideoTransformer3DModel(**TRANSFORMER),
    )  # fmt: skip
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            redraw_zeros(module)
            for name, buffer in module.named_buffers():
                if name.endswith("latents_std"):
                    buffer.uniform_(0.5, 1.5)
                elif name.endswith("latents_mean"):
                    buffer.normal_(std=0.3)
    pipeline.save_pretrained(folder, safe_serialization=True)
    write_pieces(folder / "tokenizer" / "spiece.model", pieces())
    return folder


def pieces() -> list[tuple[str, float]]:
    """A piece for each word of our corpus, and for each letter."""
    words = sorted({word for text in CORPUS for word in text.split()})
    letters = sorted(set("".join(words)))
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return special + [(f"\u2581{word}", -3.0) for word in words] + [(letter, -9.0) for letter in letters]


def ltx_tokenizer() -> T5Tokenizer:
    """A token for each of these pieces."""
    return T5Tokenizer(vocab=pieces(), model_max_length=128)


def write_pieces(file: Path, scores: Sequence[tuple[str, float]]) -> None:
    """A SentencePiece model of these pieces."""
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece.Type
    special = {"<pad>": kinds.CONTROL, "</s>": kinds.CONTROL, "<unk>": kinds.UNKNOWN}
    model = sentencepiece_model_pb2.ModelProto()
    for text, score in scores:
        model.pieces.add(piece=text, score=score, type=special.get(text, kinds.NORMAL))
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.UNIGRAM
    model.trainer_spec.unk_id, model.trainer_spec.pad_id, model.trainer_spec.eos_id = 2, 0, 1
    file.write_bytes(model.SerializeToString())


def stock(pipeline: DiffusionPipeline, request: GenerationRequest, output: str, **more: Any) -> Any:
    """What diffusers' pipeline makes of `request`, as its `output_type` says; `more`: what it is given beside."""
    given: dict[str, Any] = {}
    if isinstance(pipeline, LTXConditionPipeline):
        _with_noise_by_step(pipeline, request)
        places = ((one, request.num_frames - 1 if one.at == -1 else 0) for one in request.inputs)
        if request.inputs:
            given = {"conditions": [LTXVideoCondition(picture(request, one), None, at) for one, at in places]}
    elif request.inputs:
        given = {"image": picture(request, request.inputs[0])}
    return pipeline(
        prompt=request.prompt, negative_prompt=request.negative_prompt, width=request.width, height=request.height,
        num_frames=request.num_frames, frame_rate=request.fps, num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale, guidance_rescale=request.guidance_rescale, output_type=output,
        generator=torch.Generator().manual_seed(request.seed), return_dict=False, **given, **more,
    )[0]  # fmt: skip


def stock_latents(pipeline: DiffusionPipeline, request: GenerationRequest) -> Tensor:
    """The latents that diffusers' pipeline makes of `request`, as a clip: (1, C, f, h, w)."""
    frames, size = (request.num_frames - 1) // TIME_SCALE + 1, (request.height, request.width)
    tokens = stock(pipeline, request, "latent")
    return tokens.transpose(1, 2).unflatten(2, (frames, *(side // SPACE_SCALE for side in size)))


def _with_noise_by_step(pipeline: LTXConditionPipeline, request: GenerationRequest) -> None:
    """Have it draw the noise of pictures by seed and step, as a run does that may go on from any."""
    index = 0

    def add(*arguments: Any) -> Tensor:
        nonlocal index
        index += 1
        generator = torch.Generator().manual_seed(request.seed + STEP_SEED_OFFSET * index)
        return LTXConditionPipeline.add_noise_to_image_conditioning_latents(*arguments[:-1], generator)

    pipeline.add_noise_to_image_conditioning_latents = add


def pipeline_of(cls: type[DiffusionPipeline], checkpoint: Path) -> DiffusionPipeline:
    """diffusers' own, on the same weights."""
    pipeline = cls.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(request: GenerationRequest, one: Input) -> Image.Image:
    """An input as the network sees it."""
    return fit_picture(load_picture(Path(one.path)), request.width, request.height, request.fit)
