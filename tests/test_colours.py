"""What a picture says of its colours is what is shown. The numbers are by the specifications' own formulas; that
Chromium shows the same is held by tests/browser/test_colours_in_browser.py."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from i2v.video.colours import coded_space
from i2v.video.picture import load_picture
from i2v.video.simple_profile import simple_space
from i2v.video.stated_colours import StatedColours, of_avif
from tests.picture_files import (
    ADOBE_GAMMA,
    ADOBE_TO_XYZ,
    SRGB_TO_XYZ,
    adobe_rgb_profile,
    avif_nclx,
    bmp_with_profile,
    chrm,
    chunk,
    cicp,
    gama,
    iccp,
    png16,
    png_with,
    tiff16,
)

GREYS = Image.fromarray(np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 3, axis=2))
COLOURS = Image.fromarray(np.array([[[120, 150, 110], [200, 60, 160], [60, 60, 90], [30, 220, 40]]], dtype=np.uint8))
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# From linear light of Display P3, and of BT.2020, to sRGB's (CSS Color 4, and ITU-R BT.2087's inverse).
P3_TO_SRGB = np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]])
BT2020_TO_SRGB = np.array([[1.66049, -0.58764, -0.07285], [-0.12455, 1.13290, -0.00835], [-0.01815, -0.10058, 1.11873]])
S_RGB_CHUNK = chunk(b"sRGB", b"\0")


def encoded(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def srgb_light(picture: Image.Image | np.ndarray) -> np.ndarray:
    value = np.asarray(picture) / 255
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def shown(tmp_path: Path, data: bytes, suffix: str = "png") -> np.ndarray:
    path = tmp_path / f"p.{suffix}"
    path.write_bytes(data)
    return np.asarray(load_picture(path)).astype(int)


def in_adobe_rgb(picture: Image.Image) -> np.ndarray:
    light = (np.asarray(picture) / 255) ** ADOBE_GAMMA
    return encoded(light @ ADOBE_TO_XYZ.T @ np.linalg.inv(SRGB_TO_XYZ).T)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.3])
def test_a_gamma_is_the_curve_to_light(tmp_path: Path, gamma: float) -> None:
    expected = encoded((np.asarray(GREYS) / 255) ** (1 / gamma))
    np.testing.assert_allclose(shown(tmp_path, png_with(GREYS, gama(gamma))), expected, atol=1)


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [gama(0.45455)],  # as sRGB's, where no chromaticities say that it is meant exactly
        [gama(0.44)],
        [gama(0)],
        [chrm(*P3)],  # the curve is not known
        [gama(1), chrm(*[0] * 8)],
        [S_RGB_CHUNK, gama(1), chrm(*P3)],
        [cicp(1, 13), gama(1)],
        [cicp(12, 13, full_range=0)],
        [cicp(2, 2)],
        [cicp(99, 13)],
        [chunk(b"cICP", b"\14")],
        [chunk(b"gAMA", b"")],
        [gama(1)[:-1] + b"x"],  # a wrong check sum
    ],
)
def test_what_says_srgb_or_nothing_that_can_be_used_is_srgb(tmp_path: Path, chunks: list[bytes]) -> None:
    np.testing.assert_allclose(shown(tmp_path, png_with(COLOURS, *chunks)), np.asarray(COLOURS), atol=1)


def test_chromaticities_go_with_the_exact_gamma(tmp_path: Path) -> None:
    light = (np.asarray(COLOURS) / 255) ** 2.2
    for primaries, to_srgb in ((SRGB, np.eye(3)), (P3, P3_TO_SRGB)):
        data = png_with(COLOURS, gama(1 / 2.2), chrm(*primaries))
        np.testing.assert_allclose(shown(tmp_path, data), encoded(light @ to_srgb.T), atol=2)


def test_another_white_is_shown_as_white(tmp_path: Path) -> None:
    white = Image.new("RGB", (1, 1), "white")
    data = png_with(white, gama(0.5), chrm(0.3457, 0.3585, *SRGB[2:]))
    np.testing.assert_allclose(shown(tmp_path, data), 255, atol=1)


@pytest.mark.parametrize("suffix", ["png", "avif"])
@pytest.mark.parametrize(("primaries", "to_srgb"), [(12, P3_TO_SRGB), (9, BT2020_TO_SRGB)])
def test_codes_for_wide_primaries(tmp_path: Path, suffix: str, primaries: int, to_srgb: np.ndarray) -> None:
    large = COLOURS.resize((64, 16), Image.Resampling.NEAREST)
    data = png_with(large, cicp(primaries, 13)) if suffix == "png" else avif_nclx(large, primaries, 13)
    expected = encoded(srgb_light(COLOURS) @ to_srgb.T)
    np.testing.assert_allclose(shown(tmp_path, data, suffix)[8, 8::16], expected[0], atol=4 if suffix == "avif" else 1)


def test_a_videos_curve_is_as_screens_show_it_in_png_and_srgbs_in_avif(tmp_path: Path) -> None:
    expected = encoded((np.asarray(GREYS) / 255) ** 2.4)
    np.testing.assert_allclose(shown(tmp_path, png_with(GREYS, cicp(1, 1))), expected, atol=1)
    np.testing.assert_allclose(shown(tmp_path, avif_nclx(GREYS, 1, 1), "avif"), np.asarray(GREYS), atol=2)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_brought_down(tmp_path: Path, transfer: int) -> None:
    """Light below white is halved; the peak of 1000 nits is the screen's white; greys stay grey and in their order."""
    pixels = shown(tmp_path, png_with(GREYS, cicp(9, transfer)))
    assert np.ptp(pixels, axis=2).max() <= 1
    assert (np.diff(pixels[0, :, 0]) >= 0).all()
    code = np.asarray(GREYS)[0, :, 0] / 255
    if transfer == 16:  # SMPTE ST 2084; white is 203 nits
        root = code ** (32 / 2523)
        nits = 10_000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
    else:  # ITU-R BT.2100, on its display of 1000 nits
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        nits = 1000 * scene**1.2
    below, over = nits <= 203, nits >= 1000
    np.testing.assert_allclose(pixels[0, below, 0], encoded(nits[below] / 203 / 2), atol=1)
    assert (pixels[0, over] >= 254).all()


