"""A model's files come whole by one route or another, or somebody is told why not; nothing half there has its name."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

import pytest

from i2v.models.fetch import routes as known_routes
from i2v.models.fetch.contents import digest_if_right
from i2v.models.fetch.fetch import FetchFailed, fetch
from i2v.models.fetch.look_up import look_up
from i2v.models.fetch.parts import part_bytes
from i2v.models.fetch.record import read_record
from i2v.models.fetch.routes import Route, remember, remembered_first, routes_for
from i2v.models.fetch.sources import Source
from i2v.models.fetch.stall import StallLimits, StallWatch
from i2v.models.fetch.tokens import token_for
from i2v.models.fetch.troubles import Trouble
from tests.fetch.support import LARGE, REPO, SHORT, SIZES, SLOW, Enough, Fetching, kinds
from tests.hub_server import Hub, make_certificate, serve_hub, store_in_xet

pytestmark = pytest.mark.drives

USUAL = StallLimits()


def test_the_second_run_takes_no_byte(hub: Hub, fetching: Fetching) -> None:
    assert fetching(hub) == Route("plain", hub.url)
    assert fetching.whole()
    total = sum(SIZES.values())
    assert hub.served_bytes == total
    assert fetching.progress[-2] == (total, total)
    done = [step[0] for step in fetching.progress[:-1]]
    assert done == sorted(done)
    record = read_record(fetching.folder)
    assert record is not None
    assert (record.hub_id, record.route, len(record.files)) == (REPO, "plain", len(SIZES))
    hub.fetched.clear()
    assert fetching(hub) is None
    assert hub.fetched == []
    # Without the record files are read, and nothing is fetched.
    (fetching.folder / ".i2v-fetched.json").write_text("{}")
    assert fetching(hub) is None
    assert (hub.fetched, hub.served_bytes) == ([], total)
    assert read_record(fetching.folder).files == record.files


def test_one_flipped_bit_is_fetched_again(hub: Hub, fetching: Fetching) -> None:
    fetching(hub)
    data = bytearray((fetching.folder / LARGE).read_bytes())
    data[7] ^= 1
    (fetching.folder / LARGE).write_bytes(data)
    hub.fetched.clear()
    with pytest.raises(AssertionError):
        fetching.look(0, 0)
    fetch(look_up(REPO, hub.url), fetching.folder, [Route("plain", hub.url)], on_progress=lambda *_: None)
    assert hub.fetched == [LARGE]
    assert fetching.whole()


@pytest.fixture
def xet(hub: Hub, repository: Path, tmp_path: Path) -> Route:
    """The hub has its large file in Xet's storage as well."""
    hub.xet_storage = tmp_path / "xet"
    hub.xet_storage.mkdir()
    hub.xet_hashes = {Path(LARGE).name: store_in_xet(repository / LARGE, hub.xet_storage)}
    return Route("xet", hub.url, xet=True)


def test_by_xet_a_file_goes_on_at_its_byte(hub: Hub, xet: Route, fetching: Fetching) -> None:
    published = look_up(REPO, hub.url).only([LARGE])
    hub.file_stalls_after = 150_000
    fetching.stop_at(150_000, hub, published)
    hub.file_stalls_after, hub.file_status = None, 500
    assert fetching.by([xet], published) == xet
    assert digest_if_right(fetching.folder / LARGE, published.files[0])
    assert hub.served_bytes == 150_000
    data = (fetching.folder / LARGE).read_bytes()
    assert b"".join(Source(published, hub.url, xet=True).stream(published.files[0], 150_001)) == data[150_001:]


@pytest.mark.parametrize("trouble", ["gone", "other contents"])
def test_what_xet_does_not_bring_comes_by_http(
    trouble: str, hub: Hub, xet: Route, fetching: Fetching, tmp_path: Path
) -> None:
    published = look_up(REPO, hub.url)
    if trouble == "gone":
        hub.xet_hashes = {Path(LARGE).name: "0123456789abcdef" * 4}
    else:
        (tmp_path / "other").write_bytes(random.Random(4).randbytes(SIZES[LARGE]))
        hub.xet_hashes = {Path(LARGE).name: store_in_xet(tmp_path / "other", hub.xet_storage)}
    assert fetching.by([xet, Route("plain", hub.url)], published).name == "plain"
    assert fetching.whole()
    kind = fetching.notes[0].params["said"]["id"]
    assert kind == ("models.trouble_wrong_contents" if trouble == "other contents" else "models.trouble_unreachable")


