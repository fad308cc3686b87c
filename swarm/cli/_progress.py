"""Long waits on the command line: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from swarm.checkpoint import Progress as CheckpointProgress

from .runner import stopping

_LINES = 4
"""Plain lines per wait: one each quarter."""

_SHORT = 2.0
"""Seconds that a wait may take without a word."""


class Interrupted(Exception):
    """Ends a wait in a thread whose result nobody waits for any more."""


def progress() -> CheckpointProgress:
    """What fits the place that standard error goes to."""
    return Bar() if sys.stderr.isatty() else Lines()


class Bar:
    """A bar that disappears when the wait is over."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID

    def start(self, total_bytes: int, what: str) -> None:
        """Shows the bar."""
        self.finish()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(what, total=total_bytes)

    def advance(self, n: int) -> None:
        """Moves it on by `n` bytes; raises `Interrupted` if the program is to end."""
        _check()
        if self._progress is not None:
            self._progress.advance(self._task, n)

    def finish(self) -> None:
        """Takes the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Lines:
    """A line now and then, for logs; a short wait is not worth any."""

    def __init__(self) -> None:
        self._what = ""
        self._total = self._done = self._said = 0
        self._started = 0.0

    def start(self, total_bytes: int, what: str) -> None:
        """Notes what begins."""
        self._what, self._total, self._done, self._said = what, total_bytes, 0, 0
        self._started = time.monotonic()

    def advance(self, n: int) -> None:
        """Says each further quarter of a wait that takes its time; raises as `Bar.advance`."""
        _check()
        self._done += n
        quarter = self._done * _LINES // self._total if self._total else _LINES
        if self._said < quarter < _LINES and time.monotonic() - self._started > _SHORT:
            self._said = quarter
            percent = quarter * 100 // _LINES
            sys.stderr.write(f"{self._what}: {percent} % of {self._total / 1e6:.0f} MB\n")
            sys.stderr.flush()

    def finish(self) -> None:
        """Nothing: what comes next says that it is over."""


def _check() -> None:
    # Without this Ctrl-C would wait for a download to be complete.
    if stopping.is_set():
        raise Interrupted
