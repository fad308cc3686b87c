"""Bars on a terminal."""

from __future__ import annotations

import sys
from typing import Any

PROGRAM = """
import sys, termios
from swarm.cli._progress import progress, waiting
mode = termios.tcgetattr(0)
mode[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, mode)
bar = progress()
with waiting("outside"):
    sys.stdin.readline()
bar.start(0, "loading all of it")
bar.start(4_000_000, "downloading [part]")
bar.advance(1_000_000)
sys.stdin.readline()
bar.finish()
sys.stdin.readline()
bar.finish()
print("done")
"""


def test_bars_come_and_go(terminal: Any) -> None:
    with terminal(sys.executable, "-c", PROGRAM, lines=10) as screen:
        screen.wait("outside")
        screen.enter()
        screen.wait("downloading [part]")
        screen.wait("1.0/4.0 MB")
        assert "loading all of it" in screen.text
        screen.enter()
        screen.wait(lambda s: "downloading" not in s.text)
        assert "loading all of it" in screen.text
        screen.enter()
        screen.wait("done")
        assert screen.ended() == 0
        assert "loading" not in screen.text and "outside" not in screen.text
