"""Swarms of real processes over the real libp2p, on loopback, with SmolLM2-135M."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from swarm.cli._census import counts

SWARM = [sys.executable, "-m", "swarm.cli"]
HOMES = ("STATE", "CACHE", "CONFIG", "DATA")
HERE = ["--host", "127.0.0.1", "--no-map-port"]

LONG = 60.0
"""Seconds that no answer and no end takes, however busy the machine is."""


@dataclass
class Processes:
    """Commands that run in the background until the test ends."""

    folder: Path
    environment: dict[str, str]
    model: Path
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    seen: list[psutil.Process] = field(default_factory=list)
    invite: str = ""

    def start(self, name: str, *arguments: str) -> None:
        """Starts `swarm ARGUMENTS`; `line` waits for what it says."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*SWARM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )

    def line(self, name: str) -> str:
        """The next line of a process; fails with its log if it ends instead."""
        process = self.running[name]
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"{name} ended: {(self.folder / f'{name}.log').read_text()[-2000:]}"
        self.seen += psutil.Process(process.pid).children(recursive=True)
        return line.strip()

    def bootstrap(self) -> str:
        """Starts the bootstrap, the first time or again; returns and keeps the invite."""
        self.start("bootstrap", "bootstrap", "--dir", str(self.folder / "bootstrap"), *HERE)
        self.invite = self.line("bootstrap")
        return self.invite

    def peers(self, **spans: str) -> dict[str, str]:
        """Starts peers by name, with their blocks; returns their lines once all serve."""
        for name, blocks in spans.items():
            self.peer(name, blocks)
        return {name: self.line(name) for name in spans}

    def peer(self, name: str, blocks: str, model: Path | None = None) -> None:
        """Starts a peer, the first time or again, of the usual model or another one."""
        arguments = ["--join", self.invite, "--model", str(model or self.model)]
        arguments += ["--blocks", blocks]
        arguments += ["--dir", str(self.folder / name), "--name", name, "--threads", "1"]
        arguments += ["--dtype", "float32", "--kv-memory", "64MB"]
        self.start(name, "peer", *arguments, *HERE)

    def census(self, name: str) -> Mapping[str, int]:
        """What a process says that it holds, asked now."""
        log = self.folder / f"{name}.log"
        told = log.stat().st_size
        self.signal(name, signal.SIGUSR1)
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            time.sleep(0.01)
            for line in log.read_bytes()[told:].decode().splitlines(keepends=True):
                if line.endswith("\n") and (found := counts(line.strip())) is not None:
                    return found
        raise AssertionError(f"{name} does not answer SIGUSR1")

    def command(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `swarm ARGUMENTS` to its end."""
        return subprocess.run(
            [*SWARM, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
        )

    def told(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        """What a command says on stderr besides what it waits for, which goes by the machine."""
        return [line for line in done.stderr.splitlines() if not line.endswith(" …")]

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to a process."""
        self.running[name].send_signal(number)

    def wait(self, name: str, timeout: float = LONG) -> int:
        """Waits for a process to end; returns its code."""
        process = self.running.pop(name)
        assert process.stdout is not None
        with process.stdout:
            return process.wait(timeout)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.signal(name, signal.SIGKILL)
        self.wait(name)

    def close(self) -> None:
        """Ends everything; fails where a child of theirs outlives them."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for name in list(self.running):
            self.wait(name)
        _, alive = psutil.wait_procs(self.seen, timeout=LONG)
        assert not alive, f"left behind: {alive}"


@contextmanager
def _processes_in(folder: Path, model: Path) -> Iterator[Processes]:
    homes = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in HOMES}
    started = Processes(folder, os.environ | homes, model)
    yield started
    started.close()


@pytest.fixture(scope="session")
def processes_in(model_file: Path) -> Callable[[Path], AbstractContextManager[Processes]]:
    """`with processes_in(folder) as processes`: for tests that share a swarm."""
    return lambda folder: _processes_in(folder, model_file)


@pytest.fixture
def processes(
    tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Processes]:
    """Processes with a home of their own, which is the test's own, too."""
    for name in HOMES:
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    with _processes_in(tmp_path, model_file) as started:
        yield started
