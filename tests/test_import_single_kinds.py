"""`models import FILE`: GGUF files beside what a model on this computer has, and the two transformers of Wan 2.2, which
only their names tell apart."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_support import i2v
from diffusers import WanTransformer3DModel
from gguf import GGMLQuantizationType
from gguf_checkpoints import redrawn, wan_name, wan_transformer, write_gguf
from machines import settings
from published_folders import write_gguf_names, write_hollow
from safetensors.torch import load_file, save_file
from wan_checkpoints import KINDS, build, build_wan

from i2v.engine import converted
from i2v.families.gguf_weights import read_gguf
from i2v.messages import LOCALES, UserError
from i2v.models import gguf_files
from i2v.models.catalogue import find_model
from i2v.models.experts import as_expert
from i2v.models.kinds import kind_of
from i2v.models.put_together import making_of, put_together
from i2v.models.single_files import part_in
from i2v.settings.settings import Settings
from tests.model_folders import empty_hub_cache

WEIGHTS = "diffusion_pytorch_model.safetensors"
BLOCKS = {"ffn": GGMLQuantizationType.Q4_0, "text_embedder": GGMLQuantizationType.Q8_0}
LARGE = {"blocks.0.self_attn.q.weight": (5120, 5120), "patch_embedding.weight": (5120, 16, 1, 2, 2)}
"""Of the header of a transformer of 14 billion parameters, what says that it is one."""


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_hub_cache(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wan(tmp_path_factory.mktemp("wan") / "small")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wan22") / "small", KINDS["wan22"])


def here(folder: Path) -> Settings:
    return replace(settings(), models_dir=folder / "models", offline=True)


def put(folder: Path, model: Path, name: str) -> Path:
    return Path(shutil.copytree(model, folder / "models" / name))


def network_like(base: Path, seed: int) -> WanTransformer3DModel:
    """A transformer of the shape of the model's, with numbers of its own."""
    torch.manual_seed(seed)
    network = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(base / "transformer"))
    return redrawn(network.to(torch.bfloat16))


def write_single(file: Path, network: WanTransformer3DModel) -> Path:
    save_file({wan_name(name): one.contiguous() for name, one in network.state_dict().items()}, file)
    return file


def write_small_gguf(file: Path, network: WanTransformer3DModel) -> Path:
    write_gguf(file, network, BLOCKS, wan_name)
    return file


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return i2v(folder, "models", "import", *words, "--models", str(folder / "models"))


def in_process(folder: Path, file: Path, said: str = "", base: Path | None = None) -> Path:
    part = part_in(file)
    assert part is not None
    places = here(folder)
    return put_together(making_of(file, part, places, said, base), places, converted.convert)[0]


def refused(call: object, *args: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    assert all("{" not in caught.value.message.render(locale) for locale in LOCALES)
    return caught.value.message.id


def same_numbers(file: Path, network: WanTransformer3DModel) -> bool:
    written = load_file(file)
    return all(torch.equal(written[name], one) for name, one in network.state_dict().items())


# --- GGUF ---


def test_a_gguf_file_becomes_a_model_with_the_rest_of_another(tmp_path: Path, wan: Path) -> None:
    base = put(tmp_path, wan, "base")
    network = network_like(base, 5).float()
    file = write_small_gguf(tmp_path / "我的 tune-Q4_0.gguf", network)
    contents = file.read_bytes()
    ran = command(tmp_path, str(file), "--move", "--json")
    assert ran.returncode == 0, ran.stderr
    target = tmp_path / "models" / "我的 tune-Q4_0"
    assert json.loads(ran.stdout)[0] | {"files": []} == {
        "name": target.name, "folder": str(target), "family": "wan", "base": "base", "files": [],
    }  # fmt: skip
    assert (target / "transformer" / file.name).read_bytes() == contents
    assert not file.exists(), "it was to be moved"
    assert not list((target / "transformer").glob("*.safetensors"))
    assert (target / "vae").readlink() == base / "vae"
    kind = kind_of(target, [tmp_path / "models"])
    assert (kind.whole, kind.forms, kind.precision) == (True, ("gguf",), "Q4_0")
    assert find_model(target.name, here(tmp_path)).present
    read = read_gguf(WanTransformer3DModel, target / "transformer" / file.name, torch.float32)
    assert torch.equal(read.scale_shift_table, network.scale_shift_table)


def test_a_gguf_file_of_another_shape_is_refused_and_leaves_nothing(tmp_path: Path, wan: Path) -> None:
    put(tmp_path, wan, "base")
    narrower = write_small_gguf(tmp_path / "narrower.gguf", wan_transformer())
    assert refused(in_process, tmp_path, narrower) in ("models.tensor_shape", "models.tensor_missing")
    network = network_like(wan, 5).float()
    network.blocks.append(network.blocks[0])
    deeper = write_small_gguf(tmp_path / "deeper.gguf", network)
    assert refused(in_process, tmp_path, deeper) == "models.single_differs"
    assert [one.name for one in (tmp_path / "models").iterdir()] == ["base"]


def test_a_gguf_file_that_cannot_be_used_is_told_for_what_it_is(
    tmp_path: Path, wan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(file: Path) -> str:
        ran = command(tmp_path, str(file))
        assert ran.returncode == 2
        assert "{" not in ran.stderr
        return ran.stderr

    file = write_small_gguf(tmp_path / "tune.gguf", network_like(wan, 5).float())
    assert "vae" in said(file), "no model on this computer has the rest"
    put(tmp_path, wan, "base")
    write_gguf_names(tmp_path / "strange.gguf", ["blk.0.attn_q.weight"])
    assert "single file" in said(tmp_path / "strange.gguf")
    write_gguf_names(tmp_path / "cog.gguf", ["patch_embed.text_proj.bias"])
    assert "safetensors alone" in said(tmp_path / "cog.gguf")
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:5000])
    assert "cut off" in said(tmp_path / "cut.gguf")
    monkeypatch.setattr(gguf_files, "find_spec", lambda _name: None)
    assert "requirements-quantised.txt" in said(file)


