"""Every kind of picture file becomes an upright sRGB image, or a message; every shape fits every frame."""

from __future__ import annotations

import contextlib
import io
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from i2v.messages import UserError
from i2v.video import picture
from i2v.video.picture import MAX_BYTES, fit_picture, load_picture
from tests.photos import photograph
from tests.picture_files import (
    ADOBE_GAMMA,
    ADOBE_TO_XYZ,
    SRGB_TO_XYZ,
    adobe_rgb_profile,
    chunk,
    grey_ink_profile,
    png,
    png16,
    png_with,
    tiff,
)

WIDE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    picture = load_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def refusal(path: Path, **options: float) -> str:
    with pytest.raises(UserError) as caught:
        load_picture(path, **options)
    assert caught.value.message.render("en") != caught.value.message.render("zh-CN")
    return caught.value.message.id


# --- what is read ---


def test_a_photograph_comes_as_it_is() -> None:
    with Image.open(photograph()) as reference:
        np.testing.assert_array_equal(pixels(photograph()), np.asarray(reference.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.repeat(np.repeat(WIDE // 64 * 64, 16, axis=0), 16, axis=1)
    turned = upright.transpose(1, 0, 2)
    # As the EXIF standard puts it: which side of the scene the stored first row and first column are.
    stored = {
        1: upright,  # row 0 = top, column 0 = left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: turned,  # left, top
        6: turned[::-1],  # right, top
        7: turned[::-1, ::-1],  # right, bottom
        8: turned[:, ::-1],  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    np.testing.assert_allclose(pixels(path).astype(int), upright, atol=4 if suffix == "jpg" else 0)


def test_orientation_of_16_bit_grey(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 257 * 99]], dtype=np.uint16)).save(tmp_path / "g.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "g.png")[..., 0], [[0], [99]])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    Image.fromarray(WIDE).save(tmp_path / "e.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(pixels(tmp_path / "e.png"), WIDE)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "g.png")
    Image.fromarray(values).save(tmp_path / "g.tiff")
    for name in ("g.png", "g.tiff"):
        np.testing.assert_array_equal(pixels(tmp_path / name)[0, :, 1], [0, 1, 128, 255])


def test_16_bit_rgb_is_scaled_not_clipped(tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(png16(WIDE.astype(np.uint16) * 257))
    np.testing.assert_array_equal(pixels(tmp_path / "c.png"), WIDE)


def test_16_bit_rgb_with_alpha(tmp_path: Path) -> None:
    rgba = np.full((2, 2, 4), 257 * 10, dtype=np.uint16)
    rgba[..., 3] = [[0, 65535], [0, 65535]]
    (tmp_path / "a.png").write_bytes(png16(rgba))
    np.testing.assert_array_equal(pixels(tmp_path / "a.png")[..., 0], [[255, 10], [255, 10]])


def test_floats_count_to_one(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32)).save(tmp_path / "f.tiff")
    np.testing.assert_array_equal(pixels(tmp_path / "f.tiff")[0, :, 0], [0, 128, 255, 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparent_parts_become_white(tmp_path: Path, mode: str) -> None:
    grey = np.full((2, 3), 40, dtype=np.uint8)
    alpha = np.array([[0, 255, 255], [0, 255, 255]], dtype=np.uint8)
    path = tmp_path / "a.png"
    if mode == "P":
        picture = Image.fromarray((alpha == 0).astype(np.uint8)).convert("P")
        picture.putpalette([40, 40, 40, 0, 0, 0])
        picture.save(path, transparency=1)
    else:
        rgba = Image.merge("RGBA", [Image.fromarray(band) for band in (grey, grey, grey, alpha)])
        (rgba if mode == "RGBA" else rgba.convert("LA")).save(path)
    np.testing.assert_array_equal(pixels(path)[..., 0], [[255, 40, 40], [255, 40, 40]])


def test_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (0, 100, 200, 128)).save(tmp_path / "a.png")
    np.testing.assert_allclose(pixels(tmp_path / "a.png")[0, 0].astype(int), [127, 177, 227], atol=1)


def test_a_colour_key_is_transparent(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], dtype=np.uint8)).save(tmp_path / "k.png", transparency=(1, 2, 3))
    np.testing.assert_array_equal(pixels(tmp_path / "k.png"), [[[255, 255, 255], [9, 9, 9]]])


def test_one_bit_and_palette(tmp_path: Path) -> None:
    bits = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    bits.save(tmp_path / "b.png")
    np.testing.assert_array_equal(pixels(tmp_path / "b.png")[0, :, 2], [0, 255])
    palette = Image.fromarray(WIDE).quantize(24)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame(tmp_path: Path, suffix: str) -> None:
    first, *rest = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest, duration=50, lossless=True)
    np.testing.assert_allclose(pixels(tmp_path / f"a.{suffix}")[4, 4].astype(int), [255, 0, 0], atol=2)


