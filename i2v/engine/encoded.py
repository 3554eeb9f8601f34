"""What encode stages have made, kept by content: the same prompt and the same picture are encoded once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from i2v.engine.checkpoint import Identity
from i2v.families.base import Conditioning, Stage
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.whole_file import write_whole

log = logging.getLogger(__name__)


class EncodedCache:
    """Files in `folder`, one for each stage's result; none where that is None. A file that cannot be read or written
    costs encoding again, no more. Keeping the folder within its budget is others' work."""

    def __init__(self, folder: Path | None, request: GenerationRequest, plan: Plan, identity: Identity) -> None:
        self._folder = folder
        self._request = request.to_json()
        # Another processor rounds otherwise; what one made must not be taken for what the other would.
        self._made_by = [identity.model, identity.program, plan.precision, plan.device, plan.encode_on_host]
        self._inputs = list(zip(((one.kind, one.at) for one in request.inputs), identity.inputs, strict=True))
        self._shape = [request.width, request.height, request.fit, plan.vae_window]
        self._times = [request.num_frames, request.fps]  # which frames of a clip are read

    def has(self, stage: Stage) -> bool:
        """Whether `stage` made the same before."""
        return self._folder is not None and self._path(stage).is_file()

    def get(self, stage: Stage) -> Conditioning | None:
        """What `stage` made for the same before."""
        if self._folder is None:
            return None
        path = self._path(stage)
        try:
            found = load_file(path)
            os.utime(path)  # the folder's budget takes the longest unused first
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError, SafetensorError) as error:
            log.warning("%s cannot be read and is made anew: %s", path, error)
            return None

    def put(self, stage: Stage, made: Conditioning) -> None:
        """Keep what `stage` made."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(stage), save({name: one.clone().contiguous() for name, one in made.items()}))
        except OSError as error:
            log.warning("What %s made is not kept: %s", stage.name, error)

    def _path(self, stage: Stage) -> Path:
        read = {name: self._request[name] for name in stage.reads}
        seen = [one for one in self._inputs if one[0][0] in stage.sees]
        shape = [*self._shape, *self._times] if "video" in stage.sees else self._shape
        content = [self._made_by, stage.name, read, [seen, shape] if stage.sees else None]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.safetensors"
