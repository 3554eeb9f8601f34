"""The probe, through the real pynvml against a compiled stand-in for the driver's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.memory_group import memory_group
from i2v.hardware.host import computes_bfloat16, disk_free, read_host, within_limit
from i2v.hardware.probe import GIB, Gpu, MemoryProbe, capped, choose_gpu, visible
from i2v.messages import LOCALES, Message, UserError
from tests.stubs import card, stub_environment, stub_library

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys
from pathlib import Path
from i2v.hardware.probe import MemoryProbe
from i2v.messages import UserError
for line in sys.stdin:
    if os.fork():
        os.wait()
        continue
    variables, options = json.loads(line)
    os.environ.update(variables)
    try:
        probe = MemoryProbe(disk_path=Path("."), **options).read()
        print(json.dumps({**probe.to_json(), "torch": "torch" in sys.modules}), flush=True)
    except UserError as error:
        print(json.dumps({"error": error.message.to_json()}), flush=True)
    except BaseException as error:
        print(json.dumps({"fault": repr(error)}), flush=True)
    os._exit(0)
"""
Reader = Callable[..., dict[str, Any]]


@contextmanager
def reading(library: Path) -> Iterator[Reader]:
    """Gives `probe(*entries, driver=..., environ=..., **options)`: what a fresh process reads on a machine with these
    cards, where the driver's library is looked for in `library`. The processes are forked from one that has imported
    the probe and asked nothing."""
    command, environ = [sys.executable, "-c", SCRIPT], stub_environment() | {"LD_LIBRARY_PATH": str(library)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None

        def probe(
            *entries: str, driver: str = "580.65.06", environ: dict[str, str] | None = None, **options: object
        ) -> dict[str, Any]:
            described = stub_environment(*entries, driver=driver)["NVML_STUB"]
            parent.stdin.write(json.dumps([{"NVML_STUB": described, **(environ or {})}, options]) + "\n")
            parent.stdin.flush()
            answer = json.loads(parent.stdout.readline())
            assert "fault" not in answer, answer
            return answer

        yield probe
        parent.stdin.close()


@pytest.fixture(scope="module")
def probe() -> Iterator[Reader]:
    """What the probe reads of cards that the stand-in for the driver's library describes."""
    with reading(stub_library()) as read:
        yield read


def problems_of(values: dict) -> list[str]:
    for problem in values["problems"]:
        for locale in LOCALES:
            assert Message.from_json(problem).render(locale)
    return [problem["id"] for problem in values["problems"]]


@pytest.mark.parametrize(
    ("name", "total_gib", "capability"),
    [
        ("NVIDIA GeForce RTX 2060", 6, (7, 5)),
        ("NVIDIA GeForce RTX 3070", 8, (8, 6)),
        ("NVIDIA GeForce RTX 3060", 12, (8, 6)),
        ("NVIDIA GeForce RTX 5080", 16, (12, 0)),
        ("NVIDIA GeForce RTX 4090", 24, (8, 9)),
        ("NVIDIA H100 80GB HBM3", 80, (9, 0)),
    ],
)
def test_each_card_is_read_whole(probe: Reader, name: str, total_gib: int, capability: tuple[int, int]) -> None:
    read = probe(
        card(name, total_gib=total_gib, used_gib=0.5, capability="{}.{}".format(*capability), uuid="GPU-1b2c-77")
    )
    gpu = read["gpu"]
    assert read["gpus"] == [gpu]
    assert gpu["name"] == name
    assert gpu["uuid"] == "GPU-1b2c-77"
    assert gpu["total_bytes"] == total_gib * GIB
    assert gpu["used_bytes"] == GIB // 2
    assert gpu["free_bytes"] == total_gib * GIB - GIB // 2
    assert gpu["driver"] == "580.65.06"
    assert tuple(gpu["compute_capability"]) == capability
    assert gpu["processes"] == []
    assert gpu["problems"] == []
    assert gpu["simulated"] is False
    assert read["torch"] is False


def test_most_free_memory_wins_not_the_largest_card(probe: Reader) -> None:
    read = probe(card("Large", total_gib=24, used_gib=20), card("Small", total_gib=12, used_gib=1))
    assert [gpu["name"] for gpu in read["gpus"]] == ["Large", "Small"]
    assert read["gpu"]["name"] == "Small"
    assert read["gpu"]["index"] == 1


@pytest.mark.parametrize("wanted", ["0", "GPU-aaaa", "GPU-aaaa-1111-2222", "gpu-aaaa-1111-2222"])
def test_a_card_is_taken_by_index_or_uuid(probe: Reader, wanted: str) -> None:
    cards = (
        card("First", total_gib=6, uuid="GPU-aaaa-1111-2222"),
        card("Second", total_gib=24, uuid="GPU-bbbb-1111-2222"),
    )
    assert probe(*cards, gpu=wanted)["gpu"]["name"] == "First"
    assert probe(*cards)["gpu"]["name"] == "Second"


@pytest.mark.parametrize("wanted", ["2", "GPU-cccc", "rtx"])
def test_a_card_that_is_not_there_is_an_error_that_lists_those_that_are(probe: Reader, wanted: str) -> None:
    error = probe(card("First", uuid="GPU-aaaa"), card("Second", uuid="GPU-bbbb"), gpu=wanted)["error"]
    assert error["id"] == "hardware.no_such_gpu"
    text = Message.from_json(error).render()
    assert all(part in text for part in (wanted, "0: First (GPU-aaaa)", "1: Second (GPU-bbbb)"))


def test_a_card_asked_for_on_a_machine_without_one_is_an_error(probe: Reader) -> None:
    assert probe(gpu="0")["error"]["id"] == "hardware.no_gpu"


def test_programs_on_the_card_are_named_with_their_memory(probe: Reader) -> None:
    here = os.getpid()
    busy = card("Busy", f"proc={here}/1536", "proc=4000000/700", "proc=4000001/-1", total_gib=12, used_gib=2.5)
    processes = probe(busy)["gpu"]["processes"]
    assert processes == [
        {"pid": here, "name": psutil.Process(here).name(), "used_bytes": 1536 * 2**20},
        {"pid": 4000000, "name": "trainer", "used_bytes": 700 * 2**20},
        {"pid": 4000001, "name": "pid 4000001", "used_bytes": None},
    ]


@pytest.mark.parametrize(
    ("failing", "missing"),
    [
        ("memory", {"total_bytes", "free_bytes", "used_bytes"}),
        ("capability", {"compute_capability"}),
        ("name", set()),
        ("uuid", set()),
        ("processes", set()),
        ("graphics", set()),
    ],
)
@pytest.mark.parametrize("code", [3, 4, 999])
def test_a_field_that_fails_costs_only_that_field(probe: Reader, failing: str, missing: set[str], code: int) -> None:
    gpu = probe(card("Odd", f"fail={failing}/{code}", uuid="GPU-odd"))["gpu"]
    figures = {"total_bytes", "free_bytes", "used_bytes", "driver", "compute_capability"}
    assert {key for key in figures if gpu[key] is None} == missing
    assert gpu["name"] == ("NVIDIA GPU 0" if failing == "name" else "Odd")
    assert gpu["uuid"] == ("0" if failing == "uuid" else "GPU-odd")
    assert problems_of(gpu) == ["hardware.field_unreadable"]


def test_an_unreadable_driver_version_is_a_problem_and_no_more(probe: Reader) -> None:
    read = probe(card("Card"), driver="")
    assert read["gpu"]["driver"] is None
    assert read["gpu"]["free_bytes"] == 12 * GIB
    assert problems_of(read) == ["hardware.field_unreadable"]


def test_a_card_that_fell_off_the_bus_leaves_the_others(probe: Reader) -> None:
    read = probe(card("Lost", "fail=handle/15", total_gib=24), card("Well", total_gib=8))
    assert [(gpu["index"], gpu["name"]) for gpu in read["gpus"]] == [(1, "Well")]
    assert problems_of(read) == ["hardware.card_unreadable"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("init:9", "hardware.driver_not_loaded"),
        ("init:18", "hardware.driver_mismatch"),
        ("init:4", "hardware.no_permission"),
        ("init:999", "hardware.nvml_failed"),
        ("count:999", "hardware.nvml_failed"),
    ],
)
def test_a_driver_that_does_not_start_means_no_card_and_says_why(probe: Reader, entry: str, problem: str) -> None:
    read = probe(entry, card("Card"))
    assert read["gpus"] == []
    assert read["gpu"] is None
    assert problems_of(read) == [problem]


