"""Which of several ways to multiply is the fastest on this machine.

A model is larger than the processor's caches: when its layers' turn comes again, their weights are
read from memory. One weight multiplied in a loop would not be, so the caches are swept in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Product = Callable[[torch.Tensor], torch.Tensor]

_TRIES = 5
_FEW = (8, 16, 32, 64)
_SWEPT = 16 << 20
"""Numbers (of four bytes) that sweep the caches: more than those of a home PC hold."""


@torch.inference_mode()
def best_seconds(product: Product, rows: int, columns: int, dtype: torch.dtype) -> float:
    """The least time that `product` takes for an input [rows, columns] on the CPU."""
    x = torch.randn(rows, columns, dtype=dtype)
    broom = torch.zeros(_SWEPT)
    product(x)
    return min(_seconds(product, x, broom) for _ in range(_TRIES))


def timed_rows(kernel: Product, widened: Product, columns: int, dtype: torch.dtype) -> int:
    """Up to how many rows `kernel` beats widening the weight first, which costs the same for all.

    0, 8, 16, 32 or 64.
    """
    best = 0
    for rows in _FEW:
        kernel_s = best_seconds(kernel, rows, columns, dtype)
        if kernel_s > best_seconds(widened, rows, columns, dtype):
            break
        best = rows
    return best


def _seconds(product: Product, x: torch.Tensor, broom: torch.Tensor) -> float:
    broom.add_(1)
    start = time.perf_counter()
    product(x)
    return time.perf_counter() - start
