"""What an input may cost whoever reads it: one kind of error, some memory, some lines of code.

Memory is what Python's allocators had at once, beyond what there was before. Time is counted in
lines of Homeswarm's own code that ran, so that the bound holds on every machine alike.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import swarm
import swarm.client.grammar
import swarm.gateway
import swarm.peer

T = TypeVar("T")

_PARTS = (swarm, swarm.client.grammar, swarm.gateway, swarm.peer)
_OURS = tuple(str(Path(part.__path__[0]).resolve()) for part in _PARTS)

_LONGEST_ERROR = 2000
"""Characters: errors go to logs and to people, and an input may be long."""


@dataclass(frozen=True)
class Bounds:
    """What reading `n` bytes may take: `memory + n * memory_per_byte` bytes, and lines likewise."""

    memory: int = 256 * 1024
    memory_per_byte: int = 24
    lines: int = 2_000
    lines_per_byte: int = 20


USUAL = Bounds()


class Excess(AssertionError):
    """An input cost more than it may."""


def read(
    reader: Callable[[], T],
    refusals: type[Exception] | tuple[type[Exception], ...],
    size: int,
    bounds: Bounds = USUAL,
) -> T | None:
    """What `reader` makes of an input of `size` bytes; None where it refused it, as it may.

    Raises whatever else comes out of it, and `Excess` where it cost more than `bounds`.
    """
    try:
        with bounded(size, bounds):
            return reader()
    except refusals as error:
        if len(str(error)) > _LONGEST_ERROR:
            raise Excess(f"an error of {len(str(error))} characters") from error
        return None


@contextmanager
def bounded(size: int, bounds: Bounds = USUAL) -> Iterator[None]:
    """Raises `Excess` if the block takes more than an input of `size` bytes may cost."""
    counter = _Lines(bounds.lines + size * bounds.lines_per_byte)
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    outer = sys.gettrace()
    sys.settrace(counter.trace)
    try:
        yield
    finally:
        sys.settrace(outer)
        taken = tracemalloc.get_traced_memory()[1] - before
        if started:
            tracemalloc.stop()
    allowed = bounds.memory + size * bounds.memory_per_byte
    if taken > allowed:
        raise Excess(f"{taken} bytes of memory for {size} bytes of input, of {allowed}")


class _Lines:
    """Counts lines of our own code, and stops it where they are too many."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._limit = limit

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_OURS) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self._left -= 1
            if self._left < 0:
                raise Excess(f"more than {self._limit} lines of code")
        return self._line