TROUBLES = {
    "stalls": ({"file_stalls_after": 50_000}, "silent"),
    "is slow": ({"file_piece_seconds": 0.4}, "slow"),
    "breaks off": ({"break_after": 0}, "unreachable"),
    "is corrupt": ({"file_corrupt": True}, "wrong_contents"),
    "has more": ({"file_longer": 5}, "wrong_size"),
    "has less": ({"file_longer": -5}, "wrong_size"),
    "has more and does not tell": ({"file_longer": 5, "file_length_untold": True}, "wrong_size"),
    "has less and does not tell": ({"file_longer": -5, "file_length_untold": True}, "wrong_size"),
    "401": ({"file_status": 401}, "forbidden"),
    "403": ({"file_status": 403}, "forbidden"),
    "403 for its clock": ({"file_status": 403, "seconds_off": -90_000}, "clock"),
    "404": ({"file_status": 404, "error_code": "EntryNotFound"}, "missing"),
    "429 for long": ({"file_status": 429, "retry_after": "3600"}, "busy"),
    "500": ({"file_status": 500}, "server"),
    "leads nowhere": ({"redirect_to": "http://127.0.0.1:9"}, "unreachable"),
    "leads in a circle": ({"redirect_to": "itself"}, "unreachable"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_another_route_brings_what_one_does_not(trouble: str, hub: Hub, mirror: Hub, fetching: Fetching) -> None:
    published = look_up(REPO, hub.url)
    settings, kind = TROUBLES[trouble]
    for name, value in settings.items():
        setattr(hub, name, hub.url if value == "itself" else value)
    limits = SLOW if kind == "slow" else SHORT
    assert fetching(hub, mirror, published=published, limits=limits).name == "mirror"
    assert fetching.whole()
    assert [note.params["said"]["id"] for note in fetching.notes] == [f"models.trouble_{kind}"]
    if trouble == "stalls":  # what came before counts
        assert mirror.served_bytes + hub.served_bytes == sum(SIZES.values())


@pytest.mark.parametrize("trouble", ["stalls", "breaks off", "is corrupt", "403", "500"])
def test_where_no_route_brings_it_each_is_named(trouble: str, hub: Hub, mirror: Hub, fetching: Fetching) -> None:
    published = look_up(REPO, hub.url)
    settings, kind = TROUBLES[trouble]
    for name, value in settings.items():
        value = 0 if name == "file_stalls_after" else value  # with a byte each time it would be whole at last
        setattr(hub, name, value)
        setattr(mirror, name, value)
    with pytest.raises(FetchFailed) as failed:
        fetching(hub, mirror, published=published)
    assert set(kinds(failed)) == {kind}
    assert {route.name for route, _ in failed.value.said} == {"plain", "mirror"}
    assert LARGE not in fetching.names()
    fetching.look(0, 0)


def test_where_every_way_is_slow_a_slow_one_is_taken(hub: Hub, fetching: Fetching) -> None:
    hub.file_piece_seconds = 0.2
    assert fetching(hub, limits=SLOW).name == "plain"
    assert fetching.whole()
    assert hub.served_bytes < 1.5 * sum(SIZES.values())
    assert [note.params["said"]["id"] for note in fetching.notes] == ["models.trouble_slow"], "and not left again"


def test_a_connection_that_breaks_at_every_tenth_goes_on_at_its_byte(hub: Hub, fetching: Fetching) -> None:
    hub.break_after = SIZES[LARGE] // 10
    assert fetching(hub).name == "plain"
    assert fetching.whole()
    assert hub.served_bytes == sum(SIZES.values())


def test_where_ranges_are_ignored_a_file_begins_anew(hub: Hub, fetching: Fetching) -> None:
    published = look_up(REPO, hub.url)
    hub.file_stalls_after = 100_000
    fetching.stop_at(90_000, hub, published)
    hub.file_stalls_after, hub.file_ranges_ignored = None, True
    fetching(hub, published=published)
    assert fetching.whole()


def test_a_file_that_is_not_as_published_stays_until_the_other_has_come(hub: Hub, fetching: Fetching) -> None:
    """It may be somebody's own, and a download that fails is to leave no less than it found."""
    published = look_up(REPO, hub.url)
    own = random.Random(6).randbytes(SIZES[LARGE])
    (fetching.folder / LARGE).parent.mkdir(parents=True)
    (fetching.folder / LARGE).write_bytes(own)
    hub.file_status = 500
    with pytest.raises(FetchFailed):
        fetch(published, fetching.folder, [Route("plain", hub.url)], on_progress=lambda *_: None, limits=SHORT)
    assert (fetching.folder / LARGE).read_bytes() == own
    hub.file_status, hub.file_piece_seconds = None, 0.02

    def stop(done: int, _total: int) -> None:
        if done > 200_000:
            raise Enough

    with pytest.raises(Enough):
        fetch(published, fetching.folder, [Route("plain", hub.url)], on_progress=stop, limits=SHORT)
    assert (fetching.folder / LARGE).read_bytes() == own
    hub.file_piece_seconds = 0.0
    fetch(published, fetching.folder, [Route("plain", hub.url)], on_progress=lambda *_: None, limits=SHORT)
    assert fetching.whole()


def test_a_beginning_that_is_wrong_costs_no_route(hub: Hub, mirror: Hub, fetching: Fetching) -> None:
    """One hub sends wrong bytes and stalls; the next is not blamed for them."""
    published = look_up(REPO, hub.url).only([LARGE])
    hub.file_corrupt, hub.file_stalls_after = True, 300_000
    fetching.stop_at(300_000, hub, published)
    file = published.files[0]
    assert part_bytes(fetching.folder, file) == 300_000
    assert fetching(mirror, published=published).name == "plain"
    assert digest_if_right(fetching.folder / LARGE, file) == file.digest


def test_a_hub_that_asks_for_patience_gets_it(hub: Hub, mirror: Hub, fetching: Fetching) -> None:
    hub.file_status, hub.file_busy, hub.retry_after = 429, 1, "1"
    began = time.monotonic()
    assert fetching(hub, mirror).name == "plain"
    assert time.monotonic() - began >= 1
    assert fetching.whole()
    assert [note.id for note in fetching.notes] == ["models.fetch_waits"]


def test_behind_a_gate_no_other_door_is_tried(hub: Hub, mirror: Hub, fetching: Fetching) -> None:
    hub.file_status, hub.error_code = 403, "GatedRepo"
    with pytest.raises(FetchFailed) as failed:
        fetching(hub, mirror)
    assert kinds(failed) == ["gated"]
    assert mirror.fetched == []


def test_a_token_goes_to_the_hub_and_nowhere_else(
    hub: Hub, mirror: Hub, fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    hub.redirect_to = mirror.url.replace("127.0.0.1", "localhost")
    fetching(hub)
    assert fetching.whole()
    assert set(hub.tokens) == {"Bearer hf_0123456789"}
    assert set(mirror.tokens) == {None}
    for file in fetching.folder.rglob("*"):
        assert not file.is_file() or b"hf_0123456789" not in file.read_bytes()


@pytest.mark.parametrize(("days", "kind"), [(2, "certificate"), (-1, "clock")])
def test_a_certificate_is_trusted_or_named(
    days: int, kind: str, repository: Path, fetching: Fetching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, days=days)
    with serve_hub({REPO: repository}) as open_hub:
        published = look_up(REPO, open_hub.url)
    with serve_hub({REPO: repository}, certificate=certificate) as hub:
        if kind == "clock":
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "signed.pem"))
        with pytest.raises(FetchFailed) as failed:
            fetching(hub, published=published)
        assert kinds(failed) == [kind]
        if kind == "certificate":
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "signed.pem"))
            fetching(hub, published=published)
            assert fetching.whole()


