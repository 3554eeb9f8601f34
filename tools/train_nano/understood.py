"""Teach nano's reader which clauses ask for what nano can not do, on the text encoder as it ships; and measure it.

    python -m tools.train_nano.understood --model i2v/assets/nano --train
    python -m tools.train_nano.understood --model i2v/assets/nano --measure understood.json

Training takes minutes of one core and changes nothing of the encoder and of the other heads. It sets the threshold, on
phrases that are not trained on, and keeps it within the last bias: above zero is beyond.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.nano.clauses import clauses
from i2v.families.nano.reader import FILE, Beyond
from i2v.families.nano.reading import layers_of
from tools.train_nano.beyond import LANGUAGES, beyond, fine, held_out_beyond, held_out_fine
from tools.train_nano.network import TEXT_WIDTH, TOKENS

BATCH = 96
OWN = "beyond."
FALSELY = 0.04  # of the clauses set apart that nano can do are told otherwise; one in twenty is the limit


class Asking:
    """The encoder and tokenizer of a nano folder, and a head to be asked."""

    def __init__(self, model: Path) -> None:
        self.tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
        self.encoder = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32).eval()
        self.encoder.requires_grad_(False)
        self.head = Beyond(TEXT_WIDTH, self.encoder.config.vocab_size)

    def logits(self, texts: list[str], forgotten: float = 0.0) -> Tensor:
        """(B,) of clauses; a share of the tokens and of what the layers say is `forgotten`, in training."""
        taken = self.tokenizer(texts, padding="longest", truncation=True, max_length=TOKENS, return_tensors="pt")
        with torch.no_grad():
            layers = layers_of(self.encoder, taken.input_ids)[0]
        layers = functional.dropout(layers, 2 * forgotten, training=forgotten > 0)
        return self.head(taken.input_ids, layers, self.encoder.config.eos_token_id)[:, 0]

    @torch.no_grad()
    def told(self, sentences: list[str]) -> list[list[str]]:
        """The clauses of each sentence that are judged beyond."""
        self.head.eval()
        parts = [clauses(sentence) for sentence in sentences]
        flat = [part for of_one in parts for part in of_one]
        beyond_it = iter((self.logits(flat) > 0).tolist()) if flat else iter(())
        return [[part for part in of_one if next(beyond_it)] for of_one in parts]


def recorded_head(model: Path) -> dict[str, Tensor]:
    """The head's weights in a nano folder."""
    weights = load_file(model / "reader" / FILE)
    return {name.removeprefix(OWN): tensor.float() for name, tensor in weights.items() if name.startswith(OWN)}


def train(asking: Asking, steps: int, seed: int = 0) -> None:
    """Teach the head, in place. Its threshold is still to be set."""
    torch.manual_seed(seed)
    rng, head = random.Random(seed), asking.head
    nn.init.normal_(head.tokens.weight, std=0.1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        texts, wanted = examples(BATCH, rng)
        loss = functional.binary_cross_entropy_with_logits(asking.logits(texts, forgotten=0.1), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.3f}", flush=True)


def set_threshold(asking: Asking) -> None:
    """Shift the head's bias, so that of the phrases set apart FALSELY of those that nano can do are above zero."""
    asking.head.eval()
    texts, wanted = examples(3000, random.Random(1), apart=True)
    with torch.no_grad():
        logits = torch.cat([asking.logits(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)])
        threshold = float(logits[wanted == 0].quantile(1 - FALSELY))
        asking.head.logit.bias -= threshold
    found = float((logits[wanted == 1] > threshold).float().mean())
    print(f"threshold moved by {threshold:.2f}; of phrases set apart {100 * found:.1f} % are found")


def examples(count: int, rng: random.Random, *, apart: bool = False) -> tuple[list[str], Tensor]:
    """Clauses, half of them beyond, and which those are (B,)."""
    wanted = [index % 2 for index in range(count)]
    languages = [rng.choice(LANGUAGES) for _ in wanted]
    texts = [
        beyond(language, rng, apart=apart) if one else fine(language, rng, apart=apart)
        for one, language in zip(wanted, languages, strict=True)
    ]
    return texts, torch.tensor(wanted, dtype=torch.float32)


def measure(asking: Asking) -> dict[str, Any]:
    """What is told of the held-out sentences, by language, and the sentences that are told of wrongly."""
    result: dict[str, Any] = {}
    for language in LANGUAGES:
        cannot, can = held_out_beyond(language), held_out_fine(language)
        found, falsely = asking.told(cannot), asking.told(can)
        missed = [sentence for sentence, parts in zip(cannot, found, strict=True) if not parts]
        wrong = [sentence for sentence, parts in zip(can, falsely, strict=True) if parts]
        result[language] = {
            "cannot": len(cannot),
            "told_so": len(cannot) - len(missed),
            "can": len(can),
            "falsely_told": len(wrong),
            "missed": missed,
            "falsely": wrong,
        }
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--threshold", action="store_true", help="set the threshold anew, without training")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--measure", type=Path, metavar="JSON")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    asking, path = Asking(args.model), args.model / "reader" / FILE
    if args.train:
        train(asking, args.steps)
    else:
        asking.head.load_state_dict(recorded_head(args.model))
    if args.train or args.threshold:
        set_threshold(asking)
        own = {f"{OWN}{name}": tensor.to(torch.float16) for name, tensor in asking.head.state_dict().items()}
        others = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(OWN)}
        save_file(others | own, path)
        asking.head.load_state_dict(recorded_head(args.model))
    if args.measure is not None:
        result = measure(asking)
        args.measure.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for language, of_it in result.items():
            print(
                f"{language}: told so of {of_it['told_so']} of {of_it['cannot']} that it can not do, "
                f"falsely of {of_it['falsely_told']} of {of_it['can']} that it can"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
