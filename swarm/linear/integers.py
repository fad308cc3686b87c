"""Products of whole numbers on a CPU: exact, whatever else is in the batch.

8-bit weights times 8-bit activations is what processors do best, but 8 bits are too few for the
activations of a language model, a few of which are hundreds of times larger than the rest. So each
activation is written with two digits, high and low, which are two rows of the same product: the
weight, whose reading is what costs time, is read once. The sums are exact, so a row's result
does not depend on the rows beside it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from logging import getLogger
from typing import Any, cast

import torch

logger = getLogger(__name__)

_LEAST = 1e-30
"""A row of zeros is divided by this instead of by its largest number."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One library's product of whole numbers.

    `pack` takes weights [out, in] (int8) and their scales [out]. `multiply` takes whole numbers
    in -`base` / 2 … `base` / 2 - 1 [rows, in] (as float32), half the base, and what `pack` gave;
    it gives scaled sums [rows, out] in float32.
    """

    name: str
    base: int
    pack: Callable[[torch.Tensor, torch.Tensor], Any]
    multiply: Callable[[torch.Tensor, int, Any], torch.Tensor]

    def product(self, x: torch.Tensor, packed: Any) -> torch.Tensor:
        """`x` [rows, in] times a packed weight: [rows, out], float32."""
        rows, columns = x.shape
        base, half = self.base, self.base // 2
        # The high digit reaches half - 1, the low one may round up to half, which is cut off.
        step = x.abs().amax(-1, keepdim=True).float().clamp_(min=_LEAST).div_(base * (half - 1))
        digits = torch.empty(2, rows, columns, dtype=torch.float32)
        high, low = digits[0], digits[1]
        torch.div(x, step, out=low)
        torch.mul(low, 1 / base, out=high).round_()
        low.sub_(high, alpha=base)
        sums = self.multiply(digits.view(2 * rows, columns), half, packed)
        return torch.add(sums[rows:], sums[:rows], alpha=base).mul_(step)


def engines() -> tuple[Engine, ...]:
    """The engines whose sums are exact on this machine, each with the largest base that is."""
    return _exact_engines()


@cache
def _exact_engines() -> tuple[Engine, ...]:
    found = []
    for name, pack, multiply in (
        ("fbgemm", _pack_fbgemm, _multiply_fbgemm),
        ("onednn", _pack_onednn, _multiply_onednn),
    ):
        # Without VNNI, sums of two products are cut off at 16 bits: digits must be smaller there.
        bases = (Engine(name, base, pack, multiply) for base in (256, 128))
        if engine := next((each for each in bases if _is_exact(each)), None):
            found.append(engine)
    return tuple(found)


@torch.inference_mode()
def _is_exact(engine: Engine) -> bool:
    """Try the numbers that overflow first, and some others, against sums in 64 bits."""
    half = engine.base // 2
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (64, 256), generator=generator)
    weight[0], weight[1] = 127, -127
    digits = torch.randint(-half, half, (8, 256), generator=generator)
    digits[0], digits[1] = half - 1, -half
    try:
        packed = engine.pack(weight.to(torch.int8), torch.ones(64))
        started = time.perf_counter()
        sums = engine.multiply(digits.float(), half, packed)
        seconds = time.perf_counter() - started
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        logger.debug("linear engine=%s base=%d why=%s", engine.name, engine.base, error)
        return False
    # Where a library has no code for this machine, its reference takes a hundred times as long.
    return seconds < 0.1 and torch.equal(sums.long(), digits @ weight.T)


def _pack_fbgemm(weight: torch.Tensor, scale: torch.Tensor) -> Any:
    zeros = torch.zeros(len(scale), dtype=torch.long)
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        # These tensors are to go in some later torch; the other engine is there then.
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = "fbgemm"
        try:
            tensor = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
            return torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = before


def _multiply_fbgemm(digits: torch.Tensor, half: int, packed: Any) -> torch.Tensor:
    out = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
        digits, 1.0, half, packed
    )
    return cast(torch.Tensor, out)


def _pack_onednn(weight: torch.Tensor, scale: torch.Tensor) -> Any:
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed, scale.float(), torch.zeros(len(scale), dtype=torch.long)


def _multiply_onednn(digits: torch.Tensor, half: int, packed: Any) -> torch.Tensor:
    weight, scale, zeros = packed
    out = torch.ops.onednn.qlinear_pointwise(
        (digits + half).clamp_(max=2 * half - 1).to(torch.uint8),
        *(1.0, half, weight, scale, zeros, None),
        *(1.0, 0, torch.float32, "none", [], ""),
    )
    return cast(torch.Tensor, out)