def test_cmyk_without_a_profile(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "c.jpg", quality=100)
    np.testing.assert_allclose(pixels(tmp_path / "c.jpg")[8, 8].astype(int), [0, 255, 255], atol=3)


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_goes_through_its_profile(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c.{suffix}"
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path, icc_profile=grey_ink_profile(), quality=100)
    lightness = 100 * 2 / 3  # one of the three inks, by the profile's definition
    linear = ((lightness + 16) / 116) ** 3
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(pixels(path)[8, 8].astype(int), [expected] * 3, atol=3)


def test_a_wide_gamut_becomes_srgb(tmp_path: Path) -> None:
    colours = np.array([[[120, 150, 110], [200, 180, 160], [60, 60, 90], [255, 255, 255]]], dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "w.png", icc_profile=adobe_rgb_profile())
    linear = (colours / 255.0) ** ADOBE_GAMMA @ ADOBE_TO_XYZ.T @ np.linalg.inv(SRGB_TO_XYZ).T
    expected = 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    assert np.abs(expected - colours).max() > 5, "the test needs colours that the conversion changes"
    np.testing.assert_allclose(pixels(tmp_path / "w.png"), expected.clip(0, 255), atol=2)


def test_alpha_and_profile_together(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (200, 180, 160, 255)).save(tmp_path / "b.png", icc_profile=adobe_rgb_profile())
    Image.new("RGB", (2, 2), (200, 180, 160)).save(tmp_path / "a.png", icc_profile=adobe_rgb_profile())
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


@pytest.mark.parametrize("profile", [b"nonsense", grey_ink_profile(), adobe_rgb_profile()[:200]])
def test_a_profile_that_does_not_apply_is_ignored(tmp_path: Path, profile: bytes) -> None:
    Image.fromarray(WIDE).save(tmp_path / "x.png", icc_profile=profile)
    np.testing.assert_array_equal(pixels(tmp_path / "x.png"), WIDE)


# --- what every viewer shows whole ---


def broken_check_sum(one: bytes) -> bytes:
    return one[:-4] + bytes(4)


TEXT = zlib.compress(b'{"nodes": [' + b'{"id": 1, "type": "sampler"},' * 80_000 + b"]}")


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"zTXt", b"workflow\0\0" + TEXT)],
        [chunk(b"iTXt", b"workflow\0\1\0\0\0" + TEXT)],
        [chunk(b"tEXt", b"workflow\0" + b"x" * 2_000_000)],
        [broken_check_sum(chunk(b"tEXt", b"a\0b"))],
        [broken_check_sum(chunk(b"tRNS", bytes(6)))],
        [chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1_500_000)))],
    ],
    ids=["zTXt", "iTXt", "tEXt", "check sum", "check sum of tRNS", "large profile"],
)
def test_a_png_is_read_whatever_its_other_chunks_hold(tmp_path: Path, chunks: list[bytes]) -> None:
    (tmp_path / "p.png").write_bytes(png_with(Image.fromarray(WIDE), *chunks))
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), WIDE)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
def test_a_large_profile_is_used(tmp_path: Path, suffix: str) -> None:
    picture, path = Image.new("RGB", (16, 16), (200, 180, 160)), tmp_path / f"p.{suffix}"
    shown = []
    for profile in (adobe_rgb_profile(), adobe_rgb_profile(private_bytes=1_500_000)):
        data = io.BytesIO()
        options = {"webp": {"lossless": True}, "jpg": {"format": "JPEG"}}.get(suffix, {})
        picture.save(data, **{"format": suffix.upper(), "icc_profile": profile, **options})
        path.write_bytes(data.getvalue())
        shown.append(pixels(path))
    np.testing.assert_array_equal(*shown)
    assert np.abs(shown[0].astype(int) - np.asarray(picture)).max() > 3


