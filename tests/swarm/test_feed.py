from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.client.chain import _lengths_to_wire
from swarm.session.feed import REFILL_LEN, Computed, Feed
from swarm.wire.messages import Held, HopTime, Next, Output, RowRange, Step, Want

NAME = "n" * 16
SIZE = 4


def span(*numbers: int) -> tuple[RowRange, ...]:
    return (RowRange(*numbers),)


def fed(length: int, num_rows: int = 1) -> Feed:
    """A feed that has computed some positions, and is about to be wired anew."""
    feed = Feed(num_rows, 1)
    for row in range(num_rows):
        data = memoryview(bytes(range(length)))
        feed.push(Computed(span(row, 0, length), data, Want.LAST, 0))
    feed.hold(0, (0,) * num_rows)
    return feed


def sent(messages: object) -> list[tuple[int, int, bytes, Want]]:
    return [
        (m.rows[0].position, m.rows[0].count, bytes(p), m.want)
        for m, p in messages  # type: ignore[attr-defined]
    ]


def test_an_unwired_feed_only_remembers() -> None:
    feed = Feed(1, 1)
    assert feed.push(Computed(span(0, 0, 2), memoryview(b"ab"), Want.ALL, 0)) is None
    assert sent(feed.wire(3, Next("next", NAME, has=(0,)))) == [(0, 2, b"ab", Want.ALL)]


def test_steps_are_numbered_within_an_epoch() -> None:
    feed = Feed(1, 1)
    list(feed.wire(1, Next("next", NAME, has=(0,))))
    times = (HopTime(0, 1, 2, 3, 4),)
    for number in range(3):
        step = Computed(
            span(0, number, 1), memoryview(b"x"), Want.LAST, 0, times=times, reorder=(0,)
        )
        message, payload = feed.push(step)
        assert message == Step(NAME, 1, number, 0, step.rows, Want.LAST, (0,), False, times)
        assert payload == b"x"
    ((message, _),) = feed.wire(2, Next("next", NAME, has=(2,)))
    assert (message.epoch, message.seq, message.refill) == (2, 0, True)


def test_what_a_receiver_holds_already_is_not_sent() -> None:
    feed = fed(6)
    assert sent(feed.wire(1, Next("next", NAME, has=(4,)))) == [(4, 2, b"\4\5", Want.LAST)]
    assert sent(feed.wire(1, Next("next", NAME, has=(6,)))) == []
    assert sent(feed.wire(1, Next("next", NAME, has=(9,)))) == []


def test_what_the_client_has_settled_is_sent_in_large_steps_that_nobody_waits_for() -> None:
    feed = Feed(1, 1)
    length = REFILL_LEN + 10
    for position in range(length):
        feed.push(Computed(span(0, position, 1), memoryview(b"x"), Want.ALL, 0))
    feed.hold(0, (0,))
    messages = sent(feed.wire(1, Next("next", NAME, has=(0,), settled=(length - 2,))))
    assert [(position, count, want) for position, count, _, want in messages] == [
        (0, REFILL_LEN, Want.NOTHING),
        (REFILL_LEN, 8, Want.NOTHING),
        (length - 2, 1, Want.ALL),
        (length - 1, 1, Want.ALL),
    ]


def test_the_client_gets_only_what_it_wants() -> None:
    feed = Feed(3, 1)
    list(feed.wire(1, Next(None, NAME, has=(0, 0, 0))))
    rows = (RowRange(0, 0, 2), RowRange(1, 0, 0), RowRange(2, 0, 3))
    for want, expected in ((Want.ALL, b"abcde"), (Want.LAST, b"be"), (Want.NOTHING, b"")):
        message, payload = feed.push(Computed(rows, memoryview(b"abcde"), want, 0))
        assert isinstance(message, Output)
        assert (message.rows, message.want, bytes(payload)) == (rows, want, expected)


def test_a_hold_stops_and_only_who_is_behind_forgets() -> None:
    for generation, length in ((0, 6), (1, 2)):
        feed = fed(6)
        list(feed.wire(1, Next("next", NAME, has=(6,))))
        feed.hold(generation, (2,))
        assert feed.next is None
        assert (feed.history.lengths, feed.generation) == ((length,), generation)


