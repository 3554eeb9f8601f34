"""The ways to a model's files, in the order in which they are tried.

No way is right everywhere: Xet stalls on some networks, on others its servers are the only ones that can be reached,
and elsewhere only a mirror answers. So each gets its turn when the one before brings nothing, and the one that worked
is remembered.

A mirror is asked where the setting `hf_endpoint` names one, and then first, since who names one has a reason. No mirror
is asked that nobody named: it would learn which models a person loads. ModelScope is the last, where somebody has
installed its client.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from i2v.models.fetch.look_up import look_up
from i2v.models.fetch.modelscope import look_up_on_modelscope, modelscope_endpoint, modelscope_installed
from i2v.models.fetch.published import Published
from i2v.models.fetch.sources import xet_installed
from i2v.whole_file import write_whole

HUB = "https://huggingface.co"
REMEMBERED = ".i2v-route.json"
_MODELSCOPE = "modelscope"


@dataclass(frozen=True)
class Route:
    """A way: `name` is the end of its text's id, `models.route_<name>`."""

    name: str
    endpoint: str
    xet: bool = False

    @property
    def of_modelscope(self) -> bool:
        """Whether it leads to ModelScope, by the client of that."""
        return self.name == _MODELSCOPE


def routes_for(hf_endpoint: str | None, hub: str | None = None) -> tuple[Route, ...]:
    """All ways to a model of the hub; `hub` is its address, another than huggingface.co's in tests."""
    hub = hub or HUB
    routes = [Route("plain", hub)]
    if xet_installed():
        routes.insert(0, Route("xet", hub, xet=True))
    if hf_endpoint is not None and hf_endpoint != hub:
        # Mirrors lead to the hub's own storage for large files, which is reached by Xet alone on some networks.
        mirror = [Route("mirror", hf_endpoint)]
        if xet_installed():
            mirror.append(Route("mirror_xet", hf_endpoint, xet=True))
        routes = [*mirror, *routes]
    if modelscope_installed():
        routes.append(Route(_MODELSCOPE, modelscope_endpoint()))
    return tuple(routes)


def look_up_by(route: Route, hub_id: str) -> Published:
    """What is published of `hub_id` where the route leads. Raises what the client of that raises, and RouteFailed."""
    return look_up_on_modelscope(hub_id, route.endpoint) if route.of_modelscope else look_up(hub_id, route.endpoint)


def remembered_first(routes: Sequence[Route], models_dir: Path) -> tuple[Route, ...]:
    """The same routes, the one that worked last time first."""
    try:
        values = json.loads((models_dir / REMEMBERED).read_text(encoding="utf-8"))
        last = (values["route"], values["endpoint"])
    except (OSError, ValueError, LookupError, TypeError):
        return tuple(routes)
    return tuple(sorted(routes, key=lambda route: (route.name, route.endpoint) != last))


def remember(route: Route, models_dir: Path) -> None:
    """Note that `route` worked. Where it cannot be noted, the next download begins as this one did."""
    with suppress(OSError):
        text = json.dumps({"route": route.name, "endpoint": route.endpoint})
        path = models_dir / REMEMBERED
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text, durable=False)
