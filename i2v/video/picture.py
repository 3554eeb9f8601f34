"""A picture file becomes an upright 8-bit sRGB image, and that image the first frame's exact size.

`load_picture` reads what every viewer shows whole, in the colours that viewers show, refuses a bomb before it decodes a
pixel, and says what is wrong with any file it cannot use.
`fit_picture` crops or pads, never stretches.
"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFilter, UnidentifiedImageError
from PIL.Image import Resampling, Transpose

from i2v.messages import UserError
from i2v.request import FITS, Fit
from i2v.video.camera_raw import is_camera_raw
from i2v.video.colours import converter, to_srgb
from i2v.video.jpeg_end import with_end_mark
from i2v.video.png_chunks import SIGNATURE as PNG
from i2v.video.png_chunks import read_png
from i2v.video.simple_profile import simple_space
from i2v.video.sixteen_bits import Convert, DeepPicture, deep_picture, eight_bits, on_white, other_byte
from i2v.video.stated_colours import SRGB, StatedColours, of_avif, of_bmp

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "TGA")
"""What we open. Pillow knows more, but some of those start other programs or hold no photographs."""

MAX_BYTES = 512 * 2**20
"""Of a file. Some kinds are read whole, and uploads may be as large as videos are."""

# Pillow's limit is a constant of its own. Ours is a setting, and is held by the header alone.
Image.MAX_IMAGE_PIXELS = None

_JPEG = b"\xff\xd8\xff"
_AVIF = re.compile(rb"....ftypavi[fs]", re.DOTALL)
_AVIF_HEAD_BYTES = 2**20  # its boxes come before its pixels
_BMP_HEAD_BYTES = 138
_HEIF = re.compile(rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", re.DOTALL)
_KNOWN = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|GIF8|II\*\0|MM\0\*|BM|....ftypavif|\0\0\0\x0cjP  ", re.DOTALL)
_ORIENTATION_TAG = 0x0112
# Where the cuts fall: all on the far side, on both, or all on the near side.
_KEPT_AT = {"crop_left": (0.0, 0.5), "crop_right": (1.0, 0.5), "crop_top": (0.5, 0.0), "crop_bottom": (0.5, 1.0)}
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def load_picture(path: Path, *, max_megapixels: float = 200) -> Image.Image:
    """The picture as an RGB image in sRGB, upright, of its full size.

    EXIF rotation is applied, colours are converted as the file says that they are meant, and only then are 16-bit
    values scaled to 8; transparent parts are laid on white, and of an animation the first frame is taken. Raises
    UserError for the rest; a picture of more than `max_megapixels` (10**6 pixels) is refused by its header alone.
    """
    path = Path(path)
    _check_file(path)
    with warnings.catch_warnings():
        # Pillow warns of palettes and broken EXIF, which are dealt with here. Where two threads read at once the filter
        # may stay, and then keeps quiet what nobody wants to hear anyway.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        picture, deep, stated = _decode(path, max_megapixels)
        shown = _flatten(picture, stated) if deep is None else on_white(deep, _deep_convert(deep, stated))
        turn = _UPRIGHT.get(_orientation(picture))
        return shown if turn is None else shown.transpose(turn)


def fit_picture(picture: Image.Image, width: int, height: int, fit: Fit) -> Image.Image:
    """`picture` (RGB) at exactly `width` x `height`, its content never stretched.

    "crop" keeps the middle and cuts what hangs over on two opposite sides; "crop_left" and its like keep what lies at
    that edge, and the middle where the cuts fall on the other two sides. "pad" keeps the whole picture in the
    middle and fills the rest with its own mirrored, strongly blurred edges: black bars would become part of the
    video's motion, and a soft continuation does not.
    """
    if fit not in FITS:
        raise ValueError(f"fit must be one of {FITS}, not {fit!r}")
    if fit == "pad":
        return _pad(picture, width, height)
    return picture.resize((width, height), Resampling.LANCZOS, box=kept_box(picture.size, width, height, fit))


def kept_box(size: tuple[int, int], width: int, height: int, fit: Fit) -> tuple[float, float, float, float]:
    """What a crop to `width` x `height` keeps of a picture of `size`: left, top, right, bottom in its pixels."""
    box_width = min(size[0], size[1] * width / height)
    box_height = min(size[1], size[0] * height / width)
    across, down = _KEPT_AT.get(fit, (0.5, 0.5))
    left, top = (size[0] - box_width) * across, (size[1] - box_height) * down
    return left, top, min(left + box_width, size[0]), min(top + box_height, size[1])


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise UserError("picture.folder", file=str(path))
        if not path.exists():
            raise UserError("picture.missing", file=str(path))
        size = path.stat().st_size
        if size == 0:
            raise UserError("picture.empty", file=path.name)
        if size > MAX_BYTES:
            raise UserError("picture.too_heavy", file=path.name, mib=size // 2**20, limit=MAX_BYTES // 2**20)
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, a folder we may not enter
        raise UserError("picture.unreadable", file=path.name) from error


def _decode(path: Path, max_megapixels: float) -> tuple[Image.Image, DeepPicture | None, StatedColours]:
    """The picture's first frame as stored, with all bits where Pillow leaves some out, and what the file says of its
    colours."""
    try:
        with path.open("rb") as file:
            if is_camera_raw(file):
                raise UserError("picture.raw", file=path.name)
            source, stated = _source(file)
            try:
                picture, deep = _loaded(source, path, max_megapixels)
            except OSError:
                file.seek(0)
                data = file.read()
                whole = with_end_mark(data) if data.startswith(_JPEG) else None
                if whole is None:
                    raise
                picture, deep = _loaded(whole, path, max_megapixels)
        profile = stated.profile or picture.info.get("icc_profile")
        return picture, deep or _scaled(picture), StatedColours(stated.over, profile, stated.under)
    except (UserError, MemoryError):
        raise
    except PermissionError as error:
        raise UserError("picture.unreadable", file=path.name) from error
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except Exception as error:  # on damaged data the decoders raise whatever they happen to run into
        raise UserError("picture.broken", file=path.name) from error


def _source(file: BinaryIO) -> tuple[BinaryIO, StatedColours]:
    """What Pillow is to read, and what the file says of its colours."""
    head = file.read(16)
    file.seek(0)
    if head.startswith(PNG):
        return read_png(file)
    stated = StatedColours()
    if _AVIF.match(head):
        stated = of_avif(file.read(_AVIF_HEAD_BYTES))
    elif head.startswith(b"BM"):
        stated = of_bmp(file.read(_BMP_HEAD_BYTES), file)
    file.seek(0)
    return file, stated


def _loaded(source: BinaryIO, path: Path, max_megapixels: float) -> tuple[Image.Image, DeepPicture | None]:
    """Refused by its header where it is too large."""
    with Image.open(source, formats=FORMATS) as picture:
        megapixels = picture.width * picture.height / 1e6
        if megapixels > max_megapixels:
            raise UserError(
                "picture.too_large", file=path.name, megapixels=round(megapixels), limit=round(max_megapixels)
            )
        other = other_byte(picture)
        picture.load()
        return picture, deep_picture(picture, source, other)


def _orientation(picture: Image.Image) -> object:
    try:
        return picture.getexif().get(_ORIENTATION_TAG)
    except Exception:  # broken EXIF, of whatever kind, is no reason to refuse a picture
        return None


def _unidentified(path: Path) -> UserError:
    with path.open("rb") as file:
        head = file.read(16)
    if _HEIF.match(head):
        return UserError("picture.heic", file=path.name)
    # Cut off within its header, a picture is not recognised any more, but how it begins still is.
    return UserError("picture.broken" if _KNOWN.match(head) else "picture.unknown", file=path.name)


def _scaled(picture: Image.Image) -> DeepPicture | None:
    """Grey of 32 bits and floats, scaled to 16 bits; None for every other mode."""
    if picture.mode not in ("I", "F"):
        return None
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0.0, neginf=0.0).clip(min=0.0)
    # Integers count to 65535 and floats to 1.0 by convention; a file that goes beyond is scaled by its maximum.
    white = max(1.0 if picture.mode == "F" else 65535.0, float(values.max()))
    return DeepPicture((Image.fromarray(np.rint(values * (65535.0 / white)).astype(np.uint16)),))


def _deep_convert(deep: DeepPicture, stated: StatedColours) -> Convert:
    """How values of 16 bits become sRGB: in full where primaries and a curve say it; with a profile of another kind,
    which Pillow applies to 8 bits, rounded before."""

    def rounded(values: np.ndarray) -> np.ndarray:
        band = eight_bits(values)
        picture = Image.fromarray(band[..., 0] if band.shape[2] == 1 else band)
        return np.asarray(_to_srgb(picture, stated))

    space = stated.over
    if space is None and stated.profile:
        space = simple_space(stated.profile, grey=deep.is_grey)
    elif space is None:
        space = stated.under
    in_full = None if space is None or space is SRGB else converter(space, 16)
    return in_full or rounded


def _flatten(picture: Image.Image, stated: StatedColours) -> Image.Image:
    """Any 8-bit mode as sRGB on white."""
    if not picture.has_transparency_data:
        return _to_srgb(picture, stated)
    alpha = picture.convert("RGBA").getchannel("A")
    colour = picture.convert("L" if picture.mode in ("LA", "La") else "RGB")
    white = Image.new("RGB", picture.size, "white")
    white.paste(_to_srgb(colour, stated), mask=alpha)
    return white


def _to_srgb(picture: Image.Image, stated: StatedColours) -> Image.Image:
    """`picture` without alpha as sRGB; a profile that cannot be used counts as none."""
    if picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    if stated.over is not None:
        return to_srgb(picture, stated.over)
    return _by_profile(picture, stated.profile) or (
        picture.convert("RGB") if stated.under is None else to_srgb(picture, stated.under)
    )


def _by_profile(picture: Image.Image, profile: bytes | None) -> Image.Image | None:
    """`picture` as sRGB by `profile`; None where there is none that can be used."""
    try:
        if picture.mode == "LAB":  # its colour space is absolute and needs no profile
            source = ImageCms.createProfile("LAB")
        elif profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return None
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # Some grey pictures bring the profile of a coloured one.
        return _by_profile(picture.convert("RGB"), profile) if picture.mode == "L" else None


def _pad(picture: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    whole = picture.resize(size, Resampling.LANCZOS)
    if size == (width, height):
        return whole
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    margins = ((top, height - size[1] - top), (left, width - size[0] - left), (0, 0))
    mirrored = np.pad(np.asarray(whole), margins, mode="symmetric")
    # A blur of about a twentieth of the frame leaves colours and hides the mirrored shapes.
    canvas = Image.fromarray(mirrored).filter(ImageFilter.GaussianBlur(max(width, height) / 20))
    canvas.paste(whole, (left, top))
    return canvas
