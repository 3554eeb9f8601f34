"""Models from ModelScope, a hub in China, by its own client. That is an extra (requirements-modelscope.txt): who has
installed it wants ModelScope to be asked too.

Repositories are looked for there under the names that they have on the hub. Where the hub can be reached, its digests
say what is right, and a file that is another one on ModelScope is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from i2v.models.fetch.published import Published, PublishedFile, is_inside
from i2v.models.fetch.tokens import token_for
from i2v.models.fetch.troubles import RangeIgnored, RouteFailed, Trouble, host_of, of_status, trouble_of

_REVISION = "master"  # the newest, as the hub's is main; commits have other names on either
_KIND = "model"
_PIECE_BYTES = 1 << 14  # what waits in a buffer is lost with the connection


def modelscope_installed() -> bool:
    """Whether its client is here."""
    return find_spec("modelscope_hub") is not None


def modelscope_endpoint() -> str:
    """Its address: the one that its client takes."""
    from modelscope_hub.config import HubConfig

    return HubConfig().endpoint


def look_up_on_modelscope(hub_id: str, endpoint: str) -> Published:
    """What ModelScope publishes of `hub_id`. Raises RouteFailed."""
    with _in_our_words(endpoint, Trouble("no_model", host_of(endpoint))):
        listed = _client(endpoint).list_repo_files(hub_id, _KIND, _REVISION, recursive=True)
    files = []
    for one in listed:
        name, size = str(one.get("Path") or ""), one.get("Size")
        if one.get("Type") == "tree" or not is_inside(name):
            continue
        if not isinstance(size, int):
            raise RouteFailed(Trouble("no_sizes", host_of(endpoint)))
        files.append(PublishedFile(name, size, sha256=one.get("Sha256") or None))
    return Published(hub_id, "", tuple(files), endpoint)


class ModelScopeSource:
    """One model's files on ModelScope, as `sources.Source` has the hub's."""

    def __init__(self, published: Published, endpoint: str) -> None:
        self._published, self.endpoint = published, endpoint

    def stream(self, file: PublishedFile, start: int) -> Iterator[bytes]:
        """The file's bytes from `start` on. Raises RouteFailed and RangeIgnored."""
        origin = self._published.origin_of(file)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        missing = Trouble("missing", self.host, file=file.name)
        with _in_our_words(self.endpoint, missing):
            answer = _client(self.endpoint).download_stream(origin.hub_id, _KIND, origin.name, _REVISION, headers)
            with answer:
                if start and answer.status_code != 206:
                    raise RangeIgnored
                yield from answer.iter_content(_PIECE_BYTES)

    @property
    def host(self) -> str:
        return host_of(self.endpoint)


def _client(endpoint: str) -> Any:
    """Its client for files. The token that it keeps itself goes along, but on no way that others can read."""
    from modelscope_hub import HubApi

    return HubApi(endpoint=endpoint, token=None if token_for(endpoint) is None else "").legacy


@contextmanager
def _in_our_words(endpoint: str, not_there: Trouble) -> Iterator[None]:
    """What its client raises, as RouteFailed; `not_there` where it says that there is no such thing."""
    from modelscope_hub.errors import APIError, HubError

    try:
        yield
    except APIError as error:
        status = error.status_code or _status_tried(error)
        if status == 404:
            raise RouteFailed(not_there) from error
        seconds = float(getattr(error, "retry_after", None) or 0)
        raise RouteFailed(of_status(status, seconds, host_of(endpoint), type(error).__name__)) from error
    except (HubError, OSError) as error:  # what it stands on has OSErrors of its own
        trouble = trouble_of(error, endpoint)
        if trouble.kind == "failed":
            trouble = Trouble("unreachable", host_of(endpoint), type(error).__name__)
        raise RouteFailed(trouble) from error


def _status_tried(error: BaseException) -> int:
    """The status that its client gave up on after asking several times: it tells of that by these words alone."""
    found = re.search(r"too many (\d{3}) error responses", str(error))
    return int(found[1]) if found else 0
