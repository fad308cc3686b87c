"""Blocks that nobody serves, and the command that would fill them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from swarm.directory import Announcement

Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges of blocks, in order, none touching the next."""

_HARMLESS = re.compile(r"[A-Za-z0-9][\w.+@ /:-]*", re.ASCII)
"""Names of models that may stand in a command that somebody pastes into a shell."""


@dataclass(frozen=True)
class Gap:
    """Blocks `[start, end)` of the model called `model`, which nobody serves.

    `num_bytes` are those of the weights as they are stored, None where nobody here knows.
    `coming` are the ids of peers that are loading some of them.
    """

    model: str
    start: int
    end: int
    num_bytes: int | None = None
    coming: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What fills it, typed by one who has an invite, which takes the place of `INVITE`.

        Models are named by members: a name that could do harm in a shell, or only look like
        another one, is `MODEL` here.
        """
        model = shlex.quote(self.model) if _HARMLESS.fullmatch(self.model) else "MODEL"
        return f"swarm peer --join INVITE --model {model} --blocks {self.start}:{self.end}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "start": self.start,
            "end": self.end,
            "command": self.command,
            "bytes": self.num_bytes,
            "coming": list(self.coming),
        }


def replication(entries: Iterable[Announcement], num_blocks: int) -> list[tuple[int, int, int]]:
    """How many peers serve which blocks: `(start, end, number)` from block 0 to the last one.

    By the borders of spans: what somebody announces may have very many blocks.
    """
    change: Counter[int] = Counter()
    for entry in entries:
        if entry.serving and entry.start < num_blocks:
            change[entry.start] += 1
            change[min(entry.end, num_blocks)] -= 1
    runs: list[tuple[int, int, int]] = []
    number, borders = 0, sorted({0, num_blocks, *change})
    for start, end in pairwise(borders):
        number += change[start]
        if runs and runs[-1][2] == number:
            runs[-1] = (runs[-1][0], end, number)
        else:
            runs.append((start, end, number))
    return runs


def gaps(entries: Iterable[Announcement], num_blocks: int | None = None) -> Ranges:
    """The blocks of a model that no serving peer has; there is at least one entry.

    Without `num_blocks` the model has as many as the first entry says.
    """
    entries = tuple(entries)
    whole = entries[0].num_blocks if num_blocks is None else num_blocks
    return tuple((start, end) for start, end, number in replication(entries, whole) if not number)
