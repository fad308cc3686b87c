"""The whole group at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from swarm.auditing.report import num_reporters
from swarm.directory import Announcement, Directory, Shelf

from .holder import Holder
from .served_model import ServedModel

_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Overview:
    """What a group serves, by model; of `num_left_out` peers there was no room to tell."""

    models: tuple[ServedModel, ...] = ()
    num_left_out: int = 0

    @classmethod
    def of(
        cls,
        entries: Iterable[Announcement],
        reporters: Mapping[str, int] = _NOTHING,
        block_bytes: Mapping[str, int] = _NOTHING,
        *,
        most: int | None = None,
    ) -> Overview:
        """The overview over these announcements, of `most` peers at most.

        `reporters` counts by peer those who report it for wrong work; `block_bytes` is the size of
        a block's weights, by fingerprint, as far as it is known.
        """
        known = sorted(entries, key=lambda entry: not entry.serving)
        kept = known if most is None else known[:most]
        by_model: dict[str, list[Holder]] = {}
        for entry in sorted(kept, key=lambda e: (e.model_name, e.model, e.start, e.peer)):
            holder = Holder(entry, reporters.get(entry.peer, 0))
            by_model.setdefault(entry.model, []).append(holder)
        models = (
            ServedModel(fingerprint, tuple(holders), block_bytes.get(fingerprint))
            for fingerprint, holders in by_model.items()
        )
        return cls(tuple(models), len(known) - len(kept))

    @classmethod
    async def seen(
        cls,
        directory: Directory,
        block_bytes: Mapping[str, int] = _NOTHING,
        *,
        most: int | None = None,
    ) -> Overview:
        """What a directory says now; raises `SwarmError` where it does not answer."""
        found = await directory.find()
        reporters = num_reporters(await directory.read(Shelf.REPORTS))
        return cls.of(found, reporters, block_bytes, most=most)

    def without_addresses(self) -> Overview:
        """The same for those who belong to no group: where homes are is for members."""
        models = tuple(
            replace(model, holders=tuple(map(Holder.without_addresses, model.holders)))
            for model in self.models
        )
        return replace(self, models=models)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "models": [model.as_json() for model in self.models],
            "left_out": self.num_left_out,
        }
