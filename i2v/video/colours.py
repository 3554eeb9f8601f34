"""Colours that a picture describes by numbers instead of a profile, turned into sRGB.

A colour space here is what ITU-T H.273 and PNG's gAMA and cHRM describe: the chromaticities of its primaries and the
curve from stored values to light. High dynamic range (PQ, HLG) is brought down to what an ordinary screen shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

Curve = Callable[[np.ndarray], np.ndarray]
Primaries = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue."""

_D65, _C, _E, _DCI = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3), (0.314, 0.351)
_BT709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_BT2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
_SMPTE_C = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
SRGB_PRIMARIES: Primaries = (*_D65, *_BT709)
BT2020_PRIMARIES: Primaries = (*_D65, *_BT2020)
PRIMARIES: dict[int, Primaries] = {
    1: SRGB_PRIMARIES,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, *_SMPTE_C),
    7: (*_D65, *_SMPTE_C),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: BT2020_PRIMARIES,
    10: (*_E, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (*_DCI, *_P3),
    12: (*_D65, *_P3),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""By their code in ITU-T H.273, table 2."""

SDR_WHITE_NITS = 203
"""Where white lies on an HDR scale (ITU-R BT.2408)."""
HDR_PEAK_NITS = 1000
"""The brightest that a PQ or HLG picture is taken to hold, where it does not say; HLG's nominal display."""

# The cone responses of Bradford, by which ICC profiles adapt white.
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_BAND_PIXELS = 2**20  # converted at once: as floats a large picture would take gibibytes


@dataclass(frozen=True)
class ColourSpace:
    """`curve` gives the light of stored values from 0 to 1, where 1 is white. `hdr`: "pq" or "hlg", whose light goes
    beyond white, up to `peak_nits`."""

    primaries: Primaries
    curve: Curve
    hdr: str = ""
    peak_nits: float = HDR_PEAK_NITS


def power(exponent: float) -> Curve:
    """The curve of a pure gamma."""
    return lambda value: value**exponent


def srgb_light(value: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _smpte240_light(value: np.ndarray) -> np.ndarray:
    return np.where(value < 4 * 0.022822, value / 4, ((value + 0.111572) / 1.111572) ** (1 / 0.45))


def _pq_light(value: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: absolute luminance up to 10 000 nits."""
    root = value ** (1 / 78.84375)
    nits = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    return nits / SDR_WHITE_NITS


def _hlg_light(value: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100: light of the scene up to 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)


CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 11, 14, 15), power(2.4)),  # as a screen shows video: ITU-R BT.1886, not the camera's curve
    4: power(2.2),
    5: power(2.8),
    7: _smpte240_light,
    8: power(1.0),
    13: srgb_light,
    16: _pq_light,
    17: lambda value: 52.37 / 48 * value**2.6,
    18: _hlg_light,
}
"""By their code in ITU-T H.273, table 3; without the logarithmic ones, which no viewer shows."""
_HDR = {16: "pq", 18: "hlg"}


def coded_space(primaries: int, transfer: int, peak_nits: float = 0) -> ColourSpace | None:
    """The colour space of two codes of ITU-T H.273; None where either is unknown or left open. `peak_nits`: the
    brightest that a PQ picture says it holds, 0 where it does not say."""
    if primaries not in PRIMARIES or transfer not in CURVES:
        return None
    hdr = _HDR.get(transfer, "")
    peak = peak_nits if hdr == "pq" and peak_nits > 0 else HDR_PEAK_NITS
    return ColourSpace(PRIMARIES[primaries], CURVES[transfer], hdr, peak)


def to_xyz(primaries: Primaries) -> np.ndarray | None:
    """(3, 3) from linear RGB to XYZ adapted to D65; None for chromaticities that span no colours."""
    white, *corners = (np.array([x, y, 1 - x - y]) for x, y in zip(primaries[::2], primaries[1::2], strict=True))
    columns = np.stack(corners, axis=1)
    if white[1] <= 0 or abs(np.linalg.det(columns)) < 1e-6:
        return None
    scaled = columns * np.linalg.solve(columns, white / white[1])
    d65 = np.array([_D65[0], _D65[1], 1 - sum(_D65)]) / _D65[1]
    gains = (_BRADFORD @ d65) / (_BRADFORD @ (white / white[1]))
    return np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ scaled


def to_srgb(picture: Image.Image, space: ColourSpace) -> Image.Image:
    """`picture` ("L" or "RGB", 8 bits) as RGB in sRGB, colours beyond it clipped; unchanged where the primaries are
    impossible."""
    picture = picture.convert("RGB")
    convert = converter(space, 8)
    if convert is None:
        return picture
    pixels = np.asarray(picture)
    shown = np.empty_like(pixels)
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        shown[top : top + rows] = convert(pixels[top : top + rows])
    return Image.fromarray(shown)


def converter(space: ColourSpace, bits: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """What takes (h, W, 3) values of so many bits in `space`, or (h, W, 1) of grey, to (h, W, 3) of 8 bits in sRGB;
    None where the primaries are impossible."""
    source = to_xyz(space.primaries)
    if source is None:
        return None
    levels = space.curve(np.linspace(0, 1, 2**bits)).astype(np.float32)
    work = to_xyz(BT2020_PRIMARIES if space.hdr else SRGB_PRIMARIES)
    first = (np.linalg.inv(work) @ source).astype(np.float32)
    last = (np.linalg.inv(to_xyz(SRGB_PRIMARIES)) @ work).astype(np.float32)

    def convert(values: np.ndarray) -> np.ndarray:
        light = levels[np.broadcast_to(values, (*values.shape[:2], 3))] @ first.T
        if space.hdr:
            light = _toned(light, space) @ last.T
        return _encoded(light)

    return convert


def _toned(light: np.ndarray, space: ColourSpace) -> np.ndarray:
    """Linear BT.2020 light, (H, W, 3), brought into the range of an ordinary screen."""
    peak = space.peak_nits / SDR_WHITE_NITS
    if space.hdr == "hlg":  # the scene's light as a display of 1000 nits shows it (BT.2100's OOTF)
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = light * (peak * np.maximum(luminance, 0) ** 0.2)[..., None]
    most = light.max(axis=-1, keepdims=True)  # of the three, so that hues stay
    return light * (_shown_white(most, peak) / np.maximum(most, 1e-6))


def _shown_white(light: np.ndarray, peak: float) -> np.ndarray:
    """What an ordinary screen shows of `light`, where 1 is HDR's white: SMPTE ST 2094-50's tone mapping for content
    without its own (annex D), as Chromium does it. White comes to a half, or to more where `peak` is low; from there
    a Bezier curve leads to the peak, which comes to 1."""
    if peak <= 1:
        return light.clip(0, 1)
    white, bend = 1 - 0.5 * min(np.log(peak) / np.log(HDR_PEAK_NITS / SDR_WHITE_NITS), 1), 0.65
    middle_x, middle_y = 1 - bend + bend / white, (1 - bend) * white + bend
    a, b = 1 - 2 * middle_x + peak, 2 * (middle_x - 1)
    at = (np.sqrt(b * b + 4 * a * (light.clip(1, peak) - 1)) - b) / (2 * a)
    curve = (1 - at) ** 2 * white + 2 * at * (1 - at) * middle_y + at**2
    return np.where(light <= 1, white * light, curve)


def _encoded(light: np.ndarray) -> np.ndarray:
    """Linear sRGB as 8-bit values, by a table: 65536 steps of light are twenty to a level where levels lie closest."""
    return _table()[(light.clip(0, 1) * 65535 + 0.5).astype(np.uint16)]


@cache
def _table() -> np.ndarray:
    light = np.arange(65536) / 65535
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * values).astype(np.uint8)