def test_no_driver_at_all(tmp_path: Path) -> None:
    """Without the library; the stub's folder is replaced by an empty one."""
    with reading(tmp_path) as probe:
        read = probe()
    if read["gpus"]:
        pytest.skip("this machine has a real driver")
    assert problems_of(read) == ["hardware.no_driver"]
    assert read["host"]["ram_total_bytes"] > 0


def test_parts_of_a_split_card_are_cards_of_their_own(probe: Reader) -> None:
    parent = card("NVIDIA A100", "mig=1", "fail=memory/4", total_gib=40, uuid="GPU-parent")
    read = probe(
        parent, "part:uuid=MIG-one,name=NVIDIA A100 MIG 2g.10gb,total=9856,used=100", "part:uuid=MIG-two,total=4864"
    )
    assert [(gpu["index"], gpu["uuid"]) for gpu in read["gpus"]] == [(0, "MIG-one"), (0, "MIG-two")]
    assert read["gpu"]["uuid"] == "MIG-one"
    assert read["gpu"]["free_bytes"] == 9756 * 2**20


def test_a_split_card_without_parts_is_not_used(probe: Reader) -> None:
    read = probe(card("NVIDIA A100", "mig=1"))
    assert read["gpu"] is None
    assert problems_of(read) == ["hardware.mig_empty"]


