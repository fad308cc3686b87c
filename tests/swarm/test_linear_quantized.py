"""Layers in 8 and 4 bits: how far from plain ones, and which rows change which results."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from swarm.errors import ConfigError
from swarm.forms import Form, Stored, form
from swarm.kernels import MAX_ROWS, library
from swarm.linear import (
    FusedLinear,
    Int4Linear,
    Int4Rows,
    Int8Linear,
    IntegerLinear,
    int4,
    int4_rows,
    int8,
    integers,
    prepack,
    weight_bytes,
)
from swarm.linear.grid import Grid, fit

CPU_ENGINES = integers.engines()
needs_kernels = pytest.mark.skipif(library() is None, reason="installed without a C compiler")
needs_engine = pytest.mark.skipif(not CPU_ENGINES, reason="no exact products of integers here")


class Block(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.q = nn.Linear(128, 128, bias=bias)
        self.k = nn.Linear(128, 64, bias=bias)
        self.out = nn.Linear(192, 128, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([self.q(x), self.k(x)], -1))


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices by time are made by chance: here they are made by the test."""
    monkeypatch.setattr(int8, "_chosen", {})
    monkeypatch.setattr(int8, "_measured", {torch.bfloat16: 8, torch.float32: 8})
    monkeypatch.setattr(int4, "_measured", {torch.bfloat16: 8, torch.float32: 8})


def _use(monkeypatch: pytest.MonkeyPatch, engine: integers.Engine | None) -> None:
    """This engine, or torch's own product, as where our kernels are not."""
    monkeypatch.setattr(int8, "fastest", lambda found, weight: engine)
    monkeypatch.setattr(int8, "library", lambda: None)
    _without_kernels(monkeypatch)


def _without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bits by torch's own product."""
    monkeypatch.setattr(int4_rows, "library", lambda: None)


def _block(dtype: torch.dtype, *, bias: bool = True) -> Block:
    torch.manual_seed(0)
    return Block(bias=bias).to(dtype)


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("rows", [1, 8, 9, 100])
@pytest.mark.parametrize("engine", [*CPU_ENGINES, None], ids=lambda e: e.name if e else "torch")
def test_int8_is_near_plain(
    engine: integers.Engine | None,
    rows: int,
    bias: bool,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _use(monkeypatch, engine)
    plain = _block(dtype, bias=bias)
    ours = copy.deepcopy(plain)
    x = torch.randn(1, rows, 128, dtype=dtype)
    prepack(ours, lambda: ours(x), Form.INT8)
    kind = Int8Linear if engine is None else IntegerLinear
    assert [type(each) for each in ours.children()] == [FusedLinear, FusedLinear, kind]
    assert ours(x).dtype == dtype
    assert _apart(ours(x), plain.float()(x.float())) < 0.02


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [1, 8, 9, 100])
@pytest.mark.parametrize("kind", [Int4Linear, pytest.param(Int4Rows, marks=needs_kernels)])
def test_int4_is_near_plain(
    kind: type[nn.Module], rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind is Int4Linear:
        _without_kernels(monkeypatch)
    plain = _block(dtype)
    ours = copy.deepcopy(plain)
    x = torch.randn(1, rows, 128, dtype=dtype)
    prepack(ours, lambda: ours(x), Form.INT4)
    assert [type(each) for each in ours.children()] == [FusedLinear, FusedLinear, kind]
    assert 0.01 < _apart(ours(x), plain.float()(x.float())) < 0.12


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [64, 192, 256, 576, 1088])
def test_int4_rows_are_exact(dtype: torch.dtype, width: int) -> None:
    """Weights that lie on a grid are multiplied as they are, whichever way is taken."""
    torch.manual_seed(0)
    levels = torch.randint(0, 16, (67, width), dtype=torch.uint8)
    scale, middle = torch.rand(67, width // 32) + 0.1, torch.randn(67, width // 32)
    bias = torch.randn(67).to(dtype)
    grid = Grid(scale.to(dtype), middle.to(dtype))
    layer = Int4Rows.of(levels, grid, bias)
    assert layer.in_features == width
    groups = (levels.view(67, -1, 32).double() - 8) * grid.scale.double()[..., None]
    weight = (groups + grid.middle.double()[..., None]).flatten(1)
    tolerance = 2e-4 if dtype == torch.float32 else 1e-2
    for rows in (*range(1, MAX_ROWS + 2), 40):
        x = torch.randn(rows, width).to(dtype)
        theirs = x.double() @ weight.T + bias.double()
        assert _apart(layer(x), theirs) < tolerance, rows


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_int4_rows_give_the_same_bits_whatever_is_beside(dtype: torch.dtype) -> None:
    layer = int4.int4_layer([nn.Linear(320, 128).to(dtype)], [None])
    x = torch.randn(MAX_ROWS, 320, dtype=dtype) * torch.logspace(-3, 3, MAX_ROWS)[:, None].to(dtype)
    alone = torch.cat([layer(row[None]) for row in x])
    for rows in range(2, MAX_ROWS + 1):
        assert torch.equal(layer(x[:rows]), alone[:rows])
    many = layer(x.repeat(3, 1))
    torch.set_num_threads(3)
    try:
        assert torch.equal(layer(x), alone)
        # Tiles that several threads have widened; their plain product may be rounded otherwise.
        assert _apart(layer(x.repeat(3, 1)), many) < 1e-2
    finally:
        torch.set_num_threads(1)


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 70, 319])
def test_what_is_no_number_is_not_hidden_by_int4_rows(strange: float, place: int) -> None:
    layer = int4.int4_layer([nn.Linear(320, 64)], [None])
    x = torch.ones(2, 320)
    x[1, place] = strange
    assert layer(x)[0].isfinite().all() and not layer(x)[1].isfinite().any()


