"""The networks of nano as they are before training: UNet, text encoder, tokenizer and noise schedule."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

from diffusers import DDIMScheduler, UNet3DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from i2v.families.nano.fields import CHANNELS, UNET_IN_CHANNELS
from tools.train_nano.dataset import random_request
from tools.train_nano.prompts import wordings

TOKENS = 48  # longest sentence, in tokens
TEXT_WIDTH = 128
SEED = 7


def make_unet(channels: tuple[int, ...] = (48, 80, 112)) -> UNet3DConditionModel:
    """The 3D UNet: no attention on the finest level, four heads below. About 6 million parameters."""
    return UNet3DConditionModel(
        in_channels=UNET_IN_CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=channels,
        down_block_types=("DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        time_cond_proj_dim=TEXT_WIDTH,  # the whole sentence enters beside the time step, each word through attention
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text encoder of three layers, trained together with the UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_scheduler() -> DDIMScheduler:
    """Noise that ends as pure noise (zero signal at the last step) and leans to the noisy side: a motion field is so
    smooth that a little noise hides nothing of it."""
    return DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.025,
        beta_schedule="linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
    )


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE: English merges learned from our sentences, and every Chinese character of the wordings
    (and the most usual ones) a token of its own, so that an unseen order of known characters still reads well."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1800, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(_english_corpus(), trainer)
    merges = [tuple(pair) for pair in _merges(trained)]
    byte_letters = _byte_letters()
    for character in sorted(_characters()):
        first, second, third = (byte_letters[byte] for byte in character.encode())
        merges += [(first, second), (first + second, third), (first + second, third + "</w>")]
    merges = list(dict.fromkeys(merges))
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    words = [*dict.fromkeys(words), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    return [
        pair.split() if isinstance(pair, str) else pair for pair in json.loads(tokenizer.to_str())["model"]["merges"]
    ]


def _english_corpus() -> Iterable[str]:
    rng = random.Random(SEED)
    for _ in range(40_000):
        text = random_request(rng).text
        if text.isascii():
            yield text
    yield from wordings()["subjects"]["en"] * 20


def _characters() -> set[str]:
    """Chinese characters and punctuation of the wordings."""
    return {c for c in str(wordings()) if len(c.encode()) == 3}


def _byte_letters() -> dict[int, str]:
    """The letter that byte-level BPE writes for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in kept}
    for offset, byte in enumerate(b for b in range(256) if b not in letters):
        letters[byte] = chr(256 + offset)
    return letters
