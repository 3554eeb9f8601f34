"""What to tell a person before a run: it will work, but perhaps not as hoped. Nothing in here refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from i2v.families.scheduler_choices import SCHEDULERS
from i2v.families.spec import FamilySpec
from i2v.hardware.probe import Probe
from i2v.jobs.asked.typed_text import foreign_syntax
from i2v.messages import Message, message
from i2v.models.few_steps import asks_for_few_steps, shift_for_few_steps
from i2v.plan import Plan
from i2v.planning.machine import BFLOAT16_CAPABILITY
from i2v.request import GenerationRequest
from i2v.settings.settings import Settings, preset_notes
from i2v.vae_window import VaeWindow

# CLIP's tokenizer cuts text into words, single digits and runs of other signs; a word of another script takes a token
# or more per character, and a long word about one for each eight letters.
_PIECE = re.compile(r"[a-z]+|[^\W\d_]|\d|[^\s\w]+|_", re.IGNORECASE)
_LETTERS_PER_TOKEN = 8
_MARKS = 2  # CLIP puts a mark at the start and one at the end
_WORDS_SHOWN, _CHARS_SHOWN = 4, 40


def request_notes(request: GenerationRequest, settings: Settings, spec: FamilySpec) -> Iterator[Message]:
    """Where the request goes beyond the preset's caps or the ranges that suit the model."""
    hints = spec.hints
    if request.width * request.height > settings.max_pixels:
        yield message(
            "request.above_cap_size",
            width=request.width,
            height=request.height,
            preset=settings.preset,
            side=int(settings.max_pixels**0.5),
        )
    # A clip that is made in windows holds no more, and its plan says how much longer it takes.
    is_long = spec.longer is not None and spec.longer.is_long(request.num_frames)
    if request.num_frames > settings.max_frames and not (spec.frames_are_cheap or is_long):
        yield message(
            "request.above_cap_frames", frames=request.num_frames, preset=settings.preset, cap=settings.max_frames
        )
    if request.num_inference_steps > settings.max_steps:
        yield message(
            "request.above_cap_steps", steps=request.num_inference_steps, preset=settings.preset, cap=settings.max_steps
        )
    if request.num_frames > hints.max_frames:
        yield message("request.hint_frames", frames=request.num_frames, model=spec.title, high=hints.max_frames)
    few = spec.few_steps if asks_for_few_steps(request, spec) else None
    if few is not None and (request.num_inference_steps > 2 * few.steps or spec.is_guided(request)):
        yield message("request.hint_few_steps", steps=few.steps, guidance=f"{few.guidance_scale:g}")
    shift = shift_for_few_steps((one.source for one in request.adapters), spec)
    if shift is not None and request.flow_shift is None:
        yield message("request.hint_flow_shift", shift=f"{shift:g}")
    low, high = (few.steps, request.num_inference_steps) if few else spec.good_steps(request.scheduler)
    if not low <= request.num_inference_steps <= high:
        known = {"steps": request.num_inference_steps, "model": spec.title, "low": low, "high": high}
        if request.scheduler is None:
            yield message("request.hint_steps", **known)
        else:
            yield message("request.hint_steps_scheduler", scheduler=SCHEDULERS[request.scheduler].title, **known)
    if few is None and not hints.min_guidance <= request.guidance_scale <= hints.max_guidance:
        yield message(
            "request.hint_guidance",
            guidance=f"{request.guidance_scale:g}",
            model=spec.title,
            low=f"{hints.min_guidance:g}",
            high=f"{hints.max_guidance:g}",
        )
    shaped = request.guidance_rescale or request.guidance_curve != "constant"
    if shaped and not spec.is_guided(request):
        one = "true_guidance" if spec.guidance == "embedded" else "guidance"
        yield message(f"request.hint_unguided_{one}", model=spec.title)
    if not spec.takes_region and (request.region or request.way):
        yield message("request.hint_region", model=spec.title)
    if request.width * request.height < hints.practised_pixels and not request.adapters:
        yield message("request.hint_small", width=request.width, height=request.height, model=spec.title)
    if spec.windows is not None and (window := VaeWindow.read(settings.vae_window)) is not None:
        clip = spec.windows.clip(request.width, request.height, request.num_frames)
        if window.holds(clip):
            yield message("request.hint_window", window=str(window), clip=str(clip), own=spec.windows.own)
    if spec.guidance == "embedded" and request.negative_prompt and request.true_guidance_scale <= 1:
        yield message("request.hint_negative", model=spec.title)
    for key, text in (("prompt", request.prompt), ("negative", request.negative_prompt)):
        yield from foreign_syntax(text)
        tokens = estimated_tokens(text)
        if tokens > spec.max_prompt_tokens:
            yield message(
                "request.hint_tokens",
                key=key,
                tokens=tokens,
                model=spec.title,
                limit=spec.max_prompt_tokens,
                last=last_read(text, spec.max_prompt_tokens),
            )


def preset_notes_for(plan: Plan, probe: Probe) -> Iterator[Message]:
    """Where the plan and the machine do not go well together."""
    yield from preset_notes(plan.preset, probe)
    if plan.precision == "float16" and plan.device != "cuda":
        yield message("request.processor_slow", precision=plan.precision)
    capability = probe.gpu.compute_capability if probe.gpu else None
    if plan.precision == "bfloat16" and plan.device == "cuda" and capability and capability < BFLOAT16_CAPABILITY:
        yield message("request.bfloat16_slow", card=probe.gpu.name)


def estimated_tokens(text: str) -> int:
    """About how many tokens CLIP makes of `text`, its two marks included; the tokenizer itself lives with the model."""
    return sum(_tokens_of(piece) for piece in _PIECE.findall(text)) + _MARKS if text else 0


def last_read(text: str, limit: int) -> str:
    """About the last words of `text` that a model reads which reads `limit` tokens."""
    read, end = _MARKS, 0
    for piece in _PIECE.finditer(text):
        read += _tokens_of(piece[0])
        if read > limit:
            break
        end = piece.end()
    words = text[:end].split()[-_WORDS_SHOWN:]
    return " ".join(words)[-_CHARS_SHOWN:]


def _tokens_of(piece: str) -> int:
    return -(-len(piece) // _LETTERS_PER_TOKEN)
