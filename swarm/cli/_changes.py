"""What has become different between two looks at a group, apart from numbers that always move."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from swarm.directory import Announcement, State
from swarm.overview import Overview, Ranges, ServedModel


class Kind(StrEnum):
    """What happened."""

    CAME = "came"
    LEFT = "left"
    STATE = "state"
    MOVED = "moved"
    GAP = "gap"
    WHOLE = "whole"
    REPORTED = "reported"


@dataclass(frozen=True)
class Change:
    """One thing that happened to the model called `model`, and to the peer of `entry` if to one.

    `entry` is what the peer says now, or said last.
    """

    kind: Kind
    model: str
    entry: Announcement | None = None
    missing: Ranges = ()

    @property
    def text(self) -> str:
        """For people; holds words of others as they are."""
        if (entry := self.entry) is None:
            if self.kind is Kind.WHOLE:
                return f"{self.model}: every block is served"
            return f"{self.model}: nobody serves blocks {ranges(self.missing)}"
        blocks = f"blocks {entry.start}:{entry.end} of {self.model}"
        does = {
            Kind.CAME: f"came with {blocks} ({entry.state})",
            Kind.LEFT: f"left, with {blocks}",
            Kind.STATE: f"is {entry.state}" + (f", {blocks}" if entry.serving else ""),
            Kind.MOVED: f"moved to {blocks}",
            Kind.REPORTED: "is reported for wrong results",
        }
        return f"{entry.name or '?'} …{entry.peer[-6:]} {does[self.kind]}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        told: dict[str, Any] = {"kind": str(self.kind), "model": self.model}
        if self.entry is not None:
            return told | {"peer": self.entry.peer, "name": self.entry.name}
        return told | {"missing": [list(gap) for gap in self.missing]}


def ranges(missing: Ranges) -> str:
    """`0:4, 8:10`."""
    return ", ".join(f"{start}:{end}" for start, end in missing)


def changes(before: Overview, after: Overview) -> tuple[Change, ...]:
    """What happened between two looks: to peers first, then what that means for their models."""
    old, new = _holders(before), _holders(after)
    found = [
        Change(Kind.LEFT, model.name, holder.entry)
        for peer, (model, holder) in old.items()
        if peer not in new
    ]
    for peer, (model, holder) in new.items():
        entry = holder.entry
        if peer not in old:
            found.append(Change(Kind.CAME, model.name, entry))
            continue
        was = old[peer][1]
        span = entry.model, entry.start, entry.end
        moved = span != (was.entry.model, was.entry.start, was.entry.end)
        # Who pauses gives its blocks back, and takes them again: that is no move.
        if moved and State.PAUSED not in (entry.state, was.entry.state):
            found.append(Change(Kind.MOVED, model.name, entry))
        if entry.state is not was.entry.state:
            found.append(Change(Kind.STATE, model.name, entry))
        if holder.num_reporters > was.num_reporters:
            found.append(Change(Kind.REPORTED, model.name, entry))
    return (*found, *_gaps(before, after))


def _holders(overview: Overview) -> dict[str, Any]:
    return {
        holder.entry.peer: (model, holder) for model in overview.models for holder in model.holders
    }


def _gaps(before: Overview, after: Overview) -> list[Change]:
    """Which models lack other blocks than before; one that nobody announces any more lacks all."""
    old = {model.fingerprint: model for model in before.models}
    new = {model.fingerprint: model for model in after.models}
    found = []
    for fingerprint in old | new:
        missing, was = _missing(new.get(fingerprint)), _missing(old.get(fingerprint))
        if missing == was:
            continue
        model = new.get(fingerprint) or old[fingerprint]
        lacking = ((0, model.num_blocks),) if missing is None else missing
        kind = Kind.GAP if lacking else Kind.WHOLE
        found.append(Change(kind, model.name, None, lacking))
    return found


def _missing(model: ServedModel | None) -> Ranges | None:
    return None if model is None else model.missing
