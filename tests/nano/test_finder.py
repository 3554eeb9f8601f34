"""What the finder sees in photographs, and how sure it is of it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn

from i2v.families.nano.finder import FEATURES, PLACES, SHOWN, Convolution, Finder, Head, places, working_size
from i2v.families.nano.life import PLACED
from i2v.families.nano.place import Wish, place_of, sureness
from i2v.families.pixels import to_tensor
from i2v.ui.create.examples import PICTURES
from tools.train_nano import finding
from tools.train_nano.finding import Cells, folded, train_head
from tools.train_nano.quality import NANO


@pytest.fixture(scope="module")
def finder():
    return Finder.load(NANO / "finder", torch.float32).eval()


def found_in(finder, name):
    """Where each of PLACED can be in an example, (5, h, w)."""
    with Image.open(PICTURES / f"{name}.jpg") as picture:
        height, width = working_size(picture.height, picture.width)
        pixels = to_tensor(picture.convert("RGB").resize((width, height)))
    with torch.no_grad():
        return places(finder(pixels))[0]


def test_the_sky_above_mountains_is_found_and_the_meadow_is_not_sky(finder):
    sky = found_in(finder, "mountains")[PLACED.index("clouds")]
    rows = len(sky)
    assert sky[: rows // 5].mean() > 0.9
    assert sky[rows // 2 :].mean() < 0.02
    assert sureness(sky[None, None]) == 1


def test_water_is_looked_for_in_vain_where_there_is_none(finder):
    water = found_in(finder, "mountains")[PLACED.index("water")]
    assert sureness(water[None, None]) == 0


def test_the_grass_of_a_meadow_can_sway(finder):
    sways = found_in(finder, "dandelion")[PLACED.index("sway")]
    assert sways[len(sways) // 2 :, len(sways) * 2 // 3 :].mean() > 0.8


def test_every_living_motion_with_a_place_is_looked_for():
    assert tuple(PLACES) == PLACED
    assert {name for names in PLACES.values() for name in names} == set(SHOWN)


def test_one_is_sure_of_what_is_told_from_the_rest_and_large_enough():
    half, dot = torch.zeros(1, 1, 40, 40), torch.zeros(1, 1, 40, 40)
    half[..., :20], dot[..., 7, 7] = 1, 1
    assert sureness(half) == 1
    assert sureness(0.4 * torch.ones_like(half)) == 0
    assert sureness(torch.zeros_like(half)) == 0
    assert sureness(dot) == 0


def test_what_a_person_painted_counts_and_what_was_found_does_not():
    wish = Wish(torch.eye(9)[0], torch.tensor(0.0), torch.tensor(0.0))
    found, painted = torch.ones(1, 5, 8, 8), torch.ones(1, 2, 8, 8)
    assert place_of(wish, painted, 0 * found).known == 1
    assert place_of(wish, 0 * painted, found).known == 1
    assert place_of(wish, 0 * painted, 0 * found).known == 0
    night = Wish(torch.eye(9)[6], torch.tensor(0.0), torch.tensor(0.0))
    assert place_of(night, 0 * painted, found).known == 0


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_a_convolution_halves_even_sides_and_keeps_them_without_a_stride(kernel, stride):
    assert Convolution(1, 1, kernel, stride)(torch.zeros(1, 1, 32, 64)).shape == (1, 1, 32 // stride, 64 // stride)


def test_a_head_learns_what_its_cells_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "STEPS", 60)
    monkeypatch.setattr(finding, "BATCH", 64)
    torch.manual_seed(0)
    kinds, classes = torch.arange(300) % (len(SHOWN) + 1), len(SHOWN) + 1
    features = 0.3 * torch.randn(300, FEATURES)
    features[:, :classes] += 3 * torch.nn.functional.one_hot(kinds, classes)
    head = Head()
    train_head(head, Cells(features, torch.nn.functional.one_hot(kinds, classes).float()), seed=0)
    assert (head(features).argmax(1) == kinds).float().mean() > 0.95


def test_a_normalisation_folded_in_changes_nothing():
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5, eps=1e-3).eval()
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    given = {f"c.{k}": v for k, v in convolution.state_dict().items()} | {
        f"n.{k}": v for k, v in norm.state_dict().items()
    }
    one = nn.Conv2d(3, 5, 3)
    one.load_state_dict({key[2:]: value for key, value in folded(given, "c", "n", "o").items()})
    picture = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(one(picture), norm(convolution(picture)))
