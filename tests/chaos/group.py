"""The processes that chaos is done to: a bootstrap, peers, clients; how each starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

SWARM = (sys.executable, "-m", "swarm.cli", "-v")
ASKER = (sys.executable, str(Path(__file__).with_name("asker.py")))
HERE = ("--host", "127.0.0.1", "--no-map-port")
_READY = 180.0
_END = 40.0


class Trouble(Exception):
    """The swarm did what it must not do; the message is for the summary."""


class Being(StrEnum):
    """What a process is doing as far as we have it in hand."""

    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    FROZEN = "frozen"


@dataclass
class Place:
    """Where a run keeps everything: folders, logs, and what the processes see as their system."""

    folder: Path
    model: Path
    seen: list[psutil.Process] = field(default_factory=list)
    invite: str = ""

    def environment(self, name: str) -> dict[str, str]:
        """A system of its own for each process; only the folder for temporary files is shared."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        homes = {
            f"XDG_{kind}_HOME": str(self.folder / name / kind.lower())
            for kind in ("STATE", "CACHE", "CONFIG", "DATA")
        }
        own = {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "HOMESWARM_INVITE": ""}
        return os.environ | homes | own


class Runner:
    """One process that is started, hit and started again, always with the same folders."""

    def __init__(self, place: Place, name: str, command: tuple[str, ...]) -> None:
        self.place, self.name, self.command = place, name, command
        self.being = Being.DOWN
        self.since = 0.0
        """When it was last started or thawed."""
        self.log = place.folder / f"{name}.log"
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def family(self) -> list[psutil.Process]:
        """The process and what it has started; empty once it is gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            me = psutil.Process(self.pid)
            return [me, *me.children(recursive=True)]
        return []

    async def start(self) -> None:
        """Starts it; `line` gives what it says."""
        self.being, self.since = Being.STARTING, time.time()
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self.place.environment(self.name),
            )

    async def line(self, limit: float | None = None) -> str:
        """What it says next; empty when it has ended."""
        assert self._child is not None and self._child.stdout is not None
        async with asyncio.timeout(limit):
            return (await self._child.stdout.readline()).decode().strip()

    async def ready(self) -> str:
        """Waits for its first line; raises `Trouble` if none comes."""
        try:
            line = await self.line(_READY)
        except TimeoutError:
            raise Trouble(f"{self.name} said nothing for {_READY:g} s") from None
        if not line:
            raise Trouble(f"{self.name} ended while it started, code {await self.ended()}")
        self.remember()
        self.being = Being.UP
        return line

    def remember(self) -> None:
        """Notes the process and its children, so that nobody is left behind unseen."""
        known = {process.pid for process in self.place.seen}
        self.place.seen += [process for process in self.family if process.pid not in known]

    def send(self, number: int, *, family: bool = False) -> None:
        """Sends a signal, to its children too where it is the `family`'s."""
        for process in self.family if family else self.family[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    async def ended(self, limit: float = _END) -> int:
        """Waits for its end; returns the code."""
        assert self._child is not None
        self.being = Being.DOWN
        try:
            async with asyncio.timeout(limit):
                return await self._child.wait()
        except TimeoutError:
            self.send(signal.SIGKILL, family=True)
            await self._child.wait()
            raise Trouble(f"{self.name} did not end within {limit:g} s") from None

    async def kill(self) -> None:
        """kill -9."""
        self.remember()
        self.send(signal.SIGKILL)
        await self.ended()

    async def leave(self) -> None:
        """SIGTERM; raises `Trouble` unless it ends well."""
        self.send(signal.SIGTERM)
        if code := await self.ended():
            raise Trouble(f"{self.name} left with code {code}")

    def freeze(self, *, family: bool) -> None:
        """SIGSTOP."""
        self.remember()
        self.being = Being.FROZEN
        self.send(signal.SIGSTOP, family=family)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT, family=True)
        self.being, self.since = Being.UP, time.time()

    async def census(self) -> dict[str, int]:
        """What it says that it holds, and the files of its p2pd as `p2pd_fds`."""
        start = self.log.stat().st_size
        self.send(signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            with self.log.open("rb") as log:
                log.seek(start)
                for raw in log.read().decode(errors="replace").splitlines(keepends=True):
                    if raw.startswith("census ") and raw.endswith("\n"):
                        return _counts(raw) | {"p2pd_fds": self._child_fds()}
        raise Trouble(f"{self.name} does not answer SIGUSR1")

    def _child_fds(self) -> int:
        count = 0
        for process in self.family[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                count += process.num_fds()
        return count


def _counts(line: str) -> dict[str, int]:
    pairs = (pair.partition("=") for pair in line.split()[1:])
    return {key: int(count) for key, _, count in pairs}


def bootstrap(place: Place) -> Runner:
    """The bootstrap; its first line is the invite."""
    folder = str(place.folder / "bootstrap" / "group")
    return Runner(place, "bootstrap", (*SWARM, "bootstrap", "--dir", folder, *HERE))


def peer(place: Place, name: str, span: tuple[int, int]) -> Runner:
    """A peer with fixed blocks."""
    what = ("--join", place.invite, "--model", str(place.model), "--blocks", f"{span[0]}:{span[1]}")
    how = ("--dir", str(place.folder / name / "peer"), "--name", name, "--threads", "1")
    how += ("--dtype", "float32", "--kv-memory", "64MB")
    return Runner(place, name, (*SWARM, "peer", *what, *how, *HERE))


def client(place: Place, name: str, answers: Path, seed: int) -> Runner:
    """A client process that asks for `answers`."""
    what = (place.invite, str(place.model), str(answers), str(seed))
    return Runner(place, name, (*ASKER, *what))


async def told(runner: Runner) -> AsyncIterator[Mapping[str, Any]]:
    """What a client says, until it ends."""
    while line := await runner.line():
        yield json.loads(line)
