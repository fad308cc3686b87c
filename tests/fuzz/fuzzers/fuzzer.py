"""What a fuzzer is: where its inputs come from, and what must hold for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Fuzzer:
    """One reader of bytes from outside, or several that belong together.

    `check` raises whatever is wrong with one of the `inputs`. In `make test` so many `examples` are
    tried; they are always the same ones.
    """

    inputs: SearchStrategy[Any]
    check: Callable[[Any], None]
    examples: int = 300


def together(**parts: Fuzzer) -> Fuzzer:
    """One fuzzer of several; an input goes with the name of the part that it is for."""

    def check(case: tuple[str, Any]) -> None:
        name, value = case
        parts[name].check(value)

    inputs = [st.tuples(st.just(name), part.inputs) for name, part in parts.items()]
    return Fuzzer(st.one_of(inputs), check, sum(part.examples for part in parts.values()))
