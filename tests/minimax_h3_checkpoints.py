"""Small untrained MiniMax-H3 checkpoints in the real layout, made from the real classes. Parameters that are zero at
first are drawn anew, since an identity hides mistakes; and what diffusers' own blocks make of a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLMiniMaxH3,
    AutoencoderKLMiniMaxH3Audio,
    MiniMaxH3Blocks,
    MiniMaxH3ModularPipeline,
    MiniMaxH3Scheduler,
    MiniMaxH3Transformer3DModel,
)
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from i2v.families.minimax_h3.prompts import LABELS, image_processor
from i2v.request import GenerationRequest, Input
from tests.checkpoints import CORPUS, redraw_zeros
from tests.photos import photograph

TEXT_WIDTH, LAYERS = 32, 52  # of the words' network, of which 50 are read
MARKS = ("<pad>", "<unk>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
JOB = GenerationRequest(
    model="small", task="i2v", prompt="the camera zooms in and pans left over a lake with hills at dusk",
    negative_prompt="", width=320, height=64, num_frames=124, fps=24, num_inference_steps=3, guidance_scale=1.0,
    seed=7, inputs=(Input("image", str(photograph())),),
)  # fmt: skip
BOTH_ENDS = replace(
    JOB,
    inputs=(
        *JOB.inputs,
        Input("image", str(photograph("tower.jpg")), at=-1),
    ),
)


def build_minimax_h3(folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint to `folder`, which need not be there, and return it."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    parts: dict[str, Any] = {
        "text_encoder": Qwen3VLForConditionalGeneration(qwen(len(tokenizer))),
        "transformer": MiniMaxH3Transformer3DModel(
            num_attention_heads=3, attention_head_dim=32, hidden_size=48, num_layers=4, num_refiner_layers=2,
            ffn_dim=80, in_channels=24, audio_in_channels=32, text_dim=TEXT_WIDTH, freq_dim=32,
            time_embed_hidden_dim=40, time_embed_dim=24, rope_freq_dim=4,
        ),
        "vae": AutoencoderKLMiniMaxH3(
            block_out_channels=(8, 8, 8, 8, 8, 16), layers_per_block=1, norm_num_groups=4, decoder_num_layers=3,
            decoder_num_attention_heads=2, decoder_attention_head_dim=24, decoder_ffn_mult=2,
            latents_mean=tuple(0.1 * one - 1 for one in range(24)),
            latents_std=tuple(0.5 + 0.05 * one for one in range(24)),
        ),
        "audio_vae": AutoencoderKLMiniMaxH3Audio(
            encoder_dim=4, latent_dim=64, num_attention_heads=2, decoder_dim=128, resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3),), latents_mean=[0.05 * one - 1 for one in range(32)],
            latents_std=[0.5 + 0.02 * one for one in range(32)],
        ),
        "scheduler": MiniMaxH3Scheduler(shift=12.0),
        "audio_scheduler": MiniMaxH3Scheduler(shift=3.0),
    }  # fmt: skip
    for module in parts.values():
        if isinstance(module, nn.Module):
            redraw_zeros(module)
    for name, part in (*parts.items(), ("tokenizer", tokenizer)):
        part.save_pretrained(folder / name)
    (folder / "processor").mkdir()
    configs = {"image_processor": image_processor().to_dict(), "processor_class": "Qwen3VLProcessor"}
    (folder / "processor" / "processor_config.json").write_text(json.dumps(configs))
    pipeline_of(folder).save_config(folder)
    return folder


def qwen(words: int) -> Qwen3VLConfig:
    return Qwen3VLConfig(
        text_config={
            "vocab_size": words, "hidden_size": TEXT_WIDTH, "intermediate_size": 48, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": LAYERS,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        },
        vision_config={
            "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": TEXT_WIDTH,
            "num_position_embeddings": 36, "deepstack_visual_indexes": [0, 2],
        },
        image_token_id=MARKS.index("<|image_pad|>"), video_token_id=MARKS.index("<|video_pad|>"),
    )  # fmt: skip


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word of our corpus, for white space and marks: as many for a picture's label as in Qwen's."""
    splits = pre_tokenizers.Split(Regex(r"\s|\w+|[^\w\s]+"), behavior="isolated")
    texts = (*CORPUS, *LABELS)
    words = sorted({word for text in texts for word, _ in splits.pre_tokenize_str(text)})
    tokenizer = Tokenizer(models.WordLevel({one: n for n, one in enumerate((*MARKS, *words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splits
    tokenizer.add_special_tokens([*MARKS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def pipeline_of(folder: Path, dtype: torch.dtype = torch.float32) -> MiniMaxH3ModularPipeline:
    """diffusers' own blocks on the same weights."""
    pipeline = MiniMaxH3Blocks().init_pipeline()
    kinds = {
        "transformer": MiniMaxH3Transformer3DModel, "vae": AutoencoderKLMiniMaxH3,
        "audio_vae": AutoencoderKLMiniMaxH3Audio, "text_encoder": Qwen3VLForConditionalGeneration,
    }  # fmt: skip
    parts = {name: cls.from_pretrained(folder / name, dtype=dtype).eval() for name, cls in kinds.items()}
    mark = parts["text_encoder"].config.image_token_id
    # Qwen's own processor needs torchvision, for clips, which there are none of here.
    processor = SimpleNamespace(
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder / "processor"),
        create_mm_token_type_ids=lambda rows: [[int(one == mark) for one in row] for row in rows],
    )
    for name in ("scheduler", "audio_scheduler"):
        parts[name] = MiniMaxH3Scheduler.from_pretrained(folder / name)
    parts["tokenizer"] = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    pipeline.update_components(**parts)
    pipeline.processor = processor
    return pipeline


def stock(pipeline: MiniMaxH3ModularPipeline, request: GenerationRequest, pictures: Mapping[int, Image.Image]) -> Any:
    """What diffusers' blocks make of `request` and `pictures`, by their frames: their state at the end."""
    given = {{0: "image", -1: "last_image"}[at]: picture for at, picture in pictures.items()}
    return pipeline(
        prompt=request.prompt, width=request.width, height=request.height, num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps + 1, output_type="np",
        generator=torch.Generator().manual_seed(request.seed), **given,
    )  # fmt: skip


def latents_of(state: Any) -> tuple[Tensor, Tensor]:
    """Of pictures and sound."""
    return state.get("latents"), state.get("audio_latents")
