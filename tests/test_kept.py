"""What the browser keeps of a form that was not sent: anything can be read, and an upload goes to its owner only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2v.families import SPECS
from i2v.ui.create.finish_fields import SWITCHES
from i2v.ui.create.form import FIELDS, NUMERIC, SEVERAL
from i2v.ui.create.kept import KeptForm, Tickets
from i2v.ui.create.numbers import MOST_KEPT, Chosen, KeptNumbers, numbers_for
from i2v.ui.gate.secret import browser_secret, upload_secret

ANYTHING = st.recursive(
    st.none() | st.integers() | st.text() | st.floats(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)
TICKETS = Tickets("a key")
SPEC, USUAL = SPECS["nano"], (512, 512)
DEFAULTS = [512, 512, 16, 8, 25, 7.5]


@pytest.fixture
def upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    path = tmp_path / "uploads" / "abc" / "a:b 照片.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path.resolve()


def test_an_upload_is_its_owners_and_nobody_elses(upload: Path) -> None:
    ticket = TICKETS.give("ann", upload)
    assert TICKETS.picture(ticket, "ann") == upload
    assert TICKETS.picture(ticket, "bob") is None
    seal = ticket.partition(":")[0]
    empty = TICKETS.give("ann", None).partition(":")[0]
    outside = upload.parents[2] / "secret"
    outside.write_text("x")
    for forged in ("abc/a:b 照片.jpg", f"{seal}:../secret", f"{empty}:abc/a:b 照片.jpg", f"{seal}é:x", "", None, 7):
        assert TICKETS.picture(forged, "ann") is None
    assert Tickets("another key").picture(ticket, "ann") is None
    upload.unlink()  # as uploads go after a day
    assert (TICKETS.picture(ticket, "ann"), TICKETS.is_of(ticket, "ann")) == (None, True)


def test_the_key_of_the_seal_is_not_the_one_that_pages_know(tmp_path: Path) -> None:
    assert upload_secret(tmp_path) == upload_secret(tmp_path) != browser_secret(tmp_path)
    assert (tmp_path / "upload_secret").stat().st_mode & 0o077 == 0


@given(ANYTHING)
def test_whatever_was_kept_of_a_form_is_read(kept: Any) -> None:
    ticket = TICKETS.give("ann", None)
    assert KeptForm.of(kept, "ann", TICKETS) is None
    form = KeptForm.of({"ticket": ticket, "values": dict.fromkeys(FIELDS, kept) | {"more": 1}}, "ann", TICKETS)
    assert form is not None
    for name, value in form.values.items():
        if name in SEVERAL:
            assert isinstance(value, list)
            assert all(isinstance(one, str) for one in value)
        elif name in SWITCHES:
            assert isinstance(value, bool)
        else:
            assert value is None or isinstance(value, (int, float) if name in NUMERIC else str)
    assert KeptForm.of({"ticket": ticket, "values": {}}, "bob", TICKETS) is None


@given(ANYTHING)
def test_whatever_was_kept_of_the_numbers_is_read(kept: Any) -> None:
    for given_ in (kept, {"at": kept, "by": kept}, {"by": {"nano auto": kept}}):
        read = KeptNumbers.of(given_)
        assert KeptNumbers.of(json.loads(json.dumps(read.kept()))) == read


def test_numbers_come_back_with_their_model_in_the_shape_of_the_picture() -> None:
    kept = KeptNumbers(at="a auto")
    wide = Chosen("picture", "standard", (680, 384, 20, 8, 9, 3.0))
    kept = kept.moved("b auto", wide)
    # What nobody has chosen: the model's own numbers, in the shape that is chosen in words.
    assert numbers_for(kept, "b auto", wide, DEFAULTS, SPEC, USUAL, (100, 100)) == DEFAULTS
    tall = Chosen("9:16", "draft", (1, 1, 1, 1, 1, 1.0))
    width, height, *rest = numbers_for(kept, "c auto", tall, DEFAULTS, SPEC, USUAL, None)
    assert (height > 1.5 * width, rest) == (True, DEFAULTS[2:])
    # Back again: steps and all as they were; the picture is a tall one by now.
    width, height, *rest = numbers_for(kept, "a auto", tall, DEFAULTS, SPEC, USUAL, (90, 160))
    assert (height > 1.5 * width, rest) == (True, [20, 8, 9, 3.0])
    own = kept.moved("a auto", Chosen("own", "own", (64, 72, 4, 4, 4, 1.0)))
    assert numbers_for(own, "b auto", wide, DEFAULTS, SPEC, USUAL, None) == [64, 72, 4, 4, 4, 1.0]
    # Chosen twice in a row, or not known what stood there: nothing is taken for another's.
    assert kept.moved("b auto", tall).by_key == kept.by_key
    assert KeptNumbers().moved("b auto", tall).by_key == {}


def test_only_so_many_models_are_kept() -> None:
    kept = KeptNumbers(at="first")
    for number in range(MOST_KEPT + 2):
        kept = kept.moved(f"{number}", Chosen("own", "own", (1, 1, 1, 1, 1, 1)))
    assert len(kept.by_key) == MOST_KEPT
    assert "first" not in kept.by_key
