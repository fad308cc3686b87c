"""Running a command's coroutine: the faster loop, and a clean end on signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Signals that ask a program to end; which of them there are is for the system to say."""

stopping = threading.Event()
"""Set once the program was asked to end: long work in threads, which cannot be cancelled, looks."""


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


async def _stoppable(main: Coroutine[Any, Any, T], received: list[int]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
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
