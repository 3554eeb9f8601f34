"""Who runs the same job: diffusers' own pipeline, resident and with both of its offloads, and our engine under a plan.

All start from the same noise and the same conditioning, which lies on the host, and run the same steps. The peers'
loop is that of `I2VGenXLPipeline.__call__` line by line, with the pipeline's own modules and hooks: the call itself
does not run with transformers 5.6 or newer.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DDIMScheduler, I2VGenXLPipeline
from PIL import Image
from torch import Tensor

from bench.gpu.models import SCHEDULER
from bench.gpu.rig import NOTHING, Peak, Rig
from i2v.families.base import Conditioning, Inputs
from i2v.families.i2vgen_xl.model import I2VGenXL
from i2v.families.phases import Phases
from i2v.memory.card import Card
from i2v.memory.errors import is_card_lost, is_out_of_memory
from i2v.plan import Plan, everywhere
from i2v.request import GenerationRequest

STOCK, MODEL_OFFLOAD, GROUP_OFFLOAD = "diffusers, resident", "diffusers, model offload", "diffusers, group offload"
PEERS = (STOCK, MODEL_OFFLOAD, GROUP_OFFLOAD)
OURS = "ours"


@dataclass(frozen=True)
class Run:
    """One run: seconds of each step (the first has what is done once in it), what denoising and decoding held at most,
    and the latents after the last step, (1, C, F, h, w) on the host. `error` is what ended it early, "" for nothing."""

    step_seconds: tuple[float, ...] = ()
    denoise: Peak = NOTHING
    decode: Peak | None = None
    decode_seconds: float | None = None
    latents: Tensor | None = None
    error: str = ""

    @property
    def peak(self) -> Peak:
        """Of both phases."""
        return self.denoise if self.decode is None else self.denoise.joined(self.decode)


class Contender:
    """Steps and a decoder, on a card."""

    def __init__(self, name: str) -> None:
        self.name = name

    @contextlib.contextmanager
    def ready(self, rig: Rig, card: Card) -> Iterator[None]:
        """Stand on the card, or hooked to it, for the time of the `with`."""
        yield

    def steps(self, rig: Rig, card: Card, job: GenerationRequest, conditioning: Conditioning) -> Iterator[Tensor]:
        """The latents after each step, on the card."""
        raise NotImplementedError

    def decode(self, rig: Rig, card: Card, job: GenerationRequest, latents: Tensor, conditioning: Conditioning) -> None:
        """Every frame of `latents` (on the host), thrown away."""
        raise NotImplementedError


class Ours(Contender):
    """This engine's phases under `plan`."""

    def __init__(self, model: I2VGenXL, plan: Plan) -> None:
        super().__init__(OURS)
        self.model, self.plan = model, plan

    @contextlib.contextmanager
    def ready(self, rig: Rig, card: Card) -> Iterator[None]:
        if self.plan.offload == "resident":
            for module in self.model.modules.values():
                card.place(module)
        yield

    def steps(self, rig: Rig, card: Card, job: GenerationRequest, conditioning: Conditioning) -> Iterator[Tensor]:
        yield from Phases(self.model, card, job, self.plan).denoise(conditioning)

    def decode(self, rig: Rig, card: Card, job: GenerationRequest, latents: Tensor, conditioning: Conditioning) -> None:
        for _frame in Phases(self.model, card, job, self.plan).decode(conditioning, latents):
            pass


class Peer(Contender):
    """diffusers' pipeline: resident on `model`'s own modules, or with an offload's hooks on copies of those that
    denoise and decode, which stay hooked from run to run."""

    def __init__(self, name: str, model: I2VGenXL) -> None:
        super().__init__(name)
        self._model = model
        self._pipe: I2VGenXLPipeline | None = None

    @contextlib.contextmanager
    def ready(self, rig: Rig, card: Card) -> Iterator[None]:
        self._pipe = self._pipe or self._made(rig)
        if self.name == STOCK:
            for module in self._model.modules.values():
                card.place(module)
        try:
            yield
        except BaseException:
            self._pipe = None  # hooks that were interrupted leave weights where they were
            raise
        if self.name == MODEL_OFFLOAD:
            self._pipe.maybe_free_model_hooks()  # as the pipeline's call ends

    def _made(self, rig: Rig) -> I2VGenXLPipeline:
        hooked = ("unet", "vae")
        modules = self._model.modules
        parts = dict(modules) if self.name == STOCK else dict.fromkeys(modules)
        if self.name != STOCK:
            parts |= {name: copy.deepcopy(modules[name]) for name in hooked}
        scheduler = DDIMScheduler(**SCHEDULER)
        pipe = I2VGenXLPipeline(tokenizer=None, feature_extractor=None, scheduler=scheduler, **parts)
        if self.name == MODEL_OFFLOAD:
            pipe.enable_model_cpu_offload(device=rig.device)
        if self.name == GROUP_OFFLOAD:
            offload_in_groups([getattr(pipe, name) for name in hooked], rig)
        return pipe

    def steps(self, rig: Rig, card: Card, job: GenerationRequest, conditioning: Conditioning) -> Iterator[Tensor]:
        pipe, device, scale = self._pipe, rig.device, job.guidance_scale
        assert pipe is not None
        prompt = torch.cat([conditioning["negative"], conditioning["prompt"]]).to(device)
        embeds = conditioning["image_embeds"].to(device)
        image_embeds = torch.cat([torch.zeros_like(embeds), embeds])
        image_latents = torch.cat([conditioning["image_latents"].to(device)] * 2)
        fps = torch.tensor([job.fps, job.fps]).to(device)
        pipe.scheduler.set_timesteps(job.num_inference_steps, device=device)
        latents = (initial_noise(self._model, job) * pipe.scheduler.init_noise_sigma).to(device, prompt.dtype)
        for t in pipe.scheduler.timesteps:
            both = pipe.scheduler.scale_model_input(torch.cat([latents] * 2), t)
            noise = pipe.unet(
                both,
                t,
                encoder_hidden_states=prompt,
                fps=fps,
                image_latents=image_latents,
                image_embeddings=image_embeds,
                return_dict=False,
            )[0]
            without, wanted = noise.chunk(2)
            noise = without + scale * (wanted - without)
            batch, channel, frames, width, height = latents.shape
            latents = latents.permute(0, 2, 1, 3, 4).reshape(batch * frames, channel, width, height)
            noise = noise.permute(0, 2, 1, 3, 4).reshape(batch * frames, channel, width, height)
            latents = pipe.scheduler.step(noise, t, latents).prev_sample
            latents = latents[None, :].reshape(batch, frames, channel, width, height).permute(0, 2, 1, 3, 4)
            yield latents

    def decode(self, rig: Rig, card: Card, job: GenerationRequest, latents: Tensor, conditioning: Conditioning) -> None:
        assert self._pipe is not None
        self._pipe.decode_latents(latents.to(rig.device), decode_chunk_size=1).cpu()  # 1 is the call's default


