"""The colours of every kind of file are those that Chromium shows."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from tab import CHROMIUM, FLAGS

from i2v.video.picture import load_picture
from tests.picture_files import (
    adobe_rgb_profile,
    avif_nclx,
    bmp_with_profile,
    chrm,
    chunk,
    cicp,
    gama,
    iccp,
    png_with,
)

P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
DRAWN = """async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { colorSpace: "srgb" });
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def scene() -> Image.Image:
    """Greys and colours, none of them so strong that a wide gamut's clipping hides the rest."""
    y, x = np.mgrid[0:16, 0:48]
    return Image.fromarray(np.stack([40 + 4 * x, 60 + 8 * y, 200 - 2 * x - 4 * y], axis=-1).astype(np.uint8))


def files() -> dict[str, bytes]:
    """By name; most say of their colours what only viewers that read it show."""
    picture, profile = scene(), iccp(adobe_rgb_profile())
    return {
        "plain.png": png_with(picture),
        "linear.png": png_with(picture, gama(1)),
        "near_srgb.png": png_with(picture, gama(0.47)),
        "beyond_near.png": png_with(picture, gama(0.48)),
        "p3.png": png_with(picture, gama(0.45455), chrm(*P3)),
        "grey_linear.png": png_with(picture.convert("L"), gama(1)),
        "code_p3.png": png_with(picture, cicp(12, 13)),
        "code_over_profile.png": png_with(picture, profile, cicp(12, 13)),
        "profile_over_gamma.png": png_with(picture, profile, gama(1)),
        "video.png": png_with(picture, cicp(1, 1)),
        "limited.png": png_with(picture, cicp(9, 16, full_range=0)),
        "pq.png": png_with(picture, cicp(9, 16)),
        "pq_dim.png": png_with(picture, cicp(9, 16), chunk(b"cLLI", (4_000_000).to_bytes(4) + bytes(4))),
        "hlg.png": png_with(picture, cicp(9, 18)),
        "p3.avif": avif_nclx(picture, 12, 13),
        "video.avif": avif_nclx(picture, 9, 1),
        "hlg.avif": avif_nclx(picture, 9, 18),
        "profile.bmp": bmp_with_profile(picture, adobe_rgb_profile()),
    }


def test_colours_are_those_of_the_browser(tmp_path: Path) -> None:
    differences = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--force-color-profile=srgb"])
        page = browser.new_page()
        for name, data in files().items():
            (tmp_path / name).write_bytes(data)
            ours = np.asarray(load_picture(tmp_path / name)).astype(int)
            address = f"data:image/{name.rpartition('.')[2]};base64,{base64.b64encode(data).decode()}"
            theirs = np.array(page.evaluate(DRAWN, address)).reshape(*ours.shape[:2], 4)[..., :3]
            # But for one value in fifty: of PQ's wide range Chromium keeps eleven bits.
            differences[name] = int(np.quantile(np.abs(ours - theirs), 0.98))
        browser.close()
    assert differences == pytest.approx(dict.fromkeys(differences, 0), abs=2)
