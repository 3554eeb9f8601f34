"""Draw pictures whose regions are known exactly, for `train_nano.quality`: `python -m tools.train_nano.draw [FOLDER]`.

Everything is computed here from noise and geometry, so the pictures belong to the project. Each scene is painted at
twice its size and scaled down; the same seeds give the same pictures. Colours are sRGB in 0..1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 768  # pixels, both sides
SCALE = 2
SIDE = SIZE * SCALE
LARGEST_BYTES = 150_000
FOLDER = Path(__file__).with_name("drawn")

Array = np.ndarray
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE  # 0..1, downwards and to the right


def main(folder: Path) -> None:
    """Write every scene as a JPEG into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, paint in SCENES.items():
        picture = as_image(paint()).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        save(picture, folder / f"{name}.jpg")


def save(picture: Image.Image, path: Path) -> None:
    """At the best quality that stays below LARGEST_BYTES."""
    for quality in range(92, 50, -3):
        picture.save(path, quality=quality, optimize=True, progressive=True)
        if path.stat().st_size <= LARGEST_BYTES:
            return


# --- painting ---


def colour(text: str) -> Array:
    """`colour("ff8800")` as three floats."""
    return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float32) / 255


def as_image(canvas: Array) -> Image.Image:
    return Image.fromarray((canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def blur(canvas: Array, radius: float) -> Array:
    """Blurred by `radius` in parts of the side."""
    soft = as_image(canvas).filter(ImageFilter.GaussianBlur(radius * SIDE))
    return np.asarray(soft, dtype=np.float32) / 255


def step(low: float, high: float, values: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between; falls when `low` > `high`."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def over(canvas: Array, paint: Array, mask: Array) -> Array:
    """`paint` on `canvas` where `mask` (H, W) is 1."""
    return canvas + (paint - canvas) * mask[..., None]


def gradient(stops: list[tuple[float, str]], values: Array) -> Array:
    """Colours by value: `stops` are (value, colour) in rising order."""
    places = [place for place, _ in stops]
    colours = np.array([colour(text) for _, text in stops])
    return np.stack([np.interp(values, places, colours[:, i]) for i in range(3)], axis=-1).astype(np.float32)


def noise(seed: int, cells: tuple[float, float], octaves: int = 5) -> Array:
    """Cloudy noise in about 0..1; `cells` down and across at the coarsest octave."""
    rng = np.random.default_rng(seed)
    total, weight = np.zeros((SIDE, SIDE), dtype=np.float32), 0.0
    for octave in range(octaves):
        shape = [max(2, round(cell * 2**octave)) for cell in cells]
        coarse = Image.fromarray(rng.random(shape, dtype=np.float32))
        total += np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def ridge(seed: int, cells: float, octaves: int = 6) -> Array:
    """A skyline in about -0.5..0.5, one value per column."""
    return noise(seed, (2, cells), octaves)[SIDE // 2] - 0.5


def drawn(draw: Callable[[ImageDraw.ImageDraw], None]) -> Array:
    """A mask (H, W) from shapes drawn in pixels of the large canvas."""
    mask = Image.new("L", (SIDE, SIDE))
    draw(ImageDraw.Draw(mask))
    return np.asarray(mask, dtype=np.float32) / 255


def glow(x: float, y: float, radius: float) -> Array:
    """Light around a point: 1 in its middle, 1/2 at `radius`."""
    return 1 / (1 + ((X - x) ** 2 + (Y - y) ** 2) / radius**2)


# --- a lake between hills, early in the morning ---


def lake() -> Array:
    horizon, sun_x, sun_y = 0.58, 0.64, 0.40
    sky = gradient([(0, "3f6fa8"), (0.25, "86a9cc"), (0.42, "f3cfae"), (0.58, "ffdca8")], Y)
    clouds = step(0.50, 0.72, noise(11, (7, 2.5)) + 0.12 * step(0.4, 0.1, Y)) * step(0.52, 0.3, Y)
    sky = over(sky, gradient([(0, "f4ede8"), (0.3, "ffd9c2"), (0.5, "ffc79a")], Y), clouds * 0.75)
    sky += glow(sun_x, sun_y, 0.10)[..., None] * colour("ff9a3c") * 0.45
    sky = over(sky, np.broadcast_to(colour("fffbe6"), sky.shape), step(0.030, 0.026, np.hypot(X - sun_x, Y - sun_y)))

    layers = [  # base, height, cells, far colour, seed
        (0.47, 0.20, 3, "a7a9c4", 21),
        (0.51, 0.17, 4, "7f8cab", 22),
        (0.545, 0.15, 5, "56708a", 23),
        (0.57, 0.10, 6, "33535b", 24),
    ]
    scene = sky
    for base, height, cells, tone, seed in layers:
        top = base - height * (0.35 + ridge(seed, cells))
        haze_from = top[None, :]
        if seed == 24:
            top = top - pines(seed)
        hill = np.broadcast_to(colour(tone), scene.shape) * (0.92 + 0.16 * noise(seed + 50, (18, 18), 4))[..., None]
        hazy = step(0.0, 0.16, Y - haze_from)[..., None]
        hill = hill * (1 - 0.35 * hazy) + colour("ffd9ae") * 0.35 * hazy
        scene = over(scene, hill, step(-0.0008, 0.0008, Y - top[None, :]))
    scene = water(scene, horizon)
    reeds = drawn(lambda pen: grass(pen, 5))
    return over(scene, np.broadcast_to(colour("1d2b22"), scene.shape), reeds)


def pines(seed: int) -> Array:
    """A row of firs as extra height per column."""
    rng = np.random.default_rng(seed)
    x, height = X[0], np.zeros(SIDE, dtype=np.float32)
    for centre, tall in zip(rng.random(120), 0.012 + 0.03 * rng.random(120) ** 2, strict=True):
        height = np.maximum(height, tall * (1 - np.abs(x - centre) / (tall * 0.32)))
    return height


def water(scene: Array, horizon: float) -> Array:
    """The lower part mirrors what is above `horizon`, broken by ripples that grow towards us."""
    depth = ((Y - horizon) / (1 - horizon)).clip(0, 1)
    ripples = noise(31, (90, 5), 4) - 0.5
    source = horizon - (Y - horizon) * 0.92 + ripples * 0.09 * depth**0.8
    rows = (source * SIDE).clip(0, SIDE - 1).astype(int)
    columns = ((X + ripples * 0.02 * depth) * SIDE).clip(0, SIDE - 1).astype(int)
    mirrored = blur(scene[rows, columns], 0.0012)
    deep = gradient([(0, "8a9db0"), (1, "1b3a52")], depth)
    surface = mirrored * (0.9 - 0.45 * depth[..., None]) + deep * (0.08 + 0.34 * depth[..., None])
    glitter = step(0.62, 0.80, noise(32, (160, 22), 3)) * np.exp(-(((X - 0.64) / (0.03 + 0.12 * depth)) ** 2))
    surface += (glitter * (0.9 - 0.5 * depth))[..., None] * colour("ffd9a0")
    mist = np.exp(-(((Y - horizon) / 0.018) ** 2)) * (0.35 + 0.5 * noise(33, (3, 5)))
    lit = over(scene, surface, step(horizon - 0.0008, horizon + 0.0008, Y))
    return over(lit, np.broadcast_to(colour("ffe6c8"), scene.shape), mist * 0.8)


def grass(pen: ImageDraw.ImageDraw, seed: int) -> None:
    """Blades at the lower left corner, bent by a light wind."""
    rng = np.random.default_rng(seed)
    for _ in range(170):
        root = rng.normal(0.10, 0.12)
        tall = rng.uniform(0.06, 0.26) * np.exp(-((root / 0.34) ** 2))
        bend = rng.normal(0.05, 0.03)
        t = np.linspace(0, 1, 24)
        middle = np.stack([root + bend * t**2, 1.01 - tall * t], axis=1)
        half = (0.0022 * (1 - t**2))[:, None] * [[1, 0]]
        outline = np.concatenate([middle - half, (middle + half)[::-1]]) * SIDE
        pen.polygon([tuple(point) for point in outline], fill=255)


# --- a rose in a garden ---


def rose() -> Array:
    scene = garden()
    stem = drawn(lambda pen: pen.line([(SIDE * x, SIDE * y) for x, y in curve()], fill=255, width=int(0.018 * SIDE)))
    scene = over(scene, gradient([(0.44, "5f8a3e"), (0.53, "28481f")], X), stem)
    for x, y, turn, length in ((0.472, 0.88, 2.55, 0.29), (0.470, 0.82, 0.42, 0.31), (0.474, 0.97, 0.75, 0.2)):
        scene = leaf(scene, x, y, turn, length)
    rng = np.random.default_rng(7)
    rings = [  # petals, distance of their middles from the heart, width, how far they are open
        (6, 0.150, 0.150, 1.00),
        (6, 0.118, 0.132, 0.85),
        (5, 0.088, 0.112, 0.68),
        (5, 0.060, 0.090, 0.50),
        (4, 0.037, 0.066, 0.34),
        (3, 0.018, 0.044, 0.20),
    ]
    for ring, (count, distance, width, open_) in enumerate(rings):
        start = ring * 0.9
        for index in range(count):
            angle = start + 2 * np.pi * index / count + rng.normal(0, 0.07)
            scene = petal(scene, angle, distance, width * rng.uniform(0.94, 1.07), open_, seed=100 + 10 * ring + index)
    return scene * (1 - 0.35 * step(0.45, 0.8, np.hypot(X - 0.5, Y - 0.45)))[..., None]


def garden() -> Array:
    """Leaves and light far out of focus."""
    base = gradient(
        [(0, "b9cf7e"), (0.45, "6d9a55"), (1, "1f3d25")], (0.55 * Y + 0.6 * noise(41, (4, 4), 3)).clip(0, 1)
    )
    rng = np.random.default_rng(42)
    for _ in range(46):
        x, y, size = rng.random(), rng.random() * 0.9, rng.uniform(0.02, 0.065)
        tone = [colour(t) for t in ("f4f3b5", "d7e89a", "8fc07a", "f2b8c6", "ffffff")][rng.integers(5)]
        disc = step(size, size * 0.86, np.hypot(X - x, Y - y)) * rng.uniform(0.10, 0.34)
        base = over(base, np.broadcast_to(tone, base.shape), disc)
    return blur(base, 0.010)


def curve() -> list[tuple[float, float]]:
    t = np.linspace(0, 1, 40)
    return list(zip(0.5 - 0.035 * np.sin(2.4 * t) + 0.01 * t, 0.5 + 0.55 * t, strict=True))


def leaf(scene: Array, x: float, y: float, turn: float, length: float) -> Array:
    """A serrated leaf with veins from (x, y) in direction `turn` (radians, upwards)."""
    along = ((X - x) * np.cos(turn) - (Y - y) * np.sin(turn)) / length
    across = ((X - x) * np.sin(turn) + (Y - y) * np.cos(turn)) / length
    t = along.clip(0, 1)
    edge = 0.36 * np.sin(np.pi * t**0.8) * (1 - 0.25 * t) + 0.008 * np.abs(np.sin(40 * t))
    inside = step(0.006, -0.006, np.abs(across) - edge) * step(-0.005, 0.005, along) * step(1.005, 0.995, along)
    rib = step(0.014, 0.004, np.abs(across))
    veins = step(0.80, 0.97, np.cos(2 * np.pi * (along * 7 - np.abs(across) * 6)))
    light = 0.45 + 0.35 * step(0.2, -0.25, across) + 0.15 * (noise(int(1000 * turn), (6, 6), 3) - 0.5)
    green = gradient([(0, "16331a"), (0.5, "3d7136"), (1, "8db65c")], (light + 0.12 * veins + 0.18 * rib).clip(0, 1))
    shadow = blur(np.repeat(inside[..., None], 3, axis=2), 0.012)[..., 0]
    return over(scene * (1 - 0.45 * np.roll(shadow, SIDE // 80, axis=0))[..., None], green, inside)


def petal(scene: Array, angle: float, distance: float, width: float, open_: float, *, seed: int) -> Array:
    """One petal: a rounded cup around the heart at (0.5, 0.43), its rim turned outwards and lit from above."""
    flower_x, flower_y = 0.5, 0.43
    dx, dy = X - flower_x, (Y - flower_y) * 1.06
    out = (dx * np.cos(angle) + dy * np.sin(angle) - distance) / width
    side = (-dx * np.sin(angle) + dy * np.cos(angle)) / width
    wave = 0.05 * np.sin(3.1 * side + seed) + 0.025 * np.sin(7.3 * side + 2 * seed)
    reach = np.hypot(out * (1.0 + 0.1 * np.cos(seed)) - wave, side * 0.86) - 0.06 * np.exp(-((side / 0.2) ** 2))
    inside = step(1.012, 0.992, reach)
    shadow = np.roll(step(1.32, 0.80, reach), SIDE // 110, axis=0) * step(1.5, 0.9, reach)
    rim = step(0.80, 0.965, reach) * step(-0.35, 0.35, out)
    cup = step(-1.0, 1.0, out)
    facing = 0.5 - 0.5 * np.sin(angle)  # 1 where the petal looks up to the light
    veins = 0.03 * np.sin(34 * np.arctan2(side, out + 1.7) + seed) * step(-0.6, 0.6, out)
    light = 0.16 + 0.50 * cup * (0.55 + 0.45 * open_) + 0.20 * facing * cup + 0.22 * rim + veins
    tones = [(0, "4d0619"), (0.3, "9c1238"), (0.55, "d43a63"), (0.78, "ee7d98"), (1, "ffd3d8")]
    return over(scene * (1 - 0.50 * shadow * (1 - inside))[..., None], gradient(tones, light.clip(0, 1)), inside)


# --- a street lamp at dusk ---


def lamp() -> Array:
    ground, lamp_x, lamp_y = 0.76, 0.36, 0.30
    sky = gradient([(0, "121c40"), (0.3, "2c3a72"), (0.52, "80597f"), (0.68, "e08a63"), (0.76, "ffc27a")], Y)
    clouds = step(0.48, 0.75, noise(61, (9, 3))) * step(0.1, 0.5, Y) * step(0.8, 0.55, Y)
    scene = over(sky, gradient([(0.1, "3a3f6e"), (0.5, "c0697a"), (0.7, "ffab78")], Y), clouds * 0.55)
    rng = np.random.default_rng(62)
    for x, y, size in zip(rng.random(90), 0.42 * rng.random(90) ** 1.4, rng.uniform(0.0004, 0.0011, 90), strict=True):
        scene = scene + (np.exp(-((X - x) ** 2 + (Y - y) ** 2) / size**2) * 0.8 * (1 - y / 0.45))[..., None]
    scene = houses(scene, ground)
    scene = street(scene, ground, lamp_x)
    post = drawn(lambda pen: lamp_post(pen, lamp_x, lamp_y, 0.93))
    lit = step(0.03, 0.0, np.abs(X - lamp_x - 0.002)) * step(0.75, 0.35, Y)
    scene = over(scene, colour("0c0d16") + lit[..., None] * colour("5a3d1c") * 0.5, post)
    glass = drawn(lambda pen: lantern(pen, lamp_x, lamp_y))
    scene = over(scene, np.broadcast_to(colour("fff1c4"), scene.shape), glass)
    halo = 0.95 * glow(lamp_x, lamp_y, 0.035) + 0.42 * glow(lamp_x, lamp_y, 0.13)
    scene = 1 - (1 - scene.clip(0, 1)) * (1 - (halo[..., None] * colour("ffb45c")).clip(0, 1))
    return over(
        scene, np.broadcast_to(colour("090a12"), scene.shape), drawn(lambda pen: lamp_frame(pen, lamp_x, lamp_y))
    )


def houses(scene: Array, ground: float) -> Array:
    """Gabled silhouettes with some windows lit, nearer ones darker."""
    for tone, low, high, seed in (("4b3a5c", 0.10, 0.17, 71), ("231f38", 0.18, 0.30, 72)):
        rng = np.random.default_rng(seed)
        shapes, windows, x = [], [], -0.05
        while x < 1.05:
            width, height = rng.uniform(0.09, 0.16), rng.uniform(low, high)
            shapes.append((x, width, height))
            if seed == 72:
                for column in np.arange(x + 0.02, x + width - 0.025, 0.034):
                    for row in np.arange(ground - height + 0.025, ground - 0.04, 0.052):
                        if rng.random() < 0.42:
                            windows.append((column, row))
            x += width * rng.uniform(0.96, 1.2)

        def walls(pen: ImageDraw.ImageDraw, shapes: list[tuple[float, float, float]] = shapes) -> None:
            for x, width, height in shapes:
                top = ground - height
                points = [
                    (x, ground),
                    (x, top),
                    (x + width / 2, top - width * 0.55),
                    (x + width, top),
                    (x + width, ground),
                ]
                pen.polygon([(SIDE * px, SIDE * py) for px, py in points], fill=255)
                chimney = (x + width * 0.68, top - width * 0.5, x + width * 0.80, top)
                pen.rectangle([SIDE * value for value in chimney], fill=255)

        def panes(pen: ImageDraw.ImageDraw, windows: list[tuple[float, float]] = windows) -> None:
            for px, py in windows:
                pen.rectangle([SIDE * px, SIDE * py, SIDE * (px + 0.017), SIDE * (py + 0.027)], fill=255)
                pen.line([SIDE * (px + 0.0085), SIDE * py, SIDE * (px + 0.0085), SIDE * (py + 0.027)], fill=0, width=3)

        scene = over(scene, np.broadcast_to(colour(tone), scene.shape), drawn(walls))
        light = drawn(panes)
        scene = over(scene, gradient([(0, "ffd27a"), (1, "ff9e4a")], noise(seed + 5, (9, 9), 2)), light)
        scene = scene + blur(np.repeat(light[..., None], 3, axis=2), 0.012) * colour("ff9a3c") * 0.5
    return scene


def street(scene: Array, ground: float, lamp_x: float) -> Array:
    """Wet cobbles that mirror the lights above them."""
    depth = ((Y - ground) / (1 - ground)).clip(0, 1)
    row = np.log1p(9 * depth) * 9
    column = (X - 0.5) * 46 / (0.35 + 1.3 * depth) + 0.5 * (np.floor(row) % 2)
    joint = np.minimum(np.abs(row % 1 - 0.5), np.abs(column % 1 - 0.5) + 0.02)
    rng = np.random.default_rng(81)
    tint = rng.random((64, 256))[np.floor(row).astype(int) % 64, np.floor(column).astype(int) % 256]
    dome = np.cos(np.pi * (row % 1 - 0.5)) * np.cos(np.pi * (column % 1 - 0.5))
    stones = gradient(
        [(0, "0d0f1c"), (0.6, "2b2c44"), (1, "54506a")], (0.25 + 0.45 * dome + 0.2 * tint - 0.1).clip(0, 1)
    )
    shake = (noise(82, (40, 60), 3) - 0.5) * 0.05 * (0.3 + depth) + 0.012 * (dome - 0.5)
    rows = ((ground - (Y - ground) * 1.9 + shake) * SIDE).clip(0, SIDE - 1).astype(int)
    columns = ((X + shake * 0.6) * SIDE).clip(0, SIDE - 1).astype(int)
    mirrored = blur(scene[rows, columns], 0.004)
    wet = (0.55 - 0.3 * depth) * (0.6 + 0.8 * noise(83, (5, 4), 4))
    surface = stones * (0.75 + 0.4 * joint[..., None]) + mirrored * (wet * (0.35 + 0.65 * dome.clip(0, 1)))[..., None]
    pool = np.exp(-(((X - lamp_x) / 0.20) ** 2) - ((Y - 0.90) / 0.08) ** 2)
    streak = np.exp(-(((X - lamp_x + shake) / 0.022) ** 2)) * step(1.05, 0.8, Y) * (0.4 + 0.6 * dome.clip(0, 1))
    surface += ((pool * 0.55 + streak * 0.6) * (0.45 + 0.55 * dome.clip(0, 1)))[..., None] * colour("ffae58")
    return over(scene, surface, step(ground - 0.0008, ground + 0.0008, Y))


def lamp_post(pen: ImageDraw.ImageDraw, x: float, y: float, foot: float) -> None:
    for half, top, bottom in ((0.006, y + 0.05, foot), (0.010, foot - 0.16, foot), (0.016, foot - 0.025, foot)):
        pen.rectangle([SIDE * (x - half), SIDE * top, SIDE * (x + half), SIDE * bottom], fill=255)
    for place in (y + 0.075, foot - 0.16):
        pen.rounded_rectangle(
            [SIDE * (x - 0.013), SIDE * place, SIDE * (x + 0.013), SIDE * (place + 0.012)], 9, fill=255
        )


def lantern(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    points = [(-0.036, -0.042), (0.036, -0.042), (0.022, 0.046), (-0.022, 0.046)]
    pen.polygon([(SIDE * (x + px), SIDE * (y + py)) for px, py in points], fill=255)


def lamp_frame(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    roof = [(-0.045, -0.042), (-0.016, -0.078), (0.016, -0.078), (0.045, -0.042)]
    pen.polygon([(SIDE * (x + px), SIDE * (y + py)) for px, py in roof], fill=255)
    pen.ellipse([SIDE * (x - 0.008), SIDE * (y - 0.094), SIDE * (x + 0.008), SIDE * (y - 0.076)], fill=255)
    pen.rectangle([SIDE * (x - 0.026), SIDE * (y + 0.045), SIDE * (x + 0.026), SIDE * (y + 0.054)], fill=255)
    for top, bottom in ((-0.036, -0.022), (0.0, 0.0), (0.036, 0.022)):
        pen.line([(SIDE * (x + top), SIDE * (y - 0.042)), (SIDE * (x + bottom), SIDE * (y + 0.046))], fill=255, width=7)


SCENES = {"lake": lake, "rose": rose, "lamp": lamp}

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
