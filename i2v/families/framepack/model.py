"""FramePack: HunyuanVideo that makes a video from a picture section by section, each of which sees a few frames of what
is made already, and the whole of it ever smaller. Number for number diffusers' `HunyuanVideoFramepackPipeline`.

The latents of a run are those of the whole video: the picture's frame, what is finished, and the noise of the sections
to come, so that they are all that a run has to keep. All steps are made for every section.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoFramepackTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_framepack import calculate_shift
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaModel, SiglipImageProcessor, SiglipVisionModel

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.blocks import encoder_layers, transformer_blocks
from i2v.families.framepack.joined import DecodedPiece, joined
from i2v.families.framepack.layout import HISTORY, OVERLAP, WINDOW, Section, decoded_together, section, sections
from i2v.families.framepack.network import Conditions, History, PlacedLatents, velocity
from i2v.families.hunyuan_video.model import POOLED, TIME_SCALE, HunyuanVideo, parts_of
from i2v.families.hunyuan_video.programs import PROGRAMS
from i2v.families.hunyuan_video.prompts import up_to_the_layer_that_is_read
from i2v.families.hunyuan_video.vae import decoded
from i2v.families.ordinary import flow_step, velocity_of
from i2v.families.pixels import to_bytes, to_tensor
from i2v.families.schedulers import SchedulerMemory, begun_flow
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.step_cache import StepCache
from i2v.memory.tokens import token_chunks
from i2v.plan import Plan
from i2v.request import GenerationRequest

PICTURE, LAST_PICTURE, SEEN = "picture", "last_picture", "seen"  # in the conditioning
MOST_SHIFT = 7.0


def load(folder: Path, precision: torch.dtype) -> FramePack:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return FramePack(**seeing_parts(folder, precision))


def seeing_parts(folder: Path, precision: torch.dtype) -> dict[str, object]:
    """What a checkpoint's folder holds, by the arguments of `FramePack`."""
    parts = parts_of(
        folder, precision, LlamaModel, up_to_the_layer_that_is_read, HunyuanVideoFramepackTransformer3DModel,
        image_encoder=partial(read, SiglipVisionModel, folder / "image_encoder", precision, without_head),
    )  # fmt: skip
    extractor = SiglipImageProcessor.from_pretrained(folder / "feature_extractor", local_files_only=True)
    return {"feature_extractor": extractor, **parts}


def without_head(encoder: SiglipVisionModel) -> None:
    """Take away the layer that makes one vector of a picture: nobody reads it."""
    if encoder.use_head:
        encoder.use_head = False
        del encoder.head


def layers(transformer: HunyuanVideoFramepackTransformer3DModel) -> list[nn.Module]:
    """What streams of the network that denoises, in the order in which it runs."""
    return [transformer.image_projection, *transformer_blocks(transformer)]


