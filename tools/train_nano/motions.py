"""The motion each wording means, as exact fields over a scene: the truth nano is trained on and measured against.

Amounts are of a clip of CLIP_SECONDS, lengths in units of the picture's short side, x right and y down, and a camera's
field says where a cell of the *first* frame has gone. "Pan right" turns the camera right, so the picture goes left;
"tilt up" moves it down; "rotate clockwise" turns the picture clockwise on the screen. Life has no time here: what a
region's own motion is, and `life` plays it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from i2v.families.nano.fields import KEY_TIMES
from tools.train_nano.prompts import Asked
from tools.train_nano.scenes import CELL, Scene

ZOOM_RATE = 0.24
PAN_RATE = 0.16
TILT_RATE = 0.14
ROTATION_RATE = 0.17  # radians
GENTLE = 0.5  # the share of a motion's size that a sentence which asks for none gets
WATER_RATE = 0.16  # short sides in a clip
WATER_WAY = (0.94, 0.34)  # where nothing says which way it flows: to the right and towards the viewer
CLOUD_RATE = 0.10


@dataclass(frozen=True)
class Fields:
    """camera (2, K, h, w) at the key times, living (2, h, w), near and alive (h, w), light (h, w) as natural logarithm
    of the gain at the clip's end; float32. `living` goes on beyond what is alive, so that only `alive` has edges to
    learn."""

    camera: np.ndarray
    living: np.ndarray
    near: np.ndarray
    alive: np.ndarray
    light: np.ndarray


@dataclass(frozen=True)
class Life:
    """What lives: its motion (2, h, w), alive (h, w), light (h, w)."""

    living: np.ndarray
    alive: np.ndarray
    light: np.ndarray


@dataclass(frozen=True)
class Brush:
    """What a person painted: `region` (h, w) in 0..1, and the way of a stroke, or None."""

    region: np.ndarray
    way: tuple[float, float] | None = None


@dataclass
class View:
    """A scene at the resolution of the fields: positions x, y (h, w), nearness and regions as shares of each cell."""

    x: np.ndarray
    y: np.ndarray
    near: np.ndarray
    regions: dict[str, np.ndarray]
    things: list[tuple[str, np.ndarray, float, float, float]]  # kind, mask, x, y, radius
    bright: np.ndarray
    water_way: tuple[float, float] | None = None

    @classmethod
    def of(cls, scene: Scene) -> View:
        height, width = scene.near.shape
        h, w = height // CELL, width // CELL
        short = min(height, width)

        def shrink(a: np.ndarray) -> np.ndarray:
            return cv2.resize(a.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)

        x = (np.arange(w, dtype=np.float32) + 0.5) * CELL / short - width / short / 2
        y = (np.arange(h, dtype=np.float32) + 0.5) * CELL / short - height / short / 2
        things = [
            (t.kind, shrink(t.mask), (t.centre[0] + 0.5) / short - width / short / 2,
             (t.centre[1] + 0.5) / short - height / short / 2, t.radius / short)
            for t in scene.things
        ]  # fmt: skip
        luma = scene.picture @ np.float32([0.299, 0.587, 0.114])
        return cls(
            x=np.repeat(x[None], h, 0),
            y=np.repeat(y[:, None], w, 1),
            near=shrink(scene.near),
            regions={name: shrink(mask) for name, mask in scene.regions.items()},
            things=things,
            bright=shrink(np.clip((luma - 0.8) * 8, 0, 1)),
            water_way=scene.water_way,
        )


def key_times() -> np.ndarray:
    """(K, 1, 1), shares of the clip."""
    return np.float32(KEY_TIMES)[:, None, None]


def fields(view: View, asked: Asked, rng: np.random.Generator, brush: Brush | None = None) -> Fields:
    """What `asked` means over a scene. The seed is in the details: size within a fifth, pace, phase. Where a person
    brushed a region, that lives, whatever it is."""
    if asked.camera is None and asked.living is None:
        return gentle(view, asked, rng)
    life = living(view, asked.living, asked.living_strength, rng, brush)
    moved = camera(view, asked.camera or "still", asked.camera_strength, rng)
    return Fields(moved, life.living, view.near, life.alive, life.light)


def camera(view: View, name: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """(2, K, h, w) of a camera motion."""
    x, y, near, time = view.x, view.y, view.near, key_times()
    amount = strength * rng.uniform(0.85, 1.18) * time
    if name == "still":
        return np.zeros((2, len(time), *near.shape), np.float32)
    if name in ("zoom_in", "zoom_out"):
        grow = np.exp((ZOOM_RATE if name == "zoom_in" else -ZOOM_RATE) * amount) - 1
        return np.stack([grow * x, grow * y])
    if name in ("dolly_in", "dolly_out"):
        far, close = (np.exp(amount * r) - 1 for r in ((0.06, 0.26) if name == "dolly_in" else (-0.06, -0.22)))
        grow = far + (close - far) * near
        return np.stack([grow * x, grow * (y + 0.05)])
    parallax = 0.85 + 0.3 * near
    if name in ("pan_left", "pan_right"):
        side = PAN_RATE * amount * parallax * (1 if name == "pan_left" else -1)
        return np.stack([side, 0 * side])
    if name in ("tilt_up", "tilt_down"):
        down = TILT_RATE * amount * parallax * (1 if name == "tilt_up" else -1)
        return np.stack([0 * down, down])
    if name in ("rotate_cw", "rotate_ccw"):
        angle = ROTATION_RATE * amount * (1 if name == "rotate_cw" else -1)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.stack([cos * x - sin * y - x, sin * x + cos * y - y])
    if name in ("orbit_left", "orbit_right"):
        side = amount * (0.14 * near - 0.045) * (1 if name == "orbit_left" else -1)
        return np.stack([side, 0 * side])
    if name == "handheld":
        return handheld(view, strength, rng)
    raise ValueError(f"unknown camera motion {name}")


def handheld(view: View, strength: float, rng: np.random.Generator) -> np.ndarray:
    """How far a hand sways in place and angle, the same at every key time: `camera.hand` says when."""
    dx, dy, turn = (strength * size * rng.uniform(0.8, 1.2) for size in (0.032, 0.026, 0.022))
    sway = np.stack([dx - turn * view.y, dy + turn * view.x])
    return np.repeat(sway[:, None], len(KEY_TIMES), 1).astype(np.float32)


def living(view: View, name: str | None, strength: float, rng: np.random.Generator, brush: Brush | None) -> Life:
    """A living motion; nothing is alive where its region is absent, or without a name."""
    nowhere = np.zeros_like(view.near)
    rest = np.zeros((2, *view.near.shape), np.float32)
    size = strength * rng.uniform(0.85, 1.18)
    brushed = None if brush is None else brush.region
    if name is None:
        return Life(rest, nowhere, nowhere)
    if name == "water":
        way = (brush and brush.way) or view.water_way or WATER_WAY
        alive = view.regions["water"] if brushed is None else brushed
        return Life(flow(size * WATER_RATE * (0.5 + view.near), way), alive, nowhere)
    if name == "clouds":
        way = (brush and brush.way) or (1.0, 0.0)
        alive = view.regions["sky"] if brushed is None else brushed
        return Life(flow(np.full_like(view.near, size * CLOUD_RATE), way), alive, nowhere)
    if name == "sway":
        return Life(*sway(view, size, brushed), nowhere)
    if name in ("petals", "breathing"):
        kind, swell = ("flower", 0.30) if name == "petals" else ("animal", 0.10)
        return Life(*opening(view, kind, swell * size, brushed), nowhere)
    if name == "flicker":
        return Life(rest, nowhere, flicker(view, size))
    if name in ("night", "day"):
        span = -1.3 * size if name == "night" else 0.45 * size
        return Life(rest, nowhere, (span * (1 - 0.5 * view.bright * (name == "night"))).astype(np.float32))
    raise ValueError(f"unknown living motion {name}")


def flow(size: np.ndarray, way: tuple[float, float]) -> np.ndarray:
    """(2, h, w): `size` (h, w) along `way`."""
    return np.stack([size * way[0], size * way[1]]).astype(np.float32)


def sway(view: View, size: float, brushed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """How far plants lean with the wind, which blows to the right; what stands as a thing, and what was brushed, bends
    from its foot. The motion and what is alive."""
    alive = view.regions["plants"]
    lean = np.full_like(alive, 0.018)
    for kind, thing, _, cy, radius in view.things:
        if kind in ("tree", "flower"):
            height = np.clip((cy + radius - view.y) / (2 * radius), 0, 1.2)
            share = np.clip(2 * around(thing), 0, 1)
            lean = lean * (1 - share) + 0.026 * height * share
            alive = np.maximum(alive, thing)
    if brushed is not None:
        alive, lean = brushed, 0.026 * above_foot(brushed)
    return flow(size * lean, (1.0, 0.12)), alive


def above_foot(region: np.ndarray) -> np.ndarray:
    """How high each place of `region` (h, w) stands above its lowest row, in shares of its height."""
    rows = np.flatnonzero((region > 0.5).any(1))
    top, foot = (rows[0], rows[-1] + 1) if len(rows) else (0, len(region))
    height = (foot - np.arange(len(region), dtype=np.float32) - 0.5) / (foot - top)
    return np.repeat(np.clip(height, 0, 1.2)[:, None], region.shape[1], 1)


def opening(view: View, kind: str, swell: float, brushed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Things of this kind, or what was brushed, grow from their centre by the share `swell`. The motion and what is
    alive."""
    total = np.zeros((2, *view.near.shape), np.float32)
    alive, weight = np.zeros_like(view.near), np.full_like(view.near, 1e-6)
    things = view.things if brushed is None else [(kind, brushed, *middle_of(view, brushed))]
    for which, mask, cx, cy, radius in things:
        if which == kind:
            away = np.hypot(view.x - cx, view.y - cy) / radius
            share = around(mask) + 1e-4
            grow = swell * (0.5 + 0.5 * np.clip(away, 0, 1.3)) * np.minimum(1, 1.3 / np.maximum(away, 1e-3)) * share
            total += np.stack([grow * (view.x - cx), grow * (view.y - cy)])
            weight += share
            alive = np.maximum(alive, mask)
    return total / weight, alive


