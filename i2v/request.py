"""What a person asks for: one frozen dataclass, the same from page, command line and API client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

Task = Literal["i2v", "t2v", "v2v"]
TASKS: tuple[Task, ...] = ("i2v", "t2v", "v2v")

Fit = Literal["crop", "crop_left", "crop_right", "crop_top", "crop_bottom", "pad"]
FITS: tuple[Fit, ...] = ("crop", "crop_left", "crop_right", "crop_top", "crop_bottom", "pad")
"""Of a photograph of another shape: the middle, the part at one edge, or the whole with its edges filled."""

GuidanceCurve = Literal["constant", "falling", "rising", "cosine"]
GUIDANCE_CURVES: tuple[GuidanceCurve, ...] = ("constant", "falling", "rising", "cosine")
"""Guidance over the steps: as asked in all of them, or twice as far beyond 1 at one end and none at the other."""

InputKind = Literal["image", "video", "audio"]

AUTO = "auto"


@dataclass(frozen=True)
class Input:
    """Something that a video is made from. `path` names the file as stored in the job folder once the job exists.

    `at`: the frame that an image becomes, 0 the first and -1 the last; None for a clip or a sound, which belong to all
    frames. `strength`: how far the video may go from it, from 0, which gives it back, to 1."""

    kind: InputKind
    path: str
    at: int | None = 0
    strength: float = 1.0


@dataclass(frozen=True)
class Adapter:
    """A LoRA that changes the model's weights, by `weight` times what it was trained to. `source`: the name of
    a file in the folder of LoRAs, or the file; `digest`: of the file's contents, so that a run is only gone on with
    under the same weights."""

    source: str
    weight: float = 1.0
    digest: str = ""

    @property
    def without_place(self) -> Adapter:
        """The same without the name of its file, which changes nothing in a video where the contents are known."""
        return replace(self, source="") if self.digest else self


@dataclass(frozen=True)
class PlanOptions:
    """The plan decisions a person may fix; `None` leaves the decision to us (written "auto" by people).

    `precision`: float32 | float16 | bfloat16.  `chunk_frames`, `decode_frames`: frames at once, 0 means all.
    `decode_rows`: rows of latents at once in an autoencoder of videos, 0 means all.
    `chunk_pixels`: latent pixels at once in temporal layers, 0 means all.  `chunk_tokens`: tokens at once in a
    transformer, 0 means all.  `cfg`: batch | split.
    `offload`: resident | staged | streamed.  `preset`: name of a file in presets/.
    `vae_window`: own, or frames x rows x columns of latents, such as 17x16x16.  `policy`: lossless | balanced |
    smallest.  `step_cache`: by what share the first block of a transformer may change for the others to be left out.
    """

    preset: str | None = None
    precision: str | None = None
    chunk_frames: int | None = None
    chunk_pixels: int | None = None
    chunk_tokens: int | None = None
    cfg: str | None = None
    offload: str | None = None
    decode_frames: int | None = None
    decode_rows: int | None = None
    vae_window: str | None = None
    policy: str | None = None
    step_cache: float | None = None


@dataclass(frozen=True)
class Finish:
    """What happens to decoded frames before they are encoded, in this order. It changes nothing in the latents.

    `deflicker`: brightness and colour steadied from frame to frame. `match_colours`: each frame's colours matched to
    the photograph's. `interpolate`: times as many frames per second. `upscale`: times as many pixels on each side.
    """

    deflicker: bool = False
    match_colours: bool = False
    interpolate: int = 1
    upscale: int = 1

    def frames(self, num_frames: int) -> int:
        """How many frames `num_frames` decoded ones become: between each two there are more, after the last none."""
        return (num_frames - 1) * self.interpolate + 1


INTERPOLATIONS = (1, 2, 4)
UPSCALINGS = (1, 2)
AS_DECODED = Finish()


@dataclass(frozen=True)
class GenerationRequest:
    """A complete, validated request. Sizes are in pixels; `fps` frames per second.

    `true_guidance_scale`: of a model whose `guidance_scale` is only told to its network. Above 1 each step also asks
    for `negative_prompt`, and goes so many times as far away from it.
    `scheduler`, `betas`: what the noise is taken away by and how it was laid on in training, by the names of
    `families.scheduler_choices`; None as the checkpoint says. `guidance_rescale` and `guidance_curve` are of the
    guidance that asks the network a second time.
    `two_stages`: denoised at half the size first, then with its latents made larger at the full size; None where nobody
    said and it is not.
    `flow_shift`: how far a flow model's schedule leans towards noise, whatever its own does by; and the others of
    `family_settings`, each None where the model decides.
    `inputs`: what the video is made from beside the sentence. `seed` is always set: whoever builds the request draws
    one when the person gave none, so that a result can be made again. `adapters`: LoRAs, all at once.
    `region` says what is to live in the photograph, as `video.region` writes it; None leaves that to the model. `way`:
    where water or clouds go there, x right and y down, of length 1. `finish`: what happens to the decoded frames;
    `num_frames`, `fps` and the size are of the frames before that. `before`: the file in the job folder with the video
    that this one goes on from, whose last frame it begins with; the finished video has its frames first, and that one
    once.
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
    true_guidance_scale: float = 1.0
    scheduler: str | None = None
    betas: str | None = None
    guidance_rescale: float = 0.0
    guidance_curve: GuidanceCurve = "constant"
    two_stages: bool | None = None
    flow_shift: float | None = None
    motion_bucket_id: int | None = None
    noise_aug_strength: float | None = None
    min_guidance_scale: float | None = None
    inputs: tuple[Input, ...] = ()
    fit: Fit = "crop"
    region: str | None = None
    way: tuple[float, float] | None = None
    adapters: tuple[Adapter, ...] = ()
    finish: Finish = AS_DECODED
    before: str | None = None
    options: PlanOptions = field(default_factory=PlanOptions)

    @property
    def image_path(self) -> str | None:
        """The path of the image that the video begins with; None without one."""
        return next((one.path for one in self.inputs if one.kind == "image" and one.at == 0), None)

    @property
    def last_image_path(self) -> str | None:
        """The path of the image that the video ends with; None without one."""
        return next((one.path for one in self.inputs if one.kind == "image" and one.at == -1), None)

    @property
    def strength(self) -> float:
        """How far the video may go from the clip that it is made from; 1 without one."""
        return next((one.strength for one in self.inputs if one.kind == "video"), 1.0)

    @property
    def clip_path(self) -> str | None:
        """The path of the clip that the video is made from; None without one."""
        return next((one.path for one in self.inputs if one.kind == "video"), None)

    @property
    def video_size(self) -> tuple[int, int]:
        """Width and height of the video's file."""
        return self.width * self.finish.upscale, self.height * self.finish.upscale

    @property
    def video_fps(self) -> int:
        """Frames per second of the video's file."""
        return self.fps * self.finish.interpolate

    @property
    def video_frames(self) -> int:
        """How many frames the video's file has."""
        return self.finish.frames(self.num_frames)

    def to_json(self) -> dict[str, Any]:
        """This request as plain JSON values; `from_json` reads it back unchanged."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GenerationRequest:
        """Read back what `to_json` wrote; keys of newer versions are ignored. Before there were inputs a request had
        one `image_path`, of the image that the video begins with."""
        kept = _fields_of(cls, values)
        options = _fields_of(PlanOptions, kept.pop("options", None) or {})
        if "inputs" in kept:
            kept["inputs"] = tuple(Input(**_fields_of(Input, one)) for one in kept["inputs"])
        elif values.get("image_path") is not None:
            kept["inputs"] = first_image(values["image_path"])
        kept["adapters"] = tuple(Adapter(**_fields_of(Adapter, one)) for one in kept.get("adapters", ()))
        kept["finish"] = Finish(**_fields_of(Finish, kept.get("finish") or {}))
        if kept.get("way") is not None:
            x, y = kept["way"]  # a list in JSON
            kept["way"] = x, y
        return cls(options=PlanOptions(**options), **kept)


def first_image(path: str | None) -> tuple[Input, ...]:
    """The inputs of a video that begins with the image at `path`; none for None."""
    return () if path is None else (Input("image", path),)


def last_image(path: str | None) -> tuple[Input, ...]:
    """The inputs of a video that ends with the image at `path`; none for None."""
    return () if path is None else (Input("image", path, at=-1),)


def _fields_of(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that the dataclass `cls` has a field for."""
    known = {f.name for f in fields(cls)}
    return {key: value for key, value in values.items() if key in known}
