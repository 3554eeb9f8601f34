"""T5 as the text encoder of a family: its layers, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase, T5Tokenizer

from i2v.messages import UserError


def t5_blocks(encoder: nn.Module) -> Sequence[nn.Module]:
    """The layers of the text encoder."""
    return [*encoder.encoder.block]


def t5_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`: a file of SentencePiece, or one of the tokenizers library. Raises UserError where it
    cannot be read."""
    try:
        return T5Tokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of three libraries; what the last says is of a third kind of file
        raise UserError("models.tokenizer_broken", folder=str(folder)) from error
