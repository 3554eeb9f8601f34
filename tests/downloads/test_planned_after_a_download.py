"""A job that waited for its model is planned when that has come: on what is free then, and with the files that came."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from machines import card
from one_child import one_planning_child
from safetensors.numpy import load_file, save_file

from i2v.families.i2vgen_xl.spec import SPEC
from i2v.hardware.probe import GIB, MemoryProbe, Probe
from i2v.jobs.asked.plans import Plans
from i2v.jobs.job.predicted import kept_prediction
from i2v.jobs.job.record import JobStatus
from i2v.jobs.service import JobService
from i2v.models.mapped import mapped_components
from i2v.plan import Prediction
from tests.downloads.support import NAME, OTHER, OTHER_ID, REPO, STOP, settings_for, state
from tests.hub_server import Hub, serve_hub
from tests.jobs_support import SCRIPTED, small_picture, values, wait_until
from tests.warm_support import shared, small_checkpoint

pytestmark = pytest.mark.drives
SIZE = {"width": 256, "height": 256, "frames": 16}
FIRST_GIB, THEN_GIB = 11, 3


class Changing(MemoryProbe):
    """A machine of whose card so much is free as a test says."""

    def __init__(self, free_gib: float) -> None:
        self.free_gib = free_gib

    def read(self) -> Probe:
        return card(self.free_gib, 12)


@pytest.fixture(scope="module", autouse=True)
def _one_child() -> Iterator[None]:
    with one_planning_child():
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of I2VGen-XL's family that is much smaller than the published one, in float32."""
    return small_checkpoint(tmp_path_factory.mktemp("full") / "small")


@pytest.fixture(scope="module")
def half(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in float16."""
    folder = shutil.copytree(full, tmp_path_factory.mktemp("half") / "small")
    for file in folder.rglob("*.safetensors"):
        numbers = load_file(file)
        save_file(
            {name: one.astype(np.float16) if one.dtype == np.float32 else one for name, one in numbers.items()}, file
        )
    return folder


@pytest.fixture
def plans() -> Iterator[Plans]:
    """Without a ledger: what a scripted engine takes says nothing."""
    made = Plans(None, shared().start)
    yield made
    made.close()


def finished(service: JobService, job: str) -> tuple[JobStatus, Prediction]:
    wait_until(lambda: service.status(job).state == "done")
    status = service.status(job)
    predicted = kept_prediction(status.folder)
    assert predicted is not None, "it ran under the plan that it was sent with"
    return status, predicted


def ran_after_its_download(
    folder: Path, hub: Hub, plans: Plans, name: str, download_id: str
) -> tuple[JobStatus, Prediction]:
    """A job whose model was not there when it was sent, and had come when it ran; held against a second one, for which
    the model was there from the beginning."""
    machine, asked = Changing(FIRST_GIB), values(model=name, **SIZE)
    settings, picture = settings_for(folder, hub, cpu=False, preset="12gb"), small_picture(folder)
    with JobService(settings, machine, worker_command=SCRIPTED, plans=plans) as service:
        hub.file_stalls_after = STOP
        job = service.submit(asked, picture)
        wait_until(lambda: state(service.downloads, name) == "coming", 60)
        sent = service.status(job)
        machine.free_gib = THEN_GIB
        service.downloads.pause(download_id)
        hub.file_stalls_after = None
        service.downloads.resume(download_id)
        ran, predicted = finished(service, job)
        then, expected = finished(service, service.submit(asked, picture))
    assert ran.seconds_predicted < sent.seconds_predicted, "the small one is foretold, and no download"
    assert predicted.exact
    assert predicted.budget_bytes == THEN_GIB * GIB, "what was free when its turn came"
    assert predicted.peak.weights_bytes < 2**24, "those of the small one, which are a thousandth of the published"
    assert ran.plan == then.plan
    peaks, others = ([(one.name, one.peak_bytes) for one in each.phases] for each in (predicted, expected))
    assert peaks == others
    assert predicted.ram_peak_bytes == expected.ram_peak_bytes
    return ran, predicted


def test_it_is_planned_for_the_files_that_came(full: Path, half: Path, plans: Plans, tmp_path: Path) -> None:
    """The name is that of the published model, and what the hub has under it is smaller. What can be computed with as
    it lies in its files takes no RAM of its own."""
    ram_bytes = {}
    for kind, repository in {"full": full, "half": half}.items():
        folder = tmp_path / kind
        folder.mkdir()
        with serve_hub({REPO: repository}) as hub:
            _, predicted = ran_after_its_download(folder, hub, plans, NAME, NAME)
        mapped = mapped_components(folder / "models" / NAME, SPEC, "float16")
        assert ("unet" in mapped) is (kind == "half")
        ram_bytes[kind] = predicted.ram_peak_bytes
    assert ram_bytes["half"] < ram_bytes["full"]


def test_a_model_that_nobody_knew_before_is_planned_when_it_has_come(full: Path, plans: Plans, tmp_path: Path) -> None:
    """Of one that is named by its hub id alone the index is there when the job is sent, and no configuration."""
    with serve_hub({OTHER: full}) as hub:
        ran_after_its_download(tmp_path, hub, plans, OTHER, OTHER_ID)
