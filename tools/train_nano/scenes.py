"""Layered scenes made from real photographs: a picture whose regions and depth are known because we put them there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import load_file

CELL = 4  # scene pixels to a field cell
DRAWN_LEAST = 8.0  # of 255, the mean of a region's channel in a photograph that is taken for it
DRAWN_SHARE = 0.6  # of scenes made of a whole photograph have one whose regions were drawn by hand
ANIMALS = ("mammals", "birds", "marsupials", "fish", "insects", "amphibians", "lizards", "shellfish")


@dataclass
class Thing:
    """Something that can move by itself: its `mask` (H, W) float, centre and radius in scene pixels."""

    kind: str  # animal | flower | tree | other
    mask: np.ndarray
    centre: tuple[float, float]
    radius: float


@dataclass
class Scene:
    """`picture` (H, W, 3) float 0..1; `near` (H, W) 0 far to 1 near; `regions` by name, (H, W) float 0..1; the way that
    water flows, where it is known."""

    picture: np.ndarray
    near: np.ndarray
    regions: dict[str, np.ndarray]
    things: list[Thing] = field(default_factory=list)
    water_way: tuple[float, float] | None = None


class Library:
    """The small copies that `prepare` wrote, by kind and group; training pictures or the held-out ones."""

    def __init__(self, data: Path, *, held_out: bool) -> None:
        tensors = load_file(data / "library.safetensors")
        listing = json.loads((data / "library.json").read_text(encoding="utf-8"))
        chosen = [entry for entry in listing if entry["held_out"] == held_out]
        self.photos = [tensors[e["key"]] for e in chosen if e["kind"] == "photo"]
        drawn = [(tensors[e["key"]], e) for e in chosen if e.get("drawn")]
        # By channel, those of hand-drawn regions that have enough of it, with the way that their water flows.
        self.drawn = {
            channel: [(p, e) for p, e in drawn if p[..., channel].mean() > DRAWN_LEAST] for channel in range(3, 7)
        }
        self.flowers = [
            tensors[e["key"]]
            for e in chosen
            if e["kind"] == "photo" and (e["group"] == "flower" if e.get("drawn") else "lower" in e["name"])
        ]
        self.lands = [(e["group"], tensors[e["key"]]) for e in chosen if e["kind"] == "land"]
        self.cutouts: dict[str, list[np.ndarray]] = {}
        for entry in chosen:
            if entry["kind"] == "cutout":
                self.cutouts.setdefault(kind_of(entry["group"]), []).append(tensors[entry["key"]])
        self.wet = [p for p in self.photos if p[..., 6].any()]
        self.skies = [p for p in self.photos if p[: p.shape[0] // 4, :, 3].mean() > 200]
        self.greens = [p for p in self.photos if p[..., 4].mean() > 170]

    def cutout(self, kind: str, rng: np.random.Generator) -> np.ndarray | None:
        choices = self.cutouts.get(kind)
        return choices[rng.integers(len(choices))] if choices else None


def kind_of(group: str) -> str:
    """The kind of thing a cut-out of this group is."""
    if group in ANIMALS:
        return "animal"
    return {"flowers": "flower", "trees": "tree", "candle": "light", "ship": "boat"}.get(group, "other")


def make_scene(library: Library, height: int, width: int, rng: np.random.Generator, want: str | None = None) -> Scene:
    """A random scene of `height` x `width` pixels, fit for the living motion `want` when one is named."""
    if want == "petals":
        photo = library.flowers and rng.random() < 0.15
        scene = flower_photo(library, height, width, rng) if photo else close_up(library, height, width, rng, "flower")
    elif want == "water":
        photo = rng.random() < 0.25
        scene = with_photo(library, height, width, rng, 6) if photo else landscape(library, height, width, rng, "water")
    elif want == "sway":
        scene = (
            landscape(library, height, width, rng, "grass")
            if rng.random() < 0.55
            else with_photo(library, height, width, rng, 4)
        )
    elif want == "breathing":
        scene = (
            with_photo(library, height, width, rng, 5)
            if rng.random() < 0.2
            else close_up(library, height, width, rng, "animal")
        )
    elif want == "clouds":
        scene = (
            with_photo(library, height, width, rng, 3)
            if rng.random() < 0.6
            else landscape(library, height, width, rng, None)
        )
    else:
        pick = rng.random()
        if pick < 0.6:
            scene = with_photo(library, height, width, rng, None)
        elif pick < 0.8:
            scene = landscape(library, height, width, rng, None)
        else:
            scene = close_up(library, height, width, rng, None)
    scene.picture = jitter(scene.picture, rng)
    return scene


def with_photo(library: Library, height: int, width: int, rng: np.random.Generator, channel: int | None) -> Scene:
    """A whole photograph, with a cut-out or two before it half of the time."""
    choices, entry = library.wet if channel == 6 and library.wet else library.photos, {}
    drawn = library.drawn.get(channel if channel is not None else int(rng.integers(3, 7)), [])
    if drawn and rng.random() < DRAWN_SHARE:
        photo, entry = drawn[rng.integers(len(drawn))]
    else:
        for _ in range(12):
            photo = choices[rng.integers(len(choices))]
            if channel is None or photo[..., channel].mean() > 25:
                break
    mirrored, way = bool(rng.random() < 0.5), entry.get("way")
    photo = random_crop(photo, height, width, rng, least=0.75 if channel == 5 else 0.55, mirrored=mirrored)
    above, green, who, wet = (photo[..., c].astype(np.float32) / 255 for c in (3, 4, 5, 6))
    rows = above.mean(1)
    horizon = float((np.flatnonzero(rows > 0.5).max(initial=-1) + 1) / height) if rows.max() > 0.5 else 0.3
    scene = Scene(
        picture=photo[..., :3].astype(np.float32) / 255,
        near=depth_of_ground(height, width, horizon) * (1 - above),
        regions={"sky": above, "plants": green * (1 - who), "water": wet},
    )
    if who.mean() > 0.03:
        scene.near = scene.near * (1 - who) + 0.85 * who
        scene.things.append(thing_from("flower" if entry.get("group") == "flower" else "animal", who))
    if way is not None:
        scene.water_way = (-way[0] if mirrored else way[0], way[1])
    if channel is None:
        for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
            kind = str(rng.choice(["animal", "other", "flower", "tree", "boat"], p=[0.4, 0.3, 0.12, 0.12, 0.06]))
            paste(scene, library, kind, rng, size=rng.uniform(0.2, 0.65))
    return scene


def flower_photo(library: Library, height: int, width: int, rng: np.random.Generator) -> Scene:
    """A photograph of a flower; what was cut out of its middle is the flower."""
    photo = random_crop(library.flowers[rng.integers(len(library.flowers))], height, width, rng, least=0.8)
    green, who = photo[..., 4].astype(np.float32) / 255, photo[..., 5].astype(np.float32) / 255
    blank = np.zeros_like(who)
    scene = Scene(
        photo[..., :3].astype(np.float32) / 255,
        0.2 + 0.65 * who,
        {"sky": blank, "plants": green * (1 - who), "water": blank},
    )
    if who.mean() > 0.03:
        scene.things.append(thing_from("flower", who))
    return scene


def landscape(library: Library, height: int, width: int, rng: np.random.Generator, ground: str | None) -> Scene:
    """Sky above, water, grass or snow below, and things standing on it."""
    ground = ground or str(rng.choice(["water", "grass", "snow", "photo"]))
    horizon = int(height * rng.uniform(0.2, 0.65))
    picture = sky_picture(library, height, width, rng)
    above = np.ones((height, width), np.float32)
    regions = {"sky": above, "plants": np.zeros_like(above), "water": np.zeros_like(above)}
    scene = Scene(picture, np.zeros_like(above), regions)
    if rng.random() < 0.6:
        hills(scene, horizon, rng, library)
    lands = [land for group, land in library.lands if group == ground]
    mask = np.zeros((height, width), np.float32)
    mask[horizon:] = 1
    lives = np.ones_like(mask)
    if ground == "water" and (not lands or rng.random() < 0.65):
        below = reflection(scene.picture, horizon, rng)
    elif ground == "grass" and library.greens and (not lands or rng.random() < 0.5):
        meadow = random_crop(library.greens[rng.integers(len(library.greens))][..., :5], height, width, rng)
        below, lives = meadow[..., :3].astype(np.float32) / 255, meadow[..., 4].astype(np.float32) / 255
    elif lands:
        land = random_crop(lands[rng.integers(len(lands))], height, width, rng, least=0.6, bottom=True)
        below, mask = land[..., :3].astype(np.float32) / 255, land[..., 3].astype(np.float32) / 255
        if ground == "water":
            top = int(np.argmax(mask.mean(1) > 0.5))
            below, mask = np.roll(below, horizon - top, 0), np.roll(mask, horizon - top, 0)
            mask[:horizon], mask[horizon:] = 0, 1
            below[: max(horizon - top, 0)] = below[max(horizon - top, 0)]
    else:
        ground = "photo"
        below = crop_colour(library.photos[rng.integers(len(library.photos))], height, width, rng)
    name = {"water": "water", "grass": "plants"}.get(ground)
    lay(scene, below, mask, depth_of_ground(height, width, horizon / height), name)
    if name:
        scene.regions[name] -= mask * (1 - lives)
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.25, 0.35, 0.25, 0.15]))):
        kinds = ["boat", "animal", "other"] if ground == "water" else ["tree", "animal", "other", "flower"]
        paste(
            scene,
            library,
            str(rng.choice(kinds)),
            rng,
            size=rng.uniform(0.15, 0.5),
            floor=(horizon / height + 0.08, 1.0),
        )
    return scene


def close_up(library: Library, height: int, width: int, rng: np.random.Generator, kind: str | None) -> Scene:
    """One thing, large, before a blurred background."""
    photo = crop_colour(library.photos[rng.integers(len(library.photos))], height, width, rng)
    if rng.random() < 0.75:
        photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(1.5, 6))
    blank = np.zeros((height, width), np.float32)
    scene = Scene(
        photo, np.full((height, width), 0.2, np.float32), {"sky": blank, "plants": blank.copy(), "water": blank.copy()}
    )
    kind = kind or str(rng.choice(["animal", "flower", "other", "tree"]))
    if kind == "flower" and rng.random() < 0.4:
        for _ in range(2):
            paste(scene, library, kind, rng, size=rng.uniform(0.3, 0.5), floor=(0.4, 1.1))
    paste(scene, library, kind, rng, size=rng.uniform(0.5, 1.0), floor=(0.8, 1.1))
    return scene


# --- pieces ---------------------------------------------------------------------------------------------------


def random_crop(
    picture: np.ndarray,
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    least: float = 0.55,
    bottom: bool = False,
    mirrored: bool | None = None,
) -> np.ndarray:
    """A crop in the shape height : width, at least `least` of the largest possible, mirrored half of the time unless
    `mirrored` says."""
    full_height, full_width = picture.shape[:2]
    share = rng.uniform(least, 1.0) * min(full_height / height, full_width / width)
    ch, cw = max(8, int(height * share)), max(8, int(width * share))
    top = full_height - ch if bottom else rng.integers(full_height - ch + 1)
    left = rng.integers(full_width - cw + 1)
    crop = picture[top : top + ch, left : left + cw]
    if mirrored if mirrored is not None else rng.random() < 0.5:
        crop = crop[:, ::-1]
    return shrunk(crop, width, height)


def shrunk(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """`picture` (H, W, C) at a new size; OpenCV takes at most four channels at once."""
    parts = [picture[..., c : c + 3] for c in range(0, picture.shape[2], 3)]
    parts = [cv2.resize(np.ascontiguousarray(p), (width, height), interpolation=cv2.INTER_AREA) for p in parts]
    return np.concatenate([p.reshape(height, width, -1) for p in parts], axis=-1)


def crop_colour(picture: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return random_crop(np.ascontiguousarray(picture[..., :3]), height, width, rng).astype(np.float32) / 255


def depth_of_ground(height: int, width: int, horizon: float) -> np.ndarray:
    """Nearness of a plane below the horizon; what stands at the horizon is at 0.2, the lower edge at 0.7."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height
    near = 0.2 + 0.5 * np.clip((y - horizon) / max(1 - horizon, 0.2), 0, 1)
    return np.repeat(near[:, None], width, axis=1)


