"""Where the next line comes from."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from contextlib import AbstractContextManager
from typing import Protocol

from swarm.errors import RequestError

_CHUNK = 65536


class Source(Protocol):
    """Asks for what comes next."""

    interactive: bool
    """Whether somebody sits there, who can be asked and can try again."""

    async def read(self, default: str = "") -> str | None:
        """The next input, perhaps of several lines; None when there will be no more.

        `default` stands there to be changed, where somebody can.
        """

    async def agree(self, question: str) -> bool:
        """Whether somebody says yes."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """For what is shown within the block: what is typed meanwhile does not stand in it."""


class Pipe:
    """Standard input that is no terminal: each line is a turn, unless it ends with a backslash."""

    interactive = False

    def __init__(self, handle: int = 0) -> None:
        self._handle = handle
        self._read = b""
        self._ended = False

    async def read(self, default: str = "") -> str | None:
        """See `Source.read`; nobody is there to change a default, which is what is read.

        Raises `RequestError` for what is no UTF-8 text.
        """
        if default:
            return default
        parts: list[str] = []
        while (line := await self._line()) is not None:
            if not line.endswith("\\"):
                return "\n".join([*parts, line])
            parts.append(line[:-1])
        return "\n".join(parts) if parts else None

    async def agree(self, question: str) -> bool:
        """Nobody is there."""
        return False

    def undisturbed(self) -> AbstractContextManager[None]:
        """Nobody types."""
        return contextlib.nullcontext()

    async def _line(self) -> str | None:
        while b"\n" not in self._read and not self._ended:
            chunk = await self._chunk()
            self._read, self._ended = self._read + chunk, not chunk
        if not self._read:
            return None
        line, _, self._read = self._read.partition(b"\n")
        try:
            return line.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            raise RequestError("standard input is no UTF-8 text") from error

    async def _chunk(self) -> bytes:
        """The next bytes; empty at the end.

        No loop waits for every kind of file, and a thread of the loop's pool would have to end
        before the program can.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bytes] = loop.create_future()

        def hand_over(chunk: bytes) -> None:
            if not found.done():
                found.set_result(chunk)

        def read() -> None:
            try:
                chunk = os.read(self._handle, _CHUNK)
            except OSError:
                chunk = b""
            with contextlib.suppress(RuntimeError):  # the loop is gone, and who waited
                loop.call_soon_threadsafe(hand_over, chunk)

        threading.Thread(target=read, name="standard input", daemon=True).start()
        return await found
