"""How long the other side of a link may be silent, and when each side gives a sign of life.

Policy alone; times are seconds that the caller reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import ConfigError

from .line import Line

_LONG = 16 * 1024
"""Bytes between two looks that mean that something long is arriving: heartbeats are far less."""


@dataclass(frozen=True)
class Heartbeats:
    """How a link finds out whether the other side lives; all in seconds.

    A peer of which nothing arrives for `patience` counts as gone; a large message that is still
    arriving over a slow line is a sign of life. Each side pings after `interval` of its
    own silence, so that a live but idle link always carries something.

    While somebody waits for the other side (`Link.attend`), silence is noticed sooner: it is asked
    for a sign of life after `alert_interval` without one, and gone after `alert_patience`, or
    later where its measured round trips say so. Who is sent something long gives signs of life as
    often without being asked: the question would wait behind what is sent.
    """

    interval: float = 0.5
    patience: float = 3.0
    alert_interval: float = 0.2
    alert_patience: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.interval < self.patience:
            raise ConfigError("heartbeats need 0 < interval < patience")
        if not 0 < self.alert_interval < self.alert_patience <= self.patience:
            raise ConfigError("heartbeats need 0 < alert_interval < alert_patience <= patience")


class Vigil:
    """Both sides' signs of life on one link whose line is measured."""

    def __init__(self, config: Heartbeats, line: Line) -> None:
        self._config = config
        self._line = line
        self._attentive_since = self._attentive_until = float("-inf")
        self._fills = False
        self._asked_at = 0.0
        self.heard_at = 0.0
        """When the other side gave its last sign of life."""
        self.said_at = 0.0
        """When something last left."""
        self.leniency = 1.0
        """Factor for `alert_patience`, larger where an alarm was false lately."""

    def begin(self, now: float, *, accepted: bool) -> None:
        """The link is there; `accepted` if the other side has opened it."""
        # Who has opened the link hears our answer, and says something, only a round trip later.
        self.heard_at = now + (self._config.patience if accepted else 0.0)

    def attend(self, seconds: float, now: float) -> bool:
        """For so long silence is to be noticed quickly; returns whether it was not already."""
        begins = self._attentive_until < now
        if begins:
            self._attentive_since = now
        self._attentive_until = max(self._attentive_until, now + seconds)
        return begins

    def ask(self, now: float) -> None:
        """The other side is asked for a sign of life."""
        self._asked_at = now

    def look(self, num_arrived: int, since: float) -> None:
        """So many bytes have arrived since the last look, parts of messages included."""
        self._fills = num_arrived >= _LONG
        if num_arrived > 0:
            self.heard_at = max(self.heard_at, since)

    def excuse(self, now: float, interval: float) -> None:
        """Our own loop was held up: what arrived meanwhile is still unread."""
        self.heard_at = max(self.heard_at, now - interval)

    def interval(self, now: float) -> float:
        """Seconds until the next look."""
        quick = self._attentive(now) or self._fills
        return self._config.alert_interval if quick else self._config.interval

    def wants_ping(self, now: float) -> bool:
        """Whether the other side is to be asked for a sign of life, or waits for one of ours."""
        interval = self.interval(now)
        quiet = min(now - self.heard_at, now - self._asked_at) >= interval
        return quiet or now - self.said_at >= interval or self._line.round_trip is None

    def overdue(self, now: float) -> bool:
        """Whether the other side has been silent for so long that it counts as gone."""
        config, silence, trip = self._config, now - self.heard_at, self._line.round_trip
        if silence > config.patience:
            return True
        if not self._attentive(now) or trip is None:
            return False
        # A line whose round trips vary much needs more time before silence means anything.
        expected = config.alert_interval + 4 * (trip + 4 * self._line.deviation)
        usual = self.leniency * config.alert_patience
        # Silence from before, on an idle link, says nothing: nobody had asked.
        return min(silence, now - self._attentive_since) > max(usual, expected)

    def _attentive(self, now: float) -> bool:
        return now < self._attentive_until
