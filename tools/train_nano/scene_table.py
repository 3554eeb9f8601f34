"""Measure a nano folder on layered scenes of known motion, with held-out wordings: the second table of the model card.

    python -m tools.train_nano.scene_table --data DATA --model i2v/assets/nano --photos 20 --readings readings.jsonl

The first table is of real photographs, see `evaluate`. Here the exact fields are known, so it is seen what the model
adds to what the decoder loses; and camera motions, strength, guidance and light are asked of plain squares.

Seeds are fixed. `--sheets FOLDER` also writes contact sheets to look at. `--only camera,living,...` runs a part.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from i2v.families.nano.fields import positions
from tools.train_nano import measures
from tools.train_nano.clips import Maker, Settings, Take, exact_take, frozen_clip, wish_for, zoom_clip
from tools.train_nano.motions import View, fields
from tools.train_nano.prompts import Asked, phrase
from tools.train_nano.scenes import Library, Scene, close_up, jitter, landscape, paste

CAMERA_MOTIONS = tuple(measures.TAUGHT)
REGIONS = {"water": "water", "sway": "plants", "clouds": "sky", "petals": "flower", "breathing": "animal"}
FRAMES, FPS = 16, 4  # of a clip
FLAT_CELLS = 32
PARTS = ("camera", "controls", "living", "light", "strength", "guidance", "seeds", "quality", "unknown")


class Evaluation:
    """The pictures, the model and the lines of the table as they come."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.model: Path = args.model
        self.maker = Maker(args.model)
        self.side: int = args.side
        self.settings = Settings(frames=FRAMES, fps=FPS, steps=args.steps, guidance=args.guidance)
        self.photos = held_out_photos(args.data, args.photos, args.side)
        self.library = Library(args.data, held_out=True)
        self.scenes = args.scenes
        self.readings: Path = args.readings
        self.few = args.few
        self.backwards: bool = args.backwards
        self.sheets: Path | None = args.sheets
        self.rows: list[tuple[str, str, str]] = []

    def row(self, what: str, result: str, wanted: str = "") -> None:
        self.rows.append((what, result, wanted))
        print(f"| {what} | {result} | {wanted} |", flush=True)

    # --- camera ---------------------------------------------------------------------------------------------

    def camera(self) -> None:
        """Nine motions on every photograph, asked in wordings never trained on, English and Chinese in turn."""
        for motion, index in self._camera_questions():
            if (motion, index) not in self._read_camera():
                clip = self.maker.clip(self.photos[index], self._ask(motion, index), index, self.settings)
                with self.readings.open("a") as file:
                    file.write(json.dumps([motion, index, vars(self._reading(clip))]) + "\n")
                if index < 4:
                    self._sheet(f"camera-{motion}-{index}", clip)
        readings = self._read_camera()
        followed = {key: reading.follows(key[0]) for key, reading in readings.items()}
        sizes = [reading.size_of(key[0]) for key, reading in readings.items() if key[0] != "still"]
        for motion in CAMERA_MOTIONS:
            hits = [hit for key, hit in followed.items() if key[0] == motion]
            self.row(f"camera, {motion.replace('_', ' ')}", f"{sum(hits)} of {len(hits)}")
        self.row("camera, all as asked", f"{100 * np.mean(list(followed.values())):.1f} %", ">= 95 %")
        within = np.mean([0.5 <= size <= 2 for size in sizes])
        self.row("camera, size within a factor of two of that taught", f"{100 * within:.1f} %")
        low, middle, high = np.quantile(sizes, [0.1, 0.5, 0.9])
        self.row("camera, size as a share of that taught (10 %, median, 90 %)", f"{low:.2f}, {middle:.2f}, {high:.2f}")

    def _camera_questions(self) -> list[tuple[str, int]]:
        """Every motion on every photograph. A second process runs `--backwards`, and the two meet in the middle."""
        questions = [(motion, index) for index in range(len(self.photos)) for motion in CAMERA_MOTIONS]
        return questions[::-1] if self.backwards else questions

    def _read_camera(self) -> dict[tuple[str, int], measures.CameraReading]:
        """What has been read so far, by this process and by others with the same file."""
        if not self.readings.exists():
            return {}
        rows = (json.loads(line) for line in self.readings.read_text().splitlines())
        return {(motion, index): measures.CameraReading(**reading) for motion, index, reading in rows}

    def controls(self) -> None:
        """The same question to clips that must not follow: random weights, a frozen frame, one zoom for everything."""
        pixels = [np.asarray(photo, dtype=np.float32) / 255 for photo in self.photos]
        frames = self.settings.frames
        makers: dict[str, Callable[[int], np.ndarray]] = {
            "control: frozen first frame": lambda i: frozen_clip(pixels[i], frames),
            "control: one zoom for every prompt": lambda i: zoom_clip(pixels[i], self.settings),
        }
        count = len(self.photos)
        for name, make in makers.items():
            readings = [self._reading(make(index)) for index in range(count)]
            hits = [reading.follows(motion) for reading in readings for motion in CAMERA_MOTIONS]
            self.row(f"{name}, as asked", f"{100 * np.mean(hits):.1f} %", "fails")
        truths = []
        for index in range(count):
            for motion in CAMERA_MOTIONS:
                take = self._exact(pixels[index], flat_view(), Asked("", camera=motion), index)
                truths.append(self._reading(take.clip()).follows(motion))
        self.row("the measure itself, on exact fields", f"{100 * np.mean(truths):.1f} %", "100 %")
        random_maker = Maker(self.model)
        random_maker.randomise()
        quick = replace(self.settings, steps=5)
        hits = []
        for motion, index in ((motion, index) for index in range(self.few) for motion in CAMERA_MOTIONS):
            clip = random_maker.clip(self.photos[index], self._ask(motion, index), index, quick)
            hits.append(self._reading(clip).follows(motion))
        self.row("control: random weights, as asked", f"{100 * np.mean(hits):.1f} %", "fails")

    # --- living ---------------------------------------------------------------------------------------------

    def living(self) -> None:
        """Living motions on layered held-out scenes whose regions are known: where does it move?"""
        for name, region in REGIONS.items():
            ratios, truths = [], []
            for index in range(self.scenes):
                scene, mask = scene_with(self.library, region, name, index, self.side)
                picture = Image.fromarray((scene.picture * 255).round().astype(np.uint8))
                clip = self.maker.clip(picture, self._ask(name, index), index, self.settings)
                ratios.append(measures.region_ratio(clip, mask))
                exact = self._exact(scene.picture, View.of(scene), Asked("", living=name), index)
                truths.append(measures.region_ratio(exact.clip(), mask))
                if index < 4:
                    self._sheet(f"living-{name}-{index}", clip)
            good = sum(ratio >= 3 for ratio in ratios)
            self.row(
                f"living, {name}: moves more inside than outside (median; scenes at 3 x or more)",
                f"{np.median(ratios):.1f} x; {good} of {len(ratios)} (exact fields: {np.median(truths):.1f} x)",
                ">= 3 x",
            )

    def light(self) -> None:
        """Night falls, day comes, light flickers."""
        for name in ("night", "day", "flicker"):
            results = []
            for index, photo in enumerate(self.photos[: self.few]):
                clip = self.maker.clip(photo, self._ask(name, index), index, self.settings)
                level = clip.astype(np.float32).mean((1, 2, 3))
                if name == "flicker":
                    results.append(np.abs(np.diff(level)).mean() / level[0] * 100)
                else:
                    results.append((level[-1] / level[0] - 1) * 100)
                if index < 2:
                    self._sheet(f"light-{name}-{index}", clip)
            unit = "% change of brightness from frame to frame" if name == "flicker" else "% change of brightness"
            self.row(f"light, {name}: {unit} (median)", f"{np.median(results):+.1f}")

    # --- dials ----------------------------------------------------------------------------------------------

    def strength(self) -> None:
        """Does "slowly" move less and "fast" move more?"""
        means = []
        for strength in ("weak", "normal", "strong"):
            sizes = []
            for index, photo in enumerate(self.photos[: self.few]):
                for motion in ("zoom_in", "pan_left", "rotate_cw"):
                    clip = self.maker.clip(photo, self._ask(motion, index, strength), index, self.settings)
                    sizes.append(self._reading(clip).size_of(motion))
            means.append(np.mean(sizes))
        self.row("strength words: size for gentle, plain, strong", ", ".join(f"{m:.2f}" for m in means), "rising")

    def guidance(self) -> None:
        """Does measured motion rise with guidance?"""
        means = []
        values = (1.0, 1.5, 2.0)
        for value in values:
            settings = replace(self.settings, guidance=value)
            sizes = []
            for index, photo in enumerate(self.photos[: self.few]):
                for motion in ("zoom_in", "pan_left", "tilt_up"):
                    clip = self.maker.clip(photo, self._ask(motion, index), index, settings)
                    sizes.append(self._reading(clip).size_of(motion))
            means.append(np.mean(sizes))
        result = ", ".join(f"{value:g}: {mean:.2f}" for value, mean in zip(values, means, strict=True))
        self.row("guidance: size by value", result, "rising")

    def seeds(self) -> None:
        """Do seeds differ?"""
        clips = [self.maker.clip(self.photos[0], "hand-held camera", seed, self.settings) for seed in range(3)]
        differences = [measures.psnr(clips[a][1:], clips[b][1:]) for a, b in ((0, 1), (0, 2), (1, 2))]
        self.row("seeds: PSNR between clips of three seeds", ", ".join(f"{d:.1f} dB" for d in differences), "differ")

    # --- the pictures ---------------------------------------------------------------------------------------

    def quality(self) -> None:
        """First frame, sharpness, black pixels, smoothness, edges; on photographs and known layers."""
        firsts, sharp, true_sharp, dark = [], [], [], []
        for index, photo in enumerate(self.photos[:8]):
            motion = CAMERA_MOTIONS[index % 8]
            take = self.maker.take(photo, self._ask(motion, index), index, self.settings)
            clip, pixels = take.clip(), np.asarray(photo)
            lifted = take.pixels * (1 - measures.LIFTED / 255) + measures.LIFTED / 255
            frames = range(self.settings.frames)
            dark.append(measures.dark_share(np.stack([take.frame(number, lifted) for number in frames])))
            asked = Asked("", camera=motion)
            exact = self._exact(pixels.astype(np.float32) / 255, flat_view(), asked, index).clip()
            if take.size == 1:  # otherwise it begins with a part of the picture
                firsts.append(measures.psnr(clip[0], pixels))
            sharp.append(min(measures.sharpness(f) for f in clip) / measures.sharpness(pixels))
            true_sharp.append(min(measures.sharpness(f) for f in exact) / measures.sharpness(pixels))
        worst = f"{min(firsts):.1f} dB" if firsts else "none shows all of it"
        self.row("first frame against the picture, where it shows all of it (worst)", worst, ">= 40 dB")
        self.row(
            "sharpness of the least sharp frame (median, worst)", f"{np.median(sharp):.2f}, {min(sharp):.2f}", ">= 0.85"
        )
        self.row("the same, exact fields", f"{np.median(true_sharp):.2f}, {min(true_sharp):.2f}")
        self.row("black pixels that were not there (worst)", f"{100 * max(dark):.2f} %", "0")
        self._warping()
        self._boundaries()

    def _exact(self, picture: np.ndarray, view: View, asked: Asked, seed: int) -> Take:
        """What `asked` means over a scene, drawn over its picture (H, W, 3) float 0..1."""
        truth = fields(view, asked, np.random.default_rng(seed))
        return exact_take(picture, truth, wish_for(asked.living), self.settings)

    def _reading(self, clip: np.ndarray) -> measures.CameraReading:
        return measures.camera(clip[0], clip[round(len(clip) * measures.READ_AT)], self.settings.seconds)

    def _warping(self) -> None:
        """Camera motions on known layers against the exact clips of the same scenes, with the same depth and so the
        same parallax and occlusions."""
        errors, true_errors = [], []
        for index in range(8):
            scene, _ = scene_with(self.library, "animal", "breathing", index, self.side)
            picture = Image.fromarray((scene.picture * 255).round().astype(np.uint8))
            motion = CAMERA_MOTIONS[index % 8]
            errors.append(
                measures.warping_error(self.maker.clip(picture, self._ask(motion, index), index, self.settings))
            )
            exact = self._exact(scene.picture, View.of(scene), Asked("", camera=motion), index)
            true_errors.append(measures.warping_error(exact.clip()))
        together = np.mean(errors) / np.mean(true_errors)
        self.row(
            "warping error as a multiple of exact clips' (of all together; median clip)",
            f"{together:.2f} x; {np.median(np.divide(errors, true_errors)):.2f} x",
            "<= 1.2 x",
        )

    def _boundaries(self) -> None:
        """On known layers: how far the fields are from the exact ones, near boundaries of things and elsewhere, and
        how far exact ones are after the same decoding."""
        made, decoded = [], []
        for index in range(self.scenes):
            scene, mask = scene_with(self.library, "animal", "breathing", index, self.side)
            picture = Image.fromarray((scene.picture * 255).round().astype(np.uint8))
            take = self.maker.take(picture, self._ask("dolly_in", index), index, self.settings)
            view, asked = View.of(scene), Asked("", camera="dolly_in")
            truth = fields(view, asked, np.random.default_rng(index)).camera[:, -1]
            for errors, drawn in ((made, take), (decoded, self._exact(scene.picture, view, asked, index))):
                field = camera_field(drawn)
                exact = np.stack([cv2.resize(part, field.shape[2:0:-1]) for part in truth])
                edge = cv2.resize(mask, field.shape[2:0:-1])
                edge = cv2.morphologyEx((edge > 0.5).astype(np.float32), cv2.MORPH_GRADIENT, np.ones((13, 13))) > 0
                errors.append(measures.field_error(field, exact, edge))
        at_edges, elsewhere = np.mean(made, axis=0)
        least, least_elsewhere = np.mean(decoded, axis=0)
        self.row(
            "dolly on known layers, error of the fields at edges of things and elsewhere, as shares of the motion",
            f"{at_edges:.2f}, {elsewhere:.2f} (exact fields: {least:.2f}, {least_elsewhere:.2f})",
        )

    def unknown(self) -> None:
        """Sentences that ask for nothing, or in no known words: gentle, whole, and not frozen."""
        sizes = []
        texts = ("a cat on a chair", "xqzw vrrt plmm", "鲲鹏展翅", "the quarterly report is late", "我爱北京")
        for index, text in enumerate(texts):
            clip = self.maker.clip(self.photos[index % len(self.photos)], text, index, self.settings)
            moved = np.linalg.norm(measures.flow(clip[0], clip[-1]), axis=-1).mean() / self.side
            sizes.append(moved * 100)
            self._sheet(f"unknown-{index}", clip)
        self.row(
            "unknown prompts: mean movement, % of the side (least, most)",
            f"{min(sizes):.2f}, {max(sizes):.2f}",
            "gentle",
        )

    # --- helpers --------------------------------------------------------------------------------------------

    def _ask(self, motion: str, index: int, strength: str = "normal") -> str:
        language = "en" if index % 2 == 0 else "zh"
        rng = random.Random(1000 + index)
        held_out = strength == "normal"
        while True:
            text, said = phrase(motion, strength, language, rng, held_out=held_out)
            if said == strength:
                return text

    def _sheet(self, name: str, clip: np.ndarray) -> None:
        if self.sheets is not None:
            self.sheets.mkdir(parents=True, exist_ok=True)
            frames = [clip[i] for i in np.linspace(0, len(clip) - 1, 5).round().astype(int)]
            Image.fromarray(np.hstack(frames)).save(self.sheets / f"{name}.png")


