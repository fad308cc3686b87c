"""What hops commit themselves to, as the client compares it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from swarm.client.auditing.ledger import Ledger
from swarm.session.feed import Computed
from swarm.session.trace import Trace, tag
from swarm.wire.messages import Commitment, HopTime, Output, RowRange, Want

SIZE = 32


class Hop:
    """An open hop with its traces; sends on what it gets with all bits turned."""

    def __init__(self, start: int) -> None:
        self.hop = SimpleNamespace(start=start, end=start + 1, peer=f"peer-{start}")
        self.key = os.urandom(16)
        self.received, self.sent = Trace(SIZE), Trace(SIZE)

    def run(
        self, position: int, data: bytes, generation: int = 0, epoch: int = 1
    ) -> tuple[bytes, HopTime]:
        out = bytes(255 - each for each in data)
        self.received.write(position, memoryview(data))
        self.sent.write(position, memoryview(out))
        end = position + len(data) // SIZE
        made = (Commitment(0, end, self.received.mark(end), self.sent.mark(end)),)
        word = tag(self.key, epoch, generation, made)
        return out, HopTime(self.hop.start, self.hop.end, 0, 0, 1, made, word)


class Scene:
    """A session of one row through three hops."""

    def __init__(self) -> None:
        self.ledger = Ledger(1, SIZE)
        self.hops: list[Any] = [Hop(0), Hop(1), Hop(2)]

    def step(
        self, position: int, count: int, generation: int = 0, data: bytes = b"", epoch: int = 1
    ) -> tuple[Output, bytes]:
        data = data or os.urandom(count * SIZE)
        rows = (RowRange(0, position, count),)
        self.ledger.send(Computed(rows, memoryview(data), Want.ALL, generation))
        times = []
        for hop in self.hops:
            data, time = hop.run(position, data, generation, epoch)
            times.append(time)
        return Output("s" * 16, epoch, 0, generation, rows, Want.ALL, tuple(times)), data


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_honest_hops_are_all_joined(scene: Scene) -> None:
    for position, count in ((0, 5), (5, 1), (6, 1)):
        output, payload = scene.step(position, count)
        (point,), missing = scene.ledger.receive(output, payload, scene.hops)
        assert missing is None
        assert point.end == position + count
        assert all(point.joined(index) for index in range(3))
        assert scene.ledger.valid(point)
    first, newest = scene.ledger.first(0), scene.ledger.newest(0, 100)
    assert first is not None and newest is not None
    assert (first.end, newest.end) == (5, 7)


def test_a_point_that_is_rolled_back_is_no_longer_valid(scene: Scene) -> None:
    output, payload = scene.step(0, 5)
    (point,), _ = scene.ledger.receive(output, payload, scene.hops)
    scene.step(3, 2, generation=1)
    assert not scene.ledger.valid(point)
    assert scene.ledger.newest(0, 100) is None


def test_nor_is_one_whose_bytes_are_sent_again(scene: Scene) -> None:
    """In a step of another length they may be rounded otherwise: no hop has lied."""
    data = os.urandom(5 * SIZE)
    output, payload = scene.step(0, 5, data=data)
    (point,), _ = scene.ledger.receive(output, payload, scene.hops)
    output, payload = scene.step(3, 2, generation=1, data=data[3 * SIZE :])
    (other,), _ = scene.ledger.receive(output, payload, scene.hops)
    assert point.sent[0] == other.sent[0]
    assert scene.ledger.valid(other) and not scene.ledger.valid(point)


def test_a_point_that_had_to_go_for_others_is_still_rolled_back(scene: Scene) -> None:
    held = None
    for position in range(100):
        output, payload = scene.step(position, 1)
        (point,), _ = scene.ledger.receive(output, payload, scene.hops)
        held = point if position == 10 else held
    assert held is not None and scene.ledger.valid(held)
    scene.step(50, 1, generation=1)
    assert scene.ledger.valid(held)
    scene.step(5, 1, generation=2)
    assert not scene.ledger.valid(held)


def test_a_mended_chain_begins_anew(scene: Scene) -> None:
    """Whoever takes over rounds in its own way, and did not send what came out before."""
    output, payload = scene.step(0, 5)
    (point,), _ = scene.ledger.receive(output, payload, scene.hops)
    output, payload = scene.step(5, 1, epoch=2)
    (other,), _ = scene.ledger.receive(output, payload, scene.hops)
    assert (point.epoch, other.epoch) == (1, 2)
    assert scene.ledger.valid(other) and not scene.ledger.valid(point)
    assert scene.ledger.first(0) is other
    assert scene.ledger.received_as(0, 4, memoryview(bytes(SIZE)))
    assert not scene.ledger.received_as(0, 5, memoryview(bytes(SIZE)))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_what_a_hop_says_without_its_key_is_missing(scene: Scene, index: int) -> None:
    output, payload = scene.step(0, 4)
    times = list(output.times)
    forged = tuple(replace(each, sent=bytes(8)) for each in times[index].commitments)
    times[index] = replace(times[index], commitments=forged)
    points, missing = scene.ledger.receive(replace(output, times=tuple(times)), payload, scene.hops)
    assert (points, missing) == ([], index)


def test_words_of_another_step_are_missing(scene: Scene) -> None:
    """A later hop repeats what an earlier one said before it rolled back."""
    old, _ = scene.step(0, 4)
    output, payload = scene.step(0, 4, generation=1)
    times = (old.times[0], *output.times[1:])
    assert scene.ledger.receive(replace(output, times=times), payload, scene.hops)[1] == 0


def test_hops_that_contradict_each_other_show(scene: Scene) -> None:
    data = os.urandom(SIZE)
    scene.hops[1].received.write(0, memoryview(data))
    scene.step(0, 1)
    scene.hops[1].received.write(0, memoryview(data))
    output, payload = scene.step(1, 1)
    (point,), _ = scene.ledger.receive(output, payload, scene.hops)
    assert [point.joined(index) for index in range(3)] == [True, False, True]


def test_what_the_last_hop_sent_cannot_be_denied(scene: Scene) -> None:
    output, payload = scene.step(0, 3)
    scene.ledger.receive(output, payload, scene.hops)
    view = memoryview(payload)
    assert scene.ledger.received_as(0, 1, view[SIZE : 2 * SIZE])
    assert not scene.ledger.received_as(0, 1, view[:SIZE])
    assert scene.ledger.received_as(0, 99, view[:SIZE])
