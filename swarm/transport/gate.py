"""Who may have a stream open here: strangers few, members more, and nobody all there are.

Anybody can open streams to us, under as many made-up identities as they like. Who has proved to be
a member, on whatever stream, is known from then on, and never gives way to strangers. Policy alone:
a guest that has to go is ended by a function that came with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swarm.errors import ConfigError

from .quota import Quota

_MAX_KNOWN = 4096
"""Members that are remembered without a stream."""


@dataclass(frozen=True)
class GateLimits:
    """Streams that others may have open to us, and connections without any.

    Whoever has not proved to be a member is a stranger. A stranger may have `stranger_streams`, and
    all of them `strangers`, for as long as a greeting takes; a member may have `member_streams`,
    and everybody together `streams`, each of which is an open file. One remote that has enough is
    refused; where all together have too many, whoever has most of them loses one: a stranger its
    oldest (a greeting is over in a moment, a flood stays), a member its newest.
    Of those who are connected without a stream, `idle_strangers` are left alone.
    """

    strangers: int = 64
    stranger_streams: int = 8
    member_streams: int = 64
    streams: int = 1024
    idle_strangers: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.stranger_streams <= self.strangers <= self.streams:
            raise ConfigError("a gate needs 1 <= stranger_streams <= strangers <= streams")
        if not 1 <= self.member_streams <= self.streams or self.idle_strangers < 0:
            raise ConfigError(
                "a gate needs 1 <= member_streams <= streams, and idle_strangers >= 0"
            )


@dataclass(eq=False)
class Guest:
    """One stream that `remote` has opened; `end` closes it."""

    remote: str
    end: Callable[[], None]


class Gate:
    """Counts guests as they `enter` and `leave`."""

    def __init__(self, limits: GateLimits | None = None) -> None:
        self._limits = limits = limits or GateLimits()
        # In the order in which they came.
        self._guests: dict[Guest, None] = {}
        self._known: dict[str, None] = {}
        self._all: Quota[str] = Quota(limits.member_streams, limits.streams)
        self._strangers: Quota[str] = Quota(limits.stranger_streams, limits.strangers)
        self.num_refused = 0
        """Streams that were not let in, or had to go."""

    @property
    def num_strangers(self) -> int:
        """Streams of remotes that have never proved anything."""
        return self._strangers.held

    def knows(self, remote: str) -> bool:
        """Whether it has proved to be a member, as far as we remember."""
        return remote in self._known

    def know(self, remote: str) -> None:
        """It has proved to be a member."""
        if not self.knows(remote):
            self._strangers.remove(remote, self._strangers.of(remote))
        self._known.pop(remote, None)
        self._known[remote] = None
        if len(self._known) > _MAX_KNOWN:
            self.forget(next(iter(self._known)))

    def forget(self, remote: str) -> None:
        """It is no member any more: it counts as a stranger again."""
        if self.knows(remote):
            del self._known[remote]
            self._strangers.add(remote, self._all.of(remote))

    def enter(self, remote: str, end: Callable[[], None]) -> Guest | None:
        """Lets a stream in, or gives None; for it another one may have to go."""
        strange, limits = not self.knows(remote), self._limits
        if self._all.of(remote) >= (limits.stranger_streams if strange else limits.member_streams):
            self.num_refused += 1
            return None
        guest = Guest(remote, end)
        self._guests[guest] = None
        self._all.add(remote)
        if strange:
            self._strangers.add(remote)
        if self._strangers.overflows or (self._all.overflows and self._strangers.held):
            self._expel(self._of(self._strangers.largest)[0])
        elif self._all.overflows:
            self._expel(self._of(self._all.largest)[-1])
        return guest if guest in self._guests else None

    def leave(self, guest: Guest) -> None:
        """Its stream has ended; may be called again."""
        if guest in self._guests:
            del self._guests[guest]
            self._all.remove(guest.remote)
            if not self.knows(guest.remote):
                self._strangers.remove(guest.remote)

    def surplus(self, connected: Mapping[str, float]) -> list[str]:
        """Whose connections to end: of those whom nobody knows, the oldest, if they are too many.

        `connected` says since when each remote is connected.
        """
        present = {guest.remote for guest in self._guests}
        idle = [each for each in connected if not self.knows(each) and each not in present]
        idle.sort(key=connected.__getitem__)
        return idle[: max(0, len(idle) - self._limits.idle_strangers)]

    def _of(self, remote: str | None) -> list[Guest]:
        return [guest for guest in self._guests if guest.remote == remote]

    def _expel(self, guest: Guest) -> None:
        self.num_refused += 1
        self.leave(guest)
        guest.end()
