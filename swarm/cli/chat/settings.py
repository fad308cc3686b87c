"""How the next answers are sampled, by the names that `/set` takes."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swarm.errors import RequestError

if TYPE_CHECKING:
    from swarm.client import SamplingConfig


def _whole_or_none(text: str) -> int | None:
    return None if text.lower() in ("none", "off") else int(text)


def _texts(text: str) -> tuple[str, ...]:
    if text.lower() in ("none", "off"):
        return ()
    return tuple(each.replace("\\n", "\n") for each in shlex.split(text))


_READS: Mapping[str, Callable[[str], Any]] = {
    "max_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": _whole_or_none,
    "stop": _texts,
}
_FIELDS = {"max_tokens": "max_new_tokens"}

NAMES = tuple(_READS)
"""What can be set."""


def changed(sampling: SamplingConfig, name: str, value: str) -> SamplingConfig:
    """`sampling` with one value as it was typed; raises `RequestError` that says what is wrong."""
    name = name.replace("-", "_").lower()
    if name not in _READS:
        raise RequestError(f"{name!r} cannot be set; there are {', '.join(NAMES)}")
    try:
        read = _READS[name](value)
    except ValueError as error:
        raise RequestError(f"{value!r} is no value for {name}") from error
    return replace(sampling, **{_FIELDS.get(name, name): read})


def told(sampling: SamplingConfig) -> list[str]:
    """A line for each value."""
    values = {name: getattr(sampling, _FIELDS.get(name, name)) for name in NAMES}
    values["stop"] = " ".join(map(repr, sampling.stop)) or None
    return [f"{name} {'none' if value is None else value}" for name, value in values.items()]