class FramePack(HunyuanVideo):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    forward: ClassVar[bool] = False
    """Whether sections are made from the first to the last."""
    sections = staticmethod(sections)
    blocks: ClassVar = {**HunyuanVideo.blocks, "transformer": layers, "image_encoder": encoder_layers}

    def __init__(
        self, *, feature_extractor: SiglipImageProcessor, scheduler: FlowMatchEulerDiscreteScheduler, **parts: object
    ) -> None:
        """`parts`: those of `HunyuanVideo`, and in its modules "image_encoder", a SiglipVisionModel."""
        self._shifts_by_size = scheduler.config.use_dynamic_shifting
        if self._shifts_by_size:  # to the same numbers by a shift that each run sets
            scheduler = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config, use_dynamic_shifting=False)
        super().__init__(scheduler=scheduler, **parts)
        self.feature_extractor = feature_extractor

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def seen(card: Card, conditioning: Conditioning) -> None:
            with card.on_host():
                # Rounded as by diffusers' pipeline, which goes to -1..1 and back: whole steps of a byte are made of it.
                picture = ((to_tensor(inputs.first) * 2 - 1) + 1) / 2
                pixels = self.feature_extractor(images=picture, return_tensors="pt", do_rescale=False).pixel_values
            encoder = self.modules["image_encoder"]
            conditioning[SEEN] = encoder(card.to_card(pixels).to(self._precision)).last_hidden_state

        def latents(card: Card, conditioning: Conditioning) -> None:
            conditioning[PICTURE] = self.clip_latents(card, [inputs.first], plan)
            if request.last_image_path is not None:
                conditioning[LAST_PICTURE] = self.clip_latents(card, [inputs.images[-1]], plan)

        return (
            *super().encode_stages(request, inputs, plan),
            Stage("seen", ("image_encoder",), seen, (), sees=("image",)),
            Stage("latents", ("vae",), latents, (), sees=("image",)),
        )

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, C, 1 + 9 S, h, w) float32: the picture's frame, and the noise of each section, drawn on the host in the
        order in which they are made."""
        check_attention(plan)
        self.step_cache = StepCache(plan.step_cache)
        self._begin_section(request)
        count, generator = sections(request.num_frames), torch.Generator().manual_seed(request.seed)
        picture = conditioning[PICTURE].float()
        latents = picture.new_zeros(*picture.shape[:2], 1 + WINDOW * count, *picture.shape[3:])
        latents[:, :, :1] = picture
        for index in range(count):
            own = latents[:, :, section(index, count, self.forward).frames]
            own.copy_(torch.randn(own.shape, generator=generator))
        return latents

    def _begin_section(self, request: GenerationRequest) -> None:
        self._stepping = begun_flow(request, self.scheduler, shift=self._shift(request), begin=1.0)
        self.scheduler_memory = SchedulerMemory(self._stepping)

    def _shift(self, request: GenerationRequest) -> float:
        """The checkpoint's own, or what is right for the size."""
        config = self.scheduler.config
        if not self._shifts_by_size:
            return config.shift
        tokens = WINDOW * (request.height // 16) * (request.width // 16)
        names = "base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift"
        return min(math.exp(calculate_shift(tokens, *(config[name] for name in names))), MOST_SHIFT)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        made, step = divmod(index, request.num_inference_steps)
        if step == 0:
            self.step_cache.clear()  # what another section added says nothing of this one
            with card.on_host():
                self._begin_section(request)
        now = section(made, sections(request.num_frames), self.forward)
        own = latents[:, :, now.frames]
        history = self._history(card, conditioning, latents, now, is_first=made == 0)
        places = self._places(card, now.places)

        def answer(sentence: str) -> Tensor:
            said = Conditions(conditioning[sentence], conditioning[sentence + POOLED], conditioning[SEEN])
            with card.on_host():
                timestep = self._stepping.timesteps[step].reshape(1)
                guidance = torch.tensor([request.guidance_scale], dtype=self._precision) * 1000.0
            embedded = card.to_card(guidance) if self._config.get("guidance_embeds", True) else None
            piece = PlacedLatents(own.to(self._precision), places)
            with (
                attention_of(plan),
                token_chunks(self.transformer, PROGRAMS, plan.chunk_tokens),
                self.step_cache.used(self.transformer, transformer_blocks(self.transformer), sentence),
            ):
                return velocity(self.transformer, piece, history, said, card.to_card(timestep), embedded)

        wanted = velocity_of(answer, request.true_guidance_scale, request, step)
        begun_at = index - step
        made = flow_step(card, self._stepping, wanted, own, seed=request.seed, index=index, begun_at=begun_at)
        return StepOutput(
            latents=_with(latents, now, made.latents),
            predicted=self._finished(_with(latents, now, made.predicted), now),
        )

    def _finished(self, latents: Tensor, now: Section) -> Tensor:
        """The same without the noise of sections to come: nothing is expected of them yet."""
        to_come = slice(now.frames.stop, None) if self.forward else slice(1, now.frames.start)
        latents[:, :, to_come] = 0
        return latents

    def _history(self, card: Card, given: Conditioning, latents: Tensor, now: Section, *, is_first: bool) -> History:
        """What section `now` looks back at: the frames next to it that are made, and nothing where there are none."""
        begin, end = now.frames.start, now.frames.stop
        if self.forward:
            history = latents[:, :, max(0, begin - HISTORY) : begin]
            history = functional.pad(history, (0, 0, 0, 0, HISTORY - history.shape[2], 0))
            far, middle, near = history.split([len(now.far), len(now.middle), len(now.near)], dim=2)
        else:
            history = latents[:, :, end : end + HISTORY]
            history = functional.pad(history, (0, 0, 0, 0, 0, HISTORY - history.shape[2]))
            near, middle, far = history.split([len(now.near), len(now.middle), len(now.far)], dim=2)
        if is_first and LAST_PICTURE in given:
            near = given[LAST_PICTURE]
        clean = torch.cat([given[PICTURE].float(), near.float()], dim=2)
        return History(
            *(
                PlacedLatents(piece.to(self._precision), self._places(card, places))
                for piece, places in ((clean, (0, *now.near)), (middle, now.middle), (far, now.far))
            )
        )

    def _places(self, card: Card, places: Sequence[int]) -> Tensor:
        with card.on_host():
            numbers = torch.tensor([*places], dtype=torch.float32)
        return card.to_card(numbers)

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        latents = latents.to(self.vae.dtype) / self.vae.config.scaling_factor

        def clips(part: slice) -> Iterator[Tensor]:
            found = decoded(self.vae, latents[:, :, part], plan.decode_frames, plan.vae_window)
            return map(_pictures, found)

        def show(picture: Tensor) -> Tensor:
            return card.to_host(to_bytes(picture / 2 + 0.5))

        parts = decoded_together(sections(request.num_frames), self.forward)
        pieces = [DecodedPiece(clips(part), TIME_SCALE * (part.stop - part.start - 1) + 1) for part in parts]
        tail = latents.new_empty(OVERLAP if len(parts) > 1 else 0, 3, request.height, request.width)
        return joined(pieces, tail, show)

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """Of what is made so far."""
        made = predicted.flatten(3).abs().amax(dim=(0, 1, 3)) > 0
        return super().preview(predicted[:, :, made], conditioning)


def _pictures(clip: Tensor) -> Tensor:
    """(n, 3, H, W) of a clip (1, 3, n, H, W)."""
    return clip[0].transpose(0, 1)


def _with(latents: Tensor, now: Section, own: Tensor) -> Tensor:
    """The latents of the video with those of one section in their place."""
    changed = latents.clone()
    changed[:, :, now.frames] = own
    return changed
