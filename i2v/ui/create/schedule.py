"""The fields of the form for what takes the noise away, and how guidance goes over the steps. What the first two offer
depends on the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from i2v.families.scheduler_choices import SCHEDULERS
from i2v.families.spec import FamilySpec
from i2v.messages import message
from i2v.request import AUTO, GUIDANCE_CURVES
from i2v.ui.texts import text

OFFERED = ("scheduler", "betas")
OF_GUIDANCE = ("guidance_rescale", "guidance_curve")
TWO_STAGES = ("auto", "on", "off")
SCHEDULE = (*OFFERED, *OF_GUIDANCE, "two_stages")


class AnyDropdown(gr.Dropdown):
    """Takes any value: what it offers changes, and a job that comes back into the form may be of a model that has gone
    since. The service checks."""

    is_template = True  # to the browser it is the dropdown that it is

    def preprocess(self, payload: Any) -> Any:
        return payload


def names_of(spec: FamilySpec) -> dict[str, tuple[str, ...]]:
    """What a model of this family offers in each of the fields of OFFERED."""
    return {"scheduler": tuple(spec.scheduler_steps), "betas": spec.betas}


def is_left_over(name: str, value: Any, spec: FamilySpec) -> bool:
    """Whether `value` of the field `name` is another model's, which one of this family does not offer."""
    return name in OFFERED and value not in (None, "", AUTO, *names_of(spec)[name])


def offered(spec: FamilySpec, scheduler: Any, locale: str) -> dict[str, dict[str, Any]]:
    """What the fields of OFFERED show for this family, the value `scheduler` standing in the first of them."""
    names, own = names_of(spec), (text("schedule_own", locale), AUTO)
    return {
        "scheduler": {
            "choices": [own, *((SCHEDULERS[name].title, name) for name in names["scheduler"])],
            "info": advice(spec, scheduler, locale),
        },
        "betas": {"choices": [own, *((text(f"betas_{name}", locale), name) for name in names["betas"])]},
    }


def advice(spec: FamilySpec, scheduler: Any, locale: str) -> str:
    """What to know of a scheduler, and how many steps and how much guidance suit the model with it."""
    chosen = scheduler if scheduler in spec.scheduler_steps else None
    low, high = spec.good_steps(chosen)
    about = message("ui.scheduler_about_own") if chosen is None else message(f"ui.scheduler_about_{chosen}")
    told = {"model": spec.title, "low": low, "high": high}
    guidance = {"least": f"{spec.hints.min_guidance:g}", "most": f"{spec.hints.max_guidance:g}"}
    return message("ui.scheduler_advice", about=about.to_json(), **told, **guidance).render(locale)


def schedule_fields(
    i18n: gr.I18n, spec: FamilySpec, locale: str, visible: Mapping[str, bool | str]
) -> dict[str, gr.components.Component]:
    """The fields of SCHEDULE, laid out here; `visible` tells which are seen."""

    def common(name: str) -> dict[str, Any]:
        return {"label": i18n(f"ui.{name}"), "visible": visible[name], "elem_id": f"i2v-{name}"}

    shown = offered(spec, AUTO, locale)
    with gr.Row():
        fields: dict[str, Any] = {
            name: AnyDropdown(value=AUTO, min_width=200, **shown[name], **common(name)) for name in OFFERED
        }
    with gr.Row():
        curves = [(i18n(f"ui.curve_{name}"), name) for name in GUIDANCE_CURVES]
        fields["guidance_curve"] = gr.Dropdown(
            curves, value=GUIDANCE_CURVES[0], info=i18n("ui.guidance_curve_help"), min_width=200,
            **common("guidance_curve"),
        )  # fmt: skip
        fields["guidance_rescale"] = gr.Number(
            0, info=i18n("ui.guidance_rescale_help"), minimum=0, maximum=1, step=0.1, min_width=140,
            **common("guidance_rescale"),
        )  # fmt: skip
        stages = [(i18n(f"ui.two_stages_{name}"), name) for name in TWO_STAGES]
        fields["two_stages"] = gr.Dropdown(
            stages, value=AUTO, info=i18n("ui.two_stages_help"), min_width=200, **common("two_stages")
        )
    return fields
