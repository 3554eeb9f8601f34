"""Where nano sees what a sentence asks for, before a run: what the page shows over the photograph."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from i2v.families.nano.telling import Teller, load
from i2v.jobs.process.dry_child import Superseded
from i2v.messages import UserError
from i2v.models.entry import ASSETS
from i2v.ui.create.cut import thumbnail_of
from i2v.ui.create.form import FIELDS
from i2v.ui.create.sentence import proposed
from i2v.video.region import read
from tests.planning.support import job

EXAMPLES = ASSETS / "examples"


@pytest.fixture(scope="module")
def teller() -> Teller:
    return load(ASSETS / "nano")


def found(teller: Teller, name: str, sentence: str) -> str | None:
    with Image.open(EXAMPLES / name) as photograph:
        return teller.finds(replace(job(), prompt=sentence), photograph.convert("RGB"))


def test_the_clouds_are_seen_above_the_ridge(teller: Teller):
    region = np.asarray(read(found(teller, "mountains.jpg", "clouds drift"))) / 255
    height = region.shape[0]
    assert region[: height // 8].mean() > 0.9
    assert region[-height // 3 :].mean() < 0.05


@pytest.mark.parametrize("sentence", ["zoom in", "it gets dark", "the water flows"])
def test_nothing_is_shown_where_nothing_lives_at_a_place_or_none_is_seen(teller: Teller, sentence: str):
    """The mountains have no water."""
    assert found(teller, "mountains.jpg", sentence) is None


class Finds:
    """A service that finds this, and keeps what it was asked."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def finds(self, values: dict[str, object], photograph: bytes, page: str | None) -> object:
        self.asked = values, photograph, page
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_page_shows_what_is_found_and_nothing_where_it_can_not_know():
    raw = ["the water flows", *[""] * (len(FIELDS) - 1)]
    small = thumbnail_of(Image.new("RGB", (64, 48), "navy"))
    service = Finds("region")
    assert proposed(service, "page", small, *raw) == "region"
    assert service.asked[1].startswith(b"\xff\xd8")  # a JPEG
    assert service.asked[2] == "page"
    assert proposed(service, "page", "", *raw) == ""
    assert proposed(Finds(None), "page", small, *raw) == ""
    assert proposed(Finds(UserError("family.task", model="", task="", tasks="")), "page", small, *raw) == ""
    assert proposed(Finds(Superseded()), "page", small, *raw) == gr.skip()
