"""What nano says of a sentence before a run: only tokenizer, text encoder and reader are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.nano.clauses import clauses
from i2v.families.nano.reader import Reader
from i2v.families.nano.reading import read
from i2v.families.nano.said import Understood, said
from i2v.families.text import token_ids
from i2v.messages import Message
from i2v.request import GenerationRequest


def load(folder: Path) -> Teller:
    """Of a diffusers-layout folder, in float32 on the host."""
    return Teller(
        CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval(),
        Reader.load(folder / "reader", torch.float32).eval(),
    )


class Teller:
    """Reads sentences; see `families.base.Teller`."""

    def __init__(self, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, reader: Reader) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._reader = reader

    @torch.inference_mode()
    def said(self, request: GenerationRequest) -> Sequence[Message]:
        made = [read(self._encoder, self._reader, token_ids(self._tokenizer, request.prompt))]
        if parts := clauses(request.prompt):
            # Only as long as they are: of a clause nothing counts that comes after its end.
            taken = self._tokenizer(
                list(parts), padding="longest", truncation=True, max_length=self._tokenizer.model_max_length,
                return_tensors="pt",
            )  # fmt: skip
            made.append(read(self._encoder, self._reader, taken.input_ids))
        return said(Understood.of(request.prompt, torch.cat(made)), brushed=request.region is not None)
