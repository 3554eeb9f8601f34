"""Small untrained HunyuanVideo-1.5 checkpoints in the real layout, made from the real classes. Parameters that are zero
at first are drawn anew, since an identity hides mistakes; and what diffusers' own pipelines make of a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    ByT5Tokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from i2v.families.hunyuan_video_15.prompts import SYSTEM_MESSAGE
from i2v.request import GenerationRequest, Input
from tests.checkpoints import CORPUS, redraw_zeros
from tests.photos import photograph

WIDTH = 32  # of the words' network
SIDE = 28  # pixels of a picture as SigLIP sees it, in 2 x 2 patches
MARKS = ("<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>")
CONVERSATION = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # as Qwen's
JOB = GenerationRequest(
    model="small", task="t2v", prompt='the camera pans left over a lake, a sign says "hills" and “at dusk”',
    negative_prompt='a garden "of rain"', width=128, height=160, num_frames=9, fps=24, num_inference_steps=3,
    guidance_scale=6.0, seed=7,
)  # fmt: skip
PICTURE = Input("image", str(photograph()))
# diffusers chooses the size of a video from a picture: that of the list for this one with the picture's proportions.
TARGET_SIZE = 143


def build_hunyuan_15(folder: Path, task: str, seed: int = 0, **transformer: object) -> Path:
    """Write a checkpoint for `task` to `folder`, which need not be there, and return it. `transformer`: what of its
    configuration is to be otherwise."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": Qwen2_5_VLTextModel(qwen(len(tokenizer))),
        "tokenizer_2": ByT5Tokenizer(),
        "text_encoder_2": T5EncoderModel(
            T5Config(
                vocab_size=384, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
            )
        ),
        "transformer": HunyuanVideo15Transformer3DModel(
            **{
                "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 3, "num_refiner_layers": 2,
                "text_embed_dim": WIDTH, "text_embed_2_dim": 16, "image_embed_dim": 24, "rope_axes_dim": (4, 6, 6),
                "target_size": TARGET_SIZE, "task_type": task, **transformer,
            }
        ),
        "vae": AutoencoderKLHunyuanVideo15(block_out_channels=(8, 8, 16, 32, 64), layers_per_block=1),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
        "guider": ClassifierFreeGuidance(guidance_scale=6.0),
    }  # fmt: skip
    cls = HunyuanVideo15Pipeline
    if task == "i2v":
        cls = HunyuanVideo15ImageToVideoPipeline
        parts["image_encoder"] = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
                patch_size=14,
            )
        )  # fmt: skip
        parts["feature_extractor"] = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    for module in parts.values():
        if isinstance(module, nn.Module):
            redraw_zeros(module)
    cls(**parts).save_pretrained(folder, safe_serialization=True)
    return folder


def qwen(words: int) -> Qwen2_5_VLTextConfig:
    """Four layers, of which the first two are read."""
    return Qwen2_5_VLTextConfig(
        vocab_size=words, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
    )  # fmt: skip


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word of our corpus and of the system's part, for white space and marks."""
    splits = pre_tokenizers.Split(Regex(r"\s|\w+|[^\w\s]+"), behavior="isolated")
    texts = (*CORPUS, SYSTEM_MESSAGE, "system\nuser\nassistant")
    words = sorted({word for text in texts for word, _ in splits.pre_tokenize_str(text)})
    vocabulary = {one: number for number, one in enumerate((*MARKS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splits
    tokenizer.add_special_tokens([*MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=MARKS[0], unk_token="<unk>", padding_side="right",
        chat_template=CONVERSATION,
    )  # fmt: skip


def pipeline_of(checkpoint: Path) -> DiffusionPipeline:
    """diffusers' own, on the same weights."""
    pipeline = DiffusionPipeline.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock(
    pipeline: DiffusionPipeline, request: GenerationRequest, output: str = "latent", picture: Image.Image | None = None
) -> Tensor:
    """What diffusers' pipeline makes of `request`, as its `output_type` says; from `picture` where it takes one."""
    pipeline.guider = ClassifierFreeGuidance(
        guidance_scale=request.guidance_scale, guidance_rescale=request.guidance_rescale
    )
    size = {"width": request.width, "height": request.height} if picture is None else {"image": picture}
    return pipeline(
        prompt=request.prompt, negative_prompt=request.negative_prompt, num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps, generator=torch.Generator().manual_seed(request.seed),
        output_type=output, **size,
    ).frames  # fmt: skip