def test_a_picture_that_tells_its_peak_keeps_more_of_its_light(tmp_path: Path) -> None:
    tags = {peak: chunk(b"cLLI", (peak * 10_000).to_bytes(4) + bytes(4)) for peak in (203, 400, 1000)}
    greys = [shown(tmp_path, png_with(GREYS, cicp(9, 16), tag))[0, 25, 0] for tag in tags.values()]
    assert greys[0] > greys[1] > greys[2] == shown(tmp_path, png_with(GREYS, cicp(9, 16)))[0, 25, 0]


def test_which_of_several_counts(tmp_path: Path) -> None:
    """cICP, then the profile, then sRGB, then gAMA with cHRM; what cannot be used gives way to the next."""
    by_profile, plain = in_adobe_rgb(COLOURS), np.asarray(COLOURS)
    by_code = encoded(srgb_light(COLOURS) @ P3_TO_SRGB.T)
    by_gamma = encoded((plain / 255) @ P3_TO_SRGB.T)
    profile, gamma = iccp(adobe_rgb_profile()), (gama(1), chrm(*P3))
    for chunks, expected in (
        ([cicp(12, 13), profile, S_RGB_CHUNK, *gamma], by_code),
        ([profile, cicp(12, 13)], by_code),
        ([profile, S_RGB_CHUNK, *gamma], by_profile),
        ([cicp(99, 99), profile], by_profile),
        ([iccp(b"nonsense" * 9), *gamma], by_gamma),
        ([chunk(b"iCCP", b"name\0\0" + zlib.compress(b"x")[:-4]), *gamma], by_gamma),
        ([gama(0.45455), gama(1)], plain),
    ):
        np.testing.assert_allclose(shown(tmp_path, png_with(COLOURS, *chunks)), expected, atol=2)


def test_chunks_after_the_pixels_say_nothing(tmp_path: Path) -> None:
    data = png_with(COLOURS)
    np.testing.assert_array_equal(shown(tmp_path, data[:-12] + gama(1) + data[-12:]), np.asarray(COLOURS))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA"])
def test_every_mode_is_converted(tmp_path: Path, mode: str) -> None:
    made = GREYS.convert(mode) if mode != "P" else GREYS.quantize(64)
    expected = encoded(np.asarray(made.convert("RGB")) / 255)
    np.testing.assert_allclose(shown(tmp_path, png_with(made, gama(1))), expected, atol=1)


