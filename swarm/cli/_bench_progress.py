"""What a benchmark is doing: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ._options import shown

Say = Callable[[str, float | None], None]
"""As `swarm.client.benchmark.measurement.Say`."""


@contextmanager
def telling() -> Iterator[Say]:
    """Somebody to tell, on standard error."""
    if not sys.stderr.isatty():
        yield _Lines().say
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=False,
    ) as progress:
        yield _Bar(progress).say


class _Bar:
    """A bar over the measurements, which disappears with them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def say(self, what: str, share: float | None) -> None:
        """Shows it."""
        total = None if share is None else 1.0
        self._progress.update(
            self._task, description=shown(what), total=total, completed=share or 0.0
        )


class _Lines:
    """A line for each part of the run; its details are left out."""

    def __init__(self) -> None:
        self._said = ""

    def say(self, what: str, share: float | None) -> None:
        """Writes it, unless the line before said the same."""
        part = what.partition(":")[0]
        if part != self._said:
            self._said = part
            done = "" if share is None else f"{share * 100:3.0f} % "
            sys.stderr.write(f"{done}{part}\n")
            sys.stderr.flush()
