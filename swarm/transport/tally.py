"""What crossed the links of one member, by neighbour, and how links have ended."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from swarm.errors import (
    Busy,
    Misbehaved,
    NotAMember,
    PeerError,
    SessionLost,
    Silent,
    StepTimeout,
    Unreachable,
)

from ..metrics.labels import Bounded
from .link import Link, Traffic


class LinkTally:
    """Counts links that have ended; those that are open are asked when somebody wants to know.

    Neighbours go by the names that the group's authority has certified. Of many, the later ones
    are all one.
    """

    def __init__(self) -> None:
        self.ended: Counter[str] = none_yet()
        """Links that have ended, by the kind of error that ended them."""
        self.failed: Counter[str] = none_yet()
        """Links that could not be opened, by the kind of error."""
        self._names = Bounded()
        self._past: dict[str, Traffic] = {}

    def end(self, link: Link, error: PeerError) -> None:
        """A link has ended by this."""
        self.ended[kind(error)] += 1
        _add(self._past.setdefault(self._name(link), Traffic()), link.traffic)

    def fail(self, error: PeerError) -> None:
        """A link could not be opened."""
        self.failed[kind(error)] += 1

    def by_neighbour(self, links: Iterable[Link]) -> dict[str, Traffic]:
        """What was ever sent and received, with what these links, which are open, have carried."""
        found: dict[str, Traffic] = {}
        for name, past in self._past.items():
            _add(found.setdefault(name, Traffic()), past)
        for link in links:
            _add(found.setdefault(self._name(link), Traffic()), link.traffic)
        return found

    def _name(self, link: Link) -> str:
        return self._names.label(link.standing.name)


def kind(error: Exception | type[Exception]) -> str:
    """What sort of error it is, in one word such as `step_timeout`."""
    name = (error if isinstance(error, type) else type(error)).__name__
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def none_yet() -> Counter[str]:
    """Of each kind of `PeerError` none: Prometheus is to see a first one as a rise from 0."""
    kinds = (Unreachable, Silent, StepTimeout, Busy, SessionLost, Misbehaved, NotAMember)
    return Counter(dict.fromkeys(map(kind, kinds), 0))


def _add(sum_: Traffic, more: Traffic) -> None:
    sum_.sent_bytes += more.sent_bytes
    sum_.received_bytes += more.received_bytes
    sum_.sent_frames += more.sent_frames
    sum_.received_frames += more.received_frames
