"""Suite `hunyuan`: HunyuanVideo's whole way on cards of several sizes, diffusers' resident pipeline and its group
offload against plans of ours.

Ours reads the sentence, denoises and decodes on a card of the size it was planned for. Diffusers has the whole card:
which of its peaks is how large is what is asked. All start from the same noise and the same sentence, and the latents
after the same steps are compared. A step at the largest size takes so long that one has to do.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import HunyuanVideoPipeline
from torch import Tensor

from bench.gpu.contenders import (
    GROUP_OFFLOAD,
    OURS,
    STOCK,
    Ours,
    Peer,
    Run,
    offload_in_groups,
    relative_difference,
    run,
)
from bench.gpu.hunyuan_model import hunyuan_configs, random_hunyuan
from bench.gpu.i2vgen import pace
from bench.gpu.record import Clock, Record, Row
from bench.gpu.rig import NOTHING, Peak, Rig
from bench.gpu.scale import MIB, Dry
from bench.gpu.suite import Bench
from i2v.families.base import Conditioning, Inputs
from i2v.families.hunyuan_video.model import POOLED, PROMPT, HunyuanVideo
from i2v.families.hunyuan_video.spec import SPEC
from i2v.families.phases import Phases
from i2v.memory.card import Card
from i2v.memory.errors import is_out_of_memory
from i2v.plan import Plan, Prediction
from i2v.request import GenerationRequest
from i2v.units import GIB

PRECISION, SMALL_PRECISION = "bfloat16", "float32"
MODEL_SECONDS = 60  # to draw 40 GB and bring them to the host; a plan, not a measurement
PEER_TIMES = 3.0  # diffusers' masked attention beside ours, planned


@dataclass(frozen=True)
class Case:
    """A size, the caps in bytes that ours is planned for (None: the whole card), and the steps that are made."""

    width: int
    height: int
    frames: int
    caps: tuple[int | None, ...]
    steps: int

    @property
    def name(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


def _caps(*gib: float) -> tuple[int, ...]:
    return tuple(int(one * GIB) for one in gib)


CASES = (
    Case(512, 384, 129, (*_caps(4, 6), None), steps=3),
    Case(960, 544, 129, (*_caps(5, 6), None), steps=2),
    Case(1280, 720, 129, (*_caps(5.25, 6, 12), None), steps=1),
)
SMALL_CASES = (Case(128, 160, 9, (2 * MIB, 28 * MIB, None), steps=2),)


class HunyuanPeer(Peer):
    """diffusers' `HunyuanVideoPipeline`: its modules, hooks and scheduler; its loop line by line, so that every step
    can be timed. The sentence is what ours made of it, and as long as the pipeline pads it to."""

    def _made(self, rig: Rig) -> HunyuanVideoPipeline:
        modules = dict(self._model.modules)
        hooked = ("transformer", "vae")
        if self.name != STOCK:
            modules = {**dict.fromkeys(modules), **{name: copy.deepcopy(modules[name]) for name in hooked}}
        pipe = HunyuanVideoPipeline(
            tokenizer=None, tokenizer_2=None, scheduler=copy.deepcopy(self._model.scheduler), **modules
        )
        pipe.vae.enable_tiling()
        if self.name == GROUP_OFFLOAD:
            offload_in_groups([getattr(pipe, name) for name in hooked], rig)
        return pipe

    def steps(self, rig: Rig, card: Card, job: GenerationRequest, conditioning: Conditioning) -> Iterator[Tensor]:
        pipe, device = self._pipe, rig.device
        assert pipe is not None
        precision = pipe.transformer.dtype
        latents = self._model.prepare(job, Plan(), conditioning).to(device)
        pipe.scheduler = copy.deepcopy(self._model.scheduler)
        pipe.scheduler.timesteps = pipe.scheduler.timesteps.to(device)
        prompt = conditioning[PROMPT].to(device, precision)
        mask = torch.ones(prompt.shape[:2], dtype=precision, device=device)
        pooled = conditioning[PROMPT + POOLED].to(device, precision)
        guidance = torch.tensor([job.guidance_scale], dtype=precision, device=device) * 1000.0
        for timestep in pipe.scheduler.timesteps:
            velocity = pipe.transformer(
                hidden_states=latents.to(precision),
                timestep=timestep.expand(latents.shape[0]).to(latents.dtype),
                encoder_hidden_states=prompt,
                encoder_attention_mask=mask,
                pooled_projections=pooled,
                guidance=guidance,
                return_dict=False,
            )[0]
            latents = pipe.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            yield latents

    def decode(self, rig: Rig, card: Card, job: GenerationRequest, latents: Tensor, conditioning: Conditioning) -> None:
        assert self._pipe is not None
        vae = self._pipe.vae
        latents = latents.to(rig.device, vae.dtype) / vae.config.scaling_factor
        vae.decode(latents, return_dict=False)[0].float().cpu()


@dataclass(frozen=True)
class Sentence:
    """What the text encoders made, and what that held and took; `error` in its place."""

    conditioning: Conditioning
    peak: Peak = NOTHING
    seconds: float = 0.0
    error: str = ""


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """Size by size, the smallest first. Raises OutOfTime."""
    small = bench.scale.small
    precision = SMALL_PRECISION if small else PRECISION
    cases = SMALL_CASES if small else CASES
    record.note(measurement=vars(bench.measurement(clock)))
    if all(record.has(f"{case.name} whole") for case in cases):
        return
    bench.need(clock, MODEL_SECONDS)
    bench.forget_model()
    with tempfile.TemporaryDirectory() as temporary:
        configs = hunyuan_configs(small, Path(temporary))
        model = random_hunyuan(configs, precision, bench.rig.device)
        dry = Dry(configs, small, SPEC)
        peers = [HunyuanPeer(STOCK, model), HunyuanPeer(GROUP_OFFLOAD, model)]
        for case in cases:
            if not record.has(f"{case.name} whole"):
                group(bench, record, clock, case, model, dry, peers)


def job_of(case: Case, steps: int | None = None) -> GenerationRequest:
    """Text-to-video with the model's own steps and guidance."""
    given = SPEC.defaults
    return GenerationRequest(
        model=SPEC.name, prompt="a rose in the wind", width=case.width, height=case.height, num_frames=case.frames,
        fps=given.fps, num_inference_steps=steps or given.num_inference_steps, guidance_scale=given.guidance_scale,
        seed=7, task="t2v",
    )  # fmt: skip


