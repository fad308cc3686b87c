"""What one direction of a line does to what passes: plain arithmetic, so exact."""

from __future__ import annotations

import pytest
from home_network.line import MIN_QUEUE, BadLineError, Line, LineConfig, Train

RATE = 100_000.0


def packet(at, size=1000):
    return Train(at, at, size, size)


def carry(line, *trains):
    return [line.carry(train) for train in trains]


def test_a_packet_takes_its_bytes_and_the_delay():
    (out,) = carry(Line(LineConfig(RATE, delay=0.02), 0), packet(5.0))
    assert out.head == out.tail == pytest.approx(5.0 + 0.01 + 0.02)


def test_packets_wait_for_those_before_them():
    outs = carry(Line(LineConfig(RATE), 0), packet(1.0), packet(1.0), packet(1.5))
    assert [out.tail for out in outs] == pytest.approx([1.01, 1.02, 1.51])


def test_a_train_is_on_two_lines_at_once():
    """It is not held until its last wagon is there: on the wire, there is no train."""
    first, second = Line(LineConfig(RATE, delay=0.1), 0), Line(LineConfig(RATE, delay=0.1), 1)
    between = first.carry(Train(0.0, 0.0, 10_000, 1000))
    assert (between.head, between.tail) == pytest.approx((0.11, 0.2))
    assert second.carry(between).tail == pytest.approx(0.2 + 0.01 + 0.1)


def test_a_faster_line_waits_for_the_slower_one_before_it():
    arriving = Train(1.0, 2.0, 10_000, 1000)
    out = Line(LineConfig(10 * RATE), 0).carry(arriving)
    assert out.tail == pytest.approx(2.0 + 0.001)


def test_what_finds_no_room_is_dropped_and_what_waits_is_not():
    line = Line(LineConfig(10 * RATE, queue=0.1), 0)
    outs = carry(line, *(packet(0.0) for _ in range(200)))
    kept = [out for out in outs if out]
    assert len(kept) == pytest.approx(100, abs=1)
    assert kept[-1].tail <= 0.1 + 0.001
    assert line.num_dropped == 200 - len(kept)
    assert line.carry(packet(0.2)).tail == pytest.approx(0.201), "empty again"


def test_a_slow_line_has_room_for_what_tcp_begins_with():
    outs = carry(Line(LineConfig(RATE, queue=0.0), 0), *(packet(0.0) for _ in range(50)))
    assert sum(out is not None for out in outs) == pytest.approx(MIN_QUEUE / 1000, abs=1)


def test_jitter_spreads_and_nothing_overtakes():
    line = Line(LineConfig(1e9, delay=0.01, jitter=0.02), 3)
    late = [out.tail - at for at in range(1000) if (out := line.carry(packet(float(at))))]
    assert 0.01 <= min(late) < 0.011 and 0.029 < max(late) <= 0.031
    outs = carry(line, *(packet(2000 + n / 1000) for n in range(1000)))
    tails = [out.tail for out in outs]
    assert tails == sorted(tails)


def test_packets_overtake_where_that_is_asked_for():
    line = Line(LineConfig(1e9, jitter=0.02, reorders=True), 3)
    tails = [out.tail for out in carry(line, *(packet(n / 1000) for n in range(100)))]
    assert tails != sorted(tails)


def test_loss_is_as_asked_and_the_same_again():
    lines = [Line(LineConfig(1e9, loss=0.1), seed) for seed in (1, 1, 2)]
    gone = [[line.carry(packet(float(n))) is None for n in range(5000)] for line in lines]
    assert sum(gone[0]) == pytest.approx(500, rel=0.15) and lines[0].num_lost == sum(gone[0])
    assert gone[0] == gone[1] != gone[2]


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"delay": -1.0}, {"loss": 1.0}, {"queue": -1.0}])
def test_a_line_that_cannot_be_is_refused(wrong):
    with pytest.raises(BadLineError):
        LineConfig(**{"rate": RATE, **wrong})
