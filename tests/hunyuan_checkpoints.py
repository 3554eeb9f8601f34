"""Small untrained HunyuanVideo checkpoints in the real layout, made from the real classes.

What is compared and measured on them does not depend on values; zero-initialised parameters are drawn anew, since an
identity hides mistakes. The tokenizers know few words, but every mark that the prompt templates use is one token, as it
is in the real ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE as OF_A_SENTENCE
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import (
    DEFAULT_PROMPT_TEMPLATE as OF_A_PICTURE,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from tests.checkpoints import CORPUS, _write_vocabulary, build_tokenizer, redraw_zeros

BEGIN = "<|begin_of_text|>"
MARKS = ("<pad>", "<unk>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>", "\n\n", BEGIN)
WIDTH = 32
SIDE = 336  # pixels of a picture as LLaVA sees it


def build_hunyuan(folder: Path, seed: int = 0, **transformer: object) -> Path:
    """Write a checkpoint of text-to-video to `folder`, which need not be there, and return it. `transformer`: what of
    its configuration is to be otherwise than in `small_transformer`."""
    torch.manual_seed(seed)
    pipeline = HunyuanVideoPipeline(
        text_encoder=LlamaModel(language()), tokenizer=llama_tokenizer(), **common(small_transformer(**transformer))
    )
    return write(pipeline, folder)


def build_hunyuan_i2v(folder: Path, condition: str, seed: int = 0) -> Path:
    """The same of image-to-video, its transformer of the kind `condition`."""
    torch.manual_seed(seed)
    pipeline = HunyuanVideoImageToVideoPipeline(
        text_encoder=LlavaForConditionalGeneration(words_and_pictures()),
        tokenizer=llama_tokenizer(),
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        **common(small_transformer(condition)),
    )
    return write(pipeline, folder)


def write(pipeline: object, folder: Path) -> Path:
    """Store a pipeline as the published checkpoints are, every parameter of effect."""
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            redraw_zeros(module)
    pipeline.save_pretrained(folder, safe_serialization=True)
    _write_vocabulary(folder / "tokenizer_2")
    return folder


def common(transformer: HunyuanVideoTransformer3DModel) -> dict[str, object]:
    """What both kinds of pipelines are made of."""
    words = build_tokenizer()
    return {
        "transformer": transformer,
        "vae": small_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        "tokenizer_2": words,
        "text_encoder_2": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                projection_dim=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=77,
                bos_token_id=len(words) - 2,
                eos_token_id=len(words) - 1,
                pad_token_id=len(words) - 1,
            )
        ),
    }


def small_transformer(condition: str | None = None, **otherwise: object) -> HunyuanVideoTransformer3DModel:
    """All kinds of layers and few of each; `condition` as `image_condition_type`."""
    config = {
        "in_channels": 33 if condition == "latent_concat" else 16,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "num_single_layers": 2,
        "num_refiner_layers": 1,
        "text_embed_dim": WIDTH,
        "pooled_projection_dim": 16,
        "rope_axes_dim": (4, 6, 6),
        "image_condition_type": condition,
        "guidance_embeds": condition != "latent_concat",
    }
    return HunyuanVideoTransformer3DModel(**{**config, **otherwise})


def small_vae() -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)


def language() -> LlamaConfig:
    """Four layers, of which the first two are read."""
    return LlamaConfig(
        vocab_size=len(llama_tokenizer()),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        pad_token_id=0,
    )


def words_and_pictures() -> LlavaConfig:
    """As many places for a picture as the real one has, which the prompt template counts on."""
    return LlavaConfig(
        text_config=language(),
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=14,
            projection_dim=16,
        ),
        image_token_index=MARKS.index("<image>"),
        pad_token_id=MARKS.index("<pad>"),
    )


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word of the prompt templates and of our corpus, and for every mark."""
    splits = pre_tokenizers.Whitespace()
    texts = [*CORPUS, *(template["template"] for template in (OF_A_SENTENCE, OF_A_PICTURE))]
    words = sorted({word for text in texts for word, _ in splits.pre_tokenize_str(_without_marks(text))})
    vocabulary = {token: number for number, token in enumerate((*MARKS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splits
    tokenizer.add_special_tokens(list(MARKS))
    begin = (BEGIN, vocabulary[BEGIN])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[begin])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", padding_side="right", model_max_length=2048
    )


def _without_marks(text: str) -> str:
    for mark in MARKS:
        text = text.replace(mark, " ")
    return text
