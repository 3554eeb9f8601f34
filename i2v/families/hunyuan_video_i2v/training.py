"""How HunyuanVideo I2V is trained: as HunyuanVideo, but for the first latent frame, which is the picture and stays so.

That is the published kind of its transformer, "token_replace"; for the older kind nobody has published how."""

from __future__ import annotations

import torch
from torch import Tensor

from i2v.families.base import FamilyModel
from i2v.families.hunyuan_video.training import HunyuanVideoTrainer
from i2v.families.hunyuan_video_i2v.model import HunyuanVideoFromPicture
from i2v.messages import UserError

KIND = "token_replace"


def trainer(model: FamilyModel) -> FromPictureTrainer:
    """See `families.trainable.Trainer`. Raises UserError for the older kind."""
    assert isinstance(model, HunyuanVideoFromPicture)
    return FromPictureTrainer(model)


class FromPictureTrainer(HunyuanVideoTrainer):
    """HunyuanVideo I2V's own; see `families.trainable.Trainer` for the contract of each method."""

    def __init__(self, model: HunyuanVideoFromPicture) -> None:
        super().__init__(model)
        if model.kind != KIND:
            raise UserError("training.transformer_kind", kind=model.kind, needed=KIND)

    def _begun(self, noisy: Tensor, clean: Tensor) -> Tensor:
        return torch.cat([clean[:, :, :1], noisy[:, :, 1:]], dim=2)

    def _counted(self, clean: Tensor) -> slice:
        return slice(1, None)
