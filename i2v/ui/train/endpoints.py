"""The named endpoints /train and /training, for any client, as those in `ui/api.py`.

Gradio reads their type hints as they stand, so this module does without postponed annotations.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.messages import DEFAULT_LOCALE, UserError
from i2v.settings.settings import Settings
from i2v.ui.api import readable
from i2v.ui.gate.own import OwnJobs
from i2v.ui.train.films import captions_in, films_of, train

if TYPE_CHECKING:
    from i2v.jobs.service import JobService


def add_training_endpoints(service: "JobService", settings: Settings) -> None:
    """Offer the endpoints in the current Blocks."""
    locale = settings.language if settings.language != "auto" else DEFAULT_LOCALE
    kept = settings

    def train_endpoint(clips: list | None, settings: dict, request: gr.Request) -> str:
        """Queue a training on uploaded `clips`. `settings` has the keys of `i2v train` (model, name, trigger, steps,
        rank, rate, batch, width, height, frames, seed, ...) and `captions`: what is to be seen in a clip by its file's
        name, else the name itself tells. On the app's own machine `clips` in `settings` may name a folder there
        instead. Returns the job's id."""
        if not isinstance(settings, dict):
            raise UserError("ui.settings_not_object", value=str(settings)[:80])
        values = dict(settings)
        captions = captions_in(values.pop("captions", None))
        return train(OwnJobs.of(service, request), kept, values, films_of(clips), captions)

    def training(id: str, request: gr.Request) -> dict:
        """How a training stands: name, step, steps, losses (a list of step and loss), clips made while it trains, file
        (the LoRA, when it is done), peak_bytes, foretold_peak_bytes and seconds_left. /status tells the rest."""
        found = OwnJobs.of(service, request).training(id)
        seen: dict[str, Any] = {**asdict(found), "step": found.step}
        seen["clips"] = [clip.name for clip in seen["clips"]]
        seen["file"] = seen["file"] and seen["file"].name
        return seen

    gr.api(readable(train_endpoint, locale, settings), api_name="train", queue=False)
    gr.api(readable(training, locale, settings), api_name="training", queue=False)