def middle_of(view: View, mask: np.ndarray) -> tuple[float, float, float]:
    """Centre x and y and radius of `mask` (h, w): the disc of three times its variance."""
    total = mask.sum() + 1e-6
    cx, cy = float((view.x * mask).sum() / total), float((view.y * mask).sum() / total)
    spread = float((((view.x - cx) ** 2 + (view.y - cy) ** 2) * mask).sum() / total)
    return cx, cy, (2 * spread) ** 0.5 + 0.02


def around(mask: np.ndarray) -> np.ndarray:
    """The mask and a cell or two around it."""
    return cv2.GaussianBlur(mask, (0, 0), 1.5)


def flicker(view: View, size: float) -> np.ndarray:
    """How much brightness pulses, most where the picture is bright."""
    glow = cv2.GaussianBlur(view.bright, (0, 0), 2.5)
    glow = glow / max(float(glow.max()), 0.2)
    return (0.6 * size * (0.3 + 0.7 * glow)).astype(np.float32)


def gentle(view: View, asked: Asked, rng: np.random.Generator) -> Fields:
    """What a sentence that asks for no motion gets: a slow move of the camera forward. No sentence at all, which
    guidance steers away from, moves any way, so that it pulls no way. What could live is known, though none of it
    moves: water and plants."""
    names = ["dolly_in", "zoom_in", "orbit_left", "orbit_right", "dolly_out", "zoom_out", "pan_left", "pan_right"]
    shares = [0.65, 0.35, 0, 0, 0, 0, 0, 0] if asked.text else [1 / 8] * 8
    moved = camera(view, str(rng.choice(names, p=shares)), GENTLE * rng.uniform(0.6, 1.3), rng)
    still = living(view, None, 1.0, rng, None)
    return Fields(moved, still.living, view.near, still.alive, still.light)
