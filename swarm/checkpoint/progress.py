"""How long waits are told to whoever renders them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

Advance = Callable[[int], None]


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
    lock = threading.Lock()

    def advance(n: int) -> None:
        with lock:
            progress.advance(n)

    progress.start(total_bytes, what)
    try:
        yield advance
    finally:
        progress.finish()
