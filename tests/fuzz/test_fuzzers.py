"""Hostile input costs nothing: a typed error, bounded memory, bounded time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from found import FOUND
from fuzzers import NAMES, load, module
from fuzzers.bounds import USUAL, Bounds, Excess, read
from hypothesis import HealthCheck, given, settings


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in FOUND for what in FOUND[name]])
def test_what_failed_once(name: str, what: str) -> None:
    module(name).check(FOUND[name][what]())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.timeout(600)
def test_hostile_input_costs_nothing(name: str) -> None:
    fuzzer = load(name)

    @settings(
        max_examples=fuzzer.examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(fuzzer.inputs)
    def try_out(case: object) -> None:
        fuzzer.check(case)

    try_out()


def _refuses() -> None:
    raise ValueError("no")


def _explains_too_much() -> None:
    raise ValueError("no" * 5000)


@pytest.mark.parametrize(
    ("reader", "error"),
    [
        (lambda: bytes(10_000_000), Excess),
        (lambda: USUAL.nothing, AttributeError),
        (_explains_too_much, Excess),
    ],
)
def test_what_costs_too_much_is_seen(reader: Callable[[], Any], error: type[Exception]) -> None:
    assert read(_refuses, ValueError, 10) is None
    with pytest.raises(error):
        read(reader, ValueError, 10)


def test_too_many_lines_are_seen() -> None:
    from swarm import identity

    few = Bounds(lines=350, lines_per_byte=0)
    assert read(lambda: identity.public_key("z"), ValueError, 1, few) is None
    with pytest.raises(Excess):
        read(lambda: identity.public_key("z" * 100), ValueError, 100, few)
