"""LTX-2: loading a diffusers-layout checkpoint, and its phases encode, denoise_step, sound and decode.

Number for number diffusers' `LTX2ImageToVideoPipeline`, `LTX2Pipeline` and, where a last frame is given,
`LTX2ConditionPipeline`, whose modules and scheduler are used and whose loops are not. Pictures and sound are denoised
together, as tokens, in one tensor (`layout.py`). What makes the sound is computed in float32 in every precision: in
half of it one would hear the rounding.
Shapes: F = 8 k + 1 frames, C = 128 latent channels, f = k + 1, h = H/32, w = W/32; S = f h w tokens of the pictures,
L of the sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLLTX2Video, FlowMatchEulerDiscreteScheduler, LTX2VideoTransformer3DModel
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.components import Components
from i2v.families.denoising import UPSAMPLE
from i2v.families.ltx2.given import PICTURE, SMALLER, added_frames, given_beside, held_tokens
from i2v.families.ltx2.guides import ALONE_BLOCK, Asked, guided, is_later
from i2v.families.ltx2.layout import SPACE_SCALE, ClipLayout, as_tokens
from i2v.families.ltx2.programs import PROGRAMS
from i2v.families.ltx2.prompts import GEMMAS, connector_layers, of_a_sentence, text_layers, without_senses
from i2v.families.ltx2.schedules import schedule
from i2v.families.ltx2.stages import FULL, HALF, MORE_STEPS, UPSAMPLER, WHOLE, at_half, stage_of
from i2v.families.ltx2.upsampling import enlarged, enlarged_frame
from i2v.families.ltx2.vae import frames_of
from i2v.families.ltx2.versions import CONFIGURED, check_version, networks_of
from i2v.families.ordinary import NEGATIVE, PROMPT, OrdinaryModel, mean_and_std
from i2v.families.pixels import in_grey, to_tensor
from i2v.families.schedulers import STEP_SEED_OFFSET, SchedulerMemory, take_step
from i2v.families.skeletons import read_configs
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.tokens import token_chunks
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.compressed import compressed
from i2v.video.sound import Sound

PICTURE_CRF = {"gemma3": 33, "gemma4_unified": 18}
"""Of H.264, by the text encoder: as the frames were compressed that the version learned from."""

SOUND = "_sound"  # in the conditioning, behind the name of a sentence: for the sound

# The layer that chooses words is in the checkpoint and not read (see `load`): transformers need not warn of it.
for gemma in GEMMAS.values():
    gemma._keys_to_ignore_on_load_unexpected = [r"\blm_head\."]


def load(folder: Path, precision: torch.dtype) -> Ltx2:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only. Raises UserError for one
    that is none of LTX-2.0, LTX-2.3 and LTX-2.5."""
    configs = read_configs(folder, CONFIGURED, (UPSAMPLER,))
    check_version(configs, str(folder))
    kinds = networks_of(configs, precision)
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


def transformer_blocks(transformer: nn.Module) -> Sequence[nn.Module]:
    """The blocks of the transformer."""
    return [*transformer.transformer_blocks]


IN_ONE_STAGE: dict[str, tuple[str, ...]] = {WHOLE: ("transformer",)}
IN_TWO_STAGES: dict[str, tuple[str, ...]] = {
    HALF: ("transformer",),
    UPSAMPLE: (UPSAMPLER, "vae"),  # the autoencoder knows how its latents are spread
    FULL: ("transformer",),
}


