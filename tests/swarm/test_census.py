"""What a process says of itself on SIGUSR1."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from swarm.cli._census import counts, told_on_signal


def read(line: str) -> dict[str, int]:
    told = counts(line)
    assert told is not None
    return dict(told)


def test_other_lines_are_none():
    assert counts("serving blocks 0:3 of 9\n") is None and counts("\n") is None
    assert counts("census tasks=3 rss=12\n") == {"tasks": 3, "rss": 12}


async def test_a_line_on_every_signal(capsys):
    with told_on_signal() as census:
        idle = read(census.line())
        task = asyncio.create_task(asyncio.Event().wait())
        told_now = asyncio.Event()
        opened = os.open(os.devnull, os.O_RDONLY)
        try:
            census.add(lambda: told_now.set() or {"files": opened})
            os.kill(os.getpid(), signal.SIGUSR1)
            async with asyncio.timeout(60):
                await told_now.wait()
        finally:
            os.close(opened)
        task.cancel()
    told = read(capsys.readouterr().err)
    assert told["files"] == opened
    assert told["tasks"] == idle["tasks"] + 1
    assert told["fds"] == idle["fds"] + 1
    assert told["rss"] > 0


async def test_asking_one_that_ends_does_not_kill_it():
    with pytest.raises(ZeroDivisionError), told_on_signal():
        raise ZeroDivisionError
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
