"""ModelScope is one more way, by its own client, where that is installed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from i2v.models.ask_hubs import look_up
from i2v.models.fetch import routes as known_routes
from i2v.models.fetch.fetch import FetchFailed
from i2v.models.fetch.modelscope import look_up_on_modelscope
from i2v.models.fetch.record import read_record
from i2v.models.fetch.routes import Route, look_up_by, routes_for
from i2v.models.fetch.routes import look_up_by as by_route
from i2v.models.fetch.troubles import RouteFailed
from tests.fetch.support import LARGE, REPO, SIZES, Fetching, kinds
from tests.hub_server import Hub, serve_hub

pytestmark = pytest.mark.drives
pytest.importorskip("modelscope_hub", reason="an extra, requirements-modelscope.txt")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its client keeps is nobody's."""
    for name in ("MODELSCOPE_HOME", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "modelscope"))
    for name in ("MODELSCOPE_API_TOKEN", "MODELSCOPE_DOMAIN", "MODELSCOPE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def scope(mirror: Hub) -> Route:
    return Route("modelscope", mirror.url)


def test_it_is_the_last_of_the_ways_and_its_client_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert routes_for(None)[-1].name == "modelscope"
    assert routes_for(None)[-1].endpoint.startswith("https://")
    monkeypatch.setattr(known_routes, "modelscope_installed", lambda: False)
    assert not any(route.of_modelscope for route in routes_for("https://mirror.example"))


def test_what_the_hub_publishes_comes_from_it(hub: Hub, mirror: Hub, scope: Route, fetching: Fetching) -> None:
    published = look_up(REPO, [scope, Route("plain", hub.url)])
    assert published.endpoint == hub.url, "the hub's own digests count where it can be reached"
    hub.file_status = 500
    assert fetching.by([Route("plain", hub.url), scope], published) == scope
    assert fetching.whole()
    record = read_record(fetching.folder)
    assert (record.route, {file.digest for file in record.files}) == (
        "modelscope",
        {file.digest for file in published.files},
    )


def test_where_no_hub_can_be_reached_it_says_itself_what_is_right(
    mirror: Hub, scope: Route, fetching: Fetching
) -> None:
    published = look_up(REPO, [Route("plain", "http://127.0.0.1:9"), scope])
    assert {file.name: file.size_bytes for file in published.files} == SIZES
    assert all(file.sha256 for file in published.files)
    assert fetching.by([scope], published) == scope
    assert fetching.whole()
    mirror.fetched.clear()
    assert fetching.by([scope], published) is None
    assert mirror.fetched == []


def test_it_goes_on_at_the_byte_where_another_way_stopped(
    hub: Hub, mirror: Hub, scope: Route, fetching: Fetching
) -> None:
    published = by_route(Route("plain", hub.url), REPO)
    hub.file_stalls_after = 100_000
    assert fetching.by([Route("plain", hub.url), scope], published) == scope
    assert fetching.whole()
    assert hub.served_bytes + mirror.served_bytes == sum(SIZES.values())


def test_a_connection_that_breaks_goes_on(mirror: Hub, scope: Route, fetching: Fetching) -> None:
    published = look_up_by(scope, REPO)
    mirror.break_after = SIZES[LARGE] // 4
    assert fetching.by([scope], published) == scope
    assert fetching.whole()
    assert mirror.served_bytes < 1.2 * sum(SIZES.values())


def test_another_file_of_that_name_is_not_taken(
    hub: Hub, scope: Route, fetching: Fetching, repository: Path, tmp_path: Path, mirror: Hub
) -> None:
    published = by_route(Route("plain", hub.url), REPO)
    other = tmp_path / "other"
    (other / "unet").mkdir(parents=True)
    (other / LARGE).write_bytes(random.Random(5).randbytes(SIZES[LARGE]))
    mirror.repos = {REPO: other}
    hub.file_status = 500
    with pytest.raises(FetchFailed) as failed:
        fetching.by([Route("plain", hub.url), scope], published.only([LARGE]))
    assert "wrong_contents" in kinds(failed)
    assert LARGE not in fetching.names()


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "forbidden"), (403, "forbidden"), (429, "busy"), (500, "server"), (404, "missing")]
)
def test_what_it_refuses_is_told(status: int, kind: str, mirror: Hub, scope: Route, fetching: Fetching) -> None:
    published = look_up_by(scope, REPO).only(["unet/config.json"])
    mirror.file_status = status
    with pytest.raises(FetchFailed) as failed:
        fetching.by([scope], published)
    assert set(kinds(failed)) == {kind}


def test_a_model_that_it_does_not_have(scope: Route) -> None:
    with pytest.raises(RouteFailed) as failed:
        look_up_on_modelscope("nobody/nothing", scope.endpoint)
    assert failed.value.trouble.kind == "no_model"


def test_its_token_goes_no_way_that_others_can_read(
    repository: Path, scope: Route, mirror: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-0123456789")
    look_up_on_modelscope(REPO, scope.endpoint)
    assert "Bearer ms-0123456789" in mirror.tokens, "on this machine it does"
    with serve_hub({REPO: repository}) as open_hub:
        monkeypatch.setattr("i2v.models.fetch.modelscope.token_for", lambda _endpoint: False)
        look_up_on_modelscope(REPO, open_hub.url)
        assert set(open_hub.tokens) == {None}


def test_where_it_ignores_from_where_a_file_is_wanted_the_file_begins_anew(
    hub: Hub, mirror: Hub, scope: Route, fetching: Fetching
) -> None:
    published = by_route(Route("plain", hub.url), REPO)
    hub.file_stalls_after, mirror.file_ranges_ignored = 100_000, True
    assert fetching.by([Route("plain", hub.url), scope], published) == scope
    assert fetching.whole()
