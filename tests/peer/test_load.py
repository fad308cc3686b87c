from __future__ import annotations

import pytest

from swarm.peer.load import Load, Ran, Speed

IDLE = Speed(0.01, 0.001)


def busy(load: Load, ran: Ran, seconds: float, since: float = 0.0) -> float:
    """Runs the same batch all the time; returns when it ends."""
    now = since
    while now < since + seconds:
        now += ran.seconds
        load.ran(ran, now)
    return now


def test_an_idle_peer_is_as_fast_as_it_was_measured() -> None:
    assert Load(IDLE).speed(0.0) == Load(IDLE).speed(1e6) == IDLE


def test_load_is_seen_within_seconds_and_forgotten_within_seconds() -> None:
    load = Load(IDLE)
    end = busy(load, Ran(0.03, 8, 0, queue=0.02), 15)
    loaded = load.speed(end)
    assert loaded.decode_seconds == pytest.approx(0.03, rel=0.1)
    assert loaded.queue_seconds == pytest.approx(0.02, rel=0.1)
    assert loaded.prefill_seconds == IDLE.prefill_seconds
    later = load.speed(end + 30)
    assert later.decode_seconds == pytest.approx(0.01, rel=0.05)
    assert later.queue_seconds < 0.001


def test_one_slow_batch_is_no_load() -> None:
    load = Load(IDLE)
    load.ran(Ran(0.5, 1, 0), 100.0)
    assert load.speed(100.0).decode_seconds < 0.14
    for number in range(100):
        load.ran(Ran(0.01, 1, 0), 100.1 + number / 10)
    assert load.speed(110.0).decode_seconds < 0.03


def test_a_peer_that_only_computes_prompts_has_a_queue() -> None:
    """Nobody has waited yet; whoever comes waits for half a batch on average."""
    load = Load(IDLE)
    end = busy(load, Ran(0.2, 0, 100), 25)
    speed = load.speed(end)
    assert speed.queue_seconds == pytest.approx(0.1, rel=0.1)
    assert speed.prefill_seconds == pytest.approx(0.002, rel=0.1)
    assert speed.decode_seconds == IDLE.decode_seconds


def test_a_peer_that_is_seldom_busy_has_hardly_any() -> None:
    load, now = Load(IDLE), 0.0
    for _ in range(100):
        now += 0.1
        load.ran(Ran(0.01, 1, 0), now)
    assert load.speed(now).queue_seconds == pytest.approx(0.01**2 / 2 / 0.1, rel=0.15)


def test_short_prompts_say_nothing_of_long_ones() -> None:
    load = Load(IDLE)
    busy(load, Ran(0.02, 0, 9), 10)
    assert load.speed(10.0).prefill_seconds == IDLE.prefill_seconds
