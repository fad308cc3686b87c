"""What a process says of itself on SIGUSR1."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from swarm.cli._census import told_on_signal


def read(line: str) -> dict[str, int]:
    word, *pairs = line.split()
    assert word == "census"
    return {key: int(count) for key, _, count in (pair.partition("=") for pair in pairs)}


async def test_a_line_on_every_signal(capsys):
    with told_on_signal() as census:
        idle = read(census.line())
        task = asyncio.create_task(asyncio.Event().wait())
        told_now = asyncio.Event()
        opened = os.open(os.devnull, os.O_RDONLY)
        try:
            census.add(lambda: told_now.set() or {"files": opened})
            os.kill(os.getpid(), signal.SIGUSR1)
            async with asyncio.timeout(5):
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