def test_a_dropped_history_passes_on_what_comes_through_it_again() -> None:
    """A hop that is filled anew, before a hop that holds a part of it."""
    feed = fed(6)
    feed.history.drop()
    assert list(feed.wire(1, Next("next", NAME, has=(4,)))) == []
    again = Computed(span(0, 0, 6), memoryview(b"abcdef"), Want.NOTHING, 0, refill=True)
    message, payload = feed.push(again)
    assert message.rows == span(0, 4, 2) and bytes(payload) == b"ef"
    again = replace(again, rows=span(0, 0, 3), payload=memoryview(b"abc"))
    assert feed.push(again) is None


def test_what_comes_after_a_drop_and_before_the_wire_is_not_lost() -> None:
    """A step may overtake the wire: it comes over another link."""
    feed = fed(6)
    feed.history.drop()
    feed.hold(0, (0,))
    assert feed.push(Computed(span(0, 6, 2), memoryview(b"gh"), Want.LAST, 0)) is None
    assert sent(feed.wire(2, Next("next", NAME, has=(6,)))) == [(6, 2, b"gh", Want.LAST)]


def test_a_roll_back_that_overtakes_the_wire_reaches_the_receiver() -> None:
    """The receiver held 6 positions when it was asked; the last 4 of them count no more."""
    feed = fed(6)
    feed.hold(0, (0,))
    feed.push(Computed(span(0, 2, 5), memoryview(b"CDEFG"), Want.ALL, 1))
    ((step, payload),) = feed.wire(2, Next("next", NAME, has=(6,)))
    assert (step.rows, bytes(payload), step.generation) == (span(0, 2, 5), b"CDEFG", 1)
    assert not step.refill, "a refill would not move the receiver back"


def test_a_reorder_that_overtakes_the_wire_sends_all_rows_anew() -> None:
    feed = Feed(2, 1)
    for row, text in enumerate((b"abc", b"ABC")):
        feed.push(Computed(span(row, 0, 3), memoryview(text), Want.LAST, 0))
    feed.hold(0, (0, 0))
    feed.push(Computed(span(0, 3, 1), memoryview(b"D"), Want.LAST, 1, reorder=(1, 0)))
    messages = list(feed.wire(2, Next("next", NAME, has=(3, 3))))
    assert b"".join(payload for _, payload in messages) == b"ABCDabc"
    assert not any(step.refill for step, _ in messages)


def fold(hop: int, inputs: Sequence[bytes]) -> bytes:
    """A hop's output for a position: it depends on every input of the row up to there."""
    return zlib.crc32(b"".join(inputs), hop).to_bytes(SIZE, "big")


class Hop:
    """One hop: what its KV memory holds per row, and its feed."""

    def __init__(self, number: int, num_rows: int, generation: int) -> None:
        self.number = number
        self.feed = Feed(num_rows, SIZE)
        self.feed.generation = generation
        self.memory: list[list[bytes]] = [[] for _ in range(num_rows)]
        self.expected_seq = 0

    def run(self, step: Step, payload: bytes) -> tuple[Step | Output, memoryview] | None:
        if step.reorder is not None:
            self.memory = [list(self.memory[source]) for source in step.reorder]
        lengths = self.feed.history.lengths
        out = b""
        for rows in step.rows:
            memory = self.memory[rows.row]
            known = lengths[rows.row if step.reorder is None else step.reorder[rows.row]]
            assert rows.position <= known, "a gap"
            del memory[rows.position :]
            for _ in range(rows.count):
                memory.append(payload[:SIZE])
                payload = payload[SIZE:]
                out += fold(self.number, memory)
        assert not payload
        return self.feed.push(
            Computed(
                step.rows,
                memoryview(out),
                step.want,
                step.generation,
                step.reorder,
                step.refill,
            )
        )


