"""Which way decode steps take, told to whoever watches; it costs nothing while nobody does."""

from __future__ import annotations

from collections.abc import Callable

from .timing import Passage

Watcher = Callable[[str, Passage, float], None]
"""Is told the model's fingerprint, a step's way, and the seconds that the step took."""


class Passages:
    """The decode steps of all of one client's sessions."""

    def __init__(self) -> None:
        self._watchers: tuple[Watcher, ...] = ()

    @property
    def watched(self) -> bool:
        """Whether anybody is told."""
        return bool(self._watchers)

    def watch(self, watcher: Watcher) -> None:
        """Tells it of every step from now on. It must be quick, and not fail."""
        self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tells it no more; nothing happens if it was told nothing."""
        self._watchers = tuple(each for each in self._watchers if each != watcher)

    def tell(self, model: str, passage: Passage, seconds: float) -> None:
        """A step has come back."""
        for watcher in self._watchers:
            watcher(model, passage, seconds)
