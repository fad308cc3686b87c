"""What a process of ours takes of this machine's memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from swarm.client.benchmark.result import Memory


def footprint(name: str, pid: int | None = None) -> Memory:
    """The memory of one process (ours by default), and of the daemon that it has started."""
    process = psutil.Process(pid)
    daemons = 0
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name().startswith("p2pd"):
                daemons += child.memory_info().rss
    return Memory(name, process.memory_info().rss / 1e6, _peak(process.pid), daemons / 1e6)


def _peak(pid: int) -> float | None:
    """Megabytes that were resident at most so far, where the system says so (Linux, proc(5))."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None
