"""Teach the text encoder to read before it trains with the UNet: which motions a sentence asks for, and how strongly.

    python -m tools.train_nano.reading --out RUN --minutes 4

Text is cheap and pictures are dear: minutes of this save the UNet most of an hour. Writes RUN/reading.safetensors and
RUN/tokenizer, which `train` starts from, and prints how well wordings never trained on are read.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.nano.fields import summary
from i2v.families.nano.life import LIVING
from i2v.families.nano.reader import CAMERA, Reader
from tools.train_nano.dataset import random_request
from tools.train_nano.network import TEXT_WIDTH, TOKENS, make_text_encoder, make_tokenizer
from tools.train_nano.prompts import Asked, sentence

BATCH = 96


class Reading(nn.Module):
    """The encoder and the heads that are taught with it."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.reader = Reader(TEXT_WIDTH, encoder.config.vocab_size)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Every token from the end of the sentence on has read all of it; the last one always is such a token.
        return self.reader(summary(self.encoder(ids)[0]))


def loss_of(reader: Reading, tokenizer: CLIPTokenizer, asked: list[Asked]) -> Tensor:
    """Cross entropy of the two motions and squared error of their strengths."""
    # The summary must stand at every place after the end: short rows make three quarters of the batches cheap.
    camera, living, strength = reader(encode(tokenizer, asked, whole=random.random() < 0.25))
    wanted_camera, wanted_living = targets(asked)
    wanted = torch.tensor([[a.camera_strength, a.living_strength] for a in asked])
    named = torch.tensor([[a.camera is not None, a.living is not None] for a in asked])
    error = ((strength - wanted) ** 2 * named).mean()
    return functional.cross_entropy(camera, wanted_camera) + functional.cross_entropy(living, wanted_living) + error


def encode(tokenizer: CLIPTokenizer, asked: list[Asked], whole: bool = True) -> Tensor:
    texts = [a.text for a in asked]
    padding = "max_length" if whole else "longest"
    return tokenizer(texts, padding=padding, truncation=True, max_length=TOKENS, return_tensors="pt").input_ids


def targets(asked: list[Asked]) -> tuple[Tensor, Tensor]:
    """Class numbers of camera and living motion; the last class is "none"."""
    camera = [CAMERA.index(a.camera) if a.camera else len(CAMERA) for a in asked]
    living = [LIVING.index(a.living) if a.living else len(LIVING) for a in asked]
    return torch.tensor(camera), torch.tensor(living)


@torch.no_grad()
def accuracy(reader: Reading, tokenizer: CLIPTokenizer, *, held_out: bool, count: int = 400) -> float:
    """Share of sentences in which both motions are read rightly."""
    rng = random.Random(99)
    asked = [sentence(rng.choice(CAMERA), None, rng, held_out=held_out) for _ in range(count)]
    asked += [sentence(None, rng.choice(LIVING), rng, held_out=held_out) for _ in range(count // 2)]
    camera, living, _ = reader(encode(tokenizer, asked))
    wanted_camera, wanted_living = targets(asked)
    return float(((camera.argmax(1) == wanted_camera) & (living.argmax(1) == wanted_living)).float().mean())


def _held_out(motion: str, rng: random.Random) -> Asked:
    camera = motion if motion in CAMERA else None
    return sentence(camera, None if camera else motion, rng, held_out=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = make_tokenizer()
    reader = Reading(make_text_encoder(tokenizer))
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-3, weight_decay=0.02)
    began = time.monotonic()
    step = 0
    while (share := (time.monotonic() - began) / (args.minutes * 60)) < 1:
        loss = loss_of(reader, tokenizer, [random_request(rng) for _ in range(BATCH)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 50, 2 * (1 - share) + 0.02)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.3f} minutes {(time.monotonic() - began) / 60:.1f}", flush=True)
    reader.eval()
    for motion in (*CAMERA, *LIVING):
        asked = [_held_out(motion, random.Random(i)) for i in range(24)]
        camera, living, _ = reader(encode(tokenizer, asked))
        wanted_camera, wanted_living = targets(asked)
        right = (camera.argmax(1) == wanted_camera) & (living.argmax(1) == wanted_living)
        missed = sorted({a.text for a, ok in zip(asked, right, strict=True) if not ok})
        print(f"{motion}: {100 * float(right.float().mean()):.0f} % of held-out wordings {missed[:3] or ''}")
    known, unseen = (accuracy(reader, tokenizer, held_out=held_out) for held_out in (False, True))
    print(f"read rightly: {100 * known:.1f} % of sentences, {100 * unseen:.1f} % in wordings never trained on")
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(args.out / "tokenizer")
    save_file(reader.encoder.state_dict(), args.out / "reading.safetensors")
    save_file(reader.reader.state_dict(), args.out / "reader.safetensors")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