@needs_engine
@torch.inference_mode()
@pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda e: e.name)
def test_a_row_gives_the_same_bits_whatever_is_beside_it(engine: integers.Engine) -> None:
    linear = _block(torch.bfloat16).q
    layer = int8.int8_layer([linear], engine)
    x = torch.randn(300, 128, dtype=torch.bfloat16) * torch.logspace(-3, 3, 300)[:, None].bfloat16()
    whole = layer(x)
    for start, end in ((0, 1), (7, 9), (100, 300), (299, 300)):
        assert torch.equal(layer(x[start:end]), whole[start:end])


@needs_engine
@torch.inference_mode()
@pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda e: e.name)
def test_an_outlier_does_not_coarsen_the_rest(engine: integers.Engine) -> None:
    """A thousand times the others: with one digit they would all become 0."""
    torch.manual_seed(0)
    weight = torch.randint(-127, 128, (64, 256)).to(torch.int8)
    weight[:, 0] = 0
    x = torch.randn(4, 256)
    x[:, 0] = 1000.0
    ours = engine.product(x, engine.pack(weight, torch.ones(64)))
    assert _apart(ours, x @ weight.float().T) < (0.02 if engine.base == 256 else 0.1)


@needs_engine
@torch.inference_mode()
def test_rows_of_zeros_and_infinities_stay_their_own() -> None:
    engine = CPU_ENGINES[0]
    packed = engine.pack(torch.ones(64, 64, dtype=torch.int8), torch.ones(64))
    x = torch.ones(3, 64)
    x[0] = 0
    x[2, 5] = float("inf")
    out = engine.product(x, packed)
    assert torch.equal(out[0], torch.zeros(64))
    torch.testing.assert_close(out[1], torch.full((64,), 64.0))
    assert not out[2].isfinite().any()


def test_an_engine_that_saturates_is_found_out() -> None:
    def pack(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return weight.float()

    def exact(digits: torch.Tensor, half: int, packed: torch.Tensor) -> torch.Tensor:
        return digits @ packed.T

    def cut(digits: torch.Tensor, half: int, packed: torch.Tensor) -> torch.Tensor:
        pairs = ((digits + half).unsqueeze(1) * packed).unflatten(-1, (-1, 2)).sum(-1)
        return pairs.clamp(-(2**15), 2**15 - 1).sum(-1) - half * packed.sum(-1)

    assert integers._is_exact(integers.Engine("good", 256, pack, exact))
    assert not integers._is_exact(integers.Engine("cut", 256, pack, cut))
    assert integers._is_exact(integers.Engine("cut", 128, pack, cut))


@torch.inference_mode()
def test_a_known_grid_brings_back_its_own_levels() -> None:
    """As a GGUF file's numbers: dequantized, rounded to bfloat16, and quantized again."""
    torch.manual_seed(0)
    levels = torch.randint(0, 16, (64, 128))
    grid = Grid(torch.rand(64, 4) * 0.01 + 0.001, torch.randn(64, 4) * 0.02)
    groups = levels.unflatten(1, (-1, 32)) - 8
    weight = (groups * grid.scale.unsqueeze(-1) + grid.middle.unsqueeze(-1)).flatten(1)
    assert torch.equal(grid.levels(weight.bfloat16()).long(), levels)


@torch.inference_mode()
def test_a_fitted_grid_is_better_than_the_ends_of_the_range() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 256).bfloat16()

    def error(grid: Grid) -> float:
        groups = grid.levels(weight).unflatten(1, (-1, 32)).float() - 8
        values = groups * grid.scale.float().unsqueeze(-1) + grid.middle.float().unsqueeze(-1)
        return _apart(values.flatten(1), weight)

    low, high = weight.float().unflatten(1, (-1, 32)).aminmax(dim=-1)
    ends = Grid((high - low) / 15, (low + high + (high - low) / 15) / 2).to(torch.bfloat16)
    assert error(fit(weight, torch.bfloat16)) < 0.95 * error(ends)


