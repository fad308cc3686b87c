"""What a route could do at best."""

from __future__ import annotations

import pytest

from swarm.client.benchmark.limits import FrameSize, Leg, decode_limit, prefill_limit

FRAME = FrameSize(position_bytes=1000, frame_bytes=200)


def test_a_step_is_the_sum_of_trips_and_computations():
    legs = [Leg(0.010, 12_000, 0.005), Leg(0.020, 24_000, 0.007), Leg(0.030, 12_000, 0.001)]
    expected = 0.060 + (0.1 + 0.05 + 0.1) + 0.013
    assert decode_limit(legs, FRAME) == pytest.approx(expected)


def test_more_positions_cost_their_bytes_and_their_compute():
    legs = [Leg(0.01, 1e6, 0.005, 0.002), Leg(0.01, 1e6)]
    one, five = decode_limit(legs, FRAME, 1), decode_limit(legs, FRAME, 5)
    assert five - one == pytest.approx(2 * 4000 / 1e6 + 4 * 0.002)


def test_a_prompt_of_one_chunk_is_a_step_that_sends_one_position_back():
    legs = [Leg(0.01, 1e5, 0.001, 0.002), Leg(0.02, 1e5, 0.003)]
    expected = (0.01 + 8200 / 1e5 + 0.001 + 8 * 0.002) + (0.02 + 1200 / 1e5 + 0.003)
    assert prefill_limit(legs, FRAME, 8, 128) == pytest.approx(expected)


def test_the_slowest_stage_sets_the_pace_of_a_long_prompt():
    fast, slow = Leg(position_seconds=0.001), Leg(position_seconds=0.003)
    limit = prefill_limit([fast, slow, fast, Leg()], FRAME, 100, 10)
    assert limit == pytest.approx(0.01 + 10 * 0.03 + 0.01)


def test_a_slow_uplink_sets_the_pace_too_and_delays_are_paid_once():
    legs = [Leg(0.5, 10_000, position_seconds=0.001), Leg(0.5)]
    limit = prefill_limit(legs, FrameSize(1000), 100, 10)
    assert limit == pytest.approx(10 * 1.0 + 0.5 + 0.01 + 0.5)


def test_sending_and_computing_overlap():
    legs = [Leg(rate=1000.0, position_seconds=1.0), Leg()]
    assert prefill_limit(legs, FrameSize(1000), 4, 1) == pytest.approx(5.0)
    assert prefill_limit(legs, FrameSize(1000), 4, 4) == pytest.approx(8.0)


def test_the_last_chunk_may_be_shorter():
    legs = [Leg(position_seconds=1.0), Leg(position_seconds=1.0), Leg()]
    assert prefill_limit(legs, FRAME, 5, 2) == pytest.approx(2 + 2 + 2 + 1)