def test_a_chip_that_shares_the_hosts_memory_reports_the_hosts(probe: Reader) -> None:
    gpu = probe(card("NVIDIA GB10", "fail=memory/3", capability="12.1"))["gpu"]
    assert gpu["total_bytes"] == psutil.virtual_memory().total
    assert 0 < gpu["free_bytes"] <= gpu["total_bytes"]
    assert problems_of(gpu) == ["hardware.unified_memory"]


def test_a_cap_makes_a_real_card_smaller(probe: Reader) -> None:
    read = probe(card("Large", total_gib=80, used_gib=2), cap_gib=12)
    assert read["gpu"]["total_bytes"] == 12 * GIB
    assert read["gpu"]["free_bytes"] == 10 * GIB
    assert read["gpu"]["used_bytes"] == 2 * GIB
    assert read["gpu"]["simulated"] is False


def test_a_cap_never_makes_a_card_larger_or_freer() -> None:
    full = Gpu(index=0, uuid="GPU-1", name="Full", total_bytes=80 * GIB, free_bytes=3 * GIB, used_bytes=1 * GIB)
    assert capped(full, 12 * GIB).free_bytes == 3 * GIB
    assert capped(full, 100 * GIB) == full
    crowded = Gpu(index=0, uuid="GPU-1", name="Crowded", total_bytes=80 * GIB, free_bytes=40 * GIB, used_bytes=40 * GIB)
    assert (capped(crowded, 12 * GIB).free_bytes, capped(crowded, 12 * GIB).used_bytes) == (0, 12 * GIB)
    mute = Gpu(index=0, uuid="GPU-1", name="Mute")
    assert capped(mute, 12 * GIB).free_bytes == 12 * GIB


def test_a_cap_without_a_card_simulates_one(probe: Reader) -> None:
    read = probe(cap_gib=6)
    assert read["gpu"]["simulated"] is True
    assert (read["gpu"]["uuid"], read["gpu"]["total_bytes"]) == ("SIMULATED", 6 * GIB)


def test_the_processor_is_taken_when_asked_for(probe: Reader) -> None:
    assert probe(card("Card"), cpu=True)["gpu"] is None
    both = probe(card("Card"), cpu=True, cap_gib=8)
    assert both["gpu"]["uuid"] == "SIMULATED"


