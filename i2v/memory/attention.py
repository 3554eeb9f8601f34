"""What a transformer attends with: diffusers' dispatcher, told by a plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.models.attention_dispatch import attention_backend

from i2v.messages import UserError
from i2v.plan import Plan


@contextmanager
def attention_of(plan: Plan) -> Iterator[None]:
    """For the time of the `with`, transformers of diffusers attend with what `plan` says."""
    with attention_backend(plan.attention):
        yield


def check_attention(plan: Plan) -> None:
    """Raise UserError where what `plan` attends with is not installed."""
    try:
        with attention_of(plan):
            pass
    except (ImportError, RuntimeError, ValueError) as error:
        raise UserError("family.attention_missing", attention=plan.attention, error=str(error)) from error
