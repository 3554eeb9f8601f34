"""LTX-2: loading a diffusers-layout checkpoint, and its phases encode, denoise_step, sound and decode.

Number for number diffusers' `LTX2ImageToVideoPipeline`, `LTX2Pipeline` and, where a last frame is given,
`LTX2ConditionPipeline`, whose modules and scheduler are used and whose loops are not. Pictures and sound are denoised
together, as tokens, in one tensor (`layout.py`). What makes the sound is computed in float32 in every precision: in
half of it one would hear the rounding.
Shapes: F = 8 k + 1 frames, C = 128 latent channels, f = k + 1, h = H/32, w = W/32; S = f h w tokens of the pictures,
L of the sound.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.pipeline_ltx2 import calculate_shift
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.components import Components
from i2v.families.ltx2.guides import ALONE_BLOCK, Asked, guided, is_later
from i2v.families.ltx2.layout import ClipLayout, as_tokens
from i2v.families.ltx2.programs import PROGRAMS
from i2v.families.ltx2.prompts import GEMMAS, connector_layers, of_a_sentence, text_layers, without_senses
from i2v.families.ltx2.spans import Spans
from i2v.families.ltx2.vae import frames_of
from i2v.families.ordinary import OrdinaryModel
from i2v.families.pixels import in_grey, to_tensor
from i2v.families.schedulers import SchedulerMemory, take_step
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.tokens import token_chunks
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.compressed import compressed
from i2v.video.sound import Sound

SOUND_PRECISION = torch.float32
PICTURE_CRF = {"gemma3": 33, "gemma4_unified": 18}
"""Of H.264, by the text encoder: as the frames were compressed that the version learned from."""
CONFIGURED = ("text_encoder", "connectors", "transformer", "vae", "audio_vae", "vocoder")
VOCODERS = {"LTX2Vocoder": LTX2Vocoder, "LTX2VocoderWithBWE": LTX2VocoderWithBWE}

PROMPT, NEGATIVE = "prompt", "negative"  # in the conditioning
PICTURE, LAST = "picture", "last"  # there too: the first frame, and the last one; those between are `picture_<frame>`
SOUND = "_sound"  # behind the first two: for the sound

# The layer that chooses words is in the checkpoint and not read (see `load`): transformers need not warn of it.
for gemma in GEMMAS.values():
    gemma._keys_to_ignore_on_load_unexpected = [r"\blm_head\."]


def load(folder: Path, precision: torch.dtype) -> Ltx2:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only. Raises UserError for one
    that is none of LTX-2.0, LTX-2.3 and LTX-2.5."""
    configs = {name: json.loads((folder / name / "config.json").read_text(encoding="utf-8")) for name in CONFIGURED}
    check_version(configs, str(folder))
    kinds = {
        "connectors": (LTX2TextConnectors, precision),
        "transformer": (LTX2VideoTransformer3DModel, precision),
        "vae": (AutoencoderKLLTX2Video, precision),
        "audio_vae": (AutoencoderKLLTX2Audio, SOUND_PRECISION),
        "vocoder": (VOCODERS[configs["vocoder"]["_class_name"]], SOUND_PRECISION),
    }
    reads = {name: partial(read, cls, folder / name, dtype) for name, (cls, dtype) in kinds.items()}
    kind = GEMMAS[configs["text_encoder"]["model_type"]]
    gemma = partial(read, kind, folder / "text_encoder", precision, without_senses)
    return Ltx2(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True),
        modules=Components({"text_encoder": gemma, **reads}),
        configs=configs,
        precision=precision,
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    )


def check_version(configs: Mapping[str, Mapping[str, Any]], folder: str) -> None:
    """Raise UserError for a checkpoint of a version whose steps are others."""
    kind = configs["text_encoder"].get("model_type")
    registers = configs["connectors"].get("video_connector_num_learnable_registers")
    if (
        kind not in GEMMAS
        or not registers
        or configs["vae"].get("timestep_conditioning")
        or any(_listed(configs["vae"].get("decoder_inject_noise", False)))
        or configs["vocoder"].get("_class_name") not in VOCODERS
    ):
        raise UserError("family.ltx2_other_version", folder=folder)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) else (value,)


