"""The drawn regions can be read, say what they mean, and keep what is evaluated on away from training."""

import hashlib

import numpy as np
import pytest
import yaml
from PIL import Image

from tools.train_nano import labels, overlays, prepare

DIGEST = "0" * 64


def entry(**changes):
    fields = {
        "file": "a.jpg", "sha256": f'"{DIGEST}"', "scene": "a", "split": "training",
        "region": 'kind: water, flow: 90, polygon: "0,.5 1,.5 1,1 0,1"', "line": '".1,.2 .9,.2"',
    } | changes  # fmt: skip
    return (
        "package: p\nlicence: GPL-2+\nphotographs:\n"
        "- file: {file}\n  sha256: {sha256}\n  scene: {scene}\n  split: {split}\n"
        "  regions:\n  - {{{region}}}\n  lines:\n  - {line}\n"
    ).format(**fields)


def read(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    return labels.load(tmp_path)


def photograph(*regions):
    return labels.Photograph("p", "GPL-2+", "a.jpg", DIGEST, "a", "training", regions, ())


def box(kind, left, top, right, bottom, snap=0.0):
    return labels.Region(kind, ((left, top), (right, top), (right, bottom), (left, bottom)), None, snap)


def test_an_entry_says_what_was_written(tmp_path):
    (read_back,) = read(tmp_path, entry())
    assert read_back.regions == (labels.Region("water", ((0, 0.5), (1, 0.5), (1, 1), (0, 1)), 90.0, labels.SNAP),)
    assert read_back.lines == (((0.1, 0.2), (0.9, 0.2)),)
    assert (read_back.licence, read_back.held_out, read_back.kinds) == ("GPL-2+", False, {"water"})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"region": 'kind: lava, polygon: "0,0 1,0 1,1"'}, "kind"),
        ({"region": 'kind: sky, polygon: "0,0 1,0"'}, "three corners"),
        ({"region": 'kind: sky, polygon: "0,0 1,0 1,1.2"'}, "from 0 to 1"),
        ({"region": 'kind: water, flow: 400, polygon: "0,0 1,0 1,1"'}, "flow"),
        ({"sha256": '"abc"'}, "sha256"),
        ({"split": "test"}, "split"),
        ({"line": '".5,.5 .5,.5"'}, "line"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=rf"p.yaml: a.jpg: .*{complaint}"):
        read(tmp_path, entry(**changes))


def test_a_roughly_drawn_edge_is_moved_to_the_true_one():
    picture = np.full((120, 160, 3), (90, 140, 220), np.uint8)
    picture[60:] = (60, 90, 40)
    picture += np.random.default_rng(0).integers(0, 12, picture.shape, np.uint8)
    rough = photograph(box("sky", 0, 0, 1, 0.56, snap=0.12))
    made = labels.mask(rough, {"sky"}, picture)
    assert made[:58].min() > 0.9
    assert made[62:].max() < 0.1
    as_drawn = labels.mask(photograph(box("sky", 0, 0, 1, 0.56)), {"sky"}, picture)
    assert as_drawn[63].min() > 0.9


def test_what_lies_before_a_region_is_taken_out_of_it_and_edges_are_soft():
    picture = np.zeros((100, 100, 3), np.uint8)
    both = photograph(box("water", 0, 0, 1, 1), box("rigid", 0.4, 0.4, 0.6, 0.6))
    water, rock = (labels.mask(both, {kind}, picture) for kind in ("water", "rigid"))
    assert np.allclose(water + rock, 1, atol=1e-5)
    assert rock[50, 50] > 0.99
    assert water[20, 20] > 0.99
    assert 0.05 < rock[50, 39:41].mean() < 0.95
    assert labels.mask(both, {"water", "rigid"}, picture).min() > 0.99
    assert labels.mask(both, {"sky"}, picture).max() == 0


def test_a_polygon_covers_the_pixels_whose_centres_lie_in_it():
    assert labels.drawn(box("sky", 0.25, 0.0, 0.75, 0.5), 80, 80).sum() == pytest.approx(1600, abs=90)
    assert labels.drawn(box("sky", 0, 0, 1, 1), 9, 7).all()


@pytest.fixture(scope="module")
def everything():
    return labels.load()


def test_every_photograph_of_the_set_is_named_once_with_its_licence(everything):
    assert len({photograph.sha256 for photograph in everything}) == len(everything)
    assert len({(photograph.package, photograph.file) for photograph in everything}) == len(everything)
    for photograph_ in everything:
        assert photograph_.licence, photograph_.file
        assert photograph_.regions, photograph_.file


def test_forty_photographs_are_held_out_and_no_scene_of_them_is_trained_on(everything):
    held_out = [photograph for photograph in everything if photograph.held_out]
    training = [photograph for photograph in everything if not photograph.held_out]
    assert len(held_out) >= 40
    for name in (lambda p: p.sha256, lambda p: (p.package, p.file), lambda p: p.scene):
        assert not set(map(name, held_out)) & set(map(name, training))


def test_what_can_live_is_held_out_in_variety(everything):
    held_out = [photograph for photograph in everything if photograph.held_out]
    for kind, least in {"water": 10, "sky": 15, "clouds": 8, "plants": 8, "tree": 5, "flower": 3, "hair": 3}.items():
        assert sum(kind in photograph.kinds for photograph in held_out) >= least, kind
    assert sum(bool(photograph.lines) for photograph in held_out) >= 12


def test_the_labels_stay_small():
    assert sum(path.stat().st_size for path in labels.FOLDER.iterdir()) < 300_000


def test_every_package_with_drawn_regions_is_fetched(everything):
    sources = yaml.safe_load(prepare.SOURCES.read_text(encoding="utf-8"))
    fetched = {*sources["debian"], *sources["wheels"], *sources["labelled"]}
    assert {photograph_.package for photograph_ in everything} <= fetched


def test_a_photograph_is_found_by_its_digest_and_a_changed_one_is_not_taken(tmp_path, capsys):
    (tmp_path / "p").mkdir()
    for name, content in {"renamed.jpg": b"kept", "b.jpg": b"changed"}.items():
        (tmp_path / "p" / name).write_bytes(content)
    one, two = (
        labels.Photograph("p", "GPL-2+", file, hashlib.sha256(was).hexdigest(), file, "held_out", (), ())
        for file, was in (("a.jpg", b"kept"), ("b.jpg", b"before"))
    )
    assert prepare.labelled([one, two], tmp_path) == [(one, tmp_path / "p" / "renamed.jpg")]
    assert "b.jpg" in capsys.readouterr().out


def test_a_smaller_copy_of_a_held_out_photograph_is_known_again():
    rng = np.random.default_rng(0)
    one, other = (Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((400, 300)) for _ in range(2))
    copy = prepare.fingerprint(one.resize((200, 150)))
    assert prepare.near(copy, [prepare.fingerprint(one)])
    assert not prepare.near(copy, [prepare.fingerprint(other)])


def test_every_kind_has_a_colour_to_be_shown_in_and_only_its_region_is_tinted():
    assert set(overlays.COLOURS) == set(labels.KINDS)
    shown = overlays.overlay(photograph(box("water", 0.0, 0.5, 1.0, 1.0)), np.zeros((100, 100, 3), np.uint8))
    assert tuple(shown[75, 45]) == tuple(round(overlays.STRENGTH * value) for value in overlays.COLOURS["water"])
    assert not shown[25, 45].any()
