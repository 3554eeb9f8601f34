"""Regions drawn by hand on real photographs: what each part of a picture is, and so what in it may move.

One file per package lies in `labels/`. It names photographs by their path inside the package and the SHA-256 of the
file; the pictures themselves are not in this repository (`prepare` fetches them). Coordinates are shares of width and
height, (0, 0) the upper left corner, (1, 1) the lower right. Polygons and lines are written as in SVG: "x,y x,y x,y".
Regions are listed from back to front: where two overlap, the later one lies before the earlier one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

FOLDER = Path(__file__).with_name("labels")
KINDS = (
    "sky", "clouds", "water", "plants", "tree", "flower", "hair", "cloth", "fire", "animal", "person", "rigid",
)  # fmt: skip
# hair is also fur and feathers, plants also grass and low leaves, fire also smoke, rigid whatever never moves by itself
SPLITS = ("training", "held_out")
SNAP = 0.012  # default reach of `mask` around a drawn edge, as a share of the short side
WORKING_SIDE = 448  # the edge is found on a copy with this long side, pixels
FEATHER = 0.004  # standard deviation of the soft edge, as a share of the short side
GRABCUT_ROUNDS = 1

Point = tuple[float, float]


@dataclass(frozen=True)
class Region:
    """One part of a photograph.

    `flow` is the direction in which it runs: degrees, 0 to the right, 90 downwards in the picture; None where it has
    none or stands still. `snap` is how far the true edge may lie from the drawn one, as a share of the short side; 0
    takes the polygon as drawn.
    """

    kind: str
    polygon: tuple[Point, ...]
    flow: float | None
    snap: float


@dataclass(frozen=True)
class Photograph:
    """A photograph of a package with its regions, back to front, and straight edges as pairs of end points.

    Photographs of the same place or thing have the same `scene`, whatever package they come from."""

    package: str
    licence: str
    file: str
    sha256: str
    scene: str
    split: str
    regions: tuple[Region, ...]
    lines: tuple[tuple[Point, Point], ...]

    @property
    def held_out(self) -> bool:
        return self.split == "held_out"

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(region.kind for region in self.regions)


def load(folder: Path = FOLDER) -> tuple[Photograph, ...]:
    """Every labelled photograph, by package and file. ValueError names the first entry that is wrong."""
    return tuple(photograph for path in sorted(folder.glob("*.yaml")) for photograph in _read(path))


def mask(photograph: Photograph, kinds: Collection[str], picture: np.ndarray) -> np.ndarray:
    """Where the regions of these kinds are seen: (H, W) float32, 0..1, with soft edges. `picture` (H, W, 3) uint8 RGB.

    A drawn edge is moved to the edge of the picture's colours within the region's `snap`."""
    height, width = picture.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    seen = np.zeros(small.shape[:2], np.float32)
    for region in photograph.regions:
        part = _snapped(region, small)
        seen = np.maximum(seen, part) if region.kind in kinds else seen * (1 - part)
    seen = cv2.GaussianBlur(seen, (0, 0), max(0.5, FEATHER * min(size)))
    return cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)


def drawn(region: Region, height: int, width: int) -> np.ndarray:
    """The polygon itself: (height, width) float32, 0 or 1, without looking at the picture."""
    points = np.rint(np.asarray(region.polygon) * [width, height] * 16 - 8).astype(np.int32)
    filled = np.zeros((height, width), np.uint8)
    cv2.fillPoly(filled, [points], 1, shift=4)
    return filled.astype(np.float32)


def _snapped(region: Region, picture: np.ndarray) -> np.ndarray:
    """The region's mask (H, W) float32, 0 or 1: as drawn, but for a band along its edge that GrabCut decides."""
    height, width = picture.shape[:2]
    shape = drawn(region, height, width)
    reach = round(region.snap * min(height, width))
    if reach < 1:
        return shape
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    # The picture's border is no edge of the region: a region that touches it goes on beyond.
    inner = cv2.erode(shape, brush, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    outer = cv2.dilate(shape, brush, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if not inner.any() or outer.all():
        return shape
    trimap = np.full((height, width), cv2.GC_BGD, np.uint8)
    trimap[outer > 0] = cv2.GC_PR_BGD
    trimap[shape * outer > 0] = cv2.GC_PR_FGD
    trimap[inner > 0] = cv2.GC_FGD
    # Only the surroundings of the region tell what its edge is like.
    left, top, wide, high = cv2.boundingRect(outer.astype(np.uint8))
    rows = slice(max(0, top - 3 * reach), top + high + 3 * reach)
    columns = slice(max(0, left - 3 * reach), left + wide + 3 * reach)
    part, colours = np.ascontiguousarray(trimap[rows, columns]), picture[rows, columns, ::-1]
    if not (part == cv2.GC_BGD).any():
        return shape
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(colours), part, None, *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    trimap[rows, columns] = part
    return np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)


def _read(path: Path) -> Iterator[Photograph]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in content["photographs"]:
        where = f"{path.name}: {entry.get('file', '?')}"
        digest = str(entry.get("sha256", ""))
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"{where}: sha256 must be 64 hexadecimal digits, not {digest!r}")
        if entry["split"] not in SPLITS:
            raise ValueError(f"{where}: split is one of {', '.join(SPLITS)}, not {entry['split']!r}")
        yield Photograph(
            package=content["package"],
            licence=entry.get("licence", content.get("licence")),
            file=entry["file"],
            sha256=digest,
            scene=entry["scene"],
            split=entry["split"],
            regions=tuple(_region(region, where) for region in entry["regions"]),
            lines=tuple(_line(line, where) for line in entry.get("lines", ())),
        )


def _region(entry: dict, where: str) -> Region:
    if entry["kind"] not in KINDS:
        raise ValueError(f"{where}: kind is one of {', '.join(KINDS)}, not {entry['kind']!r}")
    polygon = _points(entry["polygon"], where)
    if len(polygon) < 3:
        raise ValueError(f"{where}: a polygon has three corners or more, not {len(polygon)}")
    flow = entry.get("flow", "still")
    if flow != "still" and not 0 <= flow < 360:
        raise ValueError(f"{where}: flow is an angle from 0 to below 360 degrees, or still, not {flow!r}")
    return Region(entry["kind"], polygon, None if flow == "still" else float(flow), float(entry.get("snap", SNAP)))


def _line(text: str, where: str) -> tuple[Point, Point]:
    points = _points(text, where)
    if len(points) != 2 or points[0] == points[1]:
        raise ValueError(f"{where}: a line has two different end points, not {text!r}")
    return points[0], points[1]


def _points(text: str, where: str) -> tuple[Point, ...]:
    points = tuple((float(x), float(y)) for x, y in (pair.split(",") for pair in text.split()))
    if not all(0 <= value <= 1 for point in points for value in point):
        raise ValueError(f"{where}: coordinates are shares from 0 to 1: {text}")
    return points