@torch.inference_mode()
def test_constant_groups_have_a_grid() -> None:
    weight = torch.full((64, 64), 0.25).bfloat16()
    weight[0] = 0
    layer = nn.Linear(64, 64, bias=False).bfloat16()
    layer.weight.copy_(weight)
    x = torch.randn(2, 64).bfloat16()
    torch.testing.assert_close(int4.int4_layer([layer], [None])(x), layer(x), atol=0.05, rtol=0.05)
    torch.testing.assert_close(int8.int8_layer([layer], None)(x), layer(x), atol=0.05, rtol=0.05)


@torch.inference_mode()
def test_only_layers_of_the_same_form_become_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, None)
    block = _block(torch.float32)
    stored = {"q.weight": Stored(4), "k.weight": Stored(6)}
    x = torch.randn(1, 1, 128)
    prepack(block, lambda: block(x), Form.FILE, stored)
    kinds = [type(each) for each in block.children()]
    assert kinds == [Int4Linear, Int8Linear, nn.Linear]


def test_what_has_no_whole_groups_takes_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, None)
    block = nn.Sequential(nn.Linear(96, 64), nn.Linear(64, 65), nn.Linear(65, 64))
    prepack(block, form=Form.INT4)
    assert [type(each) for each in block] == [Int8Linear, Int8Linear, Int8Linear]


@pytest.mark.parametrize("alone", [True, False], ids=["torch", "kernels"])
def test_sizes_are_known_before(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if alone:
        _use(monkeypatch, None)
    for form_, stored in (
        (Form.NONE, {}),
        (Form.INT8, {}),
        (Form.INT4, {}),
        (Form.FILE, {"q.weight": Stored(5)}),
    ):
        block = _block(torch.float32)
        expected = weight_bytes(block, torch.float32, form_, stored)
        prepack(block, None, form_, stored)
        tensors = {
            tensor.data_ptr(): tensor.nbytes
            for layer in block.children()
            for tensor in vars(layer).values()
            if isinstance(tensor, torch.Tensor)
        }
        tensors |= {p.data_ptr(): p.nbytes for p in block.parameters()}
        assert sum(tensors.values()) == expected


def test_a_device_without_products_in_four_bits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_kernels(monkeypatch)

    def missing(levels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("Could not run 'aten::…' with arguments from the 'X' backend")

    monkeypatch.setattr(int4, "_packed", missing)
    with pytest.raises(ConfigError, match=r"no product with 4-bit weights .* use int8 or none"):
        prepack(_block(torch.float32), form=Form.INT4)


def test_a_device_that_multiplies_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_kernels(monkeypatch)
    product = int4._product
    monkeypatch.setattr(int4, "_product", lambda *args: product(*args) + 1)
    with pytest.raises(ConfigError, match="its results are wrong"):
        prepack(_block(torch.float32), form=Form.INT4)


def test_an_unknown_layout_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_kernels(monkeypatch)
    monkeypatch.setattr(int4, "_BLOCK", 32)
    layer = int4.int4_layer([_block(torch.float32).q], [None])
    assert layer.few_rows is None
    assert layer(torch.randn(100, 128)).shape == (100, 128)


@torch.inference_mode()
def test_the_clearly_faster_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [
        integers.Engine(name, 256, lambda weight, scale: None, lambda *_: torch.empty(0))
        for name in ("a", "b")
    ]
    weight = torch.ones(64, 64)
    for seconds, expected in (
        ((1.0, 1.0, 2.0, 2.0, 9.0, 9.0), engines[0]),
        ((2.0, 2.0, 1.0, 1.0, 0.95, 0.95), engines[1]),
        ((2.0, 2.0, 1.0, 1.0, 0.5, 0.5), None),
    ):
        times = iter(seconds)
        monkeypatch.setattr(int8, "best_seconds", lambda *_, times=times: next(times))
        assert int8.fastest(engines, weight) is expected


def test_an_unknown_form_is_refused() -> None:
    assert form("int8") is Form.INT8
    with pytest.raises(ConfigError, match="unknown form 'int3': use none, int8, int4, file"):
        form("int3")


@pytest.mark.skipif(library() is None, reason="installed without a C compiler")
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [1, MAX_ROWS, MAX_ROWS + 1, 100])
def test_int8_through_our_kernels_is_near_plain(rows: int, dtype: torch.dtype) -> None:
    plain = _block(dtype)
    quantized = copy.deepcopy(plain)
    prepack(quantized, form=Form.INT8)
    assert all(isinstance(child, Int8Linear) and child.streams for child in quantized.children())
    x = torch.randn(1, rows, 128, dtype=dtype)
    assert _apart(quantized(x), plain(x)) < 0.02
