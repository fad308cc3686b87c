"""Well-known models and machines: their public configs, and how much memory they have.

What is kept of a config (`models.json`) are the fields that decide how large its tensors are. All
sizes are computed from these; `parameters`, in billions as their makers publish it, is there to
check them against.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import msgspec

_GIB = 1 << 30


class Model(msgspec.Struct, frozen=True):
    """A model, in which `repositories` it is found, and in which numbers it was `published`."""

    name: str
    repositories: tuple[str, ...]
    parameters: float
    published: str
    config: dict[str, Any]

    def transformers_config(self) -> Any:
        """As transformers wants it; takes seconds the first time, for its import."""
        from transformers import AutoConfig

        return AutoConfig.for_model(**self.config)


class Machine(msgspec.Struct, frozen=True):
    """A device with `gib` of memory, of which the system and others have `taken_gib`."""

    name: str
    kind: str
    gib: int
    taken_gib: float

    @property
    def free(self) -> int:
        """Bytes that a peer finds free when it starts."""
        return int((self.gib - self.taken_gib) * _GIB)

    @property
    def title(self) -> str:
        """For the head of a table."""
        return f"{self.name} {self.gib} GB"


@cache
def models() -> tuple[Model, ...]:
    """In the order of their sizes."""
    return msgspec.json.decode(_read("models.json"), type=tuple[Model, ...])


@cache
def machines() -> tuple[Machine, ...]:
    """GPUs, then unified memory, then CPUs."""
    return msgspec.json.decode(_read("machines.json"), type=tuple[Machine, ...])


def find(name: str) -> Model | None:
    """The model of this name or repository, in any spelling of it; None if it is not known."""
    wanted = _plain(name)
    names = ((_plain(each), model) for model in models() for each in _names(model))
    return next((model for each, model in names if each == wanted), None)


def _names(model: Model) -> tuple[str, ...]:
    return (model.name, *model.repositories)


def _plain(name: str) -> str:
    return name.lower().replace("-", " ").strip()


def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()
