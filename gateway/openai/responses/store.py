"""Responses that are kept for a while, in memory, within limits, and each for its caller alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from swarm.errors import ConfigError


@dataclass(frozen=True)
class StoreConfig:
    """How many responses of one caller are kept, in how many bytes of JSON, for how many seconds.

    The oldest go first.
    """

    most_responses: int = 512
    most_bytes: int = 64 << 20
    lifetime: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if min(self.most_responses, self.most_bytes) < 0 or self.lifetime < 0:
            raise ConfigError("what is kept cannot be limited to less than nothing")


_ID = 100
"""Bytes that an id takes besides its letters."""


@dataclass(frozen=True)
class Kept:
    """A response and all items that it was made from, in JSON: as text they cost what they say.

    `ids` are those of all these items, by which it is found.
    """

    response: bytes
    items: bytes
    ids: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.response) + len(self.items) + sum(_ID + len(name) for name in self.ids)

    def context(self) -> list[dict[str, Any]]:
        """All items up to the end of the response: what the next one goes on from."""
        output: list[dict[str, Any]] = msgspec.json.decode(self.response)["output"]
        return [*self.inputs(), *output]

    def inputs(self) -> list[dict[str, Any]]:
        """The items that the response was made from."""
        found: list[dict[str, Any]] = msgspec.json.decode(self.items)
        return found


@dataclass
class _Shelf:
    """What one caller has; `kept` by id, with the time at which it ends, the oldest first."""

    kept: OrderedDict[str, tuple[float, Kept]] = field(default_factory=OrderedDict)
    size: int = 0

    def remove(self, name: str) -> None:
        _, kept = self.kept.pop(name)
        self.size -= kept.size

    def oldest(self) -> tuple[str, float]:
        name = next(iter(self.kept))
        return name, self.kept[name][0]


class Store:
    """What is kept, by caller (`Caller.owner`) and id.

    What is another's, too old or too much is not there.
    """

    def __init__(
        self, config: StoreConfig | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config or StoreConfig()
        self._clock = clock
        self._shelves: dict[str, _Shelf] = {}

    def keep(self, caller: str, name: str, kept: Kept) -> None:
        """Keeps a response, unless it alone is more than may be kept."""
        self._sweep()
        shelf = self._shelves.setdefault(caller, _Shelf())
        shelf.kept[name] = (self._clock() + self._config.lifetime, kept)
        shelf.size += kept.size
        while len(shelf.kept) > self._config.most_responses or shelf.size > self._config.most_bytes:
            shelf.remove(shelf.oldest()[0])

    def find(self, caller: str, name: str) -> Kept | None:
        """A response of this caller."""
        self._sweep()
        shelf = self._shelves.get(caller)
        found = shelf.kept.get(name) if shelf else None
        return found[1] if found else None

    def forget(self, caller: str, name: str) -> bool:
        """Whether there was such a response; there is none any more."""
        if self.find(caller, name) is None:
            return False
        self._shelves[caller].remove(name)
        return True

    def item(self, caller: str) -> Callable[[str], Mapping[str, Any] | None]:
        """Finds items of this caller's responses by their ids.

        It reads those responses alone that have some, each once at most: who asks for what is not
        there, or for much, would have all of them read each time.
        """
        self._sweep()
        shelf = self._shelves.get(caller, _Shelf())
        holders = [kept for _, kept in reversed(shelf.kept.values())]
        known: dict[str, Mapping[str, Any]] = {}

        def find(name: str) -> Mapping[str, Any] | None:
            if name not in known:
                holder = next((kept for kept in holders if name in kept.ids), None)
                if holder is not None:
                    known.update((each["id"], each) for each in holder.context())
            return known.get(name)

        return find

    def _sweep(self) -> None:
        now = self._clock()
        for caller, shelf in list(self._shelves.items()):
            while shelf.kept and shelf.oldest()[1] <= now:
                shelf.remove(shelf.oldest()[0])
            if not shelf.kept:
                del self._shelves[caller]
