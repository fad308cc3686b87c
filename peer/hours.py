"""At which hours a peer may serve: policy alone, over what the clock on the wall shows.

`22-08` is every night, `sat,sun` two whole days, `mon-fri@18:30-23` evenings of some days. Several
together are all of them. Hours that end after midnight belong to the day on which they begin.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from swarm.errors import ConfigError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?")

Local = Callable[[float], time.struct_time]


def _local(when: float) -> time.struct_time:
    # A machine that has travelled has another zone than when its programs began.
    if hasattr(time, "tzset"):
        time.tzset()
    return time.localtime(when)


@dataclass(frozen=True)
class _Rule:
    """From minute `start` of some `days` (0 is Monday) to minute `end`, which may be tomorrow's."""

    days: frozenset[int]
    start: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        today = day in self.days and self.start <= minute < self.end
        return today or ((day - 1) % 7 in self.days and minute + _DAY < self.end)


class Hours:
    """When a peer may serve; `local` tells what a clock on the wall shows at a Unix time.

    Where clocks are put forward or back, hours go by what they show.
    """

    def __init__(self, texts: Iterable[str], local: Local = _local) -> None:
        """Reads hours; raises `ConfigError` on what is none."""
        self._rules = [_rule(text.strip().lower()) for text in texts]
        self._local = local

    def contain(self, when: float) -> bool:
        """Whether a peer may serve at this Unix time."""
        shown = self._local(when)
        minute = shown.tm_hour * 60 + shown.tm_min
        return any(rule.holds(shown.tm_wday, minute) for rule in self._rules)

    def next_change(self, when: float) -> float | None:
        """The first minute after `when` at which they begin or end; None if they never do.

        Looked for minute by minute: no other way is right on the nights in which clocks are put
        forward or back. A week and the day of such a night are enough.
        """
        now, minute = self.contain(when), when // 60 * 60
        for _ in range(8 * _DAY):
            minute += 60
            if self.contain(minute) is not now:
                return minute
        return None


def _rule(text: str) -> _Rule:
    days, at, clocks = text.partition("@")
    if not at:
        days, clocks = (text, "") if text[:1].isalpha() else ("", text)
    start, end = (0, _DAY) if days and not at else _clocks(text, clocks)
    return _Rule(_days(text, days) if days else frozenset(range(7)), start, end)


def _clocks(text: str, clocks: str) -> tuple[int, int]:
    first, dash, last = clocks.partition("-")
    if not dash:
        raise _wrong(text)
    start, end = _minute(text, first), _minute(text, last)
    if start == end or start == _DAY:
        raise _wrong(text)
    return start, end if end > start else end + _DAY


def _minute(text: str, clock: str) -> int:
    match = _CLOCK.fullmatch(clock.strip())
    if match is None:
        raise _wrong(text)
    hour, minute = int(match[1]), int(match[2] or 0)
    if minute > 59 or hour * 60 + minute > _DAY:
        raise _wrong(text)
    return hour * 60 + minute


def _days(text: str, days: str) -> frozenset[int]:
    found: set[int] = set()
    for part in days.split(","):
        first, dash, last = part.strip().partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise _wrong(text)
        start = _DAYS.index(first)
        length = (_DAYS.index(last) - start) % 7 if dash else 0
        found.update((start + step) % 7 for step in range(length + 1))
    return frozenset(found)


def _wrong(text: str) -> ConfigError:
    return ConfigError(
        f"{text!r} are no hours: write 22-08, 18:30-23, sat,sun or mon-fri@18-23, in local time"
    )
