"""A published file's bytes from a place on, as one route brings them. What is of the network is huggingface_hub's: its
client, its tokens, its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import httpx2
from huggingface_hub import get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from i2v.models.fetch.published import Published, PublishedFile
from i2v.models.fetch.tokens import token_for
from i2v.models.fetch.troubles import RangeIgnored, RouteFailed, Trouble, host_of, seconds_off, trouble_of

_TIMEOUTS = httpx2.Timeout(30.0, connect=10.0)
_NEWEST = "main"  # where a file's revision is not known, since ModelScope has listed it


class Source:
    """One model's published files on one hub. With `xet`, large files come from Xet's storage in chunks."""

    def __init__(self, published: Published, endpoint: str, *, xet: bool) -> None:
        self._published, self.endpoint, self._xet = published, endpoint, xet
        self._headers = build_hf_headers(token=token_for(endpoint)) | {"Accept-Encoding": "identity"}

    def stream(self, file: PublishedFile, start: int) -> Iterator[bytes]:
        """The file's bytes from `start` on. Raises RouteFailed, RangeIgnored, and what the network raises."""
        place = _xet_place(self._url(file), self.endpoint) if self._xet and file.sha256 and xet_installed() else None
        return self._by_http(file, start) if place is None else self._by_xet(file, start, place)

    def _url(self, file: PublishedFile) -> str:
        origin = self._published.origin_of(file)
        return hf_hub_url(origin.hub_id, origin.name, revision=origin.revision or _NEWEST, endpoint=self.endpoint)

    def _by_http(self, file: PublishedFile, start: int) -> Iterator[bytes]:
        headers = self._headers | ({"Range": f"bytes={start}-"} if start else {})
        with get_session().stream("GET", self._url(file), headers=headers, timeout=_TIMEOUTS) as response:
            self._check_answer(response)
            if start and response.status_code != 206:
                raise RangeIgnored
            size = _told_size(response)
            if size is not None and size != file.size_bytes:
                raise RouteFailed(Trouble("wrong_size", self.host, file=file.name))
            yield from response.iter_bytes()  # as they come: what waits in a buffer is lost with the connection

    def _check_answer(self, response: httpx2.Response) -> None:
        """Raise what an answer with an error means. A signed address, a redirect's, is refused where clocks differ."""
        try:
            hf_raise_for_status(response)
        except httpx2.HTTPError as error:
            trouble = trouble_of(error, self.endpoint)
            off = seconds_off(response.headers.get("Date"), time.time())
            if trouble.kind == "forbidden" and off:
                trouble = Trouble("clock", self.host, response.headers.get("Date", ""))
            raise RouteFailed(trouble) from error

    def _by_xet(self, file: PublishedFile, start: int, place: Any) -> Iterator[bytes]:
        from hf_xet import XetFileInfo
        from huggingface_hub.utils._xet import get_xet_session, refresh_xet_connection_info, xet_headers_without_auth

        info = refresh_xet_connection_info(file_data=place, headers=self._headers)
        group = get_xet_session().new_download_stream_group(
            endpoint=info.endpoint,
            token=info.access_token,
            token_expiry_unix_secs=info.expiration_unix_epoch,
            token_refresh_url=place.refresh_route,
            token_refresh_headers=self._headers,
            custom_headers=xet_headers_without_auth(self._headers),
        )
        yield from group.download_stream(XetFileInfo(place.file_hash, file.size_bytes), start=start)
        with suppress(Exception):  # it only tells Xet that all is well
            group.finish()

    @property
    def host(self) -> str:
        return host_of(self.endpoint)


@cache
def xet_installed() -> bool:
    """Whether Xet's client is here, and not turned off by its own variable."""
    try:
        from hf_xet import XetSession
        from huggingface_hub import constants

        return hasattr(XetSession, "new_download_stream_group") and not constants.HF_HUB_DISABLE_XET
    except ImportError:
        return False


def _xet_place(url: str, endpoint: str) -> Any:
    """Where Xet has the file; None where the hub does not have it there."""
    from huggingface_hub import get_hf_file_metadata

    return get_hf_file_metadata(url, endpoint=endpoint, token=token_for(endpoint)).xet_file_data


def _told_size(response: httpx2.Response) -> int | None:
    """The whole file's size as an answer tells it."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    told = response.headers.get("Content-Range", "").rpartition("/")[2] if response.status_code == 206 else ""
    told = told or response.headers.get("Content-Length", "")
    return int(told) if told.isdigit() else None