def added_frames(request: GenerationRequest) -> Mapping[str, int]:
    """The frames that a person gave beside the first one, -1 for the last, by their names in the conditioning; the last
    one comes last."""
    if request.task != "i2v":
        return {}
    given = {one.at for one in request.inputs if one.kind == "image" and one.at}
    return {LAST if at == -1 else f"{PICTURE}_{at}": at for at in sorted(given, key=lambda at: (at < 0, at))}


def transformer_blocks(transformer: nn.Module) -> Sequence[nn.Module]:
    """The blocks of the transformer."""
    return [*transformer.transformer_blocks]


class Ltx2(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    decode_components = ("vae", "audio_vae", "vocoder")
    blocks: ClassVar = {
        "text_encoder": text_layers,
        "connectors": connector_layers,
        "transformer": transformer_blocks,
    }

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerFast,
        modules: Components,
        configs: Mapping[str, Mapping[str, Any]],
        precision: torch.dtype,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        """`modules`: those of CONFIGURED, in `precision`, audio_vae and vocoder in SOUND_PRECISION."""
        self.tokenizer = tokenizer
        self.modules = modules
        self.scheduler = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)
        self.later = is_later(configs["transformer"])
        self.crf = PICTURE_CRF[configs["text_encoder"]["model_type"]]
        self._configs = configs
        self._precision = precision
        self._prepared: ClipLayout | None = None

    @property
    def transformer(self) -> LTX2VideoTransformer3DModel:
        return self.modules["transformer"]

    @property
    def vae(self) -> AutoencoderKLLTX2Video:
        return self.modules["vae"]

    def layout(self, request: GenerationRequest) -> ClipLayout:
        """Of the latents of `request`."""
        return ClipLayout.of(request, self._configs)

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        sentences = {PROMPT: request.prompt}
        if request.guidance_scale > 1:
            sentences[NEGATIVE] = request.negative_prompt

        def text(card: Card, conditioning: Conditioning) -> None:
            parts = self.tokenizer, self.modules["text_encoder"], self.modules["connectors"]
            for name, sentence in sentences.items():
                conditioning[name], conditioning[name + SOUND] = of_a_sentence(card, *parts, sentence)

        def picture(card: Card, conditioning: Conditioning) -> None:
            for name, at in ({PICTURE: 0} | added_frames(request)).items():
                with card.on_host():
                    pixels = to_tensor(compressed(inputs.images[at], self.crf)).to(self._precision) * 2 - 1
                found = self.vae.encode(card.to_card(pixels).unsqueeze(2)).latent_dist.mode()
                conditioning[name] = as_tokens((found.float() - self._mean(found)) / self._std(found))
                del found

        reads = ("prompt", "negative_prompt") if NEGATIVE in sentences else ("prompt",)
        stages = [Stage("text", ("text_encoder", "connectors"), text, reads)]
        if request.task == "i2v":
            stages.append(Stage("picture", ("vae",), picture, (), sees=("image",)))
        return stages

    def _mean(self, like: Tensor) -> Tensor:
        return self.vae.latents_mean.view(1, -1, 1, 1, 1).to(like.device, torch.float32)

    def _std(self, like: Tensor) -> Tensor:
        return self.vae.latents_std.view(1, -1, 1, 1, 1).to(like.device, torch.float32)

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, N) float32, as `layout` parts it: noise drawn on the host, so that every precision and card starts alike;
        in the first frame's place the picture."""
        check_attention(plan)
        self._prepared = layout = self.layout(request)
        added = layout.each_frame * len(added_frames(request))
        self._begin(request, layout.tokens + added)
        tokens, sounds = layout.noise(torch.Generator().manual_seed(request.seed), added)
        if request.task == "i2v":
            tokens[:, : layout.each_frame] = conditioning[PICTURE].float()
        return layout.joined(tokens, sounds)

    def _begin(self, request: GenerationRequest, tokens: int) -> None:
        """The schedule of a run: it leans towards noise the more, the more tokens there are. As many steps without
        guidance as distilled weights learned are those that they learned."""
        config, steps = self.scheduler.config, request.num_inference_steps
        if request.guidance_scale <= 1 and steps == len(DISTILLED_SIGMA_VALUES):
            own = FlowMatchEulerDiscreteScheduler.from_config(config, use_dynamic_shifting=False, shift_terminal=None)
            own.set_timesteps(sigmas=DISTILLED_SIGMA_VALUES)
            self._step_with(own)
            return
        if steps < 2 and config.get("shift_terminal"):
            name = type(self.scheduler).__name__
            raise UserError("models.scheduler_steps", scheduler=name, steps=steps, error="shift_terminal takes two.")
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        usual = (1024, 4096, 0.95, 2.05)
        mu = calculate_shift(tokens, *map(config.get, names, usual))
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        self._step_with(self.scheduler)

    def _step_with(self, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        scheduler.set_begin_index(0)  # else a step would look for its place by value
        self._stepping = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        layout = self.layout(request)
        pictures, sound = layout.parted(latents)
        held = layout.each_frame if request.task == "i2v" else 0  # tokens that are the picture's, and stay so
        with card.on_host():
            timestep, sigma = self._stepping.timesteps[index], self._stepping.sigmas[index]
            given = self._given(request, layout, timestep, held)
        if added := added_frames(request):  # they stand behind the clip's tokens, and are never noisy
            pictures = torch.cat([pictures, *(conditioning[name].to(pictures) for name in added)], dim=1)
        given = {name: card.to_card(one) if isinstance(one, Tensor) else one for name, one in given.items()}

        def answer(asked: Asked) -> tuple[Tensor, Tensor]:
            sentence = NEGATIVE if asked == "without" else PROMPT
            with attention_of(plan), token_chunks(self.transformer, PROGRAMS, plan.chunk_tokens):
                velocity, sound_velocity = self.transformer(
                    pictures.to(self._precision), sound.to(self._precision), conditioning[sentence],
                    conditioning[sentence + SOUND], **given, apart=asked == "apart",
                    alone=(min(ALONE_BLOCK, len(self.transformer.transformer_blocks) - 1),) if asked == "alone" else (),
                )  # fmt: skip
            return pictures - sigma * velocity.float(), sound - sigma * sound_velocity.float()

        clean, clean_sound = guided(answer, request, index, self.later)
        clean = clean[:, : layout.tokens]
        clean[:, :held] = pictures[:, :held]
        predicted = layout.joined(clean, clean_sound)
        del clean, clean_sound
        velocity = (latents - predicted) / sigma
        stepped = take_step(self._stepping, velocity, timestep, latents, seed=request.seed, index=index)
        return StepOutput(latents=stepped.prev_sample, predicted=predicted)

    def _given(self, request: GenerationRequest, layout: ClipLayout, timestep: Tensor, held: int) -> dict[str, Any]:
        """What the network is told beside tokens and sentences, on the host."""
        tokens = layout.tokens
        timestep = timestep.reshape(1)
        spans: Spans = ((held, 1), (tokens, 0)) if held else ((tokens, 0),)
        where = self.transformer.rope.prepare_video_coords(
            1, layout.frames, layout.height, layout.width, timestep.device, fps=request.fps
        )
        if added := added_frames(request).values():
            spans += ((tokens + layout.each_frame * len(added), 1),)
            frames = (layout.last_begins if at == -1 else at for at in added)
            where = torch.cat([where, *(layout.of_one_frame(frame, request.fps) for frame in frames)], dim=2)
        return {
            "timesteps": torch.cat([timestep, torch.zeros_like(timestep)]) if held else timestep,
            "spans": spans,
            "timestep": timestep,
            "coordinates": where,
            "sound_coordinates": self.transformer.audio_rope.prepare_audio_coords(1, layout.sounds, timestep.device),
            "across_by_timestep": self.later,
        }

    def sound(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Sound:
        layout, vae = self.layout(request), self.modules["audio_vae"]
        _, tokens = layout.parted(latents)
        tokens = tokens * vae.latents_std.to(tokens) + vae.latents_mean.to(tokens)
        spectrogram = vae.decode(layout.as_sound(tokens).to(vae.dtype)).sample
        vocoder = self.modules["vocoder"]
        waves = vocoder(spectrogram)[0]
        return Sound(card.to_host(waves.float()), vocoder.config.output_sampling_rate)

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        layout = self.layout(request)
        tokens, _ = layout.parted(latents)
        found = layout.as_pictures(tokens)
        found = (found * self._std(found) / self.vae.config.scaling_factor + self._mean(found)).to(self._precision)
        del tokens
        yield from frames_of(card, self.vae, found, plan.decode_rows)

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """In grey: nobody has published what colours its channels are."""
        assert self._prepared is not None
        tokens, _ = self._prepared.parted(predicted.float().cpu())
        return in_grey(self._prepared.as_pictures(tokens))
