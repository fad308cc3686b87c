"""Where prompts are read: in threads, few at a time, and callers by turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from .config import GatewayConfig
from .refusals import Refusal
from .turnstile import Turnstile

T = TypeVar("T")

_ABREAST = 4
"""Prompts at a time: fewer than threads, which others need, too."""


class Desk:
    """Megabytes take seconds to read: who sends many of them waits behind everybody else."""

    def __init__(self, config: GatewayConfig) -> None:
        # Whoever could run or wait afterwards may wait here.
        limits = replace(
            config,
            most_running=_ABREAST,
            most_waiting=config.most_running + config.most_waiting,
            most_waiting_each=config.most_running + config.most_waiting_each,
        )
        self._turnstile = Turnstile(limits)

    async def read(self, caller: str, work: Callable[[], T]) -> T:
        """What `work` returns, done in a thread in the caller's turn; raises `Refusal`."""
        async with self._turnstile.turn(caller, 1):
            thread = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(thread)
            except asyncio.CancelledError:
                # A thread cannot be stopped: who goes away keeps the place until it has ended, else
                # those who come and go would take up all threads.
                await asyncio.wait([thread])
                if not thread.cancelled():
                    thread.exception()  # nobody is left to be told
                raise

    def close(self, refusal: Refusal) -> None:
        """Refuses those who wait and those who come."""
        self._turnstile.close(refusal)
