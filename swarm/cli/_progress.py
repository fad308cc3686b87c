"""Long waits on the command line: a bar on a terminal, plain lines elsewhere; on standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from swarm.amounts import megabytes
from swarm.checkpoint.progress import Progress as CheckpointProgress

from ._options import plain, shown
from .runner import stopping

T = TypeVar("T")

JOINING = "joining the group"
"""What every command waits for first."""

_LINES = 4
"""Plain lines per wait: one each quarter."""

_SHORT = 2.0
"""Seconds that a wait may take without a word."""


class Interrupted(Exception):
    """Ends a wait in a thread whose result nobody waits for any more."""


def progress(halt: threading.Event | None = None) -> CheckpointProgress:
    """What fits the place that standard error goes to; `halt` ends these waits alone."""
    return Bar(halt) if sys.stderr.isatty() else Lines(halt)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Tells of a wait of unknown length that is not a checkpoint's."""
    told = progress()
    told.start(0, what)
    try:
        yield
    finally:
        told.finish()


@asynccontextmanager
async def entering(context: AbstractAsyncContextManager[T], what: str) -> AsyncIterator[T]:
    """`context`, telling of the wait until it is entered."""
    with ExitStack() as telling:
        telling.enter_context(waiting(what))
        async with context as value:
            telling.close()
            yield value


class Bar:
    """Bars that disappear when their waits are over; a wait within another one is below it.

    One of unknown length pulses, next to the time that has passed.
    """

    def __init__(self, halt: threading.Event | None = None) -> None:
        self._halt = halt
        self._progress: Progress | None = None
        self._tasks: list[TaskID] = []

    def start(self, total_bytes: int, what: str) -> None:
        """Shows the bar; `total_bytes` 0 means that nobody knows how much there is to do."""
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                _Rest(),
                console=Console(stderr=True),
                transient=True,
                # What others write is theirs: their answers go to standard output.
                redirect_stdout=False,
            )
            self._progress.start()
        self._tasks.append(self._progress.add_task(shown(what), total=total_bytes or None))

    def advance(self, n: int) -> None:
        """Moves the newest on by `n` bytes; raises `Interrupted` if the program is to end."""
        _check(self._halt)
        if self._progress is not None:
            self._progress.advance(self._tasks[-1], n)

    def finish(self) -> None:
        """Takes the newest away."""
        if self._progress is None:
            return
        self._progress.remove_task(self._tasks.pop())
        if not self._tasks:
            self._progress.stop()
            self._progress = None


class _Rest(ProgressColumn):
    """Bytes, speed and the time that is left; of a wait of unknown length the time it has taken."""

    def __init__(self) -> None:
        super().__init__()
        self._known = DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        self._elapsed = TimeElapsedColumn()

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        if task.total is None:
            return self._elapsed.render(task)
        return Text(" ").join(column.render(task) for column in self._known)


class Lines:
    """A line now and then, for logs; a short wait is not worth any."""

    def __init__(self, halt: threading.Event | None = None) -> None:
        self._halt = halt
        self._waits: list[_Wait] = []

    def start(self, total_bytes: int, what: str) -> None:
        """Notes what begins; of one whose length nobody knows a line is written soon."""
        self._waits.append(_Wait(total_bytes, what))

    def advance(self, n: int) -> None:
        """Says each further quarter of a wait that takes its time; raises as `Bar.advance`."""
        _check(self._halt)
        if self._waits:
            self._waits[-1].advance(n)

    def finish(self) -> None:
        """Nothing: what comes next says that it is over."""
        if self._waits:
            self._waits.pop().finish()


class _Wait:
    """One wait that `Lines` tells of."""

    def __init__(self, total_bytes: int, what: str) -> None:
        self._what, self._total = what, total_bytes
        self._done = self._said = 0
        self._started = time.monotonic()
        self._timer: threading.Timer | None = None
        if not total_bytes:
            self._timer = threading.Timer(_SHORT, _say, [f"{what} …"])
            self._timer.daemon = True
            self._timer.start()

    def advance(self, n: int) -> None:
        self._done += n
        quarter = self._done * _LINES // self._total if self._total else _LINES
        if self._said < quarter < _LINES and time.monotonic() - self._started > _SHORT:
            self._said = quarter
            percent = quarter * 100 // _LINES
            _say(f"{self._what}: {percent} % of {megabytes(self._total)}")

    def finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _say(line: str) -> None:
    sys.stderr.write(f"{plain(line)}\n")
    sys.stderr.flush()


def _check(halt: threading.Event | None) -> None:
    # Without this Ctrl-C would wait for a download to be complete.
    if stopping.is_set() or (halt is not None and halt.is_set()):
        raise Interrupted
