"""In which type hidden states travel: exact where lines are fast, int8 where they are slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import ConfigError
from swarm.wire.messages import DType

AUTO = "auto"

WORTH = 0.1
"""Part of a decode step's or of a prompt's time that int8 has to save. It errs (docs/wire.md), and
who would not feel the difference shall not pay for it."""

KEPT_WORTH = 0.05
"""The same where the last session had int8: what peers keep of it is of no use in another type."""


@dataclass(frozen=True)
class Sender:
    """One who sends hidden states on: the client, or a hop. All times in seconds.

    `upload_rate` is in bytes per second, 0 if it is not known: then bytes count as free. It
    computes `decode_seconds` per decode step and `prefill_seconds` per position of a prompt, after
    what it works on has travelled for `trip`.
    """

    upload_rate: float = 0.0
    decode_seconds: float = 0.0
    prefill_seconds: float = 0.0
    trip: float = 0.0

    def seconds(self, num_bytes: int) -> float:
        """How long it takes to send so much."""
        return num_bytes / self.upload_rate if self.upload_rate else 0.0


def wire_type(asked: str, exact: DType) -> DType | None:
    """The type that a user asks for; None for "auto" where there is something to choose.

    `exact` is the type of the client's part. Who has that in float32 wants it exact.
    """
    if asked != AUTO:
        try:
            return DType(asked)
        except ValueError:
            raise ConfigError(f"wire {asked}: use {', '.join((AUTO, *DType))}") from None
    return None if exact.itemsize == DType.BFLOAT16.itemsize else exact


def choose(
    exact: DType, hidden_size: int, senders: Sequence[Sender], last: DType | None = None
) -> DType:
    """`INT8` if it saves enough of a decode step's or of a prompt's time, else `exact`.

    `last` is what was chosen before, to which a line near the border keeps. `senders` are the
    client and the hops in order. A decode step passes them one after the other. A prompt's chunks
    travel behind one another: its time is that of whoever takes longest over a position, computing
    or sending; the last hop sends hardly anything of it.
    """
    num_bytes = {dtype: dtype.position_len(hidden_size) for dtype in (exact, DType.INT8)}
    decode, prompt = {}, {}
    for dtype, size in num_bytes.items():
        decode[dtype] = sum(s.trip + s.decode_seconds + s.seconds(size) for s in senders)
        sending = [sender.seconds(size) for sender in senders[:-1]]
        prompt[dtype] = max([*sending, *(s.prefill_seconds for s in senders)], default=0.0)
    worth = KEPT_WORTH if last is DType.INT8 else WORTH
    pays = any(t[DType.INT8] < (1 - worth) * t[exact] for t in (decode, prompt))
    return DType.INT8 if pays else exact
