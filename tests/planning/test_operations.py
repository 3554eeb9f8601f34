"""Operations on fake tensors that are made again, or made by torch's C++: what torch's own way gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.dryrun import work_tracker
from i2v.dryrun.operations import Call
from i2v.dryrun.runner import DryRunner
from i2v.dryrun.work_tracker import WorkTracker
from i2v.families import SPECS
from i2v.plan import Plan
from tests.planning.support import job

aten = torch.ops.aten
CHUNKED = Plan(cfg="split", chunk_frames=1, chunk_pixels=24, decode_frames=2)


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch):
    monkeypatch.setattr(work_tracker, "_SEEN", {})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
def test_a_dry_run_finds_what_it_finds_torchs_way(small_models, family, precision, monkeypatch):
    """The same to the last digit, of both families, and where all was seen before."""
    request = job(32, 48, 4, steps=1)
    plans = [Plan(precision=precision), Plan(**{**vars(CHUNKED), "precision": precision})]

    def found() -> list[object]:
        runner = DryRunner(family, small_models[family], precision)
        return [runner.phases(request, plan) for plan in plans]

    first, again = found(), found()
    assert len(work_tracker._SEEN) > 300, SPECS[family].title
    monkeypatch.setattr(work_tracker, "view", lambda func, args, kwargs: None)
    monkeypatch.setattr(work_tracker.Call, "of", lambda func, args, kwargs: None)
    assert first == again == found()


def lies(result: Tensor | Sequence[Tensor], given: Sequence[Tensor]) -> list[object]:
    """How the tensors of a result lie, and in whose storage."""
    tensors = [result] if isinstance(result, Tensor) else result
    storages = [one.untyped_storage()._cdata for one in given]
    return [
        (
            tuple(one.shape), one.stride(), one.storage_offset(), one.dtype, one.device, one.untyped_storage().nbytes(),
            [storage == one.untyped_storage()._cdata for storage in storages], [one is other for other in given],
        )
        for one in tensors
    ]  # fmt: skip


CALLS: dict[str, Callable[[Tensor, Tensor], Tensor | Sequence[Tensor]]] = {
    "sum": lambda a, b: a + b,
    "sum with itself": lambda a, b: a + a,
    "in place": lambda a, b: a.add_(b),
    "into an argument": lambda a, b: torch.add(a, b, out=b),
    "whole number": lambda a, b: a.int() + 1,
    "number": lambda a, b: a.int() + 1.0,
    "truth": lambda a, b: a.int() + True,
    "other type": lambda a, b: a.to(torch.float16),
    "of a part": lambda a, b: a[1:, ::2] * b[1:, ::2],
    "joined": lambda a, b: torch.cat([a, b], 1),
    "several": lambda a, b: torch.var_mean(a, dim=1),
    "product": lambda a, b: a @ b.t(),
    "split": lambda a, b: a[1:].split([1, 2]),
    "unbound": lambda a, b: a[:, 2:].unbind(),
    "seen otherwise": lambda a, b: a[1:].unsqueeze(1).expand(3, 2, 6).permute(2, 0, 1),
    "flat": lambda a, b: a.view(-1)[3:],
}


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_gives_what_it_gives_torchs_way(name):
    call = CALLS[name]
    with FakeTensorMode() as mode, torch.no_grad():
        mode.cache_enabled = False
        given, trackers = (torch.empty(4, 6), torch.empty(4, 6)), []
        wanted = lies(call(*given), given)
        for _ in range(3):
            given = torch.empty(4, 6), torch.empty(4, 6)
            tracker = WorkTracker()
            with tracker:
                kept = call(*given)
            assert lies(kept, given) == wanted
            trackers.append((tracker.work(), tracker.peak_bytes, tracker.live_bytes))
            del kept, given
        assert trackers[0] == trackers[1] == trackers[2]


def test_calls_that_may_give_something_else_are_no_calls():
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake, constant = torch.empty(3), torch.tensor(2.0)
    real = torch.ones(3)
    assert Call.of(aten.add.Tensor, (fake, fake), {})
    assert Call.of(aten.add.Tensor, (fake, constant), {}) is None
    assert Call.of(aten.add.Tensor, (fake, real), {}) is None
    assert Call.of(aten.zeros.default, ([3],), {}) is None
    assert Call.of(aten.squeeze.default, (fake,), {}) is None


def test_calls_that_differ_are_told_apart():
    with FakeTensorMode():
        one, other, turned = torch.empty(3, 3), torch.empty(3, 3), torch.empty(3, 3).t()
        half = torch.empty(3, 3, dtype=torch.float16)
    calls = [
        *((one, other), (one, one), (one, turned), (turned, one), (one, half), (one, 1), (one, 1.0), (one, True)),
        *((one, [1, 2]), (one, [1], 2), (one, (1, 2))),
    ]
    keys = [Call.of(aten.add.Tensor, args, {}).key for args in calls]
    keys.append(Call.of(aten.add.Tensor, (one, other), {"alpha": 2}).key)
    keys.append(Call.of(aten.sub.Tensor, (one, other), {}).key)
    assert len(set(keys)) == len(keys)
    assert Call.of(aten.add.Tensor, (other, one), {}).key == keys[0]


def test_what_changes_the_shape_of_an_argument_is_done_each_time():
    with FakeTensorMode(), torch.no_grad():
        for _ in range(2):
            a, out = torch.empty(4), torch.empty(0)
            with WorkTracker():
                torch.add(a, a, out=out)
                assert out.shape == (4,)
                out.unsqueeze_(0)
            assert out.shape == (1, 4)
