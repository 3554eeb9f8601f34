"""What a step of LTX-2 is guided by: what it would have made without the sentence, with tokens that in one block look
at themselves alone, and with pictures and sound that do not know of each other. From each of them the answer is pushed
away, as its authors recommend for LTX-2.3; LTX-2.0 only from the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diffusers.guiders.guider_utils import rescale_noise_cfg
from torch import Tensor

from i2v.families.guidance import scale_at
from i2v.request import GenerationRequest

Asked = Literal["wanted", "without", "alone", "apart"]
Answers = Mapping[Asked, Tensor]

ALONE_BLOCK = 28  # in which tokens look at themselves alone, counted from 0; the last one of a smaller network


@dataclass(frozen=True)
class Scales:
    """How far the answer goes from the one without the sentence and the one apart, where 1 is not at all, and from the
    one alone, where 0 is; and how far its spread is brought back afterwards, from 0 to 1."""

    without: float
    alone: float = 0.0
    apart: float = 1.0
    rescale: float = 0.0

    def guided(self, answers: Answers) -> Tensor:
        """The clean latents of all that the network was asked, as one."""
        wanted = answers["wanted"]
        pushed = wanted
        for name, far in (("without", self.without - 1), ("alone", self.alone), ("apart", self.apart - 1)):
            if name in answers:
                pushed = pushed + far * (wanted - answers[name])
        return rescale_noise_cfg(pushed, wanted, guidance_rescale=self.rescale) if self.rescale else pushed


SOUND_TIMES = 7 / 3  # as strong as that of the pictures is the guidance of LTX-2.3's sound
RESCALE = 0.7  # of LTX-2.3, where nothing else is asked for


def is_later(transformer: Mapping[str, Any]) -> bool:
    """Whether a transformer with this configuration is of LTX-2.3, not of LTX-2.0."""
    return bool(transformer.get("cross_attn_mod"))


def asked(request: GenerationRequest, later: bool) -> tuple[Asked, ...]:
    """What the network is asked in each step."""
    if request.guidance_scale <= 1:
        return ("wanted",)
    return ("wanted", "without", "alone", "apart") if later else ("wanted", "without")


def scales(request: GenerationRequest, index: int, later: bool) -> tuple[Scales, Scales]:
    """Those of the pictures and of the sound in step `index`."""
    scale = scale_at(request.guidance_scale, request, index)
    if not later:
        return (Scales(scale, rescale=request.guidance_rescale),) * 2
    rest = {"alone": 1.0, "apart": 3.0, "rescale": request.guidance_rescale or RESCALE}
    return Scales(scale, **rest), Scales(scale * SOUND_TIMES, **rest)


def guided(
    answer: Callable[[Asked], tuple[Tensor, Tensor]], request: GenerationRequest, index: int, later: bool
) -> tuple[Tensor, Tensor]:
    """The clean pictures and sound that step `index` goes towards; `answer` gives what the network says of both."""
    if request.guidance_scale <= 1:
        return answer("wanted")
    both = {one: answer(one) for one in asked(request, later)}
    of_pictures, of_sound = scales(request, index, later)
    return (
        of_pictures.guided({name: pictures for name, (pictures, _) in both.items()}),
        of_sound.guided({name: sound for name, (_, sound) in both.items()}),
    )
