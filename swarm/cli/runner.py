"""Running a command's coroutine: the faster loop, and a clean end on signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Signals that ask a program to end; which of them there are is for the system to say."""

stopping = threading.Event()
"""Set once the program was asked to end: long work in threads, which cannot be cancelled, looks."""

_blocks: list[Callable[[], bool]] = []
"""What Ctrl-C leaves first, the innermost last; each says whether there was something to leave."""


class Stopped(SystemExit):
    """The user or the system asked the program to end, and it has cleaned up.

    As an exit it gives 128 + signal, which is 130 for Ctrl-C. A service that is meant to be
    stopped catches it.
    """


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` to its end on uvloop where there is one.

    The first SIGINT, SIGTERM or SIGHUP (SIGBREAK on Windows) cancels it, and `Stopped` is raised
    when it has cleaned up; the second ends the process at once.
    """
    received: list[int] = []
    stopping.clear()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            return runner.run(_stoppable(main, received))
        except asyncio.CancelledError:
            if not received:
                raise
    raise Stopped(128 + received[0])


@asynccontextmanager
async def interruptible() -> AsyncIterator[asyncio.Timeout]:
    """Ctrl-C leaves this block, instead of the program that `run_async` runs.

    Whoever was interrupted finds the scope `expired()`. While the block is being left another
    Ctrl-C ends the program.
    """
    loop, scope = asyncio.get_running_loop(), asyncio.timeout(None)

    def leave() -> bool:
        if scope.expired():
            return False
        scope.reschedule(loop.time())
        return True

    try:
        async with scope:
            _blocks.append(leave)
            try:
                yield scope
            finally:
                _blocks.remove(leave)
    except TimeoutError:
        if not scope.expired():
            raise


async def _stoppable(main: Coroutine[Any, Any, T], received: list[int]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
        if number == signal.SIGINT and not received and _blocks and _blocks[-1]():
            return
        if received:
            os._exit(128 + number)
        received.append(number)
        stopping.set()
        task.cancel()

    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            _on_signal(loop, number, stop)
    return await main


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, stop: Callable[[int], None]) -> None:
    """Has the loop call `stop(number)` on a signal."""
    try:
        loop.add_signal_handler(number, stop, number)
    except NotImplementedError:
        # Loops of Windows only wake up: it is called between two instructions of the main thread.
        signal.signal(number, lambda got, _: loop.call_soon_threadsafe(stop, got))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
