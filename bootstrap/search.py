"""Whom people mean: a member or invites, by what they type of a name, an id or a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.wire.enrolment import Decline, Entry

from .denial import NotGranted
from .ledger import Line

MIN_START = 12
"""Characters of a peer id's beginning that mean it: the first eight are the same for all."""

MIN_END = 6
"""Characters of a peer id's end; logs show eight."""

MIN_NUMBER = 4
"""Hex digits of the beginning of an invite's number."""


@dataclass(frozen=True)
class Found:
    """What was meant: a member that was not removed yet, or invites, or both of one name."""

    member: Entry | None
    invites: tuple[Line, ...]


def find(text: str, members: Sequence[Entry], invites: Sequence[Line]) -> Found:
    """The member and the open invites that `text` means; `NotGranted` unless that is clear."""
    text = text.strip()
    meant = [each for each in members if each.name == text or _is_id(text, each.member)]
    living = [each for each in meant if not each.revoked]
    if len(living) > 1:
        names = ", ".join(f"{each.name} ({each.member})" for each in living)
        raise NotGranted(Decline.UNKNOWN, f"{text} may mean {names}: write more of the id")
    lines = [line for line in invites if line.name == text]
    if not living and not lines:
        lines = _numbered(text, invites)
    if not living and not lines:
        if meant:
            raise NotGranted(Decline.REVOKED, f"{meant[0].name} was removed already")
        raise NotGranted(Decline.UNKNOWN, f"no member and no open invite is called {text}")
    return Found(living[0] if living else None, tuple(lines))


def exactly(text: str, members: Sequence[Entry], invites: Sequence[Line]) -> Found:
    """The member with this id, or the open invite with this number; `NotGranted` as `find`.

    For programs: whatever somebody calls itself, nobody else is meant.
    """
    member = next((each for each in members if each.member == text), None)
    lines = tuple(line for line in invites if line.number.hex() == text)
    if member is None and not lines:
        raise NotGranted(Decline.UNKNOWN, "there is no such member and no such open invite")
    if member is not None and member.revoked:
        raise NotGranted(Decline.REVOKED, f"{member.name} was removed already")
    return Found(member, lines)


def _is_id(text: str, peer: str) -> bool:
    starts = len(text) >= MIN_START and peer.startswith(text)
    ends = len(text) >= MIN_END and peer.endswith(text)
    return peer == text or starts or ends


def _numbered(text: str, invites: Sequence[Line]) -> list[Line]:
    if len(text) < MIN_NUMBER:
        return []
    lines = [line for line in invites if line.number.hex().startswith(text.lower())]
    if len(lines) > 1:
        numbers = ", ".join(line.number.hex() for line in lines)
        raise NotGranted(
            Decline.UNKNOWN, f"{text} may mean the invites {numbers}: write more of it"
        )
    return lines
