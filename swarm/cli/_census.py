"""What a process holds at this moment, told on SIGUSR1: for whoever looks for leaks."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from swarm.gateway import Gateway
    from swarm.peer.service import Peer

Counts = Mapping[str, int]
"""How many there are of what."""

_WORD = "census"


class Census:
    """Counts of this process, and of what was added; see `told_on_signal`."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], Counts]] = [of_process]

    def add(self, source: Callable[[], Counts]) -> None:
        """Counts what `source` gives too, from now on."""
        self._sources.append(source)

    @contextmanager
    def counting(self, source: Callable[[], Counts]) -> Iterator[None]:
        """Counts what `source` gives too, for the length of the block."""
        self.add(source)
        try:
            yield
        finally:
            self._sources.remove(source)

    def line(self) -> str:
        """One line, `census key=value …`."""
        counts = {key: count for source in self._sources for key, count in source().items()}
        return " ".join([_WORD, *(f"{key}={count}" for key, count in counts.items())])


def counts(line: str) -> Counts | None:
    """What such a line says; None if it is another one."""
    word, _, entries = line.partition(" ")
    if word != _WORD:
        return None
    pairs = (entry.partition("=") for entry in entries.split())
    return {key: int(count) for key, _, count in pairs}


@contextmanager
def told_on_signal() -> Iterator[Census]:
    """A census that standard error gets on every SIGUSR1, where there is such a signal.

    Counting is done in the event loop, so the numbers of one line belong together.
    """
    census = Census()
    if not hasattr(signal, "SIGUSR1"):
        yield census
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: typer.echo(census.line(), err=True))
    try:
        yield census
    finally:
        # Back to what kills would be a trap: whoever asks while we end gets no answer.
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def of_process() -> Counts:
    """Tasks of the event loop, open files and sockets (0 on Windows), resident memory in bytes."""
    import psutil

    process = psutil.Process()
    return {
        "tasks": len(asyncio.all_tasks()),
        "fds": process.num_fds() if hasattr(process, "num_fds") else 0,
        "rss": process.memory_info().rss,
    }


def of_peer(peer: Peer) -> Counts:
    """What sessions and neighbours take of a peer, and the bytes that crossed its links so far.

    What finished sessions have left for others is counted apart.
    """
    counts = {"links": peer.neighbours.num_links, "streams": peer.member.transport.num_streams}
    counts["sent"], counts["received"] = peer.neighbours.traffic
    if (hosting := peer.hosting) is not None:
        pages, leases, kept = hosting.runner.pages, hosting.leases, hosting.kept
        counts |= {
            "sessions": hosting.handler.num_sessions,
            "openings": hosting.handler.num_openings,
            "leased_pages": leases.num_pages - leases.free,
            "used_pages": pages.num_pages - pages.free_pages - kept.num_pages,
            "waiting": leases.num_waiting,
            "rows": pages.num_rows - len(kept),
            "queued_steps": hosting.num_queued_steps,
            "kept_rows": len(kept),
            "kept_pages": kept.num_pages,
        }
    return counts


def of_gateway(gateway: Gateway) -> Counts:
    """What clients take of a gateway."""
    turnstile = gateway.core.turnstile
    return {
        "connections": len(gateway.connections),
        "requests": gateway.num_running,
        "waiting": turnstile.num_waiting,
        "places": turnstile.num_places,
    }
