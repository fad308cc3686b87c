"""Memory, disks, and how many blocks of a model fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.amounts import gigabytes
from swarm.errors import ConfigError

from .check import aside
from .finding import Finding, ok, problem, warning
from .machine import Machine

_GB = 1e9
_LEAST_MEMORY = 1.5 * _GB
"""torch, transformers and one small block take about as much."""
_LITTLE_MEMORY = 4 * _GB
_LEAST_DISK = 200e6
_LITTLE_DISK = 5 * _GB


@dataclass(frozen=True)
class MemoryCheck:
    """RAM, control groups, swap."""

    machine: Machine
    name: str = "memory"
    seconds: float = 60.0

    async def run(self) -> Sequence[Finding]:
        memory = await aside(self.machine.memory)
        limited = memory.limited is not None and memory.limited < memory.available
        free = memory.limited if limited and memory.limited is not None else memory.available
        swapped = memory.swap_total - memory.swap_free
        told = f"{gigabytes(free)} free of {gigabytes(memory.total)}"
        if limited:
            told += " (a control group's limit)"
        if swapped > 0.05 * memory.total:
            told += f", {gigabytes(swapped)} swapped out"
        more = "a larger limit for the container" if limited else "other programs ended"
        if free < _LEAST_MEMORY:
            means = "a peer would not start, or be killed by the system."
            return [problem(told, means, f"It needs {more}, or another machine.")]
        if free < _LITTLE_MEMORY:
            means = "only small blocks fit, and there is little room for sessions."
            return [warning(told, means, f"With {more} it would hold more; --quantize int4 helps.")]
        return [ok(told)]


@dataclass(frozen=True)
class BlocksCheck:
    """How many blocks of a model fit here; `count` says it in words, or raises `ConfigError`.

    It gives the number of blocks that fit, of how many, and a sentence about them.
    """

    count: Callable[[], tuple[int, int, str]]
    name: str = "model"
    seconds: float = 120.0

    async def run(self) -> Sequence[Finding]:
        try:
            blocks, total, told = await aside(self.count)
        except ConfigError as error:
            means = "no peer of this model can run here."
            return [problem(str(error), means, "Look at the model's name, or choose another.")]
        if not blocks:
            return [
                problem(
                    told,
                    "not one block fits.",
                    "Free some memory, use --quantize int4, or choose a smaller model: swarm fit.",
                )
            ]
        means = f"{-(-total // blocks)} machines like this one hold the whole model."
        return [ok(f"{told}; {means}")]


@dataclass(frozen=True)
class DiskCheck:
    """One folder: whether it can be written, and how much room there is."""

    machine: Machine
    folder: Path
    what: str
    little: float = _LITTLE_DISK
    seconds: float = 15.0

    @property
    def name(self) -> str:
        """For the list."""
        return f"disk: {self.what}"

    async def run(self) -> Sequence[Finding]:
        try:
            room = await aside(lambda: self.machine.room(self.folder))
            told = f"{self.folder}: {gigabytes(room.free)} free of {gigabytes(room.total)}"
            if room.free >= _LEAST_DISK:
                await aside(lambda: self.machine.try_writing(self.folder))
        except OSError as error:
            return [
                problem(
                    f"{self.folder}: {error.strerror or error}",
                    "what has to be kept here cannot be written.",
                    f"Make it this user's (chown), or choose another folder: {self._option}.",
                )
            ]
        if room.free < _LEAST_DISK:
            means = "downloads end half way, and a membership may not be kept."
            do = f"Delete something, or choose a folder on another disk: {self._option}."
            return [problem(told, means, do)]
        if room.free < self.little:
            means = "a peer downloads its blocks only, but those of large models are larger."
            return [warning(told, means, f"Choose a folder on another disk: {self._option}.")]
        return [ok(told)]

    @property
    def _option(self) -> str:
        return "--dir" if self.what == "state" else "--cache, or XDG_CACHE_HOME"
