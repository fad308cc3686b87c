"""The twin of the DHT: announcements of any number of members in one process."""

from __future__ import annotations

import asyncio

from . import LIFETIME, Announcement, decode_announcement, encode_announcement


class Registry:
    """What the members of a simulated swarm share; time is the event loop's."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.delay = delay
        self._records: dict[str, tuple[float, bytes]] = {}

    def directory(self, peer_id: str) -> MemoryDirectory:
        """One member's access."""
        return MemoryDirectory(self, peer_id)

    async def write(self, peer_id: str, record: bytes | None, lifetime: float) -> None:
        """Stores or removes the record of one member."""
        await self._pause()
        self._records.pop(peer_id, None)
        if record is not None:
            self._records[peer_id] = (asyncio.get_running_loop().time() + lifetime, record)

    async def read(self) -> list[bytes]:
        """All records that have not expired, by peer id."""
        await self._pause()
        now = asyncio.get_running_loop().time()
        return [record for _, (end, record) in sorted(self._records.items()) if end > now]

    async def _pause(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)


class MemoryDirectory:
    """A `Directory` over a `Registry`."""

    def __init__(self, registry: Registry, peer_id: str) -> None:
        self._registry = registry
        self._peer_id = peer_id

    async def announce(self, announcement: Announcement, lifetime: float = LIFETIME) -> None:
        """Publishes our announcement."""
        await self._registry.write(self._peer_id, encode_announcement(announcement), lifetime)

    async def withdraw(self) -> None:
        """Takes our announcement back."""
        await self._registry.write(self._peer_id, None, 0.0)

    async def find(self, model: str | None = None) -> tuple[Announcement, ...]:
        """Living announcements."""
        found = [decode_announcement(record) for record in await self._registry.read()]
        return tuple(entry for entry in found if model is None or entry.model == model)

    async def aclose(self) -> None:
        """Nothing to leave."""
