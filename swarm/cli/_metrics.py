"""Options by which programs let Prometheus ask them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.errors import ConfigError

from . import _options

if TYPE_CHECKING:
    from swarm.web.door import Door
    from swarm.web.metrics import MetricsConfig

MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Let Prometheus ask here, at /metrics; without HOST only from this machine.",
    ),
]

MetricsKeyOption = Annotated[
    str | None,
    typer.Option(
        "--metrics-key",
        metavar="KEY",
        envvar="HOMESWARM_METRICS_KEY",
        show_envvar=True,
        help="What Prometheus must show; needed where others than this machine can ask.",
    ),
]


def config(place: str | None, key: str | None) -> MetricsConfig | None:
    """What the two options say; None where nobody is to ask.

    Raises `ConfigError` and `typer.BadParameter`.
    """
    from swarm.web.metrics import MetricsConfig

    if place is None:
        if key is not None:
            raise ConfigError("--metrics-key needs --metrics [HOST:]PORT")
        return None
    host, port = _options.place(place, "--metrics")
    if key is not None and not key.strip():
        raise ConfigError("an empty --metrics-key keeps nobody out")
    return MetricsConfig(host=host or MetricsConfig.host, port=port, key=key)


@contextmanager
def opened(chosen: MetricsConfig | None) -> Iterator[Door[MetricsConfig] | None]:
    """Takes the address for the length of the block, before anything else takes long."""
    from swarm.web.door import Door

    if chosen is None:
        yield None
        return
    with Door.opened(chosen, chosen) as door:
        yield door
