"""The motion each wording means, as exact fields over a scene: the truth nano is trained on and measured against.

Rates are per time unit of 16 frames, lengths in units of the picture's short side, x right and y down, and every field
says where a cell of the *first* frame has gone. "Pan right" turns the camera right, so the picture goes left; "tilt
up" moves it down; "rotate clockwise" turns the picture clockwise on the screen.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from i2v.families.nano.fields import FRAMES_PER_TIME_UNIT
from tools.train_nano.prompts import Asked
from tools.train_nano.scenes import CELL, Scene

ZOOM_RATE = 0.20
PAN_RATE = 0.14
TILT_RATE = 0.12
ROTATION_RATE = 0.17  # radians
GENTLE = 0.5  # the share of a motion's size that a sentence which asks for none gets


@dataclass(frozen=True)
class Fields:
    """camera and living (2, F, h, w), near and alive (h, w), light (F, h, w) as natural logarithm of the gain;
    float32. `living` goes on beyond what is alive, so that only `alive` has edges to learn."""

    camera: np.ndarray
    living: np.ndarray
    near: np.ndarray
    alive: np.ndarray
    light: np.ndarray

    @property
    def displacement(self) -> np.ndarray:
        """(2, F, h, w): what is seen, camera and life together."""
        return self.camera + self.living * self.alive


@dataclass(frozen=True)
class Life:
    """What lives: displacement (2, F, h, w), alive (h, w), light (F, h, w)."""

    displacement: np.ndarray
    alive: np.ndarray
    light: np.ndarray


@dataclass
class View:
    """A scene at the resolution of the fields: positions x, y (h, w), nearness and regions as shares of each cell."""

    x: np.ndarray
    y: np.ndarray
    near: np.ndarray
    regions: dict[str, np.ndarray]
    things: list[tuple[str, np.ndarray, float, float, float]]  # kind, mask, x, y, radius
    bright: np.ndarray

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
        )


def fields(scene: Scene, asked: Asked, frames: np.ndarray, rng: np.random.Generator) -> Fields:
    """What `asked` means over `scene` at the frame numbers `frames` (F,). The seed is in the details: size within a
    fifth, pace, phase."""
    view = View.of(scene)
    time = (frames / FRAMES_PER_TIME_UNIT).astype(np.float32)[:, None, None]
    if asked.camera is None and asked.living is None:
        return gentle(view, asked, time, rng)
    life = living(view, asked.living, asked.living_strength, time, rng)
    moved = camera(view, asked.camera or "still", asked.camera_strength, time, rng)
    return Fields(moved, life.displacement, view.near, life.alive, life.light)


def camera(view: View, name: str, strength: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(2, F, h, w) of a camera motion; `time` (F, 1, 1) in time units."""
    x, y, near = view.x, view.y, view.near
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
        return handheld(view, strength, time, rng)
    raise ValueError(f"unknown camera motion {name}")


