"""How long waits are told to whoever renders them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Advance = Callable[[int], None]

_halt: ContextVar[threading.Event | None] = ContextVar("halt", default=None)


class Halted(Exception):
    """Ends loading whose result nobody wants any more."""


@contextmanager
def halted_by(halt: threading.Event) -> Iterator[None]:
    """What is loaded in this block, in this thread, raises `Halted` soon after `halt` is set."""
    token = _halt.set(halt)
    try:
        yield
    finally:
        _halt.reset(token)


def check_halt() -> None:
    """Raises `Halted` if what is being loaded is not wanted any more."""
    _check(_halt.get())


def _check(halt: threading.Event | None) -> None:
    if halt is not None and halt.is_set():
        raise Halted


class Progress(Protocol):
    """Receives a wait's `start`, `advance`s and `finish`, from any thread.

    A wait may begin and end within another one; what is told is the innermost one's.
    """

    def start(self, total_bytes: int, what: str) -> None:
        """A wait over `total_bytes` begins; `what` names it, e.g. "downloading blocks 0:8".

        Of a wait over 0 bytes nobody knows how long it takes.
        """

    def advance(self, n: int) -> None:
        """`n` more bytes are done."""

    def finish(self) -> None:
        """The wait is over, whether it succeeded or not."""


class Silent:
    """A `Progress` that tells nobody."""

    def start(self, total_bytes: int, what: str) -> None:
        """See `Progress.start`."""

    def advance(self, n: int) -> None:
        """See `Progress.advance`."""

    def finish(self) -> None:
        """See `Progress.finish`."""


@contextmanager
def wait(progress: Progress, total_bytes: int, what: str) -> Iterator[Advance]:
    """Report one wait; yields an `advance` that download threads may call at once."""
    # Other threads, which call `advance`, have no such variable.
    lock, halt = threading.Lock(), _halt.get()
    _check(halt)

    def advance(n: int) -> None:
        _check(halt)
        with lock:
            progress.advance(n)

    progress.start(total_bytes, what)
    try:
        yield advance
    finally:
        progress.finish()
