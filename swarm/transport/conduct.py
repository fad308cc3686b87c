"""How the other side of a link behaves: what its messages cost us, and whether its bytes move.

Policy alone; times are seconds that the caller reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swarm.errors import ConfigError

from ..wire.linking import Ping, Pong, Renewed, Revoked
from ..wire.messages import AnyMessage, Output, Step
from .quota import Allowance, Pace

_COSTS: Mapping[type[AnyMessage], float] = {
    Step: 0.1,
    Output: 0.1,
    Ping: 0.25,
    Pong: 0.25,
    Renewed: 10.0,
    Revoked: 10.0,
}
"""What messages take of an allowance; 1 for all others. Steps and outputs are what links are for,
and no machine computes so many; whoever takes one in charges more for it if it brings nothing.
What is signed takes as long to check as ten others."""


@dataclass(frozen=True)
class ConductLimits:
    """What the other side may do without being slowed down, or cut off.

    Messages that ask for something may come at `message_rate` per second, after `message_burst`
    without a pause; what comes faster is read later. Where for `stall` seconds something waits to
    leave, or a frame is arriving, at least `least_rate` bytes per second must have moved, which
    a home's line does with ten others beside.
    """

    message_rate: float = 400.0
    message_burst: float = 4000.0
    stall: float = 60.0
    least_rate: float = 1000.0

    def __post_init__(self) -> None:
        if min(self.message_rate, self.message_burst, self.stall, self.least_rate) <= 0:
            raise ConfigError("rates, and how long a link may stall, must be positive")


@dataclass(frozen=True)
class Moved:
    """What a link has carried so far; `waiting_bytes` are still to leave."""

    waiting_bytes: int
    left_bytes: int
    arrived_bytes: int
    arrived_frames: int


class Conduct:
    """The account of one link's other side."""

    def __init__(self, limits: ConductLimits) -> None:
        self._allowance = Allowance(limits.message_rate, limits.message_burst)
        self._outgoing = Pace(limits.least_rate, limits.stall)
        self._incoming = Pace(limits.least_rate, limits.stall)
        self._num_frames = 0
        self.owes = False
        """Whether more has come than is paid for; see `debt`."""

    def note(self, message: AnyMessage, now: float) -> None:
        """A message has come."""
        self.charge(_COSTS.get(type(message), 1.0), now)

    def charge(self, cost: float, now: float) -> None:
        """Something has come that costs so much."""
        self._allowance.spend(cost, now)
        self.owes = self._allowance.debt(now) > 0

    def debt(self, now: float) -> float:
        """Seconds for which nothing is to be read, until what has come is paid for."""
        self.owes = False
        return self._allowance.debt(now)

    def rest(self) -> None:
        """We were held up ourselves: what did not move meanwhile is nobody's fault."""
        self._outgoing.rest()
        self._incoming.rest()

    def fault(self, moved: Moved, now: float) -> str | None:
        """Why the link is to end, if it is; asked now and then."""
        if not moved.waiting_bytes:
            self._outgoing.rest()
        elif self._outgoing.stalls(moved.left_bytes, now):
            return f"reads too slowly: {moved.waiting_bytes} bytes wait"
        # Heartbeats are whole frames: where none arrives, a long one must be on its way.
        if moved.arrived_frames != self._num_frames:
            self._num_frames = moved.arrived_frames
            self._incoming.rest()
        elif self._incoming.stalls(moved.arrived_bytes, now):
            return "writes too slowly: a frame does not come to its end"
        return None
