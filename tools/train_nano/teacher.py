"""Regions of the library's photographs from nano's finder, instead of simple rules.

    python -m tools.train_nano.teacher --data DATA --finder i2v/assets/nano/finder --out NEW_DATA

DATA is what `prepare` wrote; NEW_DATA gets the same layout. Photographs whose regions were drawn by hand, and those
held out, stay as they are. Any other gets its regions from the finder (see `finding`), but for those named in
`teacher_by_eye.yaml`: nothing lives in some, and some are left out, for their regions looked wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.numpy import load_file, save_file

from i2v.families.nano.finder import SHOWN, Finder
from i2v.families.pixels import to_tensor
from tools.train_nano.finding import seen
from tools.train_nano.prepare import small_enough
from tools.train_nano.teacher_masks import hard, refined

BY_EYE = Path(__file__).with_name("teacher_by_eye.yaml")
CLASSES = len(SHOWN) + 1  # the last is whatever is none of the kinds
SPECKS = 0.008  # a region that covers less of a photograph than this is none


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare wrote")
    parser.add_argument("--finder", type=Path, required=True, help="folder that finding wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the new library")
    arguments = parser.parse_args(argv)
    if arguments.out.resolve() == arguments.data.resolve():
        parser.error("--out must be another folder than --data")
    finder = Finder.load(arguments.finder, torch.float32).eval()
    tensors = load_file(arguments.data / "library.safetensors")
    listing = json.loads((arguments.data / "library.json").read_text(encoding="utf-8"))
    by_eye = yaml.safe_load(BY_EYE.read_text(encoding="utf-8"))
    kept = [entry for entry in listing if not (learns(entry) and entry["name"] in by_eye["left_out"])]
    for entry in filter(learns, kept):
        copy, name = tensors[entry["key"]], entry["name"]
        if name in by_eye["still"]:
            tensors[entry["key"]] = without_regions(copy)
            continue
        picture = seen(small_enough(arguments.data / "packages" / entry["package"] / name))
        with torch.no_grad():
            likely = finder(to_tensor(picture))[0].numpy()
        tensors[entry["key"]] = taught(copy, likely, flowers="lower" in name)
    write(arguments.data, arguments.out, {entry["key"]: tensors[entry["key"]] for entry in kept}, kept)
    return 0


def learns(entry: dict) -> bool:
    """Whether an entry's regions come from the finder: a training photograph without drawn ones."""
    return entry["kind"] == "photo" and not entry["drawn"] and not entry["held_out"]


def taught(copy: np.ndarray, probabilities: np.ndarray, *, flowers: bool) -> np.ndarray:
    """A library copy (H, W, 7) uint8 with its regions taken from the probabilities. `flowers`: whether scenes take the
    picture's thing for a flower; where they do not, a flower is no thing, for they would let it breathe."""
    sky, plants, flower, animal, water, _ = np.moveaxis(hard(refined(probabilities, copy[..., :3])), -1, 0)
    regions = np.stack([sky, plants, animal + flower if flowers else animal, water], -1)
    regions = regions * (regions.mean((0, 1)) >= SPECKS)
    return np.concatenate([copy[..., :3], np.rint(regions * 255).astype(np.uint8)], axis=-1)


def without_regions(copy: np.ndarray) -> np.ndarray:
    """A library copy (H, W, 7) uint8 of which nothing lives."""
    return np.concatenate([copy[..., :3], np.zeros_like(copy[..., 3:])], axis=-1)


def write(data: Path, out: Path, tensors: dict[str, np.ndarray], listing: list[dict]) -> None:
    """The new library beside links to what did not change."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, out / "library.safetensors")
    (out / "library.json").write_text(json.dumps(listing, indent=1), encoding="utf-8")
    for name in ("labelled.json", "photographs.txt"):
        shutil.copy(data / name, out / name)
    for name in ("packages", "held_out"):
        if not (out / name).exists():
            (out / name).symlink_to((data / name).resolve())


if __name__ == "__main__":
    raise SystemExit(main())
