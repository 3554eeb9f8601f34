"""The shipped table is what dry runs find now: its witnesses are run again here, all of it by
`python -m tools.plan_table --check`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from i2v.families import SPECS
from i2v.messages import LOCALES, catalogue
from i2v.plan import Weights
from i2v.planning.known import PHASES, Found, Known
from i2v.planning.planner import LOSSY_WEIGHTS
from tools.plan_table import (
    COGVIDEOX,
    COGVIDEOX_15,
    FRAMEPACKS,
    HUNYUAN_15,
    LARGE_WANS,
    check,
    differences,
    job,
    jobs,
    question_of,
    run,
)

LARGE = {
    **dict.fromkeys(HUNYUAN_15, (848, 480, 121)),
    **dict.fromkeys(LARGE_WANS, (832, 480, 81)), "wan22_5b": (1280, 704, 121), "ltx2": (768, 512, 121),
    "ltx": (1216, 704, 121), "ltx_13b": (1216, 704, 121),
    **dict.fromkeys(COGVIDEOX, (720, 480, 49)), **dict.fromkeys(COGVIDEOX_15, (1360, 768, 81)),
    "minimax_h3": (864, 480, 124), **dict.fromkeys(FRAMEPACKS, (640, 640, 145)),
}  # fmt: skip
# Family, precision, guidance, width, height, frames, rung of the ladder, weights. Those of 768x512 show a width taken
# for a height; the largest are where the smallest chunks are most, of which a dry run runs three.
WITNESSES: tuple[tuple[str, str, float, int, int, int, int, Weights], ...] = (
    ("nano", "float16", 2.0, 768, 512, 96, 0, "full"),
    ("nano", "float16", 1.0, 768, 512, 96, 1, "full"),
    ("nano", "float32", 2.0, 1024, 1024, 240, 5, "full"),
    ("nano", "float32", 1.0, 768, 512, 96, 1, "full"),
    ("hunyuan_video", "bfloat16", 6.0, 720, 1280, 129, 0, "full"),
    ("hunyuan_video", "bfloat16", 6.0, 1280, 720, 129, 5, "full"),
    ("hunyuan_video_i2v", "bfloat16", 6.0, 720, 1280, 129, 0, "full"),
    ("hunyuan_video_i2v", "bfloat16", 6.0, 1280, 720, 129, 5, "full"),
    ("wan", "bfloat16", 5.0, 720, 1280, 81, 0, "full"),
    ("wan", "bfloat16", 5.0, 832, 480, 81, 4, "full"),
    *(
        (family, "bfloat16", SPECS[family].defaults.guidance_scale, *size, rung, "full")
        for family, size in LARGE.items()
        for rung in (0, 4)
    ),
    ("svd", "float16", 3.0, 1024, 576, 25, 0, "full"),
    ("svd", "float16", 3.0, 576, 1024, 14, 5, "full"),
    ("i2vgen_xl", "float16", 9.0, 768, 512, 16, 0, "full"),
    ("i2vgen_xl", "float16", 9.0, 1024, 1024, 28, 5, LOSSY_WEIGHTS[0]),
)
# What a row can be of, each with code of its own. Sizes, lengths and how large a chunk is only change the tensors.
KINDS = {
    "precision": lambda q: q.precision,
    "weights": lambda q: q.weights,
    "passes of guidance": lambda q: (q.guided, "cfg=batch" in q.knobs),
    "chunks of frames": lambda q: "chunk_frames=0" in q.knobs,
    "chunks of pixels": lambda q: "chunk_pixels=0" in q.knobs,
    "chunks of tokens": lambda q: "chunk_tokens=0" in q.knobs,
    "rows decoded at a time": lambda q: "decode_rows=0" in q.knobs,
    "frames decoded at a time": lambda q: q.knobs == "decode_frames=1",
}


@pytest.fixture(scope="module")
def table() -> Known:
    return Known()


@pytest.mark.parametrize("of", WITNESSES, ids=lambda of: "-".join(map(str, of)))
def test_a_witness_of_the_table_is_what_a_dry_run_finds_now(table, of):
    """To the byte, and in the digits that the table keeps of work."""
    for question, found in run([job(*of, phase) for phase in PHASES]):
        assert not differences(table.get(question), found), "run python -m tools.plan_table"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_row_has_a_witness_in_its_family(table, kind):
    def kinds(questions) -> set[tuple[str, object]]:
        return {(question.family, question.phase, KINDS[kind](question)) for question in questions}

    assert kinds(question_of(job(*of, phase)) for of in WITNESSES for phase in PHASES) == kinds(table)


def test_the_table_has_the_rows_that_are_made(table):
    assert set(table) == set(map(question_of, jobs()))


def test_every_phase_in_the_table_has_a_name_in_every_language(table):
    names = {phase.name for question in table for phase in table.get(question).phases}
    assert {"text", "denoise", "decode"} <= names
    for locale in LOCALES:
        assert {f"planning.phase_{name}" for name in names} <= set(catalogue(locale))


def changed(found: Found, **values) -> Found:
    """With something else in its phase of denoising."""
    phases = tuple(replace(phase, **values) if phase.name == "denoise" else phase for phase in found.phases)
    return replace(found, phases=phases)


def test_what_is_not_as_in_the_table_is_told(table, capsys):
    """A byte more, work in the last digit that is kept; and nothing is told of what rounding hides."""
    question = question_of(job(*WITNESSES[-2], "denoise"))
    kept = table.get(question)
    denoise = next(phase for phase in kept.phases if phase.name == "denoise")

    def works(times: float) -> Found:
        curve = tuple(value * times for value in denoise.each.curve)
        return changed(kept, each=replace(denoise.each, curve=curve))

    assert not differences(kept, kept)
    assert not differences(kept, works(1 + 1e-9))
    assert not differences(kept, works(1 + 4e-5))
    assert differences(kept, works(1.001))
    assert differences(kept, works(0.999))
    assert differences(kept, changed(kept, activations_bytes=denoise.activations_bytes + 1))
    for name in ("copies_bytes", "unused_bytes", "unused_segments_bytes"):
        assert differences(kept, changed(kept, **{name: getattr(denoise, name) + 1}))
    assert differences(kept, changed(kept, components=("vae",)))
    assert differences(kept, changed(kept, each=replace(denoise.each, launches=denoise.each.launches + 1)))
    moved = replace(denoise.once, transfer_bytes=denoise.once.transfer_bytes + 1)
    assert differences(kept, changed(kept, once=moved))
    assert differences(kept, replace(kept, weights={**kept.weights, "unet": kept.weights["unet"] + 1}))
    assert differences(kept, replace(kept, phases=()))
    assert differences(None, kept)
    other = replace(question, width=question.width + 8)
    rest = [(one, table.get(one)) for one in table if one != question]
    assert check([*rest, (question, kept)], table) == 0
    assert check([*rest, (other, kept)], table) == 2
    assert f"{question}\n  made no more" in capsys.readouterr().err


def test_rows_of_the_same_question_are_one():
    """Without guidance there is one pass, however the two would be made."""
    questions = list(map(question_of, jobs()))
    assert len(set(questions)) == len(questions)
    assert not any("cfg=batch" in question.knobs for question in questions if not question.guided)
