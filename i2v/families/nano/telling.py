"""What nano says of a sentence before a run, and where in the photograph it sees what is asked for: only what reads and
what finds is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.nano.clauses import clauses
from i2v.families.nano.fields import summary
from i2v.families.nano.finder import Finder, places, working_size
from i2v.families.nano.place import Wish, place_of
from i2v.families.nano.reader import Reader
from i2v.families.nano.reading import read
from i2v.families.nano.said import Understood, said
from i2v.families.pixels import to_tensor
from i2v.families.text import token_ids
from i2v.messages import Message
from i2v.request import GenerationRequest
from i2v.video.region import written

SHOWN_FROM = 0.5
"""How sure it must be of a place, times how much of the wish lives at one, for that to be shown."""


def load(folder: Path) -> Teller:
    """Of a diffusers-layout folder, in float32 on the host."""
    return Teller(
        CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval(),
        Reader.load(folder / "reader", torch.float32).eval(),
        Finder.load(folder / "finder", torch.float32).eval(),
    )


class Teller:
    """Reads sentences; see `families.base.Teller`."""

    def __init__(self, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, reader: Reader, finder: Finder) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._reader = reader
        self._finder = finder

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

    @torch.inference_mode()
    def finds(self, request: GenerationRequest, photograph: Image.Image) -> str | None:
        """As in a run, but on the whole photograph, which a run may see cut."""
        text = self._encoder(token_ids(self._tokenizer, request.prompt)).last_hidden_state
        wish = Wish.of(self._reader.wish(summary(text)))
        pixels = to_tensor(photograph)
        size = working_size(photograph.height, photograph.width)
        small = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True).clamp(0, 1)
        place = place_of(wish, torch.zeros(1, 2, 1, 1), places(self._finder(small)))
        if wish.placed * place.sure < SHOWN_FROM:
            return None
        fine = functional.interpolate(place.found, size=pixels.shape[-2:], mode="bilinear").clamp(0, 1)
        return written(Image.fromarray((255 * fine[0, 0]).round().to(torch.uint8).numpy()))