class Ltx2(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    transformer: LTX2VideoTransformer3DModel
    vae: AutoencoderKLLTX2Video
    more_steps: ClassVar = MORE_STEPS
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
        """`modules`: those of CONFIGURED, in `precision`, audio_vae and vocoder in SOUND_PRECISION; and UPSAMPLER where
        the checkpoint has it."""
        self.tokenizer = tokenizer
        self.modules = modules
        self.scheduler = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)
        self.later = is_later(configs["transformer"])
        self.crf = PICTURE_CRF[configs["text_encoder"]["model_type"]]
        self._configs = configs
        self._precision = precision
        self._prepared: tuple[ClipLayout, ...] = ()  # of each size that latents of the run have
        self._first_steps: int | None = None  # of two stages
        self.denoise_stages = IN_ONE_STAGE | (IN_TWO_STAGES if UPSAMPLER in modules else {})

    def stages_of(self, request: GenerationRequest) -> Mapping[str, tuple[str, ...]]:
        if not request.two_stages:
            return IN_ONE_STAGE
        if UPSAMPLER not in self.modules:
            raise UserError("family.upsampler_missing", component=UPSAMPLER)
        return IN_TWO_STAGES

    def layout(self, request: GenerationRequest) -> ClipLayout:
        """Of the latents of `request`."""
        return ClipLayout.of(request, self._configs)

    def _layouts(self, request: GenerationRequest) -> tuple[ClipLayout, ...]:
        """Of each size that latents of its run have, in order."""
        sizes = (at_half(request), request) if request.two_stages else (request,)
        return tuple(map(self.layout, sizes))

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        sentences = {PROMPT: request.prompt}
        if request.guidance_scale > 1:
            sentences[NEGATIVE] = request.negative_prompt

        def text(card: Card, conditioning: Conditioning) -> None:
            parts = self.tokenizer, self.modules["text_encoder"], self.modules["connectors"]
            for name, sentence in sentences.items():
                conditioning[name], conditioning[name + SOUND] = of_a_sentence(card, *parts, sentence)

        def picture(card: Card, conditioning: Conditioning) -> None:
            sizes = {SMALLER: at_half(request), "": request} if request.two_stages else {"": request}
            for (name, at), (size, shown) in product(({PICTURE: 0} | added_frames(request)).items(), sizes.items()):
                with card.on_host():
                    image = inputs.images[at]
                    if size:
                        image = image.resize((shown.width, shown.height), Image.Resampling.LANCZOS)
                    pixels = to_tensor(compressed(image, self.crf)).to(self._precision) * 2 - 1
                found = self.vae.encode(card.to_card(pixels).unsqueeze(2)).latent_dist.mode()
                mean, std = mean_and_std(self.vae, found)
                conditioning[name + size] = as_tokens((found.float() - mean) / std)
                del found

        reads = ("prompt", "negative_prompt") if NEGATIVE in sentences else ("prompt",)
        stages = [Stage("text", ("text_encoder", "connectors"), text, reads)]
        if request.task == "i2v":
            reads = ("two_stages",) if request.two_stages else ()
            stages.append(Stage("picture", ("vae",), picture, reads, sees=("image",)))
        return stages

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, N) float32, as `layout` parts it: noise drawn on the host, so that every precision and card starts alike;
        in the first frame's place the picture. In two stages, at half the size."""
        check_attention(plan)
        self.stages_of(request)  # refuses what the checkpoint can not do
        self._prepared = self._layouts(request)
        self._first_steps = request.num_inference_steps if request.two_stages else None
        layout, size = self._prepared[0], SMALLER if request.two_stages else ""
        added = layout.each_frame * len(added_frames(request))
        self._stepping = schedule(self.scheduler, request, layout.tokens + added)
        self.scheduler_memory = SchedulerMemory(self._stepping)
        tokens, sounds = layout.noise(torch.Generator().manual_seed(request.seed), added)
        if request.task == "i2v":
            tokens[:, : layout.each_frame] = conditioning[PICTURE + size].float()
        return layout.joined(tokens, sounds)

    def denoise_stage(self, index: int) -> str:
        return stage_of(index, self._first_steps)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        stage = self.denoise_stage(index)
        if stage == UPSAMPLE:
            return self._enlarge(card, conditioning, latents, index, request)
        if stage == FULL:
            request = replace(request, guidance_scale=1.0)
        size, layout = SMALLER if stage == HALF else "", self._prepared[-1 if stage == FULL else 0]
        pictures, sound = layout.parted(latents)
        held = held_tokens(request, layout)
        with card.on_host():
            timestep, sigma = self._stepping.timesteps[index], self._stepping.sigmas[index]
            given = given_beside(self.transformer, request, layout, timestep, self.later)
        if added := added_frames(request):  # they stand behind the clip's tokens, and are never noisy
            pictures = torch.cat([pictures, *(conditioning[name + size].to(pictures) for name in added)], dim=1)
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

    def _enlarge(
        self, card: Card, conditioning: Conditioning, latents: Tensor, index: int, request: GenerationRequest
    ) -> StepOutput:
        """The step between two stages: what the first has made, twice as large, with the noise that the second begins
        with; in the first frame's place the picture, and the sound as it was under its noise."""
        small, large = self._prepared
        tokens, sound = small.parted(latents)
        found = small.as_pictures(tokens)
        mean, std = mean_and_std(self.vae, found)
        spread = std / self.vae.config.scaling_factor
        made = enlarged(self.modules[UPSAMPLER], found, mean, spread, self._precision)
        pictures = as_tokens(made).contiguous()
        del found, made
        held = held_tokens(request, large)
        if held:
            pictures[:, :held] = conditioning[PICTURE].float()
        clean = large.joined(pictures, sound)
        with card.on_host():
            generator = torch.Generator().manual_seed(request.seed + STEP_SEED_OFFSET * (index + 1))
            noise = large.noise(generator, large.each_frame * len(added_frames(request)), by_token=True)
            timestep = self._stepping.timesteps[index]
        velocity = card.to_card(large.joined(*noise)) - clean
        velocity[:, : held * large.channels] = 0
        stepped = take_step(self._stepping, velocity, timestep, clean, seed=request.seed, index=index)
        return StepOutput(latents=stepped.prev_sample, predicted=clean)

    def sound(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Sound:
        layout, vae = self._layout_of(latents, request), self.modules["audio_vae"]
        _, tokens = layout.parted(latents)
        tokens = tokens * vae.latents_std.to(tokens) + vae.latents_mean.to(tokens)
        spectrogram = vae.decode(layout.as_sound(tokens).to(vae.dtype)).sample
        vocoder = self.modules["vocoder"]
        waves = vocoder(spectrogram)[0]
        return Sound(card.to_host(waves.float()), vocoder.config.output_sampling_rate)

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        layout = self._layout_of(latents, request)
        tokens, _ = layout.parted(latents)
        found = layout.as_pictures(tokens)
        mean, std = mean_and_std(self.vae, found)
        found = (found * std / self.vae.config.scaling_factor + mean).to(self._precision)
        del tokens
        frames, size = frames_of(card, self.vae, found, plan.decode_rows), (request.width, request.height)
        del found
        half = layout.width * SPACE_SCALE < request.width  # a run that is not yet in its second stage
        yield from (enlarged_frame(frame, *size) for frame in frames) if half else frames

    def _layout_of(self, latents: Tensor, request: GenerationRequest) -> ClipLayout:
        """How these latents of `request`, of whichever of its stages, are laid out."""
        return next(one for one in self._layouts(request) if one.numbers == latents.numel())

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """In grey: nobody has published what colours its channels are."""
        layout = next(one for one in self._prepared if one.numbers == predicted.numel())
        tokens, _ = layout.parted(predicted.float().cpu())
        return in_grey(layout.as_pictures(tokens))
