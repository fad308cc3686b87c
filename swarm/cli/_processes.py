"""A swarm of real processes on this machine, started for a while and taken down again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from swarm.errors import SwarmError

from ._census import Counts, counts

_STOP_TIMEOUT = 10.0
_TAIL = 15
_CENSUS_TIMEOUT = 5.0
_CENSUS_PAUSE = 0.01

_DIE_WITH_PARENT = """
import signal, sys, threading
def watch():
    sys.stdin.buffer.raw.read(1)
    signal.raise_signal(signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from swarm.cli import main
sys.argv[0] = "swarm"
main()
"""
"""The child ends when its standard input does, however the parent ended."""


class Process:
    """One `swarm` command that runs in the background; what it logs goes to `log`."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._child = child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    async def line(self) -> str:
        """The next line that it writes; raises `SwarmError` with its last log lines if it ends."""
        assert self._child.stdout is not None
        line = (await self._child.stdout.readline()).decode().strip()
        if not line:
            await self._child.wait()
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL:])
            raise SwarmError(f"{self.name} ended with code {self._child.returncode}:\n{tail}")
        return line

    async def census(self) -> Counts:
        """What it holds at this moment; raises `SwarmError` if it does not say so in time."""
        if not hasattr(signal, "SIGUSR1"):
            raise SwarmError("on this system no process can be asked what it holds")
        told = self.log.stat().st_size
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGUSR1)
        try:
            async with asyncio.timeout(_CENSUS_TIMEOUT):
                while True:
                    if (found := self._census_after(told)) is not None:
                        return found
                    await asyncio.sleep(_CENSUS_PAUSE)
        except TimeoutError:
            raise SwarmError(f"{self.name} does not answer SIGUSR1") from None

    def _census_after(self, offset: int) -> Counts | None:
        with self.log.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode(errors="replace").splitlines(keepends=True)
        whole = (line for line in lines if line.endswith("\n"))
        return next((found for line in whole if (found := counts(line)) is not None), None)

    async def ended(self) -> int:
        """Waits until it has ended; returns its code, negative for a signal."""
        return await self._child.wait()

    async def stop(self) -> None:
        """Ends it politely, then by force."""
        with contextlib.suppress(ProcessLookupError):
            self._child.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Processes]:
    """Processes that end with the block; their logs and identities stand in `folder`."""
    processes = Processes(folder)
    try:
        yield processes
    finally:
        await processes.stop()


class Processes:
    """The processes of one local swarm. Made by `running`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[Process] = []

    async def start(
        self, name: str, arguments: Sequence[str], secrets: Mapping[str, str] | None = None
    ) -> Process:
        """Starts `swarm ARGUMENTS`, with `secrets` in its environment.

        Arguments are for everybody on this machine to see.
        """
        log = self._folder / f"{name}.log"
        with log.open("wb") as file:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                # Not from the folder that we stand in: a user's own files would shadow modules.
                "-P",
                "-c",
                _DIE_WITH_PARENT,
                *arguments,
                # Closes when we end, even if nobody can clean up any more.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                env={**os.environ, **(secrets or {})},
                # Ctrl-C is ours to handle: the terminal would send it to the children too.
                start_new_session=True,
            )
        process = Process(name, child, log)
        self._processes.append(process)
        return process

    async def stop(self) -> None:
        """Ends all processes."""
        await asyncio.gather(*(process.stop() for process in self._processes))
        self._processes.clear()
