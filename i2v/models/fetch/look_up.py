"""Asks a hub what it publishes of a model. It stands apart from `published`, so that whoever reads what was fetched
earlier loads no library of the network."""

from __future__ import annotations

from huggingface_hub import HfApi

from i2v.models.fetch.published import Published, PublishedFile, is_inside
from i2v.models.fetch.tokens import token_for
from i2v.models.fetch.troubles import RouteFailed, Trouble, host_of

_SECONDS_TO_ANSWER = 30.0


def look_up(hub_id: str, endpoint: str) -> Published:
    """What the hub at `endpoint` publishes of `hub_id` now. Raises what huggingface_hub raises, and RouteFailed
    where files are listed without their sizes."""
    api = HfApi(endpoint=endpoint, token=token_for(endpoint))
    info = api.model_info(hub_id, files_metadata=True, timeout=_SECONDS_TO_ANSWER)
    files = []
    for file in info.siblings or ():
        if file.size is None:  # then nobody could say whether a file is whole
            raise RouteFailed(Trouble("no_sizes", host_of(endpoint)))
        if is_inside(file.rfilename):
            sha256 = file.lfs.sha256 if file.lfs is not None else None
            git_sha1 = file.blob_id if file.lfs is None else None  # of a large file it is that of a pointer
            files.append(PublishedFile(file.rfilename, file.size, sha256, git_sha1))
    return Published(hub_id, str(info.sha), tuple(files), endpoint)
