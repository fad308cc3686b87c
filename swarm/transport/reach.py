"""Whether others can dial us: the answer, and how it follows from what they say."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Reach(StrEnum):
    """How a member is reached by those who are not connected to it yet."""

    UNKNOWN = "unknown"
    DIRECT = "direct"
    RELAYED = "relayed"


def judge(answers: Collection[Collection[str]]) -> Reach:
    """Our reach, from the addresses at which each of some members has reached us anew.

    One that failed is enough to count as relayed: a bootstrap in our own house reaches us where
    nobody else does. A relay too many costs little, a peer that cannot be dialled costs sessions.
    """
    if not answers:
        return Reach.UNKNOWN
    return Reach.DIRECT if all(answers) else Reach.RELAYED
