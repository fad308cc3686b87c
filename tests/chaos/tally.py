"""What became of every reply, how long it stood still and for what, and how that is shown."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

_NEAR = 1.5
"""Seconds by which a gap may begin after what has caused it: what was under way still came."""

_NOTED = 3.0
"""Seconds of a gap that is worth a line."""


@dataclass
class Event:
    """Something that was done, to whom, and when (seconds since the epoch)."""

    time: float
    kind: str
    whom: str
    stall: float = 0.0
    """The longest gap between two tokens, of any reply, that it has caused."""


@dataclass
class _Running:
    peers: frozenset[str] = frozenset()
    recoveries: int = 0


@dataclass
class Tally:
    """Counts everything that clients tell."""

    events: list[Event] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    tokens: int = 0
    recoveries: int = 0
    join_failures: int = 0
    skipped: int = 0
    undisturbed_stalls: list[float] = field(default_factory=list)
    _running: dict[tuple[str, str], _Running] = field(default_factory=dict)

    @property
    def in_use(self) -> frozenset[str]:
        """Ids of the peers through which some reply goes."""
        return frozenset().union(*(reply.peers for reply in self._running.values()))

    def did(self, kind: str, whom: str) -> None:
        """Notes an action."""
        self.events.append(Event(time.time(), kind, whom))

    def hear(self, client: str, said: Mapping[str, Any]) -> list[str]:
        """Takes in one line of a client; returns what of it is worth a line in the log."""
        notes = []
        if said["kind"] == "begin":
            self._running[client, said["reply"]] = _Running()
        elif said["kind"] == "route":
            reply = self._running[client, said["reply"]]
            self.recoveries += said["recoveries"] - reply.recoveries
            reply.recoveries, reply.peers = said["recoveries"], frozenset(said["peers"])
        elif said["kind"] == "end":
            self._running.pop((client, said["reply"]), None)
            self.outcomes[said["outcome"]] += 1
            self.tokens += said["tokens"]
            for start, end in said["gaps"]:
                cause = self._attribute(start, end)
                if end - start >= _NOTED:
                    ago = f", {time.time() - end:.1f} s ago"
                    notes.append(
                        f"stall {client} {said['reply']} {end - start:.1f} s{ago}, after {cause}"
                    )
            if said["outcome"] in ("failed", "wrong"):
                where = f"{client} reply {said['reply']} {said['outcome']}"
                self.problems.append(f"{where} after {said['tokens']} tokens: {said['problem']}")
        elif said["kind"] == "not_joined":
            self.join_failures += 1
            notes.append(f"{client} has not joined: {said['problem']}")
        return notes

    def lose(self, client: str, *, on_purpose: bool) -> None:
        """A client has ended: its replies end with it, `on_purpose` or as lost ones."""
        for key in [key for key in self._running if key[0] == client]:
            del self._running[key]
            self.outcomes["abandoned" if on_purpose else "lost"] += 1
            if not on_purpose:
                self.problems.append(f"{client} reply {key[1]} was lost with its client")

    def _attribute(self, start: float, end: float) -> str:
        """A gap was caused by the first action in it or shortly before it, if there is one."""
        cause = next((e for e in self.events if start - _NEAR <= e.time <= end), None)
        if cause is None:
            self.undisturbed_stalls.append(end - start)
            return "nothing"
        cause.stall = max(cause.stall, end - start)
        return f"{cause.kind} {cause.whom}"

    def show(self, console: Console) -> None:
        """Replies, and a table of actions by kind."""
        table = Table(title="Actions", title_justify="left", title_style="bold")
        table.add_column("kind", no_wrap=True)
        for column in ("times", "median stall", "worst stall"):
            table.add_column(column, justify="right", no_wrap=True)
        for kind, count in sorted(Counter(event.kind for event in self.events).items()):
            stalls = [event.stall for event in self.events if event.kind == kind]
            worst = f"{max(stalls):.1f} s"
            table.add_row(kind, str(count), f"{statistics.median(stalls):.1f} s", worst)
        console.print(table)
        named = " ".join(f"{name}={count}" for name, count in sorted(self.outcomes.items()))
        console.print(f"replies {sum(self.outcomes.values())}: {named}", highlight=False)
        calm = max(self.undisturbed_stalls, default=0.0)
        console.print(
            f"tokens={self.tokens} recoveries={self.recoveries} actions skipped={self.skipped}"
            f" joins repeated={self.join_failures} longest gap without a cause={calm:.1f} s",
            highlight=False,
        )
