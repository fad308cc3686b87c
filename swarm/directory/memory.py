"""The twin of the DHT: announcements of any number of members in one process."""

from __future__ import annotations

import asyncio

from . import LIFETIME, Announcement, Shelf, decode_announcement, encode_announcement

_ANNOUNCEMENTS = "announcements"


class Registry:
    """What the members of a simulated swarm share; time is the event loop's."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.delay = delay
        self._shelves: dict[str, dict[str, tuple[float, bytes]]] = {}

    def directory(self, peer_id: str) -> MemoryDirectory:
        """One member's access."""
        return MemoryDirectory(self, peer_id)

    async def write(
        self, peer_id: str, record: bytes | None, lifetime: float, shelf: str = _ANNOUNCEMENTS
    ) -> None:
        """Stores or removes the record of one member."""
        await self._pause()
        records = self._shelves.setdefault(shelf, {})
        records.pop(peer_id, None)
        if record is not None:
            records[peer_id] = (asyncio.get_running_loop().time() + lifetime, record)

    async def read(self, shelf: str = _ANNOUNCEMENTS) -> dict[str, bytes]:
        """All records that have not expired, in the order of their members' ids."""
        await self._pause()
        now = asyncio.get_running_loop().time()
        records = sorted(self._shelves.get(shelf, {}).items())
        return {peer_id: record for peer_id, (end, record) in records if end > now}

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
        found = [decode_announcement(record) for record in (await self._registry.read()).values()]
        return tuple(entry for entry in found if model is None or entry.model == model)

    async def publish(self, shelf: Shelf, record: bytes, lifetime: float = LIFETIME) -> None:
        """Puts our record on a shelf."""
        await self._registry.write(self._peer_id, record, lifetime, shelf)

    async def read(self, shelf: Shelf) -> dict[str, bytes]:
        """Records that have not expired."""
        return await self._registry.read(shelf)

    async def aclose(self) -> None:
        """Nothing to leave."""