@pytest.mark.parametrize("after", [b"", b"junk" * 99])
def test_a_png_without_its_end_mark_or_with_more_after_it(tmp_path: Path, after: bytes) -> None:
    data = png_with(Image.fromarray(WIDE))
    (tmp_path / "p.png").write_bytes(data + after if after else data[:-12])
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), WIDE)


def test_a_png_that_ends_within_its_last_check_sums_is_whole(tmp_path: Path) -> None:
    """From its end: the end mark (12 bytes), the pixels' check sum (4), and that of what is packed (4)."""
    picture = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data, path = png_with(Image.fromarray(picture)), tmp_path / "p.png"
    for missing in range(1, 21):
        path.write_bytes(data[:-missing])
        np.testing.assert_array_equal(pixels(path), picture)
    for missing in (60, 200, len(data) - 60, len(data) - 40):  # within the pixels, which viewers fill with nothing
        path.write_bytes(data[:-missing])
        assert refusal(path) == "picture.broken"


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart marks": {"restart_marker_rows": 1},
    "many restart marks": {"restart_marker_blocks": 3},
}


def jpeg(**options: object) -> bytes:
    written = io.BytesIO()
    with Image.open(photograph()) as photo:
        photo.convert("RGB").resize((120, 80)).save(written, "JPEG", quality=90, **options)
    return written.getvalue()


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_without_its_end_mark_is_read_and_a_cut_one_refused(tmp_path: Path, options: dict[str, object]) -> None:
    whole, path = jpeg(**options), tmp_path / "p.jpg"
    path.write_bytes(whole)
    expected = pixels(path)
    for missing in (1, 2):
        path.write_bytes(whole[:-missing])
        np.testing.assert_array_equal(pixels(path), expected)
    marks = [found.start() for found in re.finditer(rb"\xff[^\0]", whole)][2:-1]
    for length in {*marks, *range(700, len(whole) - 3, 97)}:  # before and within every segment, and anywhere
        path.write_bytes(whole[:length])
        assert refusal(path) == "picture.broken"


