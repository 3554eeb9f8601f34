"""Small untrained LTX-2 checkpoints in the real layout, made from the real classes, of both versions. Parameters that
are zero at first are drawn anew, since an identity hides mistakes; and what diffusers' own pipelines make of a
request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    DiffusionPipeline,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from i2v.families.ltx2.model import PICTURE_CRF
from i2v.families.ltx2.skeleton import scheduler
from i2v.request import GenerationRequest, Input, first_image
from i2v.video.compressed import compressed
from i2v.video.picture import fit_picture, load_picture
from tests.checkpoints import CORPUS, redraw_zeros
from tests.photos import photograph

TEXT_WIDTH, LAYERS = 32, 3
BEGIN = "<bos>"
LAST = Input("image", str(photograph("tower.jpg")), at=-1)
BETWEEN = Input("image", str(photograph("tower.jpg")), at=9)  # where the third frame of latents begins
JOB = GenerationRequest(
    model="small", task="i2v", prompt="the camera zooms in and pans left over a lake with hills at dusk",
    negative_prompt="snow falls", width=128, height=160, num_frames=17, fps=24, num_inference_steps=3,
    guidance_scale=3.0, seed=7, inputs=first_image(str(photograph())),
)  # fmt: skip

TEXT: Mapping[str, Any] = {
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": TEXT_WIDTH, "intermediate_size": 48, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": LAYERS, "query_pre_attn_scalar": 8,
        "sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2,
        "num_hidden_layers": 1, "image_size": 28, "patch_size": 14,
    },
    "mm_tokens_per_image": 4,
}  # fmt: skip
TEXT_4: Mapping[str, Any] = {
    "text_config": {
        "model_type": "gemma4_unified_text", "hidden_size": TEXT_WIDTH, "intermediate_size": 48,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 16,
        "num_global_key_value_heads": 1, "attention_k_eq_v": True, "num_hidden_layers": LAYERS, "sliding_window": 1024,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
    "vision_config": {
        "model_type": "gemma4_unified_vision", "patch_size": 2, "mm_embed_dim": 16, "mm_posemb_size": 8,
        "output_proj_dims": 16,
    },
    "audio_config": {"model_type": "gemma4_unified_audio", "audio_embed_dim": 16},
}  # fmt: skip
TRANSFORMER: Mapping[str, Any] = {
    "in_channels": 16, "out_channels": 16, "num_attention_heads": 4, "attention_head_dim": 24,
    "cross_attention_dim": 96, "audio_in_channels": 16, "audio_out_channels": 16, "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 12, "audio_cross_attention_dim": 48, "num_layers": 4, "rope_type": "split",
    "caption_channels": TEXT_WIDTH,
}  # fmt: skip
CONNECTORS: Mapping[str, Any] = {
    "caption_channels": TEXT_WIDTH, "text_proj_in_factor": LAYERS + 1, "video_connector_num_layers": 2,
    "audio_connector_num_layers": 2, "rope_type": "split",
}  # fmt: skip
VAE: Mapping[str, Any] = {
    "latent_channels": 16, "block_out_channels": (32, 32, 64, 64), "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_causal": False, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
}  # fmt: skip
RESNETS: Mapping[str, Any] = {"resnet_kernel_sizes": [3, 5], "resnet_dilations": [[1], [3]]}
VERSIONS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "2.0": {
        "transformer": TRANSFORMER,
        "connectors": {
            **CONNECTORS, "video_connector_num_attention_heads": 4, "video_connector_attention_head_dim": 8,
            "audio_connector_num_attention_heads": 4, "audio_connector_attention_head_dim": 8,
        },
        "vae": {
            **VAE, "decoder_block_out_channels": (16, 32, 64), "decoder_layers_per_block": (1, 1, 1, 1),
        },
        "vocoder": {
            "in_channels": 32, "hidden_channels": 32, "upsample_kernel_sizes": [32, 31], "upsample_factors": [16, 15],
            **RESNETS,
        },
    },
    "2.3": {
        "transformer": {
            **TRANSFORMER, "gated_attn": True, "cross_attn_mod": True, "audio_gated_attn": True,
            "audio_cross_attn_mod": True, "use_prompt_embeddings": False, "perturbed_attn": True,
        },
        "connectors": {
            **CONNECTORS, "video_connector_num_attention_heads": 4, "video_connector_attention_head_dim": 24,
            "audio_connector_num_attention_heads": 4, "audio_connector_attention_head_dim": 12,
            "video_gated_attn": True, "audio_gated_attn": True, "per_modality_projections": True,
            "video_hidden_dim": 96, "audio_hidden_dim": 48, "proj_bias": True,
        },
        "vae": {
            **VAE, "decoder_block_out_channels": (16, 32, 32, 64), "decoder_layers_per_block": (1, 1, 1, 1, 1),
            "decoder_spatio_temporal_scaling": (True,) * 4, "decoder_inject_noise": (False,) * 5,
            "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
            "upsample_residual": (False,) * 4, "upsample_factor": (2, 2, 1, 2),
            "decoder_spatial_padding_mode": "zeros",
        },
        "vocoder": {
            "in_channels": 32, "hidden_channels": 32, "upsample_kernel_sizes": [32, 20], "upsample_factors": [16, 10],
            "bwe_in_channels": 32, "bwe_hidden_channels": 32, "bwe_upsample_kernel_sizes": [40, 24],
            "bwe_upsample_factors": [20, 12], "num_mel_channels": 16, **RESNETS,
            **{f"bwe_{name}": value for name, value in RESNETS.items()},
        },
    },
}  # fmt: skip
VERSIONS |= {
    "2.5": {
        **VERSIONS["2.3"],
        "transformer": {
            **VERSIONS["2.3"]["transformer"], "use_prompt_adaln_single": False, "use_keyframes_abs_pos_embedding": True,
            "ff_bias": False,
        },
    },
}  # fmt: skip


def build_ltx2(folder: Path, version: str, seed: int = 0) -> Path:
    """Write a checkpoint to `folder`, which need not be there, and return it."""
    torch.manual_seed(seed)
    configs, tokenizer = VERSIONS[version], ltx2_tokenizer()
    vocoder = LTX2Vocoder if version == "2.0" else LTX2VocoderWithBWE
    pipeline = LTX2Pipeline(
        scheduler=scheduler(),
        vae=AutoencoderKLLTX2Video(**configs["vae"]),
        audio_vae=AutoencoderKLLTX2Audio(base_channels=16, latent_channels=4, mel_bins=16),
        text_encoder=gemma_of(version, len(tokenizer)),
        tokenizer=tokenizer,
        connectors=LTX2TextConnectors(**configs["connectors"]),
        transformer=LTX2VideoTransformer3DModel(**configs["transformer"]),
        vocoder=vocoder(**configs["vocoder"]),
    )
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            redraw_zeros(module)
            for name, buffer in module.named_buffers():
                if name.endswith("latents_std"):
                    buffer.uniform_(0.5, 1.5)
                elif name.endswith(("latents_mean", "_basis")):
                    buffer.normal_(std=0.3)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


UPSAMPLER: Mapping[str, Any] = {"in_channels": 16, "mid_channels": 32, "num_blocks_per_stage": 1}


def add_upsampler(folder: Path, version: str) -> Path:
    """Put what makes its latents larger into a checkpoint, as its version has it."""
    torch.manual_seed(5)
    upsampler = LTX2LatentUpsamplerModel(**UPSAMPLER, use_rational_resampler=version == "2.0")
    redraw_zeros(upsampler)
    upsampler.save_pretrained(folder / "latent_upsampler", safe_serialization=True)
    return folder


def gemma_of(version: str, words: int) -> Gemma3ForConditionalGeneration | Gemma4UnifiedForConditionalGeneration:
    """The text encoder of a version, with so many words."""
    kinds = {"2.5": (Gemma4UnifiedForConditionalGeneration, Gemma4UnifiedConfig, TEXT_4)}
    cls, config, given = kinds.get(version, (Gemma3ForConditionalGeneration, Gemma3Config, TEXT))
    return cls(config(**{**given, "text_config": {**given["text_config"], "vocab_size": words}}))


def ltx2_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word of our corpus, and one for the beginning of a sentence."""
    splits = pre_tokenizers.Whitespace()
    words = sorted({word for text in CORPUS for word, _ in splits.pre_tokenize_str(text)})
    special = ("<pad>", BEGIN, "<unk>")
    tokenizer = Tokenizer(models.WordLevel({one: n for n, one in enumerate((*special, *words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splits
    tokenizer.add_special_tokens([*special])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token=BEGIN,
        unk_token="<unk>",
        model_max_length=1024,
        padding_side="left",  # as Gemma's is
    )


def stock(
    pipeline: DiffusionPipeline, request: GenerationRequest, output: str, version: str, **more: Any
) -> tuple[Tensor, Tensor]:
    """What diffusers' pipeline makes of `request`, as its `output_type` says: pictures and sound. `more`: what it is
    given beside."""
    scale = request.guidance_scale
    guides = {"stg_scale": 0.0, "modality_scale": 1.0, "audio_guidance_scale": scale, "audio_stg_scale": 0.0,
              "audio_modality_scale": 1.0, "guidance_rescale": 0.0, "audio_guidance_rescale": 0.0}  # fmt: skip
    if version != "2.0" and scale > 1:
        guides = {"stg_scale": 1.0, "modality_scale": 3.0, "audio_guidance_scale": scale * 7 / 3,
                  "audio_stg_scale": 1.0, "audio_modality_scale": 3.0, "guidance_rescale": 0.7,
                  "audio_guidance_rescale": 0.7, "spatio_temporal_guidance_blocks": [3]}  # fmt: skip
    given: dict[str, Any] = {}
    if len(request.inputs) > 1:
        places = ((one, latent_frame(one)) for one in request.inputs)
        given = {
            "conditions": [LTX2VideoCondition(picture(request, one, version), at, 1.0, crf=0) for one, at in places]
        }
    elif request.inputs:
        given = {"image": picture(request, request.inputs[0], version), "image_crf": 0}
    return pipeline(
        prompt=request.prompt, negative_prompt=request.negative_prompt, width=request.width, height=request.height,
        num_frames=request.num_frames, frame_rate=float(request.fps), num_inference_steps=request.num_inference_steps,
        guidance_scale=scale, use_cross_timestep=version != "2.0", output_type=output, return_dict=False,
        generator=torch.Generator().manual_seed(request.seed), **guides, **given, **more,
    )  # fmt: skip


def latent_frame(one: Input) -> int:
    """The frame of latents that an input begins, as diffusers counts; -1 the last."""
    assert one.at is not None
    return one.at if one.at < 1 else (one.at - 1) // 8 + 1


def pipeline_of(cls: type[DiffusionPipeline], checkpoint: Path) -> DiffusionPipeline:
    """diffusers' own, on the same weights."""
    pipeline = cls.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(request: GenerationRequest, one: Input, version: str) -> Image.Image:
    """An input as the network sees it."""
    fitted = fit_picture(load_picture(Path(one.path)), request.width, request.height, request.fit)
    return compressed(fitted, PICTURE_CRF["gemma4_unified" if version == "2.5" else "gemma3"])