@pytest.mark.parametrize("cap", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_cap_is_refused(cap: float, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        MemoryProbe(cap_gib=cap, disk_path=tmp_path)
    assert raised.value.message.id == "hardware.bad_cap"


def test_cards_given_to_others_by_the_environment_are_left_alone(probe: Reader) -> None:
    cards = (card("First", total_gib=24, uuid="GPU-aa"), card("Second", total_gib=8, uuid="GPU-bb"))
    assert probe(*cards, environ={"CUDA_VISIBLE_DEVICES": "1"})["gpu"]["name"] == "Second"
    assert probe(*cards, environ={"CUDA_VISIBLE_DEVICES": "GPU-bb"})["gpu"]["name"] == "Second"
    hidden = probe(*cards, environ={"CUDA_VISIBLE_DEVICES": ""})
    assert hidden["gpus"] == []
    assert problems_of(hidden) == ["hardware.hidden"]


def test_the_visible_list_ends_at_the_first_unknown_entry_as_in_cuda() -> None:
    gpus = tuple(Gpu(index=i, uuid=f"GPU-{i}", name="Card", free_bytes=i) for i in range(3))
    assert visible(gpus, {"CUDA_VISIBLE_DEVICES": "2, 0,-1,1"}) == (gpus[2], gpus[0])
    assert visible(gpus, {"CUDA_VISIBLE_DEVICES": "-1"}) == ()
    assert visible(gpus, {"CUDA_VISIBLE_DEVICES": "0,GPU-0"}) == (gpus[0],)
    assert visible(gpus, {}) == gpus


def test_equal_cards_take_the_first_and_a_mute_card_comes_last() -> None:
    mute = Gpu(index=0, uuid="GPU-0", name="Mute")
    equal = tuple(Gpu(index=i, uuid=f"GPU-{i}", name="Card", free_bytes=GIB) for i in (1, 2))
    assert choose_gpu((mute, *equal), None) == equal[0]
    assert choose_gpu((), None) is None


def test_the_host_is_measured(tmp_path: Path) -> None:
    host = MemoryProbe(cpu=True, disk_path=tmp_path / "not" / "there" / "yet").read().host
    assert 0 < host.ram_available_bytes <= host.ram_total_bytes <= psutil.virtual_memory().total
    assert host.cpu_count == len(os.sched_getaffinity(0))
    assert abs(host.disk_free_bytes - psutil.disk_usage(str(tmp_path)).free) < GIB
    assert disk_free(tmp_path / ("x" * 5000)) == 0


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "4000", "memory.current": "1500", "memory.stat": "anon 9\ninactive_file 500\n"}, (4000, 3000)),
        (
            {"memory.max": "4000", "memory.current": "1500", "memory.stat": "active_file 300\ninactive_file 500\n"},
            (4000, 3300),
        ),
        ({"memory.max": "max", "memory.current": "1500"}, (10000, 8000)),
        ({"memory.max": "4000"}, (10000, 8000)),
        ({"memory.max": "9500", "memory.current": "100"}, (9500, 8000)),
        ({"memory/memory.limit_in_bytes": "4000", "memory/memory.usage_in_bytes": "4100"}, (4000, 0)),
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1"}, (10000, 8000)),
        ({}, (10000, 8000)),
    ],
)
def test_a_containers_limit_bounds_the_ram(tmp_path: Path, files: dict[str, str], expected: tuple[int, int]) -> None:
    write_files(tmp_path, files)
    assert within_limit(10000, 8000, tmp_path, tmp_path / "no groups") == expected


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("0::/app.slice/i2v.service\n", (4000, 3000)),
        ("0::/app.slice/i2v.service/worker\n", (4000, 3000)),  # with no limit of its own
        ("0::/app.slice/other.service\n", (6000, 3500)),  # what its neighbours use is not free to it
        ("0::/app.slice\n", (6000, 3500)),
        ("0::/\n", (10000, 8000)),
        ("0::/not/seen/from/here\n", (10000, 8000)),
        ("0::/../app.slice\n", (10000, 8000)),
        ("7:pids:/app.slice\n9:cpu,memory:/job\n0::/\n", (5000, 4900)),  # version 1
        ("no such lines", (10000, 8000)),
    ],
)
def test_the_limits_of_the_group_that_the_app_is_in_bound_the_ram(
    tmp_path: Path, own: str, expected: tuple[int, int]
) -> None:
    files = {
        "app.slice/memory.max": "6000",
        "app.slice/memory.current": "2500",
        "app.slice/i2v.service/memory.max": "4000",
        "app.slice/i2v.service/memory.current": "1000",
        "app.slice/i2v.service/worker/memory.max": "max",
        "app.slice/i2v.service/worker/memory.current": "900",
        "memory/job/memory.limit_in_bytes": "5000",
        "memory/job/memory.usage_in_bytes": "100",
    }
    write_files(tmp_path, files)
    (tmp_path / "own").write_text(own)
    assert within_limit(10000, 8000, tmp_path, tmp_path / "own") == expected


def test_a_process_in_a_group_sees_what_the_kernel_lets_it_have() -> None:
    cap = 512 * 2**20
    with memory_group("test-hardware") as group:
        if group is None:
            pytest.skip("no control group may be made here")
        group.limit(cap)
        look = "from i2v.hardware.host import read_ram; print(*read_ram())"
        seen = subprocess.run(
            [sys.executable, "-c", look], preexec_fn=group.enter, check=True, capture_output=True, text=True
        )
        total, available = map(int, seen.stdout.split())
        assert total == cap
        assert cap / 2 < available < cap


@pytest.mark.parametrize(
    ("described", "fast"),
    [
        ("model name\t: AMD Ryzen 5 5600\nflags\t\t: fpu sse avx avx2 f16c fma\n", False),
        ("flags\t\t: fpu avx2 avx512f avx512bw avx512dq avx512vl\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("flags\t\t: fpu avx2 avx_vnni avx_ne_convert\n", True),
        ("Features\t: fp asimd asimdhp bf16 i8mm\n", True),
        ("Features\t: fp asimd asimdhp\n", False),
        ("processor\t: 0\nnothing else\n", True),
    ],
)
def test_processors_are_known_by_what_they_compute(described: str, fast: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(described)
    assert computes_bfloat16(tmp_path / "cpuinfo") is fast


def test_a_processor_that_nothing_describes_is_taken_to_be_able(tmp_path: Path) -> None:
    assert computes_bfloat16(tmp_path / "cpuinfo")


def test_this_processor_is_judged_as_torch_judges_it() -> None:
    import torch  # here, since the others need none

    assert read_host(Path()).bfloat16 == torch.ops.mkldnn._is_mkldnn_bf16_supported()
