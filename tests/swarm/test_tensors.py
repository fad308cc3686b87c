from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm.wire.messages import BLOCK_LEN, DType
from swarm.wire.tensors import all_finite, from_buffers, to_buffer

SIZES = [1, 63, 64, 65, 576]
FLOATS = [DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DType)
def test_a_position_takes_as_many_bytes_as_it_is_said_to(dtype: DType, size: int) -> None:
    assert len(to_buffer(torch.randn(3, size), dtype)) == 3 * dtype.position_len(size)
    assert len(to_buffer(torch.randn(0, size), dtype)) == 0
    assert from_buffers([], dtype, size).shape == (0, size)


@pytest.mark.parametrize("dtype", FLOATS)
def test_floating_point_comes_out_as_it_went_in(dtype: DType) -> None:
    hidden = torch.randn(5, 65).to(getattr(torch, dtype.value))
    data = to_buffer(hidden, dtype)
    cut = 2 * dtype.position_len(65)
    out = from_buffers([data[:cut], bytes(data[cut:])], dtype, 65)
    assert out.dtype == hidden.dtype and torch.equal(out, hidden)
    assert torch.equal(from_buffers([to_buffer(hidden.t(), dtype)], dtype, 5), hidden.t())


def test_the_bytes_are_a_copy() -> None:
    hidden = torch.ones(1, 4)
    data = to_buffer(hidden, DType.FLOAT32)
    hidden.zero_()
    assert from_buffers([data], DType.FLOAT32, 4).tolist() == [[1.0] * 4]


@pytest.mark.parametrize("size", SIZES)
def test_int8_errs_by_half_a_step_of_its_block(size: int) -> None:
    hidden = torch.randn(7, size) * torch.logspace(-6, 4, 7)[:, None]
    hidden[3, 0] = 3e4  # One that stands out spoils its own block alone.
    out = from_buffers([to_buffer(hidden, DType.INT8)], DType.INT8, size)
    for start in range(0, size, BLOCK_LEN):
        block, got = (x[:, start : start + BLOCK_LEN] for x in (hidden, out))
        # bfloat16 keeps 8 bits of the scale, which is up to 0.2 % more than what was asked for.
        bound = block.abs().amax(-1, keepdim=True) / 127 * 0.502
        assert ((got - block).abs() <= bound).all()


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 2**32))
def test_int8_of_a_position_depends_on_nothing_but_the_position(
    count: int, chosen: int, seed: int
) -> None:
    hidden = torch.randn(count, 96, generator=torch.Generator().manual_seed(seed))
    together = to_buffer(hidden.bfloat16(), DType.INT8)
    size, chosen = DType.INT8.position_len(96), chosen % count
    alone = to_buffer(hidden[chosen : chosen + 1].bfloat16(), DType.INT8)
    assert bytes(together[chosen * size : (chosen + 1) * size]) == bytes(alone)


def test_int8_keeps_zero_and_what_is_hardly_more() -> None:
    hidden = torch.zeros(2, 128)
    hidden[1, 64:] = torch.finfo(torch.float32).tiny
    out = from_buffers([to_buffer(hidden, DType.INT8)], DType.INT8, 128)
    assert torch.equal(out[0], hidden[0]) and out.isfinite().all()
    assert all_finite(to_buffer(hidden, DType.INT8), DType.INT8, DType.INT8.position_len(128))


@pytest.mark.parametrize("count", [1, 3, 300], ids=["small", "few", "large"])
@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_is_found_wherever_it_is(dtype: DType, count: int, bad: float) -> None:
    hidden = torch.randn(count, 65) * 100
    hidden[0, 0] = {DType.FLOAT16: 65504.0}.get(dtype, 3e38)
    hidden[-1, -1] = -hidden[0, 0]
    size = dtype.position_len(65)
    assert all_finite(to_buffer(hidden, dtype), dtype, size)
    for place in [(0, 0), (count // 2, 31), (count - 1, 64)]:
        broken = hidden.clone()
        broken[place] = bad
        assert not all_finite(to_buffer(broken, dtype), dtype, size), place


@given(st.binary(max_size=64), st.sampled_from(FLOATS))
def test_finite_is_what_torch_calls_so(data: bytes, dtype: DType) -> None:
    data = data[: len(data) // 4 * 4]
    kind = getattr(torch, dtype.value)
    expected = not data or bool(torch.frombuffer(bytearray(data), dtype=kind).isfinite().all())
    assert all_finite(data, dtype, dtype.itemsize) == expected
