"""HunyuanVideo: loading a diffusers-layout checkpoint, and its phases encode, denoise_step and decode.

Number for number diffusers' `HunyuanVideoPipeline`, whose modules, scheduler and prompt template are used and whose
loop is not; latents stay float32 where the pipeline's turn into half precision after the first step. From a video, for
which diffusers has no class, it begins from that video's latents, noised as far as `strength` says.
Shapes: F = 4 k + 1 frames, C = 16 latent channels, f = k + 1, h = H/8, w = W/8; T tokens of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoTransformer3DModel,
    ModelMixin,
)
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, LlamaModel, PreTrainedTokenizerFast

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.blocks import encoder_layers, transformer_blocks
from i2v.families.components import Components
from i2v.families.hunyuan_video.programs import PROGRAMS
from i2v.families.hunyuan_video.prompts import of_a_sentence, up_to_the_layer_that_is_read
from i2v.families.hunyuan_video.vae import decoded, encoded
from i2v.families.ordinary import NEGATIVE, PROMPT, OrdinaryModel, flow_step, velocity_of
from i2v.families.pixels import to_bytes, window_of
from i2v.families.schedulers import SchedulerMemory, begun_flow
from i2v.families.text import token_ids
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.step_cache import StepCache
from i2v.memory.tokens import token_chunks
from i2v.memory.windows import Part
from i2v.plan import Plan
from i2v.request import GenerationRequest

# diffusers' documentation of the pipeline: a shift of 2 to 5 for low resolutions, 7 to 12 for high ones.
SMALL_PIXELS, SMALL_SHIFT = 480 * 800, 5.0
TIME_SCALE, SPACE_SCALE = 4, 8  # frames and pixels of a side that a latent stands for

# Latents seen directly as colours, rows channels, columns R, G, B, and what is added to them: the factors that ComfyUI
# publishes for this autoencoder (comfy/latent_formats.py, class HunyuanVideo).
LATENT_TO_RGB = (
    (-0.0395, -0.0331, 0.0445),
    (0.0696, 0.0795, 0.0518),
    (0.0135, -0.0945, -0.0282),
    (0.0108, -0.0250, -0.0765),
    (-0.0209, 0.0032, 0.0224),
    (-0.0804, -0.0254, -0.0639),
    (-0.0991, 0.0271, -0.0669),
    (-0.0646, -0.0422, -0.0400),
    (-0.0696, -0.0595, -0.0894),
    (-0.0799, -0.0208, -0.0375),
    (0.1166, 0.1627, 0.0962),
    (0.1165, 0.0432, 0.0407),
    (-0.2315, -0.1920, -0.1355),
    (-0.0270, 0.0401, -0.0821),
    (-0.0616, -0.0997, -0.0727),
    (0.0249, -0.0469, -0.1703),
)
LATENT_TO_RGB_OFFSET = (0.0259, -0.0192, -0.0761)


POOLED = "_pooled"  # in the conditioning, behind the name of a sentence


def flow_shift(request: GenerationRequest, own: float) -> float:
    """How far the schedule leans towards noise: as the checkpoint's `own` scheduler says, less for small pictures."""
    return min(own, SMALL_SHIFT) if request.width * request.height < SMALL_PIXELS else own


def sentences(request: GenerationRequest) -> dict[str, str]:
    """What is encoded, by its name in the conditioning."""
    without = {NEGATIVE: request.negative_prompt} if request.true_guidance_scale > 1 else {}
    return {PROMPT: request.prompt, **without}


def read_of(request: GenerationRequest) -> tuple[str, ...]:
    """The fields of `request` that `sentences` depend on."""
    return ("prompt", "negative_prompt") if request.true_guidance_scale > 1 else ("prompt",)


def load(folder: Path, precision: torch.dtype) -> HunyuanVideo:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return HunyuanVideo(**parts_of(folder, precision, LlamaModel, up_to_the_layer_that_is_read))


def parts_of(
    folder: Path,
    precision: torch.dtype,
    text_encoder: type[nn.Module],
    cut: Callable[[nn.Module], None],
    transformer: type[ModelMixin] = HunyuanVideoTransformer3DModel,
    **more: Callable[[], nn.Module],
) -> dict[str, object]:
    """What a checkpoint's folder holds, by the arguments of `HunyuanVideo`. `text_encoder`: the class of the first, of
    which `cut` takes away what is not read; `more`: what reads further networks."""
    classes = {"text_encoder_2": CLIPTextModel, "transformer": transformer, "vae": AutoencoderKLHunyuanVideo}
    reads = {
        "text_encoder": partial(read, text_encoder, folder / "text_encoder", precision, cut),
        **{name: partial(read, network, folder / name, precision) for name, network in classes.items()},
        **more,
    }
    return {
        "tokenizer": PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True),
        "tokenizer_2": CLIPTokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True),
        "modules": Components(reads),
        "transformer_config": transformer.load_config(folder / "transformer", local_files_only=True),
        "precision": precision,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    }


