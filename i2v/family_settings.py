"""Settings that only some families of models take. Each is a field of a request, where None leaves it to the model, and
has the same name in `config.yaml`, on the command line and in the form. Which of them a family takes stands in its spec
(`FamilySpec.own_settings`). None of them changes how much memory a run needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FamilySetting:
    """A number from `low` to `high`; `whole`: without a fraction."""

    low: float
    high: float
    whole: bool = False


FAMILY_SETTINGS: Mapping[str, FamilySetting] = {
    # How far the noise levels of a flow model lean towards noise: 1 spreads the steps evenly.
    "flow_shift": FamilySetting(0.1, 20),
    # How much is to move, as Stable Video Diffusion was told in training.
    "motion_bucket_id": FamilySetting(0, 255, whole=True),
    # How much noise the picture has before it is encoded: with more of it the video goes further from the picture.
    "noise_aug_strength": FamilySetting(0, 1),
    # The guidance of the first frame, from which it goes evenly to that of the last.
    "min_guidance_scale": FamilySetting(0, 100),
}
