"""What lies on the disk is told for what it is: every published layout, every way to be incomplete, in milliseconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from model_folders import make_checkpoint
from published_folders import BYTES, in_shards, published, tensors_of, write_gguf_names, write_hollow

from i2v.families import SPECS
from i2v.messages import LOCALES
from i2v.models.check import check_files
from i2v.models.entry import ASSETS
from i2v.models.kinds import ModelKind, kind_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
HALF = "diffusion_pytorch_model.fp16.safetensors"
PUBLISHED = [spec for spec in SPECS.values() if spec.name != "nano"]
MOST_SECONDS = 0.05


@pytest.mark.parametrize("spec", PUBLISHED, ids=[spec.name for spec in PUBLISHED])
def test_every_published_checkpoint_is_whole_and_of_its_family(tmp_path: Path, spec) -> None:
    folder = published(tmp_path / "model", spec)
    assert kind_of(folder) == ModelKind(folder, spec.name, spec.class_name, ("full",), False, "bfloat16")
    assert processor_seconds(folder) <= MOST_SECONDS


def processor_seconds(path: Path) -> float:
    """What telling it takes of a processor: the machine may be busy with other things."""

    def once() -> float:
        began = time.process_time()
        kind_of(path)
        return time.process_time() - began

    return min(once() for _ in range(5))


def test_the_model_that_comes_with_the_app() -> None:
    kind = kind_of(ASSETS / "nano")
    assert (kind.family, kind.whole, kind.forms) == ("nano", True, ("full",))


# --- forms of weights, and what may be wrong ---

SVD, WAN, WAN22 = SPECS["svd"], SPECS["wan"], SPECS["wan22"]


@dataclass(frozen=True)
class Case:
    """A folder of family `family` that `change` makes another one; what is told of it then."""

    name: str
    change: Callable[[Path], None]
    family: str | None = "wan"
    base: str = "wan"
    problem: str | None = None
    forms: tuple[str, ...] = ("full",)
    precision: str | None = "bfloat16"
    sharded: bool = False
    missing: tuple[str, ...] = ()


def fp16(component: str, *, beside: bool, base: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_hollow(folder / component / HALF, tensors_of(base)[component], "F16")
        if not beside:
            (folder / component / WEIGHTS).unlink()

    return change


def shards(kind: str, *, half: bool) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "transformer" / WEIGHTS).unlink()
        in_shards(folder / "transformer", WEIGHTS, tensors_of("wan")["transformer"], kind, half=half)

    return change


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def lost_shard(folder: Path) -> None:
    shards("BF16", half=False)(folder)
    (folder / "transformer" / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()


def stored(kind: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_hollow(folder / "transformer" / WEIGHTS, tensors_of("wan")["transformer"], kind)

    return change


def pickled(folder: Path) -> None:
    (folder / "transformer" / WEIGHTS).rename(folder / "transformer" / "diffusion_pytorch_model.bin")


def pointer(folder: Path) -> None:
    (folder / "transformer" / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def cut(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 1)


def gguf(folder: Path) -> None:
    (folder / "transformer" / WEIGHTS).unlink()
    write_gguf_names(folder / "transformer" / "wan2.1-t2v-1.3b-Q4_K_M.gguf", tensors_of("wan")["transformer"])


def gguf_cut(folder: Path) -> None:
    gguf(folder)
    file = folder / "transformer" / "wan2.1-t2v-1.3b-Q4_K_M.gguf"
    file.write_bytes(file.read_bytes()[:2000])


def two_gguf(folder: Path) -> None:
    gguf(folder)
    shutil.copy(folder / "transformer" / "wan2.1-t2v-1.3b-Q4_K_M.gguf", folder / "transformer" / "other-Q8_0.gguf")


def holds(data: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "transformer" / WEIGHTS).write_bytes(data)

    return change


def dangling(folder: Path) -> None:
    (folder / "transformer" / WEIGHTS).unlink()
    (folder / "transformer" / WEIGHTS).symlink_to(folder / "transformer" / "gone")


def says(file: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        said = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**said, **values}))

    return change


def config_of(family: str, component: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        configs = Path(__file__).parents[1] / "i2v" / "families" / family / "configs"
        shutil.copy(configs / component / "config.json", folder / component / "config.json")

    return change


def weights_of(family: str, component: str, name: str = WEIGHTS) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_hollow(folder / component / name, tensors_of(family)[component])

    return change


def astray(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    file.rename(folder.parent / "elsewhere")
    file.symlink_to(folder.parent / "elsewhere")


def in_the_hubs_cache(folder: Path) -> None:
    made, repository = folder.rename(folder.parent / "made"), folder
    (repository / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(one for one in made.rglob("*") if one.is_file())):
        blob = file.rename(repository / "blobs" / f"{number:064x}")
        link = repository / "snapshots" / "0123abcd" / file.relative_to(made)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))


def only(name: str, tensors: dict[str, tuple[int, ...]]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        write_hollow(folder / name, tensors)

    return change


NONE = {"family": None, "forms": (), "precision": None}
CASES = [
    Case("fp16 alone", fp16("unet", beside=False, base="svd"), "svd", "svd", forms=("fp16",), precision="float16"),
    Case("fp16 and full", fp16("unet", beside=True, base="svd"), "svd", "svd", forms=("full", "fp16"),
         precision="float16"),
    Case("fp16 of the autoencoder alone", fp16("vae", beside=False, base="svd"), "svd", "svd"),
    Case("float32", stored("F32"), precision="float32"),
    Case("float64", stored("F64"), precision="float64"),
    Case("shards", shards("BF16", half=False), sharded=True),
    Case("fp16 shards", shards("F16", half=True), forms=("fp16",), precision="float16", sharded=True),
    Case("tokenizer in two files", without("tokenizer/tokenizer.json"), problem="models.missing_file",
         missing=("tokenizer/tokenizer.json",)),
    Case("image-to-video class of LTX", says("model_index.json", _class_name="LTXImageToVideoPipeline"), "ltx", "ltx"),
    Case("GGUF", gguf, forms=("gguf",), precision="Q4_K_M"),
    Case("GGUF, cut off", gguf_cut, forms=("gguf",), precision="Q4_K_M", problem="models.gguf_damaged"),
    Case("two GGUF files", two_gguf, forms=(), precision=None, problem="models.gguf_several"),
    Case("no transformer", without("transformer"), problem="models.missing_file", forms=(), precision=None,
         missing=("transformer/config.json", f"transformer/{WEIGHTS}")),
    Case("no autoencoder and no text encoder", without("vae", "text_encoder"), problem="models.missing_file",
         missing=("text_encoder/config.json", "text_encoder/model.safetensors", "vae/config.json", f"vae/{WEIGHTS}")),
    Case("one expert of two", without("transformer_2"), "wan22", "wan22", problem="models.missing_file",
         missing=("transformer_2/config.json", f"transformer_2/{WEIGHTS}")),
    Case("a shard lost", lost_shard, problem="models.missing_file", sharded=True,
         missing=("transformer/diffusion_pytorch_model-00002-of-00003.safetensors",)),
    Case("no scheduler", without("scheduler"), problem="models.missing_file",
         missing=("scheduler/scheduler_config.json",)),
    Case("pickles", pickled, problem="models.pickle_only", forms=(), precision=None),
    Case("a pointer of git-lfs", pointer, problem="models.lfs_pointer", forms=(), precision=None),
    Case("a byte short", cut, problem="models.truncated", forms=(), precision=None),
    Case("nothing in a file", holds(b""), problem="models.truncated", forms=(), precision=None),
    Case("a page of the web", holds(b"<!DOCTYPE>" * 9), problem="models.not_safetensors", forms=(), precision=None),
    Case("a header without end", holds(b"\xff" * 99), problem="models.not_safetensors", forms=(), precision=None),
    Case("a link to nothing", dangling, problem="models.missing_file", forms=(), precision=None,
         missing=(f"transformer/{WEIGHTS}",)),
    Case("eight bits of another program", stored("F8_E4M3"), problem="models.tensor_kind", precision="F8_E4M3"),
    Case("another scheduler", says("scheduler/scheduler_config.json", _class_name="DDIMScheduler"),
         problem="models.wrong_scheduler"),
    Case("a broken configuration", lambda folder: (folder / "vae" / "config.json").write_text("{") and None,
         problem="models.bad_json"),
    Case("a number that no model works with", says("scheduler/scheduler_config.json", num_train_timesteps=0),
         problem="models.config_count"),
    Case("the configuration of a larger one", config_of("wan_14b", "transformer"), "wan_14b",
         problem="models.other_config"),
    Case("the transformer of a larger one", weights_of("wan_14b", "transformer"), problem="models.other_config"),
    Case("the text encoder's configuration of another", config_of("ltx", "text_encoder"),
         problem="models.other_config"),
    Case("the autoencoder's configuration of another", config_of("wan22_5b", "vae"), problem="models.other_config"),
    Case("a link that leads out", astray, problem="models.link_outside"),
    Case("a cache of the hub", in_the_hubs_cache),
    Case("a class that nobody knows", says("model_index.json", _class_name="WanVACEPipeline"), **NONE,
         problem="models.unknown_class"),
    Case("a model of pictures", says("model_index.json", _class_name="StableDiffusionPipeline"), **NONE,
         problem="models.unknown_class"),
    Case("no index", without("model_index.json"), **NONE, problem="models.no_index"),
    Case("an empty index", lambda folder: (folder / "model_index.json").write_text("") and None, **NONE,
         problem="models.bad_json"),
    Case("one file of another program", only("wan.safetensors", {"head.modulation": (1, 2, 1536)}), **NONE,
         problem="models.no_index"),
    Case("a LoRA of peft", only("adapter_model.safetensors", {"blocks.0.lora_A.weight": (4, 8)}), **NONE,
         problem="models.lora"),
    Case("nothing", lambda folder: shutil.rmtree(folder), **NONE, problem="models.no_folder"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_folder_is_told_for_what_it_is(tmp_path: Path, case: Case) -> None:
    folder = published(tmp_path / "the model 模型", SPECS[case.base])
    case.change(folder)
    kind = kind_of(folder)
    assert (kind.family, kind.forms, kind.precision, kind.sharded) == (
        case.family, case.forms, case.precision, case.sharded,
    )  # fmt: skip
    assert next((problem.id for problem in kind.problems), None) == case.problem
    assert kind.missing == case.missing
    assert kind.whole is (case.problem is None)
    for problem in kind.problems:
        assert len({problem.render(locale) for locale in LOCALES}) == len(LOCALES)
        assert "{" not in problem.render("en").replace(str(tmp_path), "")
    assert processor_seconds(folder) <= MOST_SECONDS


def test_forty_layouts_and_more_are_told_apart() -> None:
    assert len(CASES) + len(PUBLISHED) >= 40
    assert set(BYTES) >= {"F32", "F16", "BF16"}


def test_it_takes_no_torch(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", SVD)
    words = "import sys; from pathlib import Path; from i2v.models.kinds import kind_of; "
    words += "print(kind_of(Path(sys.argv[1])).family, 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", words, str(folder)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["svd", "False"]


@pytest.mark.parametrize("part", ["model_index.json", "transformer", f"transformer/{WEIGHTS}", "scheduler", "."])
def test_what_may_not_be_read_is_told(part: str) -> None:
    """To somebody who is not root, who may read all."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = make_checkpoint(Path(place) / "model", WAN)
        (folder / part).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            kind = kind_of(folder)
            found = check_files(kind)
        finally:
            os.seteuid(user)
        assert not kind.whole
        assert not found.well
        unread = {problem.id for problem in kind.problems} & {"models.unreadable", "models.no_index"}
        assert unread, kind.problems
        (folder / part).chmod(0o755)