def group(
    bench: Bench, record: Record, clock: Clock, case: Case, model: HunyuanVideo, dry: Dry, peers: Sequence[HunyuanPeer]
) -> None:
    """One size: ours on the smallest card, then diffusers, then ours on larger cards. Raises OutOfTime."""
    job = job_of(case)
    about: Row = {"precision": str(model.vae.dtype).split(".")[-1], "width": case.width, "height": case.height}
    about |= {"frames": case.frames, "steps": case.steps}
    kept: dict[str, Tensor] = {}
    conditioning: Conditioning = {}
    seconds = 0.0
    for number, cap in enumerate(case.caps):
        name = f"{case.name} ours, {cap or 'all'} bytes"
        machine = bench.rig.machine(cap, bench.measurement(clock))
        base = bench.rig.base_plan(str(about["precision"]))
        one = dry.plan(machine, job, base)
        told: Row = {**about, "who": OURS, "cap_bytes": cap, **planned(one.plan, one.prediction, job)}
        if one.prediction.verdict == "wont_fit":
            record.put(name, {**told, "error": "no plan fits", "short_bytes": max(0, one.prediction.short_bytes)})
        else:
            bench.need(clock, (case.steps + 1) * told["predicted_step_seconds"])
            sentence = read_sentence(bench.rig, model, job, one.plan, cap)
            conditioning = sentence.conditioning or conditioning
            found = Run(error=sentence.error)
            if not sentence.error:
                found = run(
                    bench.rig, Ours(model, one.plan), job, conditioning,
                    cap_bytes=cap, steps=case.steps, room_for=clock.room_for,
                )  # fmt: skip
            seconds = pace(found.step_seconds) or seconds
            told |= {"encode": sentence.peak.to_json(), "encode_seconds": sentence.seconds}
            put(record, case, name, told, found, kept)
        if not kept and number < len(case.caps) - 1:
            continue  # the peers need a sentence that somebody has read
        for peer in peers:
            case_name = f"{case.name} {peer.name}"
            if record.has(case_name) or not conditioning:
                continue
            bench.need(clock, PEER_TIMES * case.steps * seconds)
            found = run(bench.rig, peer, job, conditioning, steps=case.steps, room_for=clock.room_for)
            put(record, case, case_name, {**about, "who": peer.name, "cap_bytes": None}, found, kept)
    record.put(f"{case.name} whole", {**about, "who": "", "note": "every contender of this size has run"})


