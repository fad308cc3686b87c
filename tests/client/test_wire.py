from __future__ import annotations

import pytest

from swarm.client.wire import Sender, choose, wire_type
from swarm.errors import ConfigError
from swarm.wire.messages import DType

BF16 = DType.BFLOAT16
MBIT = 1e6 / 8


def chain(upload: float, *, hidden_ms: float = 20.0, prefill_ms: float = 1.0) -> list[Sender]:
    """A client and two hops, 10 ms apart; all send with `upload` bytes per second."""
    hop = Sender(upload, hidden_ms / 1e3, prefill_ms / 1e3, 0.01)
    return [Sender(upload), hop, hop]


@pytest.mark.parametrize(
    "mbit, hidden_size, expected",
    [
        # A position of 8 KB: 3.3 ms at 20 Mbit/s, where a hop computes 1 ms on it.
        (20, 4096, DType.INT8),
        (50, 4096, DType.INT8),
        # At 100 Mbit/s it takes 0.7 ms: computing is what a prompt waits for, and a decode step
        # would save 1 of 62 ms.
        (100, 4096, BF16),
        (1000, 4096, BF16),
        (20, 576, BF16),
        (1, 576, DType.INT8),
    ],
)
def test_int8_where_sending_takes_longer_than_computing(
    mbit: float, hidden_size: int, expected: DType
) -> None:
    assert choose(BF16, hidden_size, chain(mbit * MBIT)) is expected


def test_a_decode_step_is_reason_enough() -> None:
    slow = chain(5 * MBIT, hidden_ms=1.0, prefill_ms=100.0)
    assert choose(BF16, 4096, slow) is DType.INT8
    assert choose(BF16, 4096, chain(5 * MBIT, hidden_ms=200.0, prefill_ms=100.0)) is BF16


def test_one_slow_line_is_enough_and_the_last_hop_s_hardly_counts() -> None:
    client, first, last = chain(1000 * MBIT)
    slow = Sender(10 * MBIT, 0.02, 0.001, 0.01)
    assert choose(BF16, 4096, [client, slow, last]) is DType.INT8
    assert choose(BF16, 4096, [client, first, slow]) is BF16


def test_a_line_near_the_border_does_not_change_the_type_from_turn_to_turn() -> None:
    near = chain(61 * MBIT)  # a position takes 1.07 ms to send and 1 ms to compute
    assert choose(BF16, 4096, near) is BF16
    assert choose(BF16, 4096, near, BF16) is BF16
    assert choose(BF16, 4096, near, DType.INT8) is DType.INT8
    assert choose(BF16, 4096, chain(100 * MBIT), DType.INT8) is BF16


def test_what_is_not_known_costs_nothing() -> None:
    assert choose(BF16, 8192, chain(0.0)) is BF16
    assert choose(BF16, 8192, []) is BF16


def test_what_a_user_asks_for_is_what_travels() -> None:
    assert wire_type("int8", DType.FLOAT32) is DType.INT8
    assert wire_type("float32", BF16) is DType.FLOAT32
    assert wire_type("auto", BF16) is None
    assert wire_type("auto", DType.FLOAT32) is DType.FLOAT32
    with pytest.raises(ConfigError, match="use auto, float32, bfloat16, float16, int8"):
        wire_type("int4", BF16)
