"""Frames that arrive twice, the second time perhaps late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schedule import Double


@dataclass(eq=False)
class _Late:
    """A frame to be sent again, once `behind` more of its kind have gone the same way."""

    place: tuple[str, ...]
    behind: int
    header: bytes
    payload: bytes
    put: Callable[[bytes, bytes], None] | None = None


class Doubling:
    """Doubles frames of a network of `swarm.transport.memory`."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._next: Double | None = None
        self._late: list[_Late] = []

    @property
    def waits(self) -> bool:
        """Whether it wants to see frames."""
        return self._next is not None or bool(self._late)

    def expect(self, double: Double) -> None:
        """Doubles the next frame of its kind."""
        self._next = double

    def see(self, place: tuple[str, str, str], header: bytes, payload: bytes) -> None:
        """A frame from whom, to whom and of which kind, which is about to be put on its way."""
        for late in [late for late in self._late if late.place == place]:
            late.behind -= 1
            if not late.behind:
                self._late.remove(late)
                assert late.put is not None
                asyncio.get_running_loop().call_soon(late.put, late.header, late.payload)
        if self._next is not None and place[2] == self._next.kind:
            late = _Late(place, self._next.behind, header, payload)
            self._next = None
            # Once it has been put: only then can one see where.
            asyncio.get_running_loop().call_soon(self._double, late)

    def _double(self, late: _Late) -> None:
        sender, receiver, _ = late.place
        member = self._network.member(sender)
        for stream in member.streams_to(receiver) if member is not None else ():
            if any(frame[2] == late.header for frame in stream._outgoing._frames):
                late.put = stream._outgoing.put
                if late.behind:
                    self._late.append(late)
                else:
                    late.put(late.header, late.payload)
