"""Whose energy it was. Policy alone: plain numbers, no meter, no clock."""

from __future__ import annotations

from collections.abc import Mapping

from .meter import Spent, Usage

MOST_WATTS = 5000.0
"""More than any machine at home draws. A counter that claims it has begun anew, as after sleep."""

CORE_WATTS = 10.0
"""What a busy core is thought to draw with its part of the rest: processors of 65 W have 6 to 8."""

CARD_WATTS = 150.0
"""What a graphics card that nobody can read is thought to draw while it computes."""


def risen(before: int, now: int, span: int) -> int:
    """How far a counter has come that goes back to 0 at `span`; 0: it never does, and was reset."""
    if now >= before:
        return now - before
    return now + span - before if span else 0


def plausible(joules: float, seconds: float) -> float:
    """The same, but 0 where no machine can have drawn that in so long."""
    return joules if 0 <= joules <= MOST_WATTS * seconds else 0.0


def of_cpu(joules: float, usage: Usage) -> Spent:
    """Of a processor's energy, our part of all the time for which anybody has used a core.

    While less than one core is busy in all, the rest of the energy is nobody's: a machine that
    waits draws it, too.
    """
    busy = max(usage.busy_seconds, usage.cpu_seconds, usage.seconds)
    return Spent(joules, joules * usage.cpu_seconds / busy if busy else 0.0)


def of_card(joules: float, pid: int, loads: Mapping[int, float | None]) -> Spent:
    """Of a card's energy, our part of what its users have it do.

    `loads` are by process; None where a card does not tell. All of it is ours while we are alone;
    where loads are not known, all users have the same.
    """
    others = {each: load for each, load in loads.items() if each != pid}
    if not others:
        return Spent(joules, joules)
    known = [load for load in (loads.get(pid), *others.values()) if load is not None]
    if len(known) <= len(others) or not sum(known):
        return Spent(joules, joules / (len(others) + 1))
    return Spent(joules, joules * (loads[pid] or 0.0) / sum(known))


def estimated_cpu(usage: Usage, full_watts: float = 0.0) -> float:
    """Joules of the cores that we have used, of a machine that draws `full_watts` on all of them.

    0: it is thought to draw `CORE_WATTS` on each.
    """
    each = full_watts / usage.cores if full_watts else CORE_WATTS
    return each * min(usage.cpu_seconds, usage.seconds * usage.cores)


def estimated_card(usage: Usage, full_watts: float = 0.0) -> float:
    """Joules of a card while it computed; its machine then draws `full_watts` (0: a guess)."""
    return (full_watts or CARD_WATTS) * min(usage.computing_seconds, usage.seconds)
