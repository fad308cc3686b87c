"""Machines made of network namespaces, and programs that run on them. Linux, root and iproute2."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

PREFIX = "homeswarm-"
LINE_TIMEOUT = 120.0
END_TIMEOUT = 10.0


class NoNamespacesError(Exception):
    """This machine does not let us build a network."""


class ProgramError(Exception):
    """A program ended, or said nothing for too long."""


def do(*command: str, text: str | None = None) -> str:
    """Runs a command of the system's and returns its output."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    except FileNotFoundError as error:
        raise NoNamespacesError(f"there is no {command[0]}") from error
    if done.returncode:
        raise NoNamespacesError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout


def check() -> None:
    """Raises `NoNamespacesError` where this user has no right, or no means, to build networks."""
    if os.name != "posix" or os.geteuid() != 0:
        raise NoNamespacesError("network namespaces need root")
    if not shutil.which("ip"):
        raise NoNamespacesError("network namespaces need `ip`, of iproute2")


class Program:
    """A program that runs on a host, at the longest until that is closed; errors go to `log`."""

    def __init__(self, host: Host, command: Sequence[str]) -> None:
        self.host = host
        host.folder.mkdir(exist_ok=True)
        self.log = host.folder / f"{len(host.programs)}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", host.namespace, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=host.environment,
                # Ctrl-C is for whoever closes the host.
                start_new_session=True,
            )
        self._read = b""

    def say(self, line: str) -> None:
        """Writes one line to its input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ProgramError(f"{self} has ended\n{self.complaints}") from error

    def line(self, timeout: float = LINE_TIMEOUT) -> str:
        """The next line of output, without its end; raises `ProgramError`."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._read:
            if not self._read_more(deadline):
                raise ProgramError(f"{self} said nothing in {timeout:g} s\n{self.complaints}")
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def rest(self, timeout: float = LINE_TIMEOUT) -> str:
        """Everything that it still says until it closes its output."""
        deadline = time.monotonic() + timeout
        while self._read_more(deadline):
            pass
        rest, self._read = self._read, b""
        return rest.decode()

    def wait(self, timeout: float = END_TIMEOUT) -> int:
        """Its exit code."""
        return self._process.wait(timeout)

    def signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """Gives up what a program that has ended leaves open."""
        assert self._process.stdout is not None and self._process.stdin is not None
        self._process.stdout.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def complaints(self) -> str:
        """The end of its standard error."""
        return self.log.read_text(errors="replace")[-3000:]

    def _read_more(self, deadline: float) -> bool:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(output, 65536) if ready else b""
        self._read += data
        return bool(data)

    def __str__(self) -> str:
        return f"program {self.log.stem} on {self.host.name}"


@dataclass(eq=False)
class Host:
    """A machine with one line, `eth0`."""

    name: str
    namespace: str
    folder: Path
    address: str
    programs: list[Program] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What programs see: folders of this machine's own, and its share of the real cores."""
        kinds = ("STATE", "CACHE", "CONFIG", "DATA")
        own = {f"XDG_{kind}_HOME": str(self.folder / kind.lower()) for kind in kinds}
        own["TMPDIR"] = str(_temporary(self.namespace))
        return {**os.environ, **own, "OMP_NUM_THREADS": "1"}

    def popen(self, command: Sequence[str]) -> Program:
        """Starts a program."""
        program = Program(self, command)
        self.programs.append(program)
        return program

    def run(
        self, command: Sequence[str], timeout: float = LINE_TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )

    def call(self, command: Sequence[str]) -> int:
        """Runs a program with our own input and output; returns its exit code."""
        enter = ["ip", "netns", "exec", self.namespace]
        return subprocess.run([*enter, *command], env=self.environment).returncode

    @property
    def num_bytes(self) -> int:
        """What has passed its line so far, both ways."""
        (line,) = json.loads(do("ip", "-n", self.namespace, "-s", "-j", "link", "show", "eth0"))
        counts = line["stats64"]
        return int(counts["rx"]["bytes"] + counts["tx"]["bytes"])

    def set_kernel(self, name: str, value: str) -> None:
        """Sets one of the kernel's parameters, `net.ipv4.…`, for this machine alone."""
        path = f"/proc/sys/{name.replace('.', '/')}"
        write = ["sh", "-c", 'echo "$1" > "$2"', "sh", value, path]
        do("ip", "netns", "exec", self.namespace, *write)


def add(namespace: str) -> None:
    """Makes a namespace in which nothing is there but loopback."""
    do("ip", "netns", "add", namespace)
    _temporary(namespace).mkdir()
    do("ip", "-n", namespace, "link", "set", "lo", "up")


def end(hosts: Sequence[Host]) -> None:
    """Kills every program; raises `ProgramError` if a program's child stays."""
    programs = [program for host in hosts for program in host.programs]
    for program in programs:
        program.signal(signal.SIGKILL)
    for program in programs:
        program.wait()
        program.close()
    deadline = time.monotonic() + END_TIMEOUT
    left = {host.name: pids for host in hosts if (pids := _pids_until(host, deadline))}
    if left:
        raise ProgramError(f"left behind: {left}")


_runs = count()


@contextmanager
def owned() -> Iterator[str]:
    """A prefix for names of namespaces, which are removed at the end with all that runs in them."""
    _sweep()
    prefix = f"{PREFIX}{os.getpid()}-{next(_runs)}-"
    try:
        yield prefix
    finally:
        for name in _namespaces():
            if name.startswith(prefix):
                _remove(name)


def _temporary(namespace: str) -> Path:
    """For temporary files of programs there: a short path, as sockets need one."""
    return Path(tempfile.gettempdir()) / namespace


def _namespaces() -> list[str]:
    return [line.split()[0] for line in do("ip", "netns", "list").splitlines() if line]


def _pids(namespace: str) -> list[int]:
    return [int(pid) for pid in do("ip", "netns", "pids", namespace).split()]


def _pids_until(host: Host, deadline: float) -> list[int]:
    """Processes that still run there at the deadline, or none before."""
    while pids := _pids(host.namespace):
        if time.monotonic() > deadline:
            return pids
        select.select([], [], [], 0.02)
    return []


def _remove(namespace: str) -> None:
    for pid in _pids(namespace):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    do("ip", "netns", "del", namespace)
    shutil.rmtree(_temporary(namespace), ignore_errors=True)


def _sweep() -> None:
    """Removes what runs left that could not end themselves."""
    for name in _namespaces():
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove(name)