SHADOWS = np.arange(0, 2000, 7, dtype=np.uint16)[None, :]  # in linear light a level of 255 is thirteen of sRGB's


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_kept_until_the_colours_are_converted(tmp_path: Path, channels: int) -> None:
    values = np.repeat(SHADOWS[..., None], channels, axis=2)
    if channels in (2, 4):
        values[..., -1] = 65535
    data = png16(values)
    for said, light in (
        (gama(1), values[..., :1] / 65535),
        (gama(0.45455), srgb_light(values[..., :1] / 65535 * 255)),
        (iccp(adobe_rgb_profile()), (values[..., :1] / 65535) ** ADOBE_GAMMA),
        (cicp(1, 8), values[..., :1] / 65535),
    ):
        if channels > 2 or said[4:8] != b"iCCP":  # a grey picture's profile is of grey
            np.testing.assert_allclose(shown(tmp_path, data[:33] + said + data[33:])[..., :1], encoded(light), atol=1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_a_tiff_are_rounded_and_not_cut(tmp_path: Path, order: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    for data, suffix in ((tiff16(values, order), "tiff"), (png16(values), "png")):
        np.testing.assert_allclose(shown(tmp_path, data, suffix), values / 257, atol=0.5)


def test_the_transparent_colour_of_sixteen_bits_is_one_value_of_65536(tmp_path: Path) -> None:
    for channels in (1, 3):
        data = png16(np.array([[[2313] * channels, [2314] * channels]], dtype=np.uint16))
        key = chunk(b"tRNS", struct.pack(f">{channels}H", *[2313] * channels))
        np.testing.assert_array_equal(shown(tmp_path, data[:33] + key + data[33:])[0, :, 0], [255, 9])


def test_half_transparent_sixteen_bits_are_mixed_with_white(tmp_path: Path) -> None:
    values = np.array([[[0, 0, 0, 32768], [65535, 0, 0, 0], [25700, 25700, 25700, 65535]]], dtype=np.uint16)
    np.testing.assert_allclose(shown(tmp_path, png16(values))[0, :, 1], [127, 255, 100], atol=1)


def test_a_profile_of_primaries_and_a_curve_is_read_as_the_library_reads_it() -> None:
    """littleCMS's own sRGB, whose curve is parametric, against the standard's formula; and what is none."""
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    space = simple_space(whole, grey=False)
    value = np.linspace(0, 1, 999)
    np.testing.assert_allclose(space.curve(value), srgb_light(255 * value), atol=1e-4)
    at = whole.index(b"para")
    curve, sampled = whole[at : at + 32], b"curv" + struct.pack(">II10H", 0, 8, *range(0, 65536, 9362), 0, 0)
    assert simple_space(whole.replace(curve, sampled), grey=False).curve(0.5) == pytest.approx(0.5, abs=1e-4)
    assert simple_space(whole, grey=True) is None
    assert simple_space(whole.replace(b"rTRC", b"A2B0"), grey=False) is None
    for length in range(0, len(whole), 7):
        cut = simple_space(whole[:length], grey=False)
        assert cut is None or cut.curve(value).shape == value.shape


def test_the_profile_of_a_bmp_and_of_a_grey_picture(tmp_path: Path) -> None:
    profile = adobe_rgb_profile()
    bmp = bmp_with_profile(COLOURS, profile)
    np.testing.assert_allclose(shown(tmp_path, bmp, "bmp"), in_adobe_rgb(COLOURS), atol=2)
    grey = png_with(GREYS.convert("L"), iccp(profile))
    np.testing.assert_allclose(shown(tmp_path, grey), in_adobe_rgb(GREYS), atol=2)


def test_a_picture_in_several_bands_is_converted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tall = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 8, 3), dtype=np.uint8))
    at_once = shown(tmp_path, png_with(tall, cicp(9, 18)))
    monkeypatch.setattr("i2v.video.colours._BAND_PIXELS", 40)
    np.testing.assert_array_equal(shown(tmp_path, png_with(tall, cicp(9, 18))), at_once)


def test_every_code_gives_light_from_black_to_white() -> None:
    for primaries in range(256):
        for transfer in range(256):
            space = coded_space(primaries, transfer)
            assert space is None or space.curve(np.array([0.0, 1.0]))[1] > 0.99 or space.hdr


def test_an_avif_that_is_cut_or_twisted_says_nothing() -> None:
    whole = avif_nclx(COLOURS.resize((64, 16)), 12, 8)
    assert of_avif(whole).under is not None
    for word in (b"meta", b"pitm", b"iprp", b"ipco", b"ipma", b"colr", b"nclx"):
        assert of_avif(whole.replace(word, b"free", 1)) == StatedColours()
    for length in range(whole.index(b"colr") + 12):
        assert of_avif(whole[:length]) == StatedColours()