def sky_picture(library: Library, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A real sky, or a made one: a gradient with soft clouds."""
    if library.skies and rng.random() < 0.5:
        photo = library.skies[rng.integers(len(library.skies))]
        rows = int(np.argmax(photo[..., 3].mean(1) < 200)) or photo.shape[0]
        return (
            cv2.resize(photo[: max(rows, 12), :, :3], (width, height), interpolation=cv2.INTER_LINEAR).astype(
                np.float32
            )
            / 255
        )
    bottom = rng.uniform(0.55, 1.0, 3).astype(np.float32)
    top = bottom * rng.uniform([0.2, 0.35, 0.6], [0.9, 0.9, 1.0]).astype(np.float32)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    clouds = sum(smooth_noise(height, width, cells, rng) / cells for cells in (3, 6, 12))
    clouds = np.clip(clouds * rng.uniform(0.5, 2.5) + rng.uniform(-0.4, 0.3), 0, 1)[..., None]
    return np.clip((top * (1 - y) + bottom * y) * (1 - clouds) + clouds * rng.uniform(0.75, 1.0), 0, 1).astype(
        np.float32
    )


def hills(scene: Scene, horizon: int, rng: np.random.Generator, library: Library) -> None:
    """A ridge or a row of trees on the horizon, textured by a photograph."""
    height, width = scene.near.shape
    line = smooth_noise(1, width, int(rng.integers(2, 8)), rng)[0]
    tops = horizon - (0.03 + 0.12 * np.clip(line * 0.6 + 0.5, 0, 1.5)) * height * rng.uniform(0.3, 1.5)
    mask = (np.arange(height)[:, None] >= tops[None]).astype(np.float32)
    texture = crop_colour(library.photos[rng.integers(len(library.photos))], height, width, rng)
    tint = rng.uniform(0.1, 0.7, 3).astype(np.float32)
    lay(
        scene, 0.5 * texture * rng.uniform(0.5, 1.2) + 0.5 * tint, mask, np.full((height, width), 0.2, np.float32), None
    )


def reflection(picture: np.ndarray, horizon: int, rng: np.random.Generator) -> np.ndarray:
    """Water: what stands above the horizon, mirrored, smeared into streaks and tinted."""
    height, width = picture.shape[:2]
    above = picture[:horizon][::-1]
    water = np.empty_like(picture)
    water[horizon:] = cv2.resize(above, (width, height - horizon), interpolation=cv2.INTER_LINEAR)
    water[:horizon] = 0
    water = cv2.GaussianBlur(water, (0, 0), sigmaX=rng.uniform(1, 8), sigmaY=rng.uniform(0.5, 2))
    stretch = cv2.resize(rng.normal(size=(height, max(2, width // 8))).astype(np.float32), (width, height))
    stretch = cv2.GaussianBlur(stretch, (0, 0), sigmaX=0.1, sigmaY=rng.uniform(0.3, 1.2))
    y = np.clip(np.linspace(-horizon / (height - horizon), 1, height), 0, 1)[:, None]
    tint = rng.uniform([0.0, 0.1, 0.2], [0.4, 0.6, 0.7]).astype(np.float32)
    mix = rng.uniform(0.2, 0.75)
    streaks = (stretch * (0.3 + y) * rng.uniform(0.05, 0.2))[..., None].astype(np.float32)
    return np.clip(water * (1 - mix) + tint * mix + streaks, 0, 1).astype(np.float32)


def lay(scene: Scene, colour: np.ndarray, mask: np.ndarray, near: np.ndarray | float, region: str | None) -> None:
    """Lay a layer over the scene: what it covers leaves its region, and joins `region` if that is named."""
    scene.picture = scene.picture * (1 - mask[..., None]) + colour * mask[..., None]
    scene.near = scene.near * (1 - mask) + near * mask
    scene.regions = {name: value * (1 - mask) for name, value in scene.regions.items()}
    if region:
        scene.regions[region] = scene.regions[region] + mask
    for thing in scene.things:
        thing.mask = thing.mask * (1 - mask)


def paste(
    scene: Scene,
    library: Library,
    kind: str,
    rng: np.random.Generator,
    *,
    size: float,
    floor: tuple[float, float] = (0.55, 1.05),
) -> None:
    """Stand a cut-out in the scene, `size` of the short side high, its foot within `floor` (shares of the height)."""
    stamp = library.cutout(kind, rng)
    if stamp is None:
        return
    height, width = scene.near.shape
    tall = max(6, int(size * min(height, width)))
    wide = max(4, int(tall * stamp.shape[1] / stamp.shape[0]))
    if wide > width:
        tall, wide = max(4, int(tall * width / wide)), width
    stamp = shrunk(stamp[:, ::-1] if rng.random() < 0.5 else stamp, wide, tall)
    foot = int(rng.uniform(*floor) * height)
    left = (
        int(rng.uniform(-0.15, 0.85) * width)
        if wide < 0.6 * width
        else int(rng.uniform(-0.1, 0.1) * width + (width - wide) / 2)
    )
    full = np.zeros((height, width, 4), np.float32)
    y0, y1, x0, x1 = max(foot - tall, 0), min(foot, height), max(left, 0), min(left + wide, width)
    if y1 - y0 < 4 or x1 - x0 < 4:
        return
    full[y0:y1, x0:x1] = stamp[y0 - foot + tall : y1 - foot + tall, x0 - left : x1 - left, :4].astype(np.float32) / 255
    mask = full[..., 3]
    colour = full[..., :3] * rng.uniform(0.75, 1.1)
    near = float(np.clip(0.25 + 0.6 * foot / height + 0.2 * size, 0.3, 1.0))
    lay(scene, np.clip(colour, 0, 1), mask, near, "plants" if kind == "tree" else None)
    if mask.mean() > 0.004:
        scene.things.append(thing_from(kind, mask.copy()))


def thing_from(kind: str, mask: np.ndarray) -> Thing:
    """A thing from its mask: centre of mass, and the radius of a disc of three times its variance."""
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]]
    total = mask.sum() + 1e-6
    cy, cx = float((ys * mask).sum() / total), float((xs * mask).sum() / total)
    spread = float((((ys - cy) ** 2 + (xs - cx) ** 2) * mask).sum() / total)
    return Thing(kind, mask, (cx, cy), (2 * spread) ** 0.5 + 1)


def smooth_noise(height: int, width: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit variance with about `cells` bumps across."""
    coarse = rng.normal(size=(max(2, cells * height // max(height, width)) + 1, cells + 1)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def jitter(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, contrast and saturation as cameras differ in them; sometimes black and white."""
    grey = picture @ np.float32([0.299, 0.587, 0.114])
    saturation = 0.0 if rng.random() < 0.06 else rng.uniform(0.6, 1.25)
    picture = grey[..., None] + (picture - grey[..., None]) * saturation
    picture = np.clip(picture * rng.uniform(0.75, 1.2), 1e-4, 1) ** rng.uniform(0.75, 1.3)
    return np.clip(picture + rng.normal(size=picture.shape) * rng.uniform(0, 0.02), 0, 1).astype(np.float32)