@pytest.mark.filterwarnings("error")
def test_no_warning_of_a_library_is_heard(tmp_path: Path) -> None:
    Image.fromarray(WIDE).save(tmp_path / "exif.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    Image.fromarray(WIDE).quantize(24).save(tmp_path / "palette.png", transparency=bytes([0, 128] + [255] * 22))
    for name in ("exif", "palette"):
        assert load_picture(tmp_path / f"{name}.png").mode == "RGB"


# --- what is refused, and how ---


RAW_FILES = {
    "dng": tiff({254: 1, 256: 256, 262: 2, 50706: 0x401}, {254: 0, 256: 4000, 262: 32803}),
    "big-endian": tiff({254: 1, 262: 2}, {254: 0, 262: 34892}, order=">"),
    "nef": tiff({254: 1, 262: 2}, {254: 0, 262: 6}),
    "sensor only": tiff({254: 0, 262: 32803}),
    "cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(200),
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(200),
    "raf": b"FUJIFILMCCD-RAW 0201" + bytes(200),
    "orf": b"IIRO\x08\0\0\0" + bytes(200),
    "rw2": b"IIU\0\x18\0\0\0" + bytes(200),
}


@pytest.mark.parametrize("data", RAW_FILES.values(), ids=RAW_FILES)
def test_a_cameras_raw_file_is_told_as_one(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "photo.tif").write_bytes(data)
    assert refusal(tmp_path / "photo.tif") == "picture.raw"


def test_tiffs_of_several_pages_are_no_raw_files(tmp_path: Path) -> None:
    pages = [Image.fromarray(WIDE), Image.new("RGB", (3, 3))]
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(pixels(tmp_path / "pages.tiff"), WIDE)
    Image.fromarray(WIDE).save(tmp_path / "said_reduced.tiff", tiffinfo={254: 1})  # and is all that there is
    np.testing.assert_array_equal(pixels(tmp_path / "said_reduced.tiff"), WIDE)
    (tmp_path / "cut.tiff").write_bytes(RAW_FILES["dng"][:30])
    assert refusal(tmp_path / "cut.tiff") == "picture.broken"


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("not a picture " * 99)
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    with (tmp_path / "film.jpg").open("wb") as film:  # its bytes take no room on the disk
        film.write(b"\xff\xd8\xff")
        film.truncate(MAX_BYTES + 1)
    assert refusal(tmp_path / "empty.jpg") == "picture.empty"
    assert refusal(tmp_path / "film.jpg") == "picture.too_heavy"
    assert refusal(tmp_path / "text.png") == "picture.unknown"
    assert refusal(tmp_path / "page.eps") == "picture.unknown"  # Pillow would start another program for it
    assert refusal(tmp_path / "phone.jpg") == "picture.heic"
    assert refusal(tmp_path / "nowhere.jpg") == "picture.missing"
    assert refusal(tmp_path) == "picture.folder"
    assert refusal(tmp_path / ("x" * 5000)) == "picture.unreadable"
    assert refusal(tmp_path / "a\0b") == "picture.missing"


def test_a_file_we_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.png").write_bytes(b"x")

    def denied(*_args: object, **_options: object) -> None:  # tests may run as root, whom nothing is denied
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", denied)
    assert refusal(tmp_path / "p.png") == "picture.unreadable"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_photograph(tmp_path: Path, share: float) -> None:
    data = photograph().read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: int(len(data) * share)])
    assert refusal(tmp_path / "cut.jpg") == "picture.broken"


