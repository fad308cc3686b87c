"""Programs in a terminal of their own, whose screen tests look at."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
pyte = pytest.importorskip("pyte")

SWARM = [sys.executable, "-m", "swarm.cli"]


class Terminal:
    """A program behind a pseudo-terminal; the screen is what a person would see."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        columns: int = 100,
        lines: int = 40,
        stdout: int | None = None,
    ) -> None:
        self._screen = pyte.HistoryScreen(columns, lines, history=2000)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        """Everything that came, as it came."""
        self._master, slave = pty.openpty()
        self._size(columns, lines)
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            env={**environment, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )
        os.close(slave)

    @property
    def text(self) -> str:
        """What is on the screen, and what has been scrolled off it."""
        above = [
            "".join(line[column].data for column in range(self._screen.columns))
            for line in self._screen.history.top
        ]
        return "\n".join(line.rstrip() for line in [*above, *self._screen.display])

    @property
    def cursor_line(self) -> str:
        """The line that the cursor is in."""
        return self._screen.display[self._screen.cursor.y].rstrip()

    def type(self, text: str) -> None:
        """As a keyboard gives it: Enter is `\\r`."""
        os.write(self._master, text.encode())

    def enter(self, text: str = "") -> None:
        """Types a line."""
        self.type(text + "\r")

    def resize(self, columns: int, lines: int) -> None:
        """The user drags the window."""
        self._screen.resize(lines, columns)
        self._size(columns, lines)

    def wait(self, what: str | Callable[[Terminal], bool], timeout: float = 60) -> str:
        """Reads until the text holds `what`, or `what` is true of us; returns the text."""
        deadline = time.monotonic() + timeout
        while not (what in self.text if isinstance(what, str) else what(self)):
            left = deadline - time.monotonic()
            assert left > 0, f"{what} did not come; the screen is\n{self.text}"
            if not self._read(left) and self.process.poll() is not None:
                assert what in self.text if isinstance(what, str) else what(self), (
                    f"it ended with {self.process.returncode} before {what}:\n{self.text}"
                )
        return self.text

    def ended(self, timeout: float = 60) -> int:
        """Reads until the program has ended; returns its code."""
        deadline = time.monotonic() + timeout
        while self._read(max(0.0, deadline - time.monotonic())):
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        """Ends the program, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._master)

    def _read(self, timeout: float) -> bool:
        """Whether anything more may come."""
        ready, _, _ = select.select([self._master], [], [], timeout)
        if not ready:
            return False
        with contextlib.suppress(OSError):  # EIO: nobody has the other side open any more
            if chunk := os.read(self._master, 65536):
                self.written += chunk
                self._stream.feed(chunk)
                self._answer(chunk)
                return True
        return False

    def _answer(self, chunk: bytes) -> None:
        """Terminals say where the cursor is when they are asked."""
        if b"\x1b[6n" in chunk:
            cursor = self._screen.cursor
            self.type(f"\x1b[{cursor.y + 1};{cursor.x + 1}R")

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def _terminal(*command: str, **options: object) -> Iterator[Terminal]:
    environment = options.pop("environment", os.environ)
    running = Terminal(command, environment, **options)  # type: ignore[arg-type]
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def terminal() -> Callable[..., AbstractContextManager[Terminal]]:
    """`with terminal(COMMAND, …, environment=, columns=, lines=) as screen`."""
    return _terminal
