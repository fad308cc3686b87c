"""One session on this peer: what it holds, what it has been promised, and where its outputs go."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import msgspec

from swarm.errors import RemoteProtocolError
from swarm.session.feed import Computed, Feed
from swarm.session.history import History
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import Hold, HopTime, Open, RowRange, Step, Want
from swarm.wire.tensors import all_finite

from .commitments import Commitments
from .outbox import Outbox
from .pages import PageTable


@dataclass(frozen=True)
class Arrival:
    """A step that has arrived, and when (seconds of the event loop).

    `lengths` are the session's rows once it has been computed.
    """

    step: Step
    payload: memoryview
    time: float
    lengths: tuple[int, ...] = ()

    @property
    def num_positions(self) -> int:
        """Positions over all rows."""
        return sum(span.count for span in self.step.rows)


@dataclass(frozen=True)
class Part:
    """Some consecutive positions of a step, as one batch runs them."""

    rows: tuple[RowRange, ...]
    payload: memoryview
    want: Want
    reorder: tuple[int, ...] | None


class HopSession:
    """The state of one session; `handler` and `engine` decide when it changes.

    `number` rises from session to session.
    """

    def __init__(self, request: Open, client: Link, hidden_size: int, number: int = 0) -> None:
        self.id = request.session
        self.number = number
        self.client = client
        self.blocks = (request.start, request.end)
        self.dtype = request.dtype
        self.num_rows = request.rows
        self.position_len = request.dtype.position_len(hidden_size)
        self.epoch = request.epoch
        self.feed = Feed(request.rows, self.position_len)
        self.feed.generation = request.generation
        self.commitments = Commitments(request, self.position_len)
        self.rows: list[int] | None = None
        """Rows of the page table; the engine makes them with the first batch."""
        self.backlog: deque[Arrival] = deque()
        """Steps that wait for memory."""
        self.used_at = float("inf")
        """When it was opened or a step came, in seconds of the event loop."""
        self.waiting = False
        self.running = False
        self.closed = False
        self.pending_hold: Hold | None = None
        self.next_link: Link | None = None
        self.outbox: Outbox | None = None
        """What goes over that link."""
        self._expected_seq = 0
        self._planned = [0] * request.rows

    @property
    def account(self) -> str:
        """The member whose session it is."""
        return self.client.account

    def recall(self, history: History) -> None:
        """Begins where an earlier session was, with its history; the engine finds the row."""
        assert self.num_rows == 1 and self.rows is None
        self.feed.history = history
        self._planned = list(history.lengths)

    def accept(self, step: Step, payload: Buffer, now: float) -> Arrival | None:
        """Checks a step's place in the session; None if it is an old one or a double.

        Raises `LookupError` when a step before it is missing, `RemoteProtocolError` when it makes
        no sense.
        """
        if step.epoch != self.epoch or step.seq < self._expected_seq:
            return None
        if step.seq > self._expected_seq:
            raise LookupError(f"step {self._expected_seq} is missing, {step.seq} came")
        num_positions = sum(span.count for span in step.rows)
        if len(payload) != num_positions * self.position_len:
            raise RemoteProtocolError(
                f"{len(payload)} bytes for {num_positions} positions of {self.position_len}"
            )
        if not all_finite(payload, self.dtype, self.position_len):
            raise RemoteProtocolError("hidden states that are not finite numbers")
        self._plan(step)
        self._expected_seq += 1
        self.used_at = now
        return Arrival(step, memoryview(payload), now, tuple(self._planned))

    def pages_needed(self, page_len: int) -> int:
        """Pages for the steps that wait: for the longest state, as a later one may roll back."""
        return max(
            (sum(-(-length // page_len) for length in a.lengths) for a in self.backlog), default=0
        )

    def prepare(self, pages: PageTable, part: Part) -> None:
        """Makes the rows of the page table what they were just before `part`.

        What a roll-back or a new epoch has given up goes first: the lease is for what remains, and
        need not hold both.
        """
        if self.rows is None:
            self.rows = [pages.add_row() for _ in range(self.num_rows)]
        lengths = list(self.feed.history.lengths)
        if part.reorder is not None:
            pages.reorder(self.rows, [self.rows[source] for source in part.reorder])
            lengths = [lengths[source] for source in part.reorder]
        for span in part.rows:
            lengths[span.row] = span.position
        for row, length in zip(self.rows, lengths, strict=True):
            if pages.row_len(row) > length:
                pages.truncate(row, length)

    def start_epoch(self, hold: Hold) -> None:
        """Begins a new epoch from what has been computed so far."""
        self.epoch = hold.epoch
        self.backlog.clear()
        self.pending_hold = None
        self.unwire()
        self.feed.hold(hold.generation, hold.keep)
        self._expected_seq = 0
        self._planned = list(self.feed.history.lengths)

    def wire(self, link: Link, outbox: Outbox) -> None:
        """Sends to the hop behind `link` from now on; a client may say so twice."""
        self.unwire()
        self.next_link, self.outbox = link, outbox

    def unwire(self) -> None:
        """Sends nothing any more, also not what waits; may be called again."""
        self.next_link = None
        if self.outbox is not None:
            self.outbox.close()
            self.outbox = None

    def _plan(self, step: Step) -> None:
        planned = self._planned
        if step.reorder is not None:
            if len(step.reorder) != self.num_rows or max(step.reorder) >= self.num_rows:
                raise RemoteProtocolError(f"reorder {step.reorder} of {self.num_rows} rows")
            planned = [planned[source] for source in step.reorder]
        else:
            planned = list(planned)
        seen = set()
        for span in step.rows:
            if span.row >= self.num_rows or span.row in seen:
                raise RemoteProtocolError(f"row {span.row} of {self.num_rows}")
            if span.position > planned[span.row]:
                raise RemoteProtocolError(
                    f"row {span.row} goes on at {span.position} but has {planned[span.row]}"
                )
            seen.add(span.row)
            planned[span.row] = span.position + span.count
        self._planned = planned


def cut(arrival: Arrival, start: int, count: int, position_len: int) -> Part:
    """Positions `[start, start + count)` of a step, counted over its rows one after the other.

    The first part rolls back all rows of the step, so that no hop is left between two generations.
    """
    step = arrival.step
    if (start, count) == (0, arrival.num_positions):
        return Part(step.rows, arrival.payload, step.want, step.reorder)
    rows: list[RowRange] = []
    offset, ends_row = 0, False
    for span in step.rows:
        first, last = max(start, offset), min(start + count, offset + span.count)
        if first < last:
            rows.append(RowRange(span.row, span.position + first - offset, last - first))
            ends_row = ends_row or last == offset + span.count
        elif start == 0:
            rows.append(RowRange(span.row, span.position, 0))
        offset += span.count
    want = step.want if step.want is not Want.LAST or ends_row else Want.NOTHING
    payload = arrival.payload[start * position_len : (start + count) * position_len]
    return Part(tuple(rows), payload, want, step.reorder if start == 0 else None)


@dataclass(frozen=True)
class Done:
    """A computed part and how long it took; the `last` one of a step ends it."""

    part: Part
    output: memoryview
    time: HopTime
    arrival: Arrival = field(repr=False)
    last: bool = True

    def committed(self, session: HopSession) -> Done:
        """The same with our word for what was received and computed, if the client wants it."""
        part, commitments = self.part, session.commitments
        if part.reorder is not None:
            commitments.reorder(part.reorder)
        made = commitments.write(part.rows, part.payload, self.output)
        if not made:
            return self
        tag = commitments.tag(session.epoch, self.arrival.step.generation, made)
        return replace(self, time=msgspec.structs.replace(self.time, commitments=made, tag=tag))

    def sent(self, round_trip: float | None) -> Done:
        """The same, to be sent over a link with this round trip in seconds, if one is known."""
        if round_trip is None:
            return self
        trip = int(round_trip / 2 * 1e6)
        return replace(self, time=msgspec.structs.replace(self.time, trip=trip))

    def computed(self) -> Computed:
        """As the session's feed takes it."""
        step = self.arrival.step
        return Computed(
            self.part.rows,
            self.output,
            self.part.want,
            step.generation,
            self.part.reorder,
            step.refill,
            (*step.times, self.time),
        )
