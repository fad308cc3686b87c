"""Swarms of real processes over the real libp2p, on loopback, with SmolLM2-135M."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

SWARM = [sys.executable, "-m", "swarm.cli"]
HERE = ["--host", "127.0.0.1", "--no-map-port"]


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
            arguments = ["--join", self.invite, "--model", str(self.model), "--blocks", blocks]
            arguments += ["--dir", str(self.folder / name), "--name", name, "--threads", "1"]
            arguments += ["--dtype", "float32", "--kv-memory", "64MB"]
            self.start(name, "peer", *arguments, *HERE)
        return {name: self.line(name) for name in spans}

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

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to a process."""
        self.running[name].send_signal(number)

    def wait(self, name: str, timeout: float = 30) -> int:
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
        _, alive = psutil.wait_procs(self.seen, timeout=10)
        assert not alive, f"left behind: {alive}"


@pytest.fixture
def processes(
    tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Processes]:
    """Processes with a home of their own."""
    for name in ("STATE", "CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    started = Processes(tmp_path, dict(os.environ), model_file)
    yield started
    started.close()