def handheld(view: View, strength: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few slow swings in place and angle, all starting from rest at zero. The seed changes size, pace and phase by a
    part, as for water and for the same reason."""
    sways = []
    for size, slow, fast, phase in ((0.020, 0.9, 2.0, 0.4), (0.016, 1.2, 1.8, 1.9), (0.014, 0.8, 1.6, 3.3)):
        size, pace, late = strength * size * rng.uniform(0.8, 1.2), rng.uniform(0.92, 1.08), rng.normal(0, 0.4)
        sways.append(
            size * swing(time, slow * pace, rng, phase + late)
            + 0.4 * size * swing(time, fast * pace, rng, late - phase)
        )
    dx, dy, turn = sways
    return np.stack([dx - turn * view.y, dy + turn * view.x])


def swing(
    time: np.ndarray, frequency: float, rng: np.random.Generator, phase: np.ndarray | float | None = None
) -> np.ndarray:
    """A sine of `frequency` per time unit, less its value at the start; without a phase, at a random one."""
    phase = rng.uniform(0, 2 * np.pi) if phase is None else phase
    return np.sin(2 * np.pi * frequency * time + phase) - np.sin(phase)


def living(view: View, name: str | None, strength: float, time: np.ndarray, rng: np.random.Generator) -> Life:
    """A living motion; nothing is alive where its region is absent, or without a name."""
    shape = (len(time), *view.near.shape)
    nowhere = np.zeros(shape[1:], np.float32)
    rest, dark = np.zeros((2, *shape), np.float32), np.zeros(shape, np.float32)
    size = strength * rng.uniform(0.85, 1.18)
    if name is None:
        return Life(rest, nowhere, dark)
    if name == "water":
        return Life(ripples(view, size, time, rng), view.regions["water"], dark)
    if name == "sway":
        return Life(*sway(view, size, time, rng), dark)
    if name == "petals":
        return Life(*opening(view, "flower", 0.30 * size * time), dark)
    if name == "breathing":
        swell = 0.12 * size * (1 - np.cos(2 * np.pi * 0.7 * time)) / 2
        return Life(*opening(view, "animal", swell), dark)
    if name == "clouds":
        side = np.broadcast_to(0.08 * size * time, shape).astype(np.float32)
        return Life(np.stack([side, 0 * side]), view.regions["sky"], dark)
    if name == "flicker":
        return Life(rest, nowhere, flicker(view, size, time, rng))
    if name in ("night", "day"):
        span = -1.3 * size if name == "night" else 0.45 * size
        light = span * np.tanh(1.3 * time) / np.tanh(1.3) * (1 - 0.5 * view.bright * (name == "night"))
        return Life(rest, nowhere, light.astype(np.float32))
    raise ValueError(f"unknown living motion {name}")


def ripples(view: View, size: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two travelling waves with crests across the picture, larger near than far.

    They run towards the viewer, none shorter than six cells, and the seed shifts them by a part of a wave: were every
    direction and phase as likely, a model would first have to learn that the mean of all, nothing, is wrong."""
    total = np.zeros((2, len(time), *view.near.shape), np.float32)
    closer = 0.5 + view.near
    for wavelength, slant, frequency in ((0.26, 0.25, 1.3), (0.40, -0.2, 0.9)):
        turn = slant + rng.normal(0, 0.04)
        k = 2 * np.pi / (wavelength * rng.uniform(0.97, 1.03))
        phase = k * (np.sin(turn) * view.x + np.cos(turn) * view.y) + rng.normal(0, 0.5)
        wave = swing(time, -frequency * rng.uniform(0.95, 1.05), rng, phase)
        total[1] += 0.010 * size * wave * closer
        total[0] += 0.005 * size * wave * closer
    return total


def sway(view: View, size: float, time: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Plants lean with the wind, which blows to the right, and come back; what stands as a thing bends from its foot,
    over a meadow the gust runs from left to right. Displacement and what is alive."""
    alive = view.regions["plants"]
    lag = -rng.uniform(2.5, 4.5) * (view.x + 0.5) + rng.normal(0, 0.3)
    wave = swing(time, rng.uniform(0.75, 1.0), rng, lag) + 0.35 * swing(time, rng.uniform(1.5, 1.9), rng, 1.7 * lag)
    lean = np.full_like(alive, 0.018)
    for kind, thing, _, cy, radius in view.things:
        if kind in ("tree", "flower"):
            height = np.clip((cy + radius - view.y) / (2 * radius), 0, 1.2)
            share = np.clip(2 * around(thing), 0, 1)
            lean = lean * (1 - share) + 0.026 * height * share
            alive = np.maximum(alive, thing)
    side = size * wave * lean
    return np.stack([side, 0.25 * np.abs(side)]), alive


def opening(view: View, kind: str, swell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Things of this kind grow from their centre by the share `swell` (F, 1, 1). Displacement and what is alive."""
    total = np.zeros((2, len(swell), *view.near.shape), np.float32)
    alive, weight = np.zeros_like(view.near), np.full_like(view.near, 1e-6)
    for which, mask, cx, cy, radius in view.things:
        if which == kind:
            away = np.hypot(view.x - cx, view.y - cy) / radius
            share = around(mask) + 1e-4
            grow = swell * (0.5 + 0.5 * np.clip(away, 0, 1.3)) * np.minimum(1, 1.3 / np.maximum(away, 1e-3)) * share
            total += np.stack([grow * (view.x - cx), grow * (view.y - cy)])
            weight += share
            alive = np.maximum(alive, mask)
    return total / weight, alive


def around(mask: np.ndarray) -> np.ndarray:
    """The mask and a cell or two around it."""
    return cv2.GaussianBlur(mask, (0, 0), 1.5)


def flicker(view: View, size: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven brightness, most where the picture is bright."""
    pace, late = rng.uniform(0.95, 1.05), rng.normal(0, 0.3)
    pulse = sum(swing(time, f * pace, rng, late + 2 * f) for f in (1.4, 2.1, 3.1)) / 3
    glow = cv2.GaussianBlur(view.bright, (0, 0), 2.5)
    glow = glow / max(float(glow.max()), 0.2)
    return (0.6 * size * pulse * (0.3 + 0.7 * glow)).astype(np.float32)


def gentle(view: View, asked: Asked, time: np.ndarray, rng: np.random.Generator) -> Fields:
    """What a sentence that asks for no motion gets: a slow move of the camera forward, and life where it is likely. No
    sentence at all, which guidance steers away from, moves any way, so that it pulls no way."""
    names = ["dolly_in", "zoom_in", "orbit_left", "orbit_right", "dolly_out", "zoom_out", "pan_left", "pan_right"]
    shares = [0.65, 0.35, 0, 0, 0, 0, 0, 0] if asked.text else [1 / 8] * 8
    moved = camera(view, str(rng.choice(names, p=shares)), GENTLE * rng.uniform(0.6, 1.3), time, rng)
    water, plants = (living(view, name if asked.text else None, 0.7, time, rng) for name in ("water", "sway"))
    share = around(water.alive) / (around(water.alive) + around(plants.alive) + 1e-6)
    life = water.displacement * share + plants.displacement * (1 - share)
    return Fields(moved, life, view.near, np.maximum(water.alive, plants.alive), water.light)