@pytest.mark.skipif(not socket.has_ipv6, reason="without IPv6")
def test_a_hub_of_ipv6_alone(repository: Path, fetching: Fetching) -> None:
    try:
        server = serve_hub({REPO: repository}, host="::1")
        with server as hub:
            fetching(hub)
    except OSError:
        pytest.skip("this machine has no loopback of IPv6")
    assert fetching.whole()


def test_the_route_that_worked_comes_first_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_routes, "modelscope_installed", lambda: False)
    routes = routes_for("https://mirror.example")
    assert routes[0].name == "mirror"
    assert {route.endpoint for route in routes_for(None)} == {"https://huggingface.co"}
    assert remembered_first(routes, tmp_path) == routes
    remember(routes[-1], tmp_path)
    assert remembered_first(routes, tmp_path) == (routes[-1], *routes[:-1])
    assert remembered_first(routes_for("https://other.example"), tmp_path)[0] == routes[-1]
    (tmp_path / ".i2v-route.json").write_text("[]")
    assert remembered_first(routes, tmp_path) == routes


def test_when_a_download_has_stopped() -> None:
    def told(steps: list[tuple[float, int]], limits: StallLimits = USUAL) -> list[str | None]:
        watch = StallWatch(limits, 0.0)
        return [watch.stalled(moment, count) for moment, count in steps]

    assert told([(29.9, 0), (30.0, 0)]) == [None, "silent"]
    assert told([(29.9, 1), (59.8, 1), (59.9, 1)]) == [None, None, "silent"]
    slow = [(float(second), 99_999 * second) for second in range(1, 200)]
    assert told(slow) == [None] * 119 + ["slow"] * 80
    assert told([(moment, count + 300) for moment, count in slow][:119]) == [None] * 119
    fast = [(float(second), 100_000 * second) for second in range(1, 200)]
    assert told(fast) == [None] * 199
    assert told(slow, StallLimits(slow_bytes_per_second=0)) == [None] * 199
    # Fast first and slow later: the two minutes are the last ones.
    steps = [(float(second), 10**9 + 1000 * second) for second in range(1, 250)]
    assert told(steps).index("slow") in (119, 120, 121)
    watch = StallWatch(StallLimits(), 0.0)
    watch.stalled(29.0, 0)
    watch.restart(29.5, 0)
    assert watch.stalled(59.0, 0) is None
    assert watch.stalled(59.5, 0) == "silent"


def test_a_token_goes_no_way_that_others_can_read() -> None:
    assert token_for("https://mirror.example") is None
    assert token_for("http://127.0.0.1:8080") is None
    assert token_for("http://mirror.example") is False


def test_a_trouble_travels_unchanged() -> None:
    trouble = Trouble("busy", "hub.example", "HTTPError", "a file", 429, 3.5)
    assert Trouble.from_json(trouble.to_json()) == trouble
