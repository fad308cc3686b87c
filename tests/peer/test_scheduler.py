"""P20: order among waiting steps."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ConfigError
from swarm.peer.scheduler import Scheduler, SchedulerConfig

SMALL = SchedulerConfig(decode_len=2, chunk_len=8, batch_len=16)


def shape(batch: list) -> list[tuple[str, int, int]]:
    return [(piece.session, piece.start, piece.count) for piece in batch]


def test_empty() -> None:
    assert Scheduler[str](SMALL).next_batch() == []


@pytest.mark.parametrize("sizes", [(0, 1, 2), (2, 1, 9), (2, 8, 9), (1, 8, 8), (4, 2, 64)])
def test_sizes_that_would_starve_somebody_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        SchedulerConfig(*sizes)


def test_decode_comes_before_a_long_prefill_which_gets_one_chunk_beside_it() -> None:
    scheduler = Scheduler[str](SMALL)
    scheduler.add("long", "p", 30)
    scheduler.add("a", "d", 1)
    scheduler.add("b", "d", 2)
    assert shape(scheduler.next_batch()) == [("a", 0, 1), ("b", 0, 2), ("long", 0, 8)]
    # Nobody else waits: the prefill may take the whole batch.
    assert shape(scheduler.next_batch()) == [("long", 8, 16)]
    scheduler.add("a", "d", 1)
    assert shape(scheduler.next_batch()) == [("a", 0, 1), ("long", 24, 6)]
    assert len(scheduler) == 0


def test_prefill_is_not_starved_by_any_number_of_decode_steps() -> None:
    scheduler = Scheduler[str](SMALL)
    scheduler.add("long", "p", 24)
    for number in range(50):
        scheduler.add(f"decode-{number}", "d", 1)
    for start in (0, 8, 16):
        batch = shape(scheduler.next_batch())
        assert len(batch) == 9 and batch[-1] == ("long", start, 8)


def test_prefills_stay_short_while_others_decode_elsewhere() -> None:
    """Their next steps may come in the middle of the batch."""
    scheduler = Scheduler[str](SMALL)
    scheduler.add("long", "p", 24)
    assert shape(scheduler.next_batch(decoding={"other"})) == [("long", 0, 8)]
    # Its own steps wait for it anyway.
    assert shape(scheduler.next_batch(decoding={"long"})) == [("long", 8, 16)]


def test_decode_steps_are_parted_evenly() -> None:
    scheduler = Scheduler[str](SMALL)
    for number in range(9):
        scheduler.add(f"s{number}", "d", 1)
    sizes = [len(scheduler.next_batch(max_decode=4)) for _ in range(4)]
    assert sizes == [3, 3, 3, 0]


@pytest.mark.parametrize(
    ("decode", "prefill", "chunk_len", "prefill_len"),
    [
        (0.005, 0.0005, 40, 500),
        (0.1, 0.01, 20, 25),
        (1.0, 0.5, 8, 8),
        (0.02, 0.0001, 256, 2500),
    ],
)
def test_sizes_follow_from_times(decode, prefill, chunk_len, prefill_len) -> None:
    config = SchedulerConfig.timed(decode, prefill)
    assert (config.chunk_len, config.prefill_len) == (chunk_len, prefill_len)
    assert SchedulerConfig.timed(0.0, 0.0) == SchedulerConfig()


def test_a_slow_peer_keeps_others_waiting_by_time_not_by_number() -> None:
    """10 ms per position: 128 positions beside each token would be 1.3 s."""
    scheduler = Scheduler[str](SchedulerConfig.timed(0.1, 0.01))
    scheduler.add("long", "p", 1000)
    for _ in range(5):
        scheduler.add("short", "d", 1)
        batch = scheduler.next_batch()
        assert sum(piece.count for piece in batch) * 0.01 < 0.25 and batch[0].session == "short"
    assert len(scheduler.next_batch()) == 1


def test_prefills_take_turns() -> None:
    scheduler = Scheduler[str](SMALL)
    for name in "abc":
        scheduler.add(name, "p", 40)
    order = [piece.session for _ in range(6) for piece in scheduler.next_batch()]
    assert order == list("abcabc")


def test_decode_steps_take_turns() -> None:
    scheduler = Scheduler[str](SMALL)
    names = [f"s{number}" for number in range(40)]
    for name in names:
        for _ in range(2):
            scheduler.add(name, "d", 1)
    served = [piece.session for _ in range(5) for piece in scheduler.next_batch()]
    assert served == [*names, *names]


def test_a_session_is_at_most_once_in_a_batch_and_its_steps_keep_their_order() -> None:
    scheduler = Scheduler[str](SMALL)
    for work in ("one", "two", "three"):
        scheduler.add("a", work, 1)
    assert [[piece.work for piece in scheduler.next_batch()] for _ in range(4)] == [
        ["one"],
        ["two"],
        ["three"],
        [],
    ]


def test_dropped_steps_are_given_back() -> None:
    scheduler = Scheduler[str](SMALL)
    scheduler.add("a", "one", 30)
    scheduler.add("a", "two", 1)
    scheduler.add("b", "other", 1)
    scheduler.next_batch()
    assert scheduler.drop("a") == ["one", "two"]
    assert scheduler.drop("a") == scheduler.drop("unknown") == []
    assert scheduler.next_batch() == []


def test_spans_that_cannot_mix_run_few_sessions_by_turns() -> None:
    scheduler = Scheduler[str](SMALL)
    scheduler.add("long", "p", 20)
    scheduler.add("a", "d", 1)
    order = [shape(scheduler.next_batch(1)) for _ in range(4)]
    assert order == [[("long", 0, 8)], [("a", 0, 1)], [("long", 8, 8)], [("long", 16, 4)]]


CONFIGS = st.builds(
    lambda decode, chunk, more: SchedulerConfig(decode, decode + chunk, 2 * decode + chunk + more),
    st.integers(1, 4),
    st.integers(0, 20),
    st.integers(0, 40),
)
STEPS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 100), st.sampled_from(["k1", "k2"])),
    max_size=30,
)


@given(CONFIGS, STEPS, STEPS, st.none() | st.integers(1, 3))
def test_every_position_comes_exactly_once_and_in_order(config, first, second, limit) -> None:
    scheduler: Scheduler[int] = Scheduler(config)
    steps = [*first, *second]
    for number, (session, count, kind) in enumerate(first):
        scheduler.add(session, number, count, kind)
    taken: dict[str, list[tuple[int, int]]] = defaultdict(list)
    arriving = list(enumerate(second, len(first)))
    while len(scheduler) or arriving:
        if arriving:
            number, (session, count, kind) = arriving.pop(0)
            scheduler.add(session, number, count, kind)
        batch = scheduler.next_batch(limit)
        assert batch, "something waits, and nothing runs"
        assert max(Counter(piece.session for piece in batch).values()) == 1
        assert len({steps[piece.work][2] for piece in batch}) == 1, "kinds are mixed"
        assert len(batch) <= (limit or len(batch))
        if limit is None:
            assert sum(piece.count for piece in batch) <= config.batch_len
        for piece in batch:
            done = sum(n for work, n in taken[piece.session] if work == piece.work)
            assert piece.start == done and steps[piece.work][0] == piece.session
            taken[piece.session].append((piece.work, piece.count))
            assert piece.last == (done + piece.count == steps[piece.work][1])
    for pieces in taken.values():
        works = [work for work, _ in pieces]
        assert works == sorted(works)
        for number in set(works):
            assert sum(n for work, n in pieces if work == number) == steps[number][1]
    assert {n for pieces in taken.values() for n, _ in pieces} == set(range(len(steps)))


@given(CONFIGS, st.integers(1, 12), st.integers(1, 4))
def test_nobody_is_ever_served_much_more_than_others(config, num_decode, num_prefill) -> None:
    """Everybody always has something to do: whoever waits is served before others twice more."""
    scheduler: Scheduler[str] = Scheduler(config)
    decode = [f"d{i}" for i in range(num_decode)]
    prefill = [f"p{i}" for i in range(num_prefill)]
    for name in decode:
        scheduler.add(name, "", config.decode_len)
    for name in prefill:
        scheduler.add(name, "", 10**6)
    turns: Counter[str] = Counter()
    for _ in range(60):
        batch = scheduler.next_batch()
        kinds = {piece.session[0] for piece in batch}
        assert kinds == {"d", "p"}, "each batch advances both"
        assert sum(p.count for p in batch if p.session in prefill) <= config.chunk_len
        for piece in batch:
            turns[piece.session] += 1
            if piece.session in decode:
                scheduler.add(piece.session, "", config.decode_len)
    for names in (decode, prefill):
        counts = [turns[name] for name in names]
        assert max(counts) - min(counts) <= 1
