"""What a peer has received and computed for a session, in marks to which it commits itself.

The client does not see what passes between peers. With every step each hop tells it, under a key
that no other hop knows, which bytes it has got and made so far. Afterwards none of them can say
otherwise (`docs/audit.md`).
"""

from __future__ import annotations

from swarm.session.trace import Trace, tag
from swarm.wire.messages import MAX_TRACED_ROWS, Commitment, Open, RowRange


class Commitments:
    """The traces of one session's rows, if its client asks for commitments."""

    def __init__(self, request: Open, position_len: int) -> None:
        self._key = request.key if request.rows <= MAX_TRACED_ROWS else b""
        num_rows = request.rows if self._key else 0
        self._received = [Trace(position_len) for _ in range(num_rows)]
        self._sent = [Trace(position_len) for _ in range(num_rows)]
        self._position_len = position_len

    @property
    def traces(self) -> tuple[Trace, Trace] | None:
        """Those of row 0: of what was received, and of what was computed from it."""
        return (self._received[0], self._sent[0]) if self._key else None

    def recall(self, traces: tuple[Trace, Trace] | None, length: int) -> bool:
        """Row 0 begins with what an earlier session has left; False if it left no traces."""
        if not self._key:
            return True
        if traces is None or min(map(len, traces)) < length:
            return False
        self._received[0], self._sent[0] = (trace.head(length) for trace in traces)
        return True

    def reorder(self, sources: tuple[int, ...]) -> None:
        """Row `i` becomes what row `sources[i]` was."""
        if self._key:
            for traces in (self._received, self._sent):
                traces[:] = [traces[source].head(len(traces[source])) for source in sources]

    def write(
        self, rows: tuple[RowRange, ...], received: memoryview, sent: memoryview
    ) -> tuple[Commitment, ...]:
        """`sent` has been computed from `received`, for these rows; returns what to commit to."""
        if not self._key:
            return ()
        made, offset = [], 0
        for span in rows:
            size = span.count * self._position_len
            got, gave = self._received[span.row], self._sent[span.row]
            got.write(span.position, received[offset : offset + size])
            gave.write(span.position, sent[offset : offset + size])
            end, offset = span.position + span.count, offset + size
            made.append(Commitment(span.row, end, got.mark(end), gave.mark(end)))
        return tuple(made)

    def tag(self, epoch: int, generation: int, commitments: tuple[Commitment, ...]) -> bytes:
        """What makes them known as ours to the client."""
        return tag(self._key, epoch, generation, commitments) if self._key else b""