def offload_in_groups(modules: Iterable[Any], rig: Rig) -> None:
    """Put diffusers' finest group offload on each."""
    for module in modules:
        module.enable_group_offload(
            onload_device=rig.device,
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=rig.device.type == "cuda",  # diffusers has streams only there
        )


def initial_noise(model: I2VGenXL, job: GenerationRequest) -> Tensor:
    """(1, C, F, h, w) float32: the noise that this engine draws."""
    scale = 2 ** (len(model.vae.config.block_out_channels) - 1)
    shape = (1, model.unet.config.in_channels, job.num_frames, job.height // scale, job.width // scale)
    return torch.randn(shape, generator=torch.Generator().manual_seed(job.seed))


def encode(rig: Rig, model: I2VGenXL, job: GenerationRequest, plan: Plan) -> tuple[Conditioning, Peak, float]:
    """The conditioning on the host, what making it held at most, and the seconds it took."""
    picture = Image.linear_gradient("L").convert("RGB").resize((job.width, job.height))
    with rig.card() as card, card.running():
        rig.reset_peak()
        began = time.perf_counter()
        conditioning: Conditioning = {}
        phases = Phases(model, card, job, replace(plan, places=everywhere("staged")))
        for _stage, made in phases.encode(Inputs({0: picture})):
            conditioning |= made
        rig.synchronize()
        return conditioning, rig.peak(), time.perf_counter() - began


def run(
    rig: Rig,
    contender: Contender,
    job: GenerationRequest,
    conditioning: Conditioning,
    *,
    cap_bytes: int | None = None,
    steps: int | None = None,
    decode: bool = True,
    room_for: Callable[[float], bool] = lambda seconds: True,
) -> Run:
    """The first `steps` steps (or all) and the decoding on a card of `cap_bytes`. Running out of memory is a result;
    so is ending early because there is no `room_for` another step, and any other error of a peer's, unless it has
    lost the card."""
    seconds: list[float] = []
    latents: Tensor | None = None
    held, decode_held, decode_seconds = NOTHING, None, None
    try:
        with rig.card(cap_bytes) as card, card.running():
            rig.reset_peak()
            with contender.ready(rig, card):
                with contextlib.closing(contender.steps(rig, card, job, conditioning)) as stepping:
                    while len(seconds) < (steps or job.num_inference_steps):
                        if seconds and not room_for(seconds[-1]):
                            return Run(tuple(seconds), rig.peak(), error="out of time")
                        rig.synchronize()
                        began = time.perf_counter()
                        on_card = next(stepping)
                        rig.synchronize()
                        seconds.append(time.perf_counter() - began)
                    latents = card.to_host(on_card)
                    del on_card
                held = rig.peak()
                if decode:
                    if not room_for(seconds[-1]):
                        return Run(tuple(seconds), held, latents=latents, error="out of time")
                    rig.reset_peak()
                    began = time.perf_counter()
                    contender.decode(rig, card, job, latents, conditioning)
                    rig.synchronize()
                    decode_seconds, decode_held = time.perf_counter() - began, rig.peak()
    except Exception as error:
        phase = "denoise" if latents is None else "decode"
        if is_out_of_memory(error):
            what = "out of memory"
        elif isinstance(contender, Peer) and not is_card_lost(error):
            what = text_of(error)["error"]
        else:
            raise
        return Run(tuple(seconds), held, latents=latents, error=f"{what} in {phase}")
    return Run(tuple(seconds), held, decode_held, decode_seconds, latents)


def relative_difference(latents: Tensor, reference: Tensor) -> float:
    """The norm of the difference over that of `reference`; infinite where something is not finite."""
    one, other = latents.double(), reference.double()
    value = ((one - other).norm() / other.norm()).item()
    return value if value == value else float("inf")


def text_of(error: BaseException) -> dict[str, Any]:
    """An unexpected error as a row tells it."""
    return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}
