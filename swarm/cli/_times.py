"""Times and durations as people write and read them."""

from __future__ import annotations

import re
import time

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_NAMES = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_LONGEST = 366 * 86_400


def duration(text: str) -> float:
    """Reads `30m`, `12h`, `7d` or `2w` in seconds; raises `typer.BadParameter` on anything else."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])", text.strip().lower(), re.ASCII)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration; write for example 30m, 12h, 7d or 2w")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not 0 < seconds <= _LONGEST:
        raise typer.BadParameter("a duration is more than 0 and at most a year")
    return seconds


def moment(seconds: float) -> str:
    """A time (seconds since 1970) here, to the minute: `2026-11-29 10:40`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def span(seconds: float) -> str:
    """A duration in the largest unit of which it has two, or one exactly: `7 days`, `36 hours`."""
    whole = max(0, round(seconds))
    for size, name in _NAMES:
        if whole >= 2 * size or whole == size:
            number = round(whole / size)
            return f"{number} {name}{'s' * (number != 1)}"
    return "no time"


def until(moment_seconds: float, now: float) -> str:
    """A time to come, and how far it is: `2026-11-29 10:40 (7 days)`."""
    return f"{moment(moment_seconds)} ({span(moment_seconds - now)})"


def clock(moment_seconds: float, now: float) -> str:
    """A time to come, as short as it is clear: `08:00` within a day, else with its date."""
    if 0 <= moment_seconds - now < 86_400:
        return time.strftime("%H:%M", time.localtime(moment_seconds))
    return moment(moment_seconds)