# --- the two transformers of Wan 2.2 ---


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("wan2.2_t2v_high_noise_14B_fp16", "transformer"), ("Wan2.2-T2V-A14B-LowNoise-Q4_K_M", "transformer_2"),
        ("Wan2_2-T2V-A14B_HIGH_bf16_KJ", "transformer"), ("wan22 low", "transformer_2"),
        ("highway-flowing", None), ("from_high_to_low", None), ("tune", None),
    ],
)  # fmt: skip
def test_the_name_of_a_file_says_which_it_is(tmp_path: Path, name: str, component: str | None) -> None:
    for channels, family in ((16, "wan22"), (36, "wan22_i2v")):
        file = tmp_path / f"{name}.safetensors"
        write_hollow(file, {**LARGE, "patch_embedding.weight": (5120, channels, 1, 2, 2)})
        part = part_in(file)
        meant = as_expert(file, part)
        assert (meant.family, meant.component) == ((family, component) if component else ("wan_14b", "transformer"))


@pytest.mark.parametrize(("noise", "component"), [("high", "transformer"), ("low", "transformer_2")])
def test_an_expert_takes_its_own_place_and_the_other_stays(
    tmp_path: Path, experts: Path, noise: str, component: str
) -> None:
    base = put(tmp_path, experts, "base")
    network = network_like(base, 7)
    file = write_single(tmp_path / f"tune_{noise}_noise.safetensors", network)
    ran = command(tmp_path, str(file))
    assert ran.returncode == 0, ran.stderr
    assert ("much noise" in ran.stdout.partition("also")[0]) is (noise == "high"), "it is said which one was meant"
    target = tmp_path / "models" / file.stem
    assert same_numbers(target / component / WEIGHTS, network)
    other = "transformer_2" if component == "transformer" else "transformer"
    assert (target / other).readlink() == base / other
    assert kind_of(target, [tmp_path / "models"]).whole


def test_of_a_file_whose_name_says_nothing_it_is_asked_which_it_is(tmp_path: Path, experts: Path) -> None:
    base = put(tmp_path, experts, "base")
    file = write_single(tmp_path / "tune.safetensors", network_like(base, 7))
    for named in (None, base):
        assert refused(in_process, tmp_path, file, "", named) == "models.expert_unknown"
    assert [one.name for one in (tmp_path / "models").iterdir()] == ["base"]
    ran = command(tmp_path, str(file))
    assert (ran.returncode, "--part" in ran.stderr) == (2, True)
    assert command(tmp_path, str(file), "--part", "hi").returncode == 2
    assert command(tmp_path, str(file), "--part", "low").returncode == 0
    target = tmp_path / "models" / "tune"
    assert (target / "transformer_2" / WEIGHTS).is_file()
    assert (target / "transformer").is_symlink()


def test_one_that_may_be_of_either_model_is_not_guessed(tmp_path: Path, wan: Path, experts: Path) -> None:
    """Wan 2.1's large transformer has the same tensors as each of the two."""
    two, one = put(tmp_path, experts, "two"), put(tmp_path, wan, "one")
    places = here(tmp_path)

    def bases(name: str, said: str = "", named: Path | None = None) -> list[str]:
        file = tmp_path / f"{name}.safetensors"
        write_hollow(file, LARGE)
        return [base.name for base in making_of(file, part_in(file), places, said, named).bases]

    assert refused(bases, "tune") == "models.expert_unknown"
    assert bases("tune", named=one) == ["one"]
    assert bases("tune high noise") == bases("tune", said="low") == ["two"]
    assert refused(bases, "tune", "low", one) == "models.no_expert"
    shutil.rmtree(two)
    assert bases("tune") == ["one"]
    assert refused(bases, "tune high noise") == "models.single_no_base"
    small = write_single(tmp_path / "small high.safetensors", network_like(wan, 3))
    assert [base.name for base in making_of(small, part_in(small), places).bases] == ["one"], "no expert is so small"


def test_both_side_by_side_become_one_model(tmp_path: Path, experts: Path) -> None:
    """Of GGUF files, and of a model that lacks the weights of both."""
    base = put(tmp_path, experts, "base")
    networks = {noise: network_like(base, seed).float() for noise, seed in (("High", 7), ("Low", 8))}
    files = {
        noise: write_small_gguf(tmp_path / f"Wan2.2-{noise}Noise-Q4_0.gguf", network)
        for noise, network in networks.items()
    }
    for component in ("transformer", "transformer_2"):
        (base / component / WEIGHTS).unlink()
    ran = command(tmp_path, str(files["Low"]))
    assert ran.returncode == 0, ran.stderr
    assert files["High"].name in ran.stdout, "the other file is told of"
    target = tmp_path / "models" / "Wan2.2-Q4_0"
    for noise, component in (("High", "transformer"), ("Low", "transformer_2")):
        assert (target / component / files[noise].name).read_bytes() == files[noise].read_bytes()
    assert kind_of(target, [tmp_path / "models"]).whole
    assert find_model(target.name, here(tmp_path)).present
