"""What is refused, and that it is said in every language."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from i2v.messages import LOCALES, UserError


def refusal(call: Callable[..., object], *given: object) -> str:
    """The id of the message with which `call` refuses what it is `given`."""
    with pytest.raises(UserError) as refused:
        call(*given)
    assert all("{" not in refused.value.message.render(locale) for locale in LOCALES)
    return refused.value.message.id
