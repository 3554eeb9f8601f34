"""The weights that ship: small enough, and moving the example pictures as they are told.

Every number was measured by `python -m tools.train_nano.quality` and is kept in bench/results/nano_quality.json. Here
it is judged, the file is held to the weights and code it came from, and a few numbers are measured again.
"""

import warnings
from collections.abc import Iterator

import pytest

from tools.code_digest import code_digest
from tools.train_nano import measures, quality
from tools.train_nano.export import MAX_FILE_BYTES, MAX_TOTAL_BYTES

# Camera in both languages, the first frame, and where a living motion is, found and brushed: five clips.
SAMPLE = (
    "camera, zoom in, en: size",
    "camera, zoom in, en: size beyond any other motion's",
    "camera, pan left, zh: size",
    "camera, pan left, zh: size beyond any other motion's",
    "first frame: values that are not the picture's",
    "water: movement below the shore as a multiple of that above",
    "water, brushed: movement inside as a multiple of that outside",
    "water, brushed: share of the inside that moves",
)


@pytest.fixture(scope="module")
def kept() -> dict[str, dict]:
    return quality.read()


@pytest.fixture(scope="module")
def clips() -> quality.Clips:
    return quality.Clips()


def bounds() -> Iterator:
    """Every bound of every number. A shortfall that is known is marked, and a test fails where it is none any more."""
    for what, question in quality.QUESTIONS.items():
        for bound in question.bounds:
            marks = [pytest.mark.xfail(reason="a shortfall that is known", strict=True)] if bound.short else []
            yield pytest.param(what, bound, marks=marks, id=f"{what} {bound}")


def test_it_is_small_enough_for_a_repository_and_holds_no_pickles():
    files = [path for path in quality.NANO.rglob("*") if path.is_file()]
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) <= MAX_TOTAL_BYTES
    assert max(sizes) <= MAX_FILE_BYTES
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md", ".txt"}


def test_the_numbers_are_of_these_weights_and_this_code(kept):
    assert kept["digests"] == quality.digests(), f"measured on something else; run {quality.COMMAND}"
    assert list(kept["numbers"]) == list(quality.QUESTIONS)
    if kept["versions"] != quality.versions():
        warnings.warn(f"nano's quality was measured with {kept['versions']}", stacklevel=1)


@pytest.mark.parametrize(("what", "bound"), bounds())
def test_every_number_keeps_its_bound(kept, what, bound):
    assert bound.kept_by(kept["numbers"][what])


@pytest.mark.parametrize("what", SAMPLE)
def test_a_few_numbers_measured_now_are_as_they_are_kept(kept, clips, what):
    number = quality.measured(what, clips)
    assert all(bound.kept_by(number) for bound in quality.QUESTIONS[what].bounds)
    assert number == pytest.approx(kept["numbers"][what], rel=0.05)


def test_every_motion_is_asked_in_both_languages():
    for motion in measures.TAUGHT:
        for language in ("en", "zh"):
            assert any(w.startswith(f"camera, {motion.replace('_', ' ')}, {language}:") for w in quality.QUESTIONS)


def test_a_shortfall_that_is_none_any_more_is_a_fault(monkeypatch):
    bounds = (quality.Bound(">", 0.5, short=True), quality.Bound("<", 2))
    monkeypatch.setattr(quality, "QUESTIONS", {"size": quality.Question("size", lambda clips: 0.0, bounds)})
    assert list(quality.faults({"size": 0.4})) == []
    assert list(quality.faults({"size": 0.6})) == ["size: 0.6, no longer falls short of > 0.5: take the mark away"]
    assert list(quality.faults({"size": 2.5}))[1] == "size: 2.5, must be < 2"


@pytest.mark.parametrize(
    ("what", "number", "fault"),
    [
        ("camera, zoom out, zh: size", 0.19, "must be >= 0.2"),
        ("camera, zoom out, zh: size", -0.9, "must be >= 0.2"),  # the other way
        ("camera, still, en: largest motion", 0.2, "must be < 0.2"),
        ("first frame: values that are not the picture's", 1, "must be == 0"),
        ("unknown, 鲲鹏展翅: mean movement, shares of the side", 0.09, "must be < 0.08"),
        ("unknown, xqzw vrrt plmm: mean movement, shares of the side", 0.001, "must be > 0.002"),
        ("water, brushed: last frame to first as a multiple of neighbours' most", 2.0, "must be <= 1.05"),
        ("light, night falls: the largest step as a multiple of the smallest", 1.6, "must be < 1.5"),
        ("seeds: PSNR between two, dB", 99.0, "must be < 40"),
    ],
)
def test_the_command_says_which_bound_is_broken(kept, what, number, fault):
    assert list(quality.faults(kept["numbers"])) == []
    (told,) = quality.faults(kept["numbers"] | {what: number})
    assert told.startswith(f"{what}: {number:g}, {fault}")


def test_the_command_keeps_what_it_found_and_fails_where_a_bound_is_broken(tmp_path, monkeypatch, capsys):
    numbers = dict.fromkeys(quality.QUESTIONS, 0.5)
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "quality.json")
    monkeypatch.setattr(quality, "measured", lambda what, clips: numbers[what])
    assert quality.main() == 1
    assert "water: movement below the shore as a multiple of that above: 0.5, must be >= 3" in capsys.readouterr().out
    assert quality.read() == {"digests": quality.digests(), "versions": quality.versions(), "numbers": numbers}


CODE = '''
"""A file."""

def half(x: float) -> float:
    """Half of it."""
    return x / 2  # rounds nothing
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('"""A file."""\n', "", True),
        ('    """Half of it."""\n', "", True),
        ("  # rounds nothing", "", True),
        ("x / 2 ", "(x /\n        2)", True),
        ("x / 2", "x // 2", False),
        ("x / 2", "x / 3", False),
        ("x / 2", "x / 2.0", False),
        ("half", "part", False),
        ("x: float", "x: float = 1", False),
        ('"""Half of it."""', "None", False),
    ],
)
def test_only_what_code_does_counts_in_its_digest(tmp_path, before, after, same):
    path = tmp_path / "code.py"
    path.write_text(CODE)
    was = code_digest([path])
    path.write_text(CODE.replace(before, after))
    assert path.read_text() != CODE
    assert (code_digest([path]) == was) is same


def test_a_files_name_counts_and_the_order_of_files_does_not(tmp_path):
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("x = 1")
    two.write_text("x = 2")
    assert code_digest([one, two]) == code_digest([two, one])
    was = code_digest([one])
    assert code_digest([one.rename(tmp_path / "other.py")]) != was