@pytest.mark.parametrize("suffix", ["avif", "png", "tiff", "webp", "gif"])
def test_truncated_pictures_of_other_kinds(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    with Image.open(photograph()) as photo:
        photo.save(path)
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert refusal(path) == "picture.broken"


def test_a_decoder_may_raise_anything(tmp_path: Path, files: dict[str, bytes]) -> None:
    """AVIF's, for one, raises RuntimeError when its data box is gone."""
    (tmp_path / "p.avif").write_bytes(files[".avif"].partition(b"mdat")[0] + b"mdat")
    assert refusal(tmp_path / "p.avif") == "picture.broken"


@pytest.mark.parametrize(("side", "limit"), [(60_000, 200), (15_000, 200), (60_000, 3599)])
def test_a_bomb_is_refused_by_its_header_with_its_true_size(tmp_path: Path, side: int, limit: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png(side, side, bits=8, colour_type=2, rows=None))
    with pytest.raises(UserError) as caught:
        load_picture(tmp_path / "bomb.png", max_megapixels=limit)
    assert caught.value.message.id == "picture.too_large"
    assert caught.value.message.params == {"file": "bomb.png", "megapixels": side * side // 10**6, "limit": limit}


def test_the_setting_alone_says_how_large_a_picture_may_be(tmp_path: Path) -> None:
    """Beyond twice Pillow's own limit a header is accepted, and it is the missing pixels that are told of."""
    (tmp_path / "p.png").write_bytes(png(14_000, 13_000, bits=8, colour_type=0, rows=None))
    assert refusal(tmp_path / "p.png", max_megapixels=200) == "picture.broken"


def test_the_limit_can_be_set(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 1001)).save(tmp_path / "p.png")
    assert refusal(tmp_path / "p.png", max_megapixels=1) == "picture.too_large"
    assert load_picture(tmp_path / "p.png", max_megapixels=1.001).size == (1000, 1001)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    picture = Image.fromarray(WIDE).resize((24, 16))
    for suffix in ("png", "jpg", "webp", "gif", "tiff", "bmp", "avif", "jp2", "ppm", "tga"):
        picture.save(folder / f"p.{suffix}")
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@given(data=st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_damage_of_any_kind_is_at_worst_a_message(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(UserError):  # and no other exception
        assert load_picture(path, max_megapixels=4).mode == "RGB"


# --- the first frame ---


@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)) | st.sampled_from([(1, 1000), (1000, 1), (1, 1), (3, 2)]),
    frame=st.tuples(st.integers(8, 48), st.integers(8, 48)),
    fit=st.sampled_from(["crop", "pad"]),
)
@settings(max_examples=150, deadline=None)
def test_every_shape_gives_the_exact_size_and_its_own_colour(
    size: tuple[int, int], frame: tuple[int, int], fit: str
) -> None:
    width, height = frame[0] * 8, frame[1] * 8
    fitted = fit_picture(Image.new("RGB", size, (180, 90, 30)), width, height, fit)
    assert (fitted.mode, fitted.size) == ("RGB", (width, height))
    np.testing.assert_allclose(
        np.asarray(fitted).reshape(-1, 3).astype(int), [[180, 90, 30]] * (width * height), atol=1
    )


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(900, 600), (600, 900), (640, 640), (1200, 400)])
@pytest.mark.parametrize("frame", [(512, 512), (768, 320), (320, 768)])
def test_a_disc_stays_round_and_in_the_middle(fit: str, size: tuple[int, int], frame: tuple[int, int]) -> None:
    picture = Image.new("RGB", size)
    centre_x, centre_y = size[0] / 2, size[1] / 2
    ImageDraw.Draw(picture).ellipse((centre_x - 60, centre_y - 60, centre_x + 60, centre_y + 60), fill="white")
    bright = np.asarray(fit_picture(picture, *frame, fit))[..., 0] > 127
    columns, rows = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
    assert abs(np.ptp(columns) - np.ptp(rows)) <= 2
    assert abs(columns.mean() - frame[0] / 2) <= 1.5
    assert abs(rows.mean() - frame[1] / 2) <= 1.5
    scale = (max if fit == "crop" else min)(frame[0] / size[0], frame[1] / size[1])
    assert abs(np.ptp(columns) - 120 * scale) <= 3


def test_crop_keeps_the_middle() -> None:
    picture = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2))
    cropped = np.asarray(fit_picture(picture, 64, 64, "crop"))[32, :, 0].astype(int)
    np.testing.assert_allclose(cropped, np.arange(96, 160), atol=1)


def test_pad_keeps_the_whole_picture_and_goes_on_without_a_seam() -> None:
    photo = load_picture(photograph("tower.jpg"))
    padded = fit_picture(photo, 768, 512, "pad")
    width = round(photo.width * 512 / photo.height)
    left = (768 - width) // 2
    whole = photo.resize((width, 512), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(np.asarray(padded)[:, left : left + width], np.asarray(whole))
    outside = np.asarray(padded).astype(float)
    seam = np.abs(outside[:, left - 1].mean(axis=0) - outside[:, left].mean(axis=0)).max()
    assert seam < 12
    assert np.abs(np.diff(outside[:, : left - 1], axis=1)).max() < 6  # soft, no bars and no shapes


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="stretch"):
        fit_picture(Image.new("RGB", (4, 4)), 64, 64, "stretch")


def test_the_example_pictures_are_ready_to_use() -> None:
    examples = sorted((Path(picture.__file__).parents[1] / "assets" / "examples").glob("*.jpg"))
    assert len(examples) >= 2
    for path in examples:
        assert load_picture(path).size == (768, 768)
        assert path.stat().st_size <= 200_000