def held_out_photos(data: Path, count: int, side: int) -> list[Image.Image]:
    """Middle squares, at `side` pixels, of the `count` held-out photographs with detail over most of their area:
    optical flow reads nothing off a white wall."""
    pictures = []
    for path in sorted((data / "held_out").glob("photo-*.png")):
        picture = Image.open(path).convert("RGB")
        edge = min(picture.size)
        left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
        box = (left, top, left + edge, top + edge)
        pictures.append(picture.resize((side, side), Image.Resampling.LANCZOS, box=box))
    detailed = sorted(range(len(pictures)), key=lambda index: -detail(pictures[index]))[:count]
    return [pictures[index] for index in sorted(detailed)]


def detail(picture: Image.Image) -> float:
    """The share of 16 x 16 blocks in which brightness varies by more than 4 of 255."""
    grey = np.asarray(picture.convert("L"), dtype=np.float32)
    blocks = grey.reshape(grey.shape[0] // 16, 16, -1, 16).transpose(0, 2, 1, 3)
    return float((blocks.std((2, 3)) > 4).mean())


def flat_view() -> View:
    """A scene without depth at the resolution of the fields, for exact camera motions over any photograph."""
    x, y = positions(FLAT_CELLS, FLAT_CELLS, 1.0).numpy()
    none = np.zeros((FLAT_CELLS, FLAT_CELLS), np.float32)
    return View(x, y, none + 0.5, dict.fromkeys(("sky", "plants", "water"), none), [], none)


def camera_field(take: Take) -> np.ndarray:
    """Where the camera has taken each place of the first frame by the last one, (2, H', W') in short sides."""
    scene = take.refined.scene
    height, width = scene.near.shape[-2:]
    pose = take.refined.pose(take.settings.moment(take.settings.frames - 1))
    return pose.displacement(positions(height, width, width / height), scene.near - scene.middle).numpy()


def scene_with(library: Library, region: str, want: str, seed: int, side: int) -> tuple[Scene, np.ndarray]:
    """A held-out scene of known layers, never of a photograph whose regions a rule guessed, that has enough of `region`
    and of the rest, and that region's mask (at scene resolution)."""
    for attempt in range(60):
        rng = np.random.default_rng(10_000 + 97 * seed + attempt)
        if want in ("petals", "breathing"):
            scene = close_up(library, side, side, rng, region)
        else:
            scene = landscape(library, side, side, rng, "water" if want == "water" else None)
            if want == "sway":  # held-out meadows are few and blurred; trees and flowers are not
                for _ in range(2):
                    paste(scene, library, str(rng.choice(["tree", "flower"])), rng, size=rng.uniform(0.5, 0.9))
        scene.picture = jitter(scene.picture, rng)
        if region in scene.regions:
            mask = scene.regions[region].copy()
        else:
            masks = [t.mask for t in scene.things if t.kind == region]
            mask = np.clip(sum(masks, np.zeros_like(scene.near)), 0, 1)
        if want == "sway":
            for thing in scene.things:
                if thing.kind in ("tree", "flower"):
                    mask = np.maximum(mask, thing.mask)
        if 0.08 < (mask > 0.6).mean() < 0.75:
            return scene, mask
    raise ValueError(f"the held-out pictures make no scene with {region}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--scenes", type=int, default=10, help="layered scenes to a living motion")
    parser.add_argument("--few", type=int, default=4, help="photographs for strength, guidance and light")
    parser.add_argument("--side", type=int, default=256, help="pixels; the fields are the same at any size")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--readings", type=Path, required=True, help="file of camera readings; a run goes on from it")
    parser.add_argument("--backwards", action="store_true", help="camera from the end, beside another process")
    parser.add_argument("--only", default=",".join(PARTS))
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    began = time.monotonic()
    print("| what | result | wanted |\n|---|---|---|")
    evaluation = Evaluation(args)
    for part in args.only.split(","):
        getattr(evaluation, part)()
    print(f"\n{len(evaluation.rows)} rows in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
