"""A small library of made pictures, so that no photograph is needed."""

import json

import numpy as np
import pytest
import torch
from safetensors import numpy as arrays
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from i2v.families.nano.finder import Finder
from i2v.families.nano.reader import FILE, Reader
from tools.train_nano.network import TEXT_WIDTH, make_scheduler, make_text_encoder, make_tokenizer, make_unet
from tools.train_nano.scenes import Library


def smooth(height, width, rng):
    coarse = rng.random((6, 6, 3)).astype(np.float32)
    rows = np.linspace(0, 5, height)[:, None]
    columns = np.linspace(0, 5, width)[None]
    y, x = np.floor(rows).astype(int).clip(0, 4), np.floor(columns).astype(int).clip(0, 4)
    fy, fx = (rows - y)[..., None], (columns - x)[..., None]
    top = coarse[y, x] * (1 - fx) + coarse[y, x + 1] * fx
    bottom = coarse[y + 1, x] * (1 - fx) + coarse[y + 1, x + 1] * fx
    return (top * (1 - fy) + bottom * fy) * 255


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """What `prepare` would have written: photographs with sky, plants, a subject and water, cut-outs, landscapes."""
    folder = tmp_path_factory.mktemp("nano_data")
    rng = np.random.default_rng(0)
    tensors, listing = {}, []

    def add(array, kind, group, name):
        for held_out in (False, True):
            key = f"{len(listing):04d}"
            tensors[key] = np.ascontiguousarray(array.astype(np.uint8))
            listing.append(
                {"key": key, "name": name, "kind": kind, "group": group, "package": "p", "held_out": held_out}
            )

    for index in range(4):
        regions = np.zeros((100, 140, 4), np.float32)
        regions[:30, :, 0] = 255
        regions[50:70, :, 1] = 255
        regions[35:65, 50:90, 2] = 255
        regions[75:, :, 3] = 255
        add(np.concatenate([smooth(100, 140, rng), regions], -1), "photo", "theme", f"photo{index}")
    for group in ("mammals", "flowers", "trees", "ship", "tools"):
        stamp = np.concatenate([smooth(90, 80, rng), np.zeros((90, 80, 1))], -1)
        stamp[10:80, 10:70, 3] = 255
        add(stamp, "cutout", group, group)
    for group in ("water", "grass", "snow"):
        land = np.concatenate([smooth(120, 200, rng), np.zeros((120, 200, 1))], -1)
        land[50:, :, 3] = 255
        add(land, "land", group, group)
    arrays.save_file(tensors, folder / "library.safetensors")
    (folder / "library.json").write_text(json.dumps(listing))
    return folder


@pytest.fixture(scope="session")
def library(data):
    """The pictures of it that are trained on."""
    return Library(data, held_out=False)


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    return make_tokenizer()


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tokenizer):
    """A small folder as `export` writes it, with random weights everywhere, temporal layers included."""
    out = tmp_path_factory.mktemp("nano")
    torch.manual_seed(0)
    tokenizer.save_pretrained(out / "tokenizer")
    make_scheduler().save_pretrained(out / "scheduler")
    for name, module in (("text_encoder", make_text_encoder(tokenizer)), ("unet", make_unet((16, 16, 32)))):
        for parameter in module.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
        module.half().save_pretrained(out / name)
    (out / "reader").mkdir()
    (out / "finder").mkdir()
    for name, module in (("reader", Reader(TEXT_WIDTH, len(tokenizer))), ("finder", Finder())):
        save_file({key: tensor.half() for key, tensor in module.state_dict().items()}, out / name / FILE)
    return out


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
