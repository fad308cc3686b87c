"""The compiled kernels give what torch gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swarm.kernels import MAX_ROWS, library
from swarm.linear import StreamedLinear
from swarm.linear.streamed import few_rows

pytestmark = pytest.mark.skipif(library() is None, reason="installed without a C compiler")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("width", "outputs"), [(576, 960), (37, 13), (16, 1), (100, 130)])
def test_any_number_of_rows_of_any_size(dtype: torch.dtype, width: int, outputs: int) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(width, outputs, dtype=dtype)
    streamed = StreamedLinear.of([plain])
    for rows in range(1, MAX_ROWS + 2):
        x = torch.randn(1, rows, width, dtype=dtype)
        expected = F.linear(x.double(), plain.weight.double(), plain.bias.double())
        with torch.inference_mode():
            got = streamed(x)
        assert got.dtype == dtype and got.shape == (1, rows, outputs)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_gives_the_same_bits_alone_and_beside_others(dtype: torch.dtype) -> None:
    streamed = StreamedLinear.of([nn.Linear(1000, 77, dtype=dtype)])
    x = torch.randn(MAX_ROWS, 1000, dtype=dtype)
    with torch.inference_mode():
        alone = torch.cat([streamed(row[None]) for row in x])
        for rows in range(2, MAX_ROWS + 1):
            assert torch.equal(streamed(x[:rows]), alone[:rows])


def test_threads_share_the_outputs() -> None:
    plain = nn.Linear(96, 203, dtype=torch.bfloat16)
    streamed = StreamedLinear.of([plain])
    x = torch.randn(3, 96, dtype=torch.bfloat16)
    with torch.inference_mode():
        alone = streamed(x)
        torch.set_num_threads(3)
        try:
            together = streamed(x)
        finally:
            torch.set_num_threads(1)
    assert torch.equal(alone, together)


def test_results_are_float32_whatever_the_default_type_is() -> None:
    """A thread that loads a model changes the default of the whole process meanwhile."""
    plain = nn.Linear(96, 203, dtype=torch.bfloat16)
    x = torch.randn(3, 96)
    expected = few_rows(x, plain.weight)
    torch.set_default_dtype(torch.bfloat16)
    try:
        got = few_rows(x, plain.weight)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("weight", [torch.int8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_hidden(weight: torch.dtype, strange: float) -> None:
    x = torch.ones(2, 128)
    x[1, 70] = strange
    got = few_rows(x, torch.ones(5, 128).to(weight))
    assert got[0].isfinite().all() and not got[1].isfinite().any()


@pytest.mark.parametrize("width", [576, 2048, 64, 100])
def test_8_bit_weights_lose_nothing_to_large_numbers(width: int) -> None:
    """Language models have channels hundreds of times larger than the rest."""
    torch.manual_seed(0)
    weight = torch.randint(-127, 128, (77, width), dtype=torch.int8)
    scale = torch.rand(77) * 0.01
    x = torch.randn(9, width)
    x[:, 3] *= 300
    expected = x.double() @ (weight.double() * scale.double()[:, None]).T
    got = few_rows(x, weight, scale=scale)
    assert (got - expected).norm() < 1e-3 * expected.norm()
    for row in range(9):
        assert torch.equal(few_rows(x[row : row + 1], weight, scale=scale)[0], got[row])
