"""Who can connect to whom in the twin of the network: routers, and what passes them."""

from __future__ import annotations

import asyncio

_OPEN = 4.0
"""Seconds for which a router lets somebody in."""


class Walls:
    """The routers of a simulated network, and its connections that are not streams."""

    def __init__(self) -> None:
        self._hidden: dict[str, bool] = {}
        self._let_in: dict[tuple[str, str], float] = {}
        self._joined: set[frozenset[str]] = set()

    def hide(self, peer_id: str, *, lets_in: bool = False) -> None:
        """From now on only members that are connected to this one open streams to it (a NAT).

        With `lets_in` its router can be had to let somebody in; else no relay sees where.
        """
        self._hidden[peer_id] = lets_in

    def show(self, peer_id: str) -> None:
        """Ends `hide`."""
        self._hidden.pop(peer_id, None)

    def is_hidden(self, peer_id: str) -> bool:
        """Whether this member cannot be dialled."""
        return peer_id in self._hidden

    def seen(self, peer_id: str) -> tuple[str, ...]:
        """Where a relay sees this member: its address, unless its router takes others each time."""
        return (f"/memory/{peer_id}",) if self._hidden.get(peer_id, True) else ()

    def let_in(self, host: str, guest: str) -> None:
        """Has the router of `host` let `guest` connect for some seconds."""
        self._let_in[host, guest] = asyncio.get_running_loop().time() + _OPEN

    def lets_in(self, host: str, guest: str) -> bool:
        """Whether `guest` can connect to `host` now."""
        now = asyncio.get_running_loop().time()
        return not self.is_hidden(host) or now < self._let_in.get((host, guest), now)

    def join(self, one: str, other: str) -> None:
        """Connects two members without any stream."""
        self._joined.add(frozenset((one, other)))

    def part(self, one: str, other: str) -> None:
        """Ends `join`."""
        self._joined.discard(frozenset((one, other)))

    def are_joined(self, one: str, other: str) -> bool:
        """Whether these are connected even without a stream."""
        return frozenset((one, other)) in self._joined

    def part_from_all(self, peer_id: str) -> None:
        """Ends every `join` of this member."""
        self._joined = {pair for pair in self._joined if peer_id not in pair}
