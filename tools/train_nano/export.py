"""Write a training run as the folder the app loads: diffusers layout, safetensors, float16.

    python -m tools.train_nano.export --run RUN --out i2v/assets/nano

The averaged weights are exported; `--raw` takes the last ones instead.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import diffusers
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from i2v.families.nano.reader import FILE as READER_FILE
from tools.train_nano.network import make_scheduler, make_text_encoder, make_unet

SHIPPED = Path(__file__).parents[2] / "i2v" / "assets" / "nano"
MAX_FILE_BYTES = 15 * 2**20
MAX_TOTAL_BYTES = 24 * 10**6


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--raw", action="store_true")
    args = parser.parse_args(argv)
    export(args.run, args.out, averaged=not args.raw)
    files = [path for path in args.out.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    largest = max(path.stat().st_size for path in files)
    print(f"{total / 1e6:.2f} MB in {len(files)} files, the largest {largest / 2**20:.2f} MiB")
    if total > MAX_TOTAL_BYTES or largest > MAX_FILE_BYTES:
        print("Too large to ship: 24 MB in all and 15 MiB a file are the limits.")
        return 1
    return 0


def export(run: Path, out: Path, *, averaged: bool = True) -> None:
    """Write tokenizer, text encoder, reader, UNet and scheduler of `run` into `out`, and beside them the finder, which
    `finding` makes."""
    tensors = load_file(run / "checkpoint.safetensors")
    weights = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
    if averaged:
        weights |= {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}
    tokenizer = CLIPTokenizer.from_pretrained(run / "tokenizer")
    for name, module in (("text_encoder", make_text_encoder(tokenizer)), ("unet", make_unet())):
        own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
        module.load_state_dict(own)
        shutil.rmtree(out / name, ignore_errors=True)
        module.to(torch.float16).save_pretrained(out / name)
    (out / "reader").mkdir(parents=True, exist_ok=True)
    heads = load_file(run / "reader.safetensors")
    save_file({name: tensor.to(torch.float16) for name, tensor in heads.items()}, out / "reader" / READER_FILE)
    tokenizer.save_pretrained(out / "tokenizer")
    make_scheduler().save_pretrained(out / "scheduler")
    if not (out / "finder").exists():
        shutil.copytree(SHIPPED / "finder", out / "finder")
    index = {
        "_class_name": "NanoPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet3DConditionModel"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
