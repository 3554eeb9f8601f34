"""Which weights lie in their files and which were copied, and that all are in memory when loading ends: the kernel's
own account of this process is the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from i2v.engine import weights
from i2v.engine.weights import check_values, known_files
from i2v.families import SPECS
from i2v.families.blocks import unet_blocks
from i2v.families.i2vgen_xl import model as i2vgen_xl
from i2v.memory.card import SimulatedCard
from i2v.memory.streaming import parted
from i2v.messages import UserError
from i2v.models.fetch.record import Fetched, found_right, write_record
from i2v.models.mapped import mapped_components
from i2v.models.verify import TensorPlace
from i2v.units import GIB

SPEC = SPECS["i2vgen_xl"]
SMAPS = Path("/proc/self/smaps")
pytestmark = pytest.mark.skipif(not SMAPS.is_file(), reason="this system does not tell what of a file is in memory")


def mappings() -> list[tuple[int, int, str]]:
    """Start, end and account of everything that is mapped into this process."""
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text(), flags=re.MULTILINE)[1:]
    ends = (re.match(r"([0-9a-f]+)-([0-9a-f]+) ", block) for block in blocks)
    return [(int(end[1], 16), int(end[2], 16), block) for end, block in zip(ends, blocks, strict=True)]


def resident_bytes(path: Path) -> int:
    """How much of the mapped `path` is in this process's memory."""
    return sum(int(re.search(r"Rss:\s+(\d+)", one)[1]) * 1024 for *_, one in mappings() if str(path) in one)


def test_what_was_only_mapped_is_read_when_its_values_are_looked_at(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.rand(4096, 4096)}, path)
    module = nn.Linear(1, 1, bias=False)
    module.weight = nn.Parameter(load_file(path)["weight"], requires_grad=False)
    assert resident_bytes(path) < 8 * 2**20
    check_values("unet", module, {}, "float32")
    assert resident_bytes(path) >= 64 * 2**20


def test_what_is_known_to_be_as_published_is_left_in_its_file(tmp_path):
    """But for what is no longer as it stands there."""
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.full((4096, 4096), torch.inf)}, path)
    module = nn.Linear(1, 1, bias=False)
    module.weight = nn.Parameter(load_file(path)["weight"], requires_grad=False)
    places = {("unet", "weight"): TensorPlace(path, "weight", (4096, 4096), "F32")}
    check_values("unet", module, places, "float32", {path})
    assert resident_bytes(path) < 8 * 2**20
    with pytest.raises(UserError) as error:
        check_values("unet", module, places, "float32")
    assert error.value.message.id == "models.tensor_not_finite"
    with pytest.raises(UserError):
        check_values("unet", module.half(), places, "float16", {path})


def test_files_need_no_look_only_where_ram_is_short_of_them_and_they_are_as_published(tmp_path, monkeypatch):
    module = nn.Linear(64, 64, bias=False)
    (tmp_path / "unet").mkdir()
    path = tmp_path / "unet" / "weights.safetensors"
    save_file({"weight": module.weight}, path)
    places = {("unet", "weight"): TensorPlace(path, "weight", (64, 64), "F32")}
    size = module.weight.nbytes

    def known(available_bytes: int) -> frozenset[Path]:
        monkeypatch.setattr(weights, "read_ram", lambda: (64 * GIB, available_bytes))
        return known_files(tmp_path, "unet", module, places)

    assert known(size - 1) == frozenset()
    right = found_right(tmp_path, "unet/weights.safetensors", "sha256:0")
    write_record(tmp_path, Fetched("owner/model", "1", "hub", (right,)))
    assert known(size - 1) == {path}
    assert known(size) == frozenset()
    assert known_files(tmp_path, "vae", module, places) == frozenset()


@pytest.fixture(scope="module")
def halves(light_checkpoint, tmp_path_factory) -> Path:
    """The light model with its UNet's files in float16, all others in float32."""
    folder = tmp_path_factory.mktemp("halves") / "model"
    folder.mkdir()
    for part in light_checkpoint.iterdir():
        if part.name != "unet":
            (folder / part.name).symlink_to(part)
    i2vgen_xl.load(light_checkpoint, torch.float16).unet.save_pretrained(folder / "unet")
    return folder


@pytest.mark.parametrize(
    ("precision", "mapped"),
    [
        ("float16", {"unet"}),
        ("float32", {"vae", "text_encoder", "image_encoder"}),
        ("bfloat16", set()),
    ],
)
def test_what_counts_as_mapped_lies_in_its_file_and_nothing_else_does(halves, precision, mapped):
    found = mapped_components(halves, SPEC, precision)
    assert found == mapped
    model = i2vgen_xl.load(halves, getattr(torch, precision))
    model.modules.load(model.modules)
    files = [(start, end) for start, end, block in mappings() if ".safetensors" in block.splitlines()[0]]
    for name, module in model.modules.items():
        inside = sum(
            one.numel() * one.element_size()
            for one in module.parameters()
            if any(start <= one.data_ptr() < end for start, end in files)
        )
        size = sum(one.numel() * one.element_size() for one in module.parameters())
        assert inside == (size if name in mapped else 0), name


def test_what_cannot_be_read_counts_as_copied(tmp_path, halves):
    assert mapped_components(None, SPEC, "float16") == frozenset()
    assert mapped_components(tmp_path / "nowhere", SPEC, "float16") == frozenset()
    broken = tmp_path / "unet"
    broken.mkdir()
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"no header")
    assert mapped_components(tmp_path, SPEC, "float16") == frozenset()
    # A file that was exchanged is read again.
    file = broken / "diffusion_pytorch_model.safetensors"
    file.unlink()
    file.symlink_to(halves / "unet/diffusion_pytorch_model.safetensors")
    assert mapped_components(tmp_path, SPEC, "float16") == {"unet"}


def test_blocks_stream_from_the_file_that_they_are_mapped_from(halves):
    """So RAM that is short holds none of them: the system drops such pages when it needs them."""
    unet = i2vgen_xl.load(halves, torch.float16).unet
    parts = parted(unet, unet_blocks(unet))
    card = SimulatedCard(GIB)
    with card.running():
        card.stream(unet, parts, kept_bytes=0, slots=2)
        for block in (*parts.blocks, *parts.blocks):
            for hook in block.module._forward_pre_hooks.values():
                hook(block.module, ())
    card.evict_all()
    files = [(start, end) for start, end, one in mappings() if ".safetensors" in one.splitlines()[0]]
    assert sum(parts.sizes_bytes) > 5 * parts.outside_bytes
    for block in parts.blocks:
        for weight in block.weights:
            assert any(start <= weight.tensor.data_ptr() < end for start, end in files)
    for parameter in unet.parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in files)
