"""What a fuzzer is: where its inputs come from, and what must hold for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
