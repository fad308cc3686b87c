"""Checks, and how they are run: each for itself, so that none hides another."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from swarm.errors import SwarmError

from .finding import Finding, problem, skipped

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Check(Protocol):
    """One subject. Findings need not say its name."""

    @property
    def name(self) -> str:
        """What it looks at, in a word or two."""

    @property
    def seconds(self) -> float:
        """How long it may take."""

    async def run(self) -> Sequence[Finding]:
        """Looks. What it raises is told as a problem, or a `Skip` as something not looked at."""


class Skip(Exception):
    """Why a check has nothing to look at; raised by checks."""


async def examine(
    checks: Iterable[Check], on_begin: Callable[[str], None] = lambda name: None
) -> AsyncIterator[Finding]:
    """Runs checks one after the other; says what begins, and gives what is found."""
    for check in checks:
        on_begin(check.name)
        for finding in await _run(check):
            yield finding.about(finding.subject or check.name)


async def _run(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.run()
    except Skip as reason:
        return [skipped(str(reason))]
    except TimeoutError:
        return [
            problem(
                f"took longer than {check.seconds:g} s",
                "something hangs: a network, a disk, a driver.",
                "Look whether the machine is busy with something else, and try again.",
            )
        ]
    except SwarmError as error:
        return [problem(str(error), "this keeps the machine from taking part.", "See above.")]
    except Exception as error:
        # The root of the check's own work: the others go on.
        logger.debug("check failed name=%s", check.name, exc_info=True)
        return [
            problem(
                f"could not be looked at: {error or type(error).__name__}",
                "the check itself has failed, which says little of the machine.",
                "Run `swarm -vv doctor` and tell us what it logs.",
            )
        ]


async def aside(look: Callable[[], T]) -> T:
    """What a function says that may block, in a thread for which the program does not wait."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, failure: BaseException | None) -> None:
        if done.done():
            return
        if failure is not None:
            done.set_exception(failure)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = look()
        except Exception as error:
            failure = error
        # The program may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, daemon=True).start()
    return await done