class HunyuanVideo(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    transformer: HunyuanVideoTransformer3DModel
    vae: AutoencoderKLHunyuanVideo
    blocks: ClassVar = {
        "text_encoder": encoder_layers,
        "text_encoder_2": encoder_layers,
        "transformer": transformer_blocks,
    }

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerFast,
        tokenizer_2: CLIPTokenizer,
        modules: Components,
        transformer_config: Mapping[str, object],
        precision: torch.dtype,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        """`modules`: text_encoder, text_encoder_2, transformer and vae, in `precision`."""
        self.tokenizer = tokenizer
        self.tokenizer_2 = tokenizer_2
        self.modules = modules
        self.scheduler = scheduler
        self.step_cache = StepCache(0.0)
        self._config = transformer_config
        self._precision = precision

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def text(card: Card, conditioning: Conditioning) -> None:
            for name, sentence in sentences(request).items():
                conditioning[name] = of_a_sentence(card, self.tokenizer, self.modules["text_encoder"], sentence)

        def clip(card: Card, conditioning: Conditioning) -> None:
            conditioning["clip"] = self.clip_latents(card, inputs.clip, plan)

        stages = [Stage("text", ("text_encoder",), text, read_of(request)), self._pooled_stage(request)]
        if request.task == "v2v":
            stages.append(Stage("clip", ("vae",), clip, (), sees=("video",)))
        return stages

    def _pooled_stage(self, request: GenerationRequest) -> Stage:
        def pooled(card: Card, conditioning: Conditioning) -> None:
            for name, sentence in sentences(request).items():
                with card.on_host():
                    ids = token_ids(self.tokenizer_2, sentence)
                conditioning[name + POOLED] = self.modules["text_encoder_2"](card.to_card(ids)).pooler_output

        return Stage("pooled", ("text_encoder_2",), pooled, read_of(request))

    def clip_latents(self, card: Card, pictures: Sequence[Image.Image], plan: Plan) -> Tensor:
        """(1, C, f, h, w) float32 of a clip or, with f = 1, of one picture."""

        def pixels(part: Part) -> Tensor:
            return window_of(card, pictures, part).to(self.vae.dtype)

        size = len(pictures), pictures[0].height, pictures[0].width
        latents = encoded(self.vae, size, pixels, plan.decode_frames, plan.vae_window)
        return latents.float() * self.vae.config.scaling_factor

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, C, f, h, w) float32: noise drawn on the host, so that every precision and card starts alike. From a video
        all steps are made over what its strength leaves of the schedule."""
        begin = request.strength if request.task == "v2v" else 1.0
        check_attention(plan)
        self.step_cache = StepCache(plan.step_cache)
        shift = flow_shift(request, self.scheduler.config.shift)
        self._stepping = begun_flow(request, self.scheduler, shift=shift, begin=begin)
        self.scheduler_memory = SchedulerMemory(self._stepping)
        noise = torch.randn(self._latent_shape(request), generator=torch.Generator().manual_seed(request.seed))
        return self._begin(noise, conditioning)

    def _begin(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        if "clip" not in conditioning:
            return noise
        sigma = self._stepping.sigmas[0]
        return sigma * noise + (1 - sigma) * conditioning["clip"]

    def _latent_shape(self, request: GenerationRequest) -> tuple[int, ...]:
        frames = (request.num_frames - 1) // TIME_SCALE + 1
        return 1, len(LATENT_TO_RGB), frames, request.height // SPACE_SCALE, request.width // SPACE_SCALE

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        answer = partial(self._velocity, card, conditioning, latents, index, request, plan)
        velocity = velocity_of(answer, request.true_guidance_scale, request, index)
        return flow_step(card, self._stepping, velocity, latents, seed=request.seed, index=index)

    def _velocity(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
        sentence: str,
    ) -> Tensor:
        """What the transformer answers to `latents` and one of `sentences` at step `index`, in its own precision."""
        prompt = conditioning[sentence]
        with card.on_host():
            timestep = self._stepping.timesteps[index].reshape(1)
            mask = torch.ones(prompt.shape[:2], dtype=self._precision)  # padding was left out
            guidance = torch.tensor([request.guidance_scale], dtype=self._precision) * 1000.0
        with (
            attention_of(plan),
            token_chunks(self.transformer, PROGRAMS, plan.chunk_tokens),
            self.step_cache.used(self.transformer, transformer_blocks(self.transformer), sentence),
        ):
            return self.transformer(
                hidden_states=latents.to(self._precision),
                timestep=card.to_card(timestep),
                encoder_hidden_states=prompt,
                encoder_attention_mask=card.to_card(mask),
                pooled_projections=conditioning[sentence + POOLED],
                guidance=card.to_card(guidance) if self._config.get("guidance_embeds", True) else None,
                return_dict=False,
            )[0]

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        latents = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        for clip in decoded(self.vae, latents, plan.decode_frames, plan.vae_window):
            for picture in clip[0].transpose(0, 1):
                yield card.to_host(to_bytes(picture / 2 + 0.5))

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        colours = torch.einsum("cfhw,cr->frhw", predicted[0].float().cpu(), torch.tensor(LATENT_TO_RGB))
        colours += torch.tensor(LATENT_TO_RGB_OFFSET)[:, None, None]
        return torch.stack([to_bytes(picture / 2 + 0.5) for picture in colours])
