"""Hostile input costs nothing: a typed error, bounded memory, bounded time."""

from __future__ import annotations

import pytest
from fuzzers import NAMES, load
from hypothesis import HealthCheck, given, settings


@pytest.mark.parametrize("name", NAMES)
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
