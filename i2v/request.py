"""What a person asks for: one frozen dataclass, the same from page, command line and API client."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Task = Literal["i2v", "t2v", "v2v"]
TASKS: tuple[Task, ...] = ("i2v", "t2v", "v2v")

Fit = Literal["crop", "crop_left", "crop_right", "crop_top", "crop_bottom", "pad"]
FITS: tuple[Fit, ...] = ("crop", "crop_left", "crop_right", "crop_top", "crop_bottom", "pad")
"""Of a photograph of another shape: the middle, the part at one edge, or the whole with its edges filled."""

AUTO = "auto"


@dataclass(frozen=True)
class PlanOptions:
    """The plan decisions a person may fix; `None` leaves the decision to us (written "auto" by people).

    `precision`: float32 | float16 | bfloat16.  `chunk_frames`, `decode_frames`: frames at once, 0 means all.
    `chunk_pixels`: latent pixels at once in temporal layers, 0 means all.  `cfg`: batch | split.
    `offload`: resident | staged | streamed.  `preset`: name of a file in presets/.
    `policy`: lossless | balanced | smallest.
    """

    preset: str | None = None
    precision: str | None = None
    chunk_frames: int | None = None
    chunk_pixels: int | None = None
    cfg: str | None = None
    offload: str | None = None
    decode_frames: int | None = None
    policy: str | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """A complete, validated request. Sizes are of the finished video, in pixels; `fps` frames per second.

    `image_path` names the picture as stored in the job folder once the job exists. `seed` is always set:
    whoever builds the request draws one when the person gave none, so that a result can be made again.
    `region` says what is to live in the photograph, as `video.region` writes it; None leaves that to the model. `way`:
    where water or clouds go there, x right and y down, of length 1.
    """

    model: str
    prompt: str
    width: int
    height: int
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    task: Task = "i2v"
    negative_prompt: str = ""
    image_path: str | None = None
    fit: Fit = "crop"
    region: str | None = None
    way: tuple[float, float] | None = None
    options: PlanOptions = field(default_factory=PlanOptions)

    def to_json(self) -> dict[str, Any]:
        """This request as plain JSON values; `from_json` reads it back unchanged."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GenerationRequest:
        """Read back what `to_json` wrote; keys of newer versions are ignored."""
        known = {f.name for f in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        known_options = {f.name for f in fields(PlanOptions)}
        options = {k: v for k, v in (kept.pop("options", None) or {}).items() if k in known_options}
        if kept.get("way") is not None:
            x, y = kept["way"]  # a list in JSON
            kept["way"] = x, y
        return cls(options=PlanOptions(**options), **kept)