class Swarm:
    """A client and its hops; `draw` decides what happens next."""

    def __init__(self, data: st.DataObject, num_hops: int, num_rows: int) -> None:
        self.draw = data.draw
        self.num_rows = num_rows
        self.texts: list[list[bytes]] = [[] for _ in range(num_rows)]
        self.feed = Feed(num_rows, SIZE)
        self.hops = [Hop(i, num_rows, 0) for i in range(num_hops)]
        self.edges: list[deque] = [deque() for _ in range(num_hops + 1)]
        self.unwired: list[tuple[int, Next]] = []
        self.epoch = self.generation = self.breaks = 0
        self.settled = [0] * num_rows
        self.keep = (0,) * num_rows
        self.received: dict[tuple[int, int], bytes] = {}
        self.rebuild()

    def put(self, edge: int, message: tuple[Step | Output, memoryview] | None) -> None:
        if message is not None:
            self.edges[edge].append((message[0], bytes(message[1])))

    def rebuild(self) -> None:
        """As the client does it: hold or replace every hop, then wire them."""
        self.epoch += 1
        self.unwired = []
        answers = []
        for index, edge in enumerate(self.edges):
            edge.clear()
            if index == len(self.hops):
                break
            fate = self.draw(st.sampled_from(["keep", "keep", "replace", "drop"]), "fate")
            if fate == "replace":
                self.hops[index] = Hop(index, self.num_rows, self.generation)
            hop = self.hops[index]
            if fate == "drop":
                hop.feed.history.drop()
            hop.feed.hold(self.generation, self.keep)
            hop.expected_seq = 0
            history = hop.feed.history
            answers.append(Held(NAME, self.epoch, history.lengths, history.replayable))
        settled = tuple(self.settled)
        has = [*_lengths_to_wire(answers, settled), settled]
        for index in range(len(self.hops)):
            last = index == len(self.hops) - 1
            next = Next(None if last else "next", NAME, (), has[index + 1], settled)
            self.unwired.append((index, next))
        for message in self.feed.wire(self.epoch, Next("first", NAME, (), has[0], settled)):
            self.put(0, message)

    def step(self, rows: list[tuple[int, int, int]], want: Want, reorder: list[int] | None) -> None:
        """One step of the client: (row, how far back, how many) each."""
        before = [len(text) for text in self.texts]
        if reorder is not None:
            self.texts = [list(self.texts[source]) for source in reorder]
            self.settled = [self.settled[source] for source in reorder]
            before = [before[source] for source in reorder]
        ranges, payload = [], b""
        for row, back, count in rows:
            text = self.texts[row]
            position = max(0, len(text) - back)
            fresh = [self.draw(st.binary(min_size=SIZE, max_size=SIZE)) for _ in range(count)]
            text[position:] = fresh
            ranges.append(RowRange(row, position, count))
            payload += b"".join(fresh)
        rolls_back = any(r.position < before[r.row] for r in ranges)
        for r in ranges:
            self.settled[r.row] = min(self.settled[r.row], r.position)
        if reorder is not None:
            self.keep = (0,) * self.num_rows
        elif rolls_back:
            self.keep = tuple(self.settled)
        self.generation += rolls_back or reorder is not None
        self.received = {}
        order = None if reorder is None else tuple(reorder)
        computed = Computed(tuple(ranges), memoryview(payload), want, self.generation, order)
        self.put(0, self.feed.push(computed))
        self.finish(ranges, want)

    def finish(self, ranges: list[RowRange], want: Want) -> None:
        while any(self.settled[r.row] < r.position + r.count for r in ranges):
            events: list[tuple[str, int]] = [("wire", i) for i in range(len(self.unwired))]
            events += [("move", i) for i, edge in enumerate(self.edges) if edge]
            assert events, "nothing is on its way, and the step has not ended"
            if self.breaks < 4 and self.draw(st.integers(0, 5), "break") == 0:
                self.breaks += 1
                self.rebuild()
                continue
            kind, index = self.draw(st.sampled_from(events), "event")
            if kind == "wire":
                hop, next = self.unwired.pop(index)
                for message in self.hops[hop].feed.wire(self.epoch, next):
                    self.put(hop + 1, message)
            elif index == len(self.hops):
                self.receive(*self.edges[index].popleft())
            else:
                self.move(index)
        self.check(ranges, want)

    def move(self, index: int) -> None:
        """A hop takes a step, or only the first positions of it."""
        hop, edge = self.hops[index], self.edges[index]
        step, payload = edge.popleft()
        if (step.epoch, step.seq) != (self.epoch, hop.expected_seq):
            raise AssertionError(f"step {step.seq} of {step.epoch} at {hop.expected_seq}")
        (first, *others) = step.rows
        if not others and first.count > 1 and self.draw(st.booleans(), "cut"):
            some = self.draw(st.integers(1, first.count - 1), "some")
            rest = replace_rows(
                step, RowRange(first.row, first.position + some, first.count - some)
            )
            edge.appendleft((rest, payload[some * SIZE :]))
            want = Want.NOTHING if step.want is Want.LAST else step.want
            step = replace_rows(step, RowRange(first.row, first.position, some), want, step.reorder)
            payload = payload[: some * SIZE]
        else:
            hop.expected_seq += 1
        self.put(index + 1, hop.run(step, payload))

    def receive(self, output: Output, payload: bytes) -> None:
        if output.generation != self.generation:
            return
        for rows in output.rows:
            count = {Want.ALL: rows.count, Want.LAST: min(1, rows.count), Want.NOTHING: 0}
            end = rows.position + rows.count
            for position in range(end - count[output.want], end):
                self.received[rows.row, position] = payload[:SIZE]
                payload = payload[SIZE:]
            self.settled[rows.row] = max(self.settled[rows.row], end)
        assert not payload

    def check(self, ranges: list[RowRange], want: Want) -> None:
        expected = self.texts
        for hop in range(len(self.hops)):
            expected = [[fold(hop, row[: i + 1]) for i in range(len(row))] for row in expected]
        for rows in ranges:
            end = rows.position + rows.count
            start = rows.position if want is Want.ALL else max(rows.position, end - 1)
            for position in range(start, end):
                assert self.received[rows.row, position] == expected[rows.row][position]


