"""Measure a nano folder on the held-out photographs with regions drawn by hand, and print the tables of the model card.

    python -m tools.train_nano.evaluate --data DATA --model i2v/assets/nano --rows rows.jsonl [--sheets FOLDER]

A row is written as soon as a clip is measured; run again with the same file, it goes on where it was cut off.
`--every` asks every motion of every photograph and takes hours; without it each gets its turn (see `questions`).
`--table` prints what there is and makes nothing. The second table, of layered scenes: `python -m
tools.train_nano.scene_table`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from tools.train_nano import labels, photo_table, questions, sheets
from tools.train_nano.before import Before
from tools.train_nano.clips import Maker, Settings
from tools.train_nano.photo_rows import Made, Photo, Row, Studio
from tools.train_nano.prepare import small_enough

LONG_SIDE = 384  # pixels of a clip
MULTIPLE = 8


def main(argv: list[str] | None = None) -> int:
    asked = _arguments(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if not asked.table:
        _measure(asked)
    rows = read(asked.rows)
    print("\n".join(photo_table.lines_of(rows)))
    print(f"\n{len(rows)} clips, {sum(float(row['took']) for row in rows) / 60:.0f} minutes of one processor")
    if asked.sheets is not None:
        for seed in range(asked.seeds):
            sheets.pages(asked.sheets, f"seed{seed}")
    return 0


def _measure(asked: argparse.Namespace) -> None:
    """Everything that is not in the file yet, until the time is over."""
    known = {_key(row) for row in read(asked.rows)}
    began = time.monotonic()
    photographs = {photo.label.scene: photo for photo in held_out(asked.data, asked.side)}
    settings = Settings(frames=asked.frames, fps=asked.frames // 4, steps=asked.steps)
    todo = [
        question
        for question in questions.questions(
            [photo.label for photo in photographs.values()], asked.seeds, every=asked.every
        )
        if question.part in asked.only.split(",")
        and question.made in asked.made.split(",")
        and question.key not in known
    ]
    needed = any(question.made == questions.BEFORE for question in todo)
    with Before(asked.steps) if needed else nullcontext() as earlier:
        studio = Studio(Maker(asked.model), earlier, settings)
        for question in todo:
            if time.monotonic() - began > 60 * asked.minutes:
                break
            photo = photographs[question.scene]
            result = studio.row(question, photo)
            if result is None:
                continue
            row, made = result
            with asked.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False, default=float) + "\n")
            print(_told(row), flush=True)
            if asked.sheets is not None and question.made in (questions.BRUSHED, questions.FOUND):
                _sheet(asked.sheets, question, photo, made)


def held_out(data: Path, side: int = LONG_SIDE) -> list[Photo]:
    """Every held-out photograph that `prepare` found, `side` pixels long. One of each scene."""
    places = json.loads((data / "labelled.json").read_text(encoding="utf-8"))
    photographs: dict[str, Photo] = {}
    for label in labels.load():
        if label.held_out and label.sha256 in places and label.scene not in photographs:
            picture = small_enough(data / places[label.sha256]).convert("RGB")
            scale = side / max(picture.size)
            width, height = (round(side * scale / MULTIPLE) * MULTIPLE for side in picture.size)
            small = picture.resize((width, height), Image.Resampling.LANCZOS)
            photographs[label.scene] = Photo(label, np.asarray(small))
    return list(photographs.values())


def read(path: Path) -> list[Row]:
    """The rows written so far."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _key(row: Row) -> tuple:
    return row["scene"], row["motion"], row["made"], row["seed"]


def _told(row: Row) -> str:
    what = " ".join(str(row[name]) for name in ("scene", "motion", "made", "seed"))
    numbers = {
        name: value for name, value in row.items() if isinstance(value, float) and not name.startswith("camera_")
    }
    return f"{what}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def _sheet(folder: Path, question: questions.Question, photo: Photo, made: Made) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = photo.region(question.motion) if question.part == "living" else None
    label = f"{question.scene}, {question.motion}, {question.made}: {question.prompt}"
    strip = sheets.strip(made.frames, drawn, made.alive, label)
    name = f"seed{question.seed}-{question.part}-{question.scene}-{question.motion}-{question.made}.png"
    Image.fromarray(strip).save(folder / name)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add: Callable = parser.add_argument
    add("--data", type=Path, required=True, help="the folder that prepare filled")
    add("--model", type=Path, required=True)
    add("--rows", type=Path, required=True, help="file of the rows; a run goes on from it")
    add("--sheets", type=Path, help="folder for contact sheets")
    add("--seeds", type=int, default=2)
    add("--side", type=int, default=LONG_SIDE, help="the long side of a clip, pixels")
    add("--frames", type=int, default=48, help="of a clip of four seconds")
    add("--steps", type=int, default=25)
    add("--every", action="store_true", help="every motion of every photograph")
    add("--only", default="living,camera,light")
    add("--made", default=",".join(questions.LIVING_MADE), help="how clips are made, of these")
    add("--minutes", type=float, default=float(24 * 60), help="to stop after; what is missing is made another time")
    add("--table", action="store_true", help="only print what the file holds")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
