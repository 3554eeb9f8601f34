"""How I2VGen-XL is trained: noise on the latents of every frame, by the schedule and the kind of prediction that its
checkpoint names. The picture that a clip begins with is its own first frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from i2v.families.base import Conditioning, FamilyModel
from i2v.families.blocks import unet_blocks
from i2v.families.i2vgen_xl.model import I2VGenXL
from i2v.families.pixels import to_tensor
from i2v.families.trainable import Draw, Example, change_error, kept_or_dropped, stacked, weighted_error
from i2v.memory.card import Card
from i2v.messages import UserError
from i2v.request import GenerationRequest

TARGETS = (
    r".*transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"
    r"|transformer_in\.transformer_blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
)
KEPT = ("prompt", "negative", "image_embeds", "image_latents")


def trainer(model: FamilyModel) -> I2VGenXLTrainer:
    """See `families.trainable.Trainer`. Raises UserError for a schedule that training does not know."""
    assert isinstance(model, I2VGenXL)
    return I2VGenXLTrainer(model)


class I2VGenXLTrainer:
    """I2VGen-XL's own; see `families.trainable.Trainer` for the contract of each method."""

    component = "unet"
    targets = TARGETS
    measured_with = ("vae",)

    def __init__(self, model: I2VGenXL) -> None:
        self._model = model
        config = model.scheduler.config
        self._predicts = config.get("prediction_type", "epsilon")
        self._alphas = getattr(model.scheduler, "alphas_cumprod", None)
        if self._alphas is None or self._predicts not in ("epsilon", "v_prediction", "sample"):
            raise UserError("training.schedule", scheduler=type(model.scheduler).__name__, predicts=self._predicts)

    def blocks(self, network: nn.Module) -> Sequence[nn.Module]:
        return unet_blocks(network)

    def measured(
        self, card: Card, frames: Sequence[Image.Image], request: GenerationRequest, conditioning: Conditioning
    ) -> Example:
        vae, rows = self._model.vae, []
        for frame in frames:
            with card.on_host():
                pixels = (to_tensor(frame) * 2 - 1).to(vae.dtype)
            rows.append(vae.encode(card.to_card(pixels)).latent_dist.mean * vae.config.scaling_factor)
        with card.on_host():
            fps = torch.tensor([request.fps])
        example = {name: conditioning[name] for name in KEPT}
        return {"latents": torch.stack(rows, dim=2), "fps": card.to_card(fps), **example}

    def loss(self, network: nn.Module, examples: Sequence[Example], draw: Draw, consistency: float) -> Tensor:
        clean = stacked(examples, "latents")
        image = stacked(examples, "image_embeds")
        steps = (draw.levels * len(self._alphas)).long().clamp(max=len(self._alphas) - 1)
        alpha = self._alphas.to(clean.device)[steps].view(-1, 1, 1, 1, 1)
        kept, spread = alpha.sqrt(), (1 - alpha).sqrt()
        noisy = kept * clean.float() + spread * draw.noise
        predicted = network(
            noisy.to(clean.dtype), steps, fps=stacked(examples, "fps"),
            image_latents=stacked(examples, "image_latents"),
            image_embeddings=image * (1 - draw.dropped.view(-1, 1, 1)).to(image),
            encoder_hidden_states=kept_or_dropped(examples, "prompt", "negative", draw.dropped), return_dict=False,
        )[0].float()  # fmt: skip
        match self._predicts:
            case "epsilon":
                wanted, found = draw.noise, (noisy - spread * predicted) / kept.clamp_min(1e-3)
            case "v_prediction":
                wanted, found = kept * draw.noise - spread * clean.float(), kept * noisy - spread * predicted
            case _:
                wanted, found = clean, predicted
        loss = weighted_error(predicted, wanted)
        if consistency:
            loss = loss + consistency * change_error(found, clean, alpha)
        return loss
