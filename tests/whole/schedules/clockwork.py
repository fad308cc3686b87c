"""An event loop in which everything happens in the same order each time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

COMPUTING = ContextVar("COMPUTING", default=0.0)
"""Simulated seconds that a job on a thread takes; each peer has its own."""


class ClockworkLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer, and jobs for threads take their time on that clock.

    They run in the loop's thread, at once; their results come when their time is over. So messages
    overtake a computation as they do in life, but never in another order than the last time.
    """

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        seconds = 0.0 if executor is None else COMPUTING.get()
        try:
            result = func(*args)
        except Exception as error:
            self.call_later(seconds, _set, future, future.set_exception, error)
        else:
            self.call_later(seconds, _set, future, future.set_result, result)
        return future


def _set(future: asyncio.Future[Any], setter: Callable[[Any], None], value: Any) -> None:
    if not future.done():
        setter(value)


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: ClockworkLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        if timeout > 0:
            self._loop.now += timeout
            return []
        return []
