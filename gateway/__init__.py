"""The HTTP gateway: other programs' APIs, answered by the swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarm.web.door import Door

    from .config import GatewayConfig
    from .fallback import FallbackConfig
    from .keys import KeyFile, Keys
    from .metrics import Metrics
    from .service import Gateway, serve

__all__ = [
    "Door",
    "FallbackConfig",
    "Gateway",
    "GatewayConfig",
    "KeyFile",
    "Keys",
    "Metrics",
    "serve",
]

_HOMES = {
    "Door": "swarm.web.door",
    "FallbackConfig": "fallback",
    "Gateway": "service",
    "GatewayConfig": "config",
    "KeyFile": "keys",
    "Keys": "keys",
    "Metrics": "metrics",
    "serve": "service",
}


def __getattr__(name: str) -> Any:
    # What makes answers imports torch and transformers, which takes seconds; keys need neither.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = _HOMES[name]
    module = home if home.startswith("swarm.") else f".{home}"
    return getattr(import_module(module, __name__), name)