def replace_rows(
    step: Step, rows: RowRange, want: Want | None = None, reorder: tuple[int, ...] | None = None
) -> Step:
    return Step(
        step.session,
        step.epoch,
        step.seq,
        step.generation,
        (rows,),
        want or step.want,
        reorder,
        step.refill,
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_chain_gives_the_right_bytes_whatever_breaks(data: st.DataObject) -> None:
    num_rows = data.draw(st.integers(1, 3), "rows")
    swarm = Swarm(data, data.draw(st.integers(1, 3), "hops"), num_rows)
    for _ in range(data.draw(st.integers(1, 5), "steps")):
        rows = data.draw(
            st.lists(
                st.tuples(st.integers(0, num_rows - 1), st.integers(0, 4), st.integers(1, 4)),
                min_size=1,
                max_size=num_rows,
                unique_by=lambda row: row[0],
            ),
            "step",
        )
        reorder = data.draw(
            st.none() | st.lists(st.integers(0, num_rows - 1), min_size=num_rows, max_size=num_rows)
        )
        swarm.step(rows, data.draw(st.sampled_from([Want.ALL, Want.LAST])), reorder)


class Heir:
    """One that is filled from copies and then goes on: what it holds, row by row."""

    def __init__(self, num_rows: int, has: tuple[int, ...], source: Feed) -> None:
        self.rows = [held(source, row)[: length * SIZE] for row, length in enumerate(has)]
        self.expected_seq = 0

    def take(self, step: Step | Output, payload: bytes) -> None:
        assert isinstance(step, Step) and step.seq == self.expected_seq
        self.expected_seq += 1
        assert len(payload) == sum(span.count for span in step.rows) * SIZE
        if step.reorder is not None:
            self.rows = [self.rows[source] for source in step.reorder]
        for span in step.rows:
            row = self.rows[span.row]
            assert span.position * SIZE <= len(row), "a gap"
            self.rows[span.row] = row[: span.position * SIZE] + payload[: span.count * SIZE]
            payload = payload[span.count * SIZE :]


def held(feed: Feed, row: int) -> bytes:
    length = feed.history.length(row)
    return b"".join(piece.data for piece in feed.history.read(row, 0, length))


def push_some(data: st.DataObject, feed: Feed, generation: int) -> None:
    """A step for some rows, that may roll them back and reorder them."""
    num_rows = len(feed.history.lengths)
    reorder = data.draw(
        st.none() | st.tuples(*[st.integers(0, num_rows - 1)] * num_rows), "reorder"
    )
    lengths = feed.history.lengths
    if reorder is not None:
        lengths = tuple(lengths[source] for source in reorder)
    rows = data.draw(st.lists(st.integers(0, num_rows - 1), min_size=1, unique=True), "rows")
    ranges, payload = [], b""
    for row in rows:
        position = lengths[row] - data.draw(st.integers(0, min(3, lengths[row])), "back")
        count = data.draw(st.integers(1, 5), "count")
        ranges.append(RowRange(row, position, count))
        payload += data.draw(st.binary(min_size=count * SIZE, max_size=count * SIZE), "payload")
    feed.push(Computed(tuple(ranges), memoryview(payload), Want.LAST, generation, reorder))


@given(st.data())
def test_a_copy_and_the_steps_after_it_make_an_heir_what_the_history_is(
    data: st.DataObject,
) -> None:
    """The copy says nothing to whom the feed sends, and nothing of how it goes on there."""
    num_rows = data.draw(st.integers(1, 3), "num_rows")
    feed = Feed(num_rows, SIZE)
    length = data.draw(st.sampled_from([0, 1, 7, REFILL_LEN, 2 * REFILL_LEN + 3]), "length")
    list(feed.wire(1, Next("old", NAME, has=(0,) * num_rows)))
    if length:
        spans = tuple(RowRange(row, 0, length) for row in range(num_rows))
        payload = memoryview(zlib.crc32(b"seed").to_bytes(SIZE, "big") * length * num_rows)
        feed.push(Computed(spans, payload, Want.LAST, 0))
    for generation in range(data.draw(st.integers(0, 3), "before")):
        push_some(data, feed, generation)
    has = tuple(data.draw(st.integers(0, n), "has") for n in feed.history.lengths)
    heir = Heir(num_rows, has, feed)
    before = feed.next, feed._seq, list(feed._sent), feed.history.lengths
    copies = list(feed.copy(1, Next("heir", "h" * 16, has=has)))
    assert (feed.next, feed._seq, feed._sent, feed.history.lengths) == before
    for step, part in copies:
        assert (step.session, step.epoch, step.refill, step.want) == (
            "h" * 16,
            1,
            True,
            Want.NOTHING,
        )
        assert step.generation == feed.generation
        assert 0 < sum(span.count for span in step.rows) <= REFILL_LEN
        heir.take(step, bytes(part))
    assert heir.rows == [held(feed, row) for row in range(num_rows)]
    # It takes over: from now on it gets what it lacks, and then every step.
    copied = feed.generation
    for generation in range(copied, copied + data.draw(st.integers(0, 3), "meanwhile")):
        push_some(data, feed, generation + 1)
    keep = (0,) * num_rows if feed.generation > copied else feed.history.lengths
    heir.rows = [row[: n * SIZE] for row, n in zip(heir.rows, keep, strict=True)]
    heir.expected_seq = 0
    feed.hold(feed.generation, keep)
    for step, part in feed.wire(2, Next("heir", "h" * 16, has=keep)):
        heir.take(step, bytes(part))
    assert heir.rows == [held(feed, row) for row in range(num_rows)]


def test_what_was_dropped_is_not_copied_but_what_came_after_is() -> None:
    feed = fed(6, num_rows=2)
    feed.history.drop()
    feed.push(Computed(span(1, 6, 2), memoryview(b"gh"), Want.LAST, 0))
    heir = Next("heir", NAME, has=(0, 6))
    assert [(s.rows, bytes(p)) for s, p in feed.copy(3, heir)] == [(span(1, 6, 2), b"gh")]
    assert list(feed.copy(3, Next("heir", NAME, has=(0, 0)))) == []