def put(record: Record, case: Case, name: str, about: Row, found: Run, kept: dict[str, Tensor]) -> None:
    """A contender's row. `kept`: latents by row, which are compared with stock's as soon as both are there."""
    told: Row = {**about, "error": found.error, "step_seconds": list(found.step_seconds)}
    told |= {"seconds_per_step": pace(found.step_seconds[1:] or found.step_seconds)}
    told |= {"denoise": found.denoise.to_json(), "decode": found.decode.to_json() if found.decode else None}
    told |= {"peak": found.peak.to_json(), "decode_seconds": found.decode_seconds}
    if found.latents is not None:
        kept[name] = found.latents
    record.put(name, told)
    stock = f"{case.name} {STOCK}"
    for one in kept if name == stock else (name,):
        if name in kept and stock in kept:
            record.put(one, beside_stock(record.get(one) or {}, record.get(stock) or {}, kept[one], kept[stock]))
    print(line(record.get(name) or told), flush=True)


def beside_stock(told: Row, stock: Row, latents: Tensor, theirs: Tensor) -> Row:
    """A row with the distance of its latents from stock's, and its pace beside stock's."""
    off = relative_difference(latents, theirs)
    row = {key: value for key, value in told.items() if key != "case"}
    row["from_stock"] = off if off != float("inf") else None
    if row["seconds_per_step"] and stock["seconds_per_step"]:
        row["ratio_to_stock"] = row["seconds_per_step"] / stock["seconds_per_step"]
    return row


def read_sentence(rig: Rig, model: HunyuanVideo, job: GenerationRequest, plan: Plan, cap: int | None) -> Sentence:
    """The text encoders' part of a run, on a card of `cap` bytes."""
    made: Conditioning = {}
    try:
        with rig.card(cap) as card, card.running():
            rig.reset_peak()
            began = time.perf_counter()
            for _stage, part in Phases(model, card, job, plan).encode(Inputs()):
                made |= part
            rig.synchronize()
            return Sentence(made, rig.peak(), time.perf_counter() - began)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return Sentence({}, error="out of memory in encode")


def planned(plan: Plan, prediction: Prediction, job: GenerationRequest) -> Row:
    """A plan and what was predicted of it."""
    phases = {phase.name: phase for phase in prediction.phases}
    return {
        "plan": {name: getattr(plan, name) for name in ("offload", "chunk_tokens", "decode_frames")},
        "predicted_peak_bytes": prediction.peak.peak_bytes,
        "predicted_phases_bytes": {name: phase.peak_bytes for name, phase in phases.items()},
        "predicted_step_seconds": phases["denoise"].seconds / job.num_inference_steps,
        "predicted_decode_seconds": phases["decode"].seconds,
        "predicted_encode_seconds": sum(phases[name].seconds for name in phases if name in ("text", "pooled")),
    }


def line(told: Row) -> str:
    """A row as it is printed while the suite runs."""
    size = f"{told['width']}x{told['height']}x{told['frames']}"
    step, decode = told["seconds_per_step"], told["decode_seconds"]
    cap = f"{told['cap_bytes'] / GIB:.3g} GiB" if told["cap_bytes"] else ""
    took = " ".join("-" if value is None else f"{value:.3f} s" for value in (step, decode))
    held = " ".join(f"{told['peak'][name] / GIB:.2f}" for name in ("allocated_bytes", "reserved_bytes"))
    return f"{size:14} {told['who']:26} {cap:9} {held} GiB, a step and decoding {took} {told['error']}"
