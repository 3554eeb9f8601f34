"""Begin a training run from weights that ship, with columns of zeros for inputs that they did not have.

python -m tools.train_nano.start --model i2v/assets/nano --out RUN
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTokenizer

from i2v.families.nano.fields import CHANNELS, PICTURE_CHANNELS, REGION_CHANNELS, UNET_IN_CHANNELS

FIRST = "conv_in.weight"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    unet = {name: tensor.float() for name, tensor in load_file(only(args.model / "unet")).items()}
    unet[FIRST] = widened(unet[FIRST])
    text = {name: tensor.float() for name, tensor in load_file(only(args.model / "text_encoder")).items()}
    save_file(text, args.out / "reading.safetensors")
    CLIPTokenizer.from_pretrained(args.model / "tokenizer").save_pretrained(args.out / "tokenizer")
    tensors = {f"model.unet.{name}": tensor for name, tensor in unet.items()}
    tensors |= {f"average.unet.{name}": tensor.clone() for name, tensor in unet.items()}
    save_file(tensors, args.out / "checkpoint.safetensors", metadata={"step": "0"})
    (args.out / "progress.json").write_text(json.dumps({"step": 0}), encoding="utf-8")
    return 0


def only(folder: Path) -> Path:
    """The weights in a component's folder."""
    (path,) = folder.glob("*.safetensors")
    return path


def widened(first: Tensor) -> Tensor:
    """The first layer's weight with nothing heard of a brush: its channels stand between picture and time."""
    if first.shape[1] == UNET_IN_CHANNELS:
        return first
    before = CHANNELS + PICTURE_CHANNELS
    none = first.new_zeros(first.shape[0], REGION_CHANNELS, *first.shape[2:])
    return torch.cat([first[:, :before], none, first[:, before:]], dim=1)


if __name__ == "__main__":
    raise SystemExit(main())
