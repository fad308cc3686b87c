"""Linear layers on a CPU in bfloat16, in the form that this machine multiplies fastest.

With few rows, which is decoding, a product is bound by reading the weight, and torch's plain
path reads it at a third of the speed that the memory has (benchmarks/linear_layers.py prints by
how much). Our own kernels read it at nearly full speed as it lies; where they are not there, a
copy in oneDNN's layout replaces it. Memory stays what it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from logging import getLogger
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from .kernels import MAX_ROWS, TYPES, library

logger = getLogger(__name__)


def prepack(module: nn.Module, probe: Callable[[], object] | None = None) -> None:
    """Replace the bfloat16 `nn.Linear`s inside `module` by faster ones, where that pays.

    `probe` runs `module` once on some input. With it, layers of one parent that get the very
    same input (query, key and value; gate and up) become one product. What is not on the CPU
    or not bfloat16 stays as it is, and so does everything if this machine gains nothing.
    """
    linears = {
        name: child
        for name, child in module.named_modules()
        if type(child) is nn.Linear
        and child.weight.dtype == torch.bfloat16
        and child.weight.device.type == "cpu"
    }
    if not linears:
        return
    num_layers = len(linears)
    largest = max((x.weight for x in linears.values()), key=torch.numel)
    form = next((form for form in (StreamedLinear, PackedLinear) if form.pays(largest)), None)
    if form is None:
        logger.info("linear form=plain layers=%d", num_layers)
        return
    products = _same_input(linears, probe) if probe is not None else []
    alone = linears.keys() - {name for names in products for name in names}
    products += [(name,) for name in alone]
    for names in products:
        # Popped, so that no more than one product's weights exist twice at a time.
        for name, part in zip(names, _fused([linears.pop(n) for n in names], form), strict=True):
            module.set_submodule(name, part)
    logger.info("linear form=%s layers=%d products=%d", form.name, num_layers, len(products))


def plain_weight(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Weight `[out, in]` and bias of a linear layer, if they lie in memory row by row.

    They stay valid for as long as the module lives.
    """
    if isinstance(module, FusedLinear):
        return module.plain_weight()
    if type(module) is nn.Linear or isinstance(module, StreamedLinear):
        weight, bias = module.weight.detach(), module.bias
        return (weight, None if bias is None else bias.detach()) if weight.is_contiguous() else None
    return None


class StreamedLinear(nn.Module):
    """`x @ weight.T + bias` with the plain weight: [..., in] to [..., out].

    A few rows go through our kernel, which reads the weight as one stream; more through torch.
    """

    name = "streamed"
    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        kernels = library()
        assert kernels is not None
        self._kernels = kernels
        self.weight = weight.contiguous()
        self.bias = bias
        self._float_bias = None if bias is None else bias.float()

    @classmethod
    def of(cls, linears: list[nn.Linear]) -> StreamedLinear:
        """The product of `linears`, one below the other. They all have a bias, or none has."""
        return cls(*_joined(linears))

    @staticmethod
    def pays(weight: torch.Tensor) -> bool:
        """Whether the kernels are here, and faster for one row on this machine."""
        kernels = library()
        if kernels is None or weight.dtype not in TYPES:
            return False
        part = StreamedLinear(weight[:4096], None)
        return _beats(part, weight[:4096], ((1, 0.95),))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.numel() // x.shape[-1]
        if not 0 < rows <= MAX_ROWS:
            return F.linear(x, self.weight, self.bias)
        weight, bias = self.weight, self._float_bias
        flat = x.reshape(rows, -1).float()
        out = torch.empty(rows, weight.shape[0])
        self._kernels.linear(
            flat.data_ptr(),
            TYPES[weight.dtype],
            weight.data_ptr(),
            None if bias is None else bias.data_ptr(),
            weight.shape[1],
            weight.shape[0],
            rows,
            out.data_ptr(),
            torch.get_num_threads(),
        )
        return out.to(x.dtype).view(*x.shape[:-1], -1)


class PackedLinear(nn.Module):
    """`x @ weight.T + bias` with a packed weight: [..., in] to [..., out]."""

    name = "packed"
    packed: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, packed: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.packed = packed
        self.bias = bias

    @classmethod
    def of(cls, linears: list[nn.Linear]) -> PackedLinear:
        """The product of `linears`, one below the other. They all have a bias, or none has."""
        weight, bias = _joined(linears)
        return cls(_pack(weight), bias)

    @staticmethod
    def pays(weight: torch.Tensor) -> bool:
        """Whether oneDNN can do it, and is faster for one row and not slower for many."""
        if not _can_pack():
            return False
        return _beats(
            PackedLinear(_pack(weight[:4096]), None), weight[:4096], ((1, 0.95), (64, 1.1))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _product(x, self.packed, self.bias)


_Form = StreamedLinear | PackedLinear


class _Shared:
    """One product for several layers: the first that is called computes for all."""

    def __init__(self, product: _Form, sizes: list[int]) -> None:
        self._product = product
        self._sizes = sizes
        self._input: torch.Tensor | None = None
        self._parts: list[torch.Tensor | None] = [None] * len(sizes)

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """Columns of layer `index`. Each result is handed out once, for the same tensor only."""
        part = self._parts[index]
        if part is None or x is not self._input:
            self._parts = list(self._product(x).split(self._sizes, dim=-1))
            self._input = x
            part = cast(torch.Tensor, self._parts[index])
        self._parts[index] = None
        if not any(p is not None for p in self._parts):
            self._input = None
        return part

    def plain_weight(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Rows of layer `index` in the product, where they lie plainly."""
        whole = plain_weight(self._product)
        if whole is None:
            return None
        rows = slice(sum(self._sizes[:index]), sum(self._sizes[: index + 1]))
        weight, bias = whole
        return weight[rows], None if bias is None else bias[rows]


class FusedLinear(nn.Module):
    """One of several layers that always get the same input; see `_Shared`."""

    def __init__(self, shared: _Shared, index: int) -> None:
        super().__init__()
        self._shared = shared
        self._index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._shared.part(self._index, x)

    def plain_weight(self) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """This layer's rows of the product, as `plain_weight` of it gives them."""
        return self._shared.plain_weight(self._index)


def _joined(linears: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    weights = [linear.weight.detach() for linear in linears]
    biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    return weight, torch.cat(biases) if biases else None


def _fused(linears: list[nn.Linear], form: type[_Form]) -> Sequence[nn.Module]:
    """A replacement for each of `linears`: one product for all of them."""
    product = form.of(linears)
    if len(linears) == 1:
        return [product]
    shared = _Shared(product, [linear.out_features for linear in linears])
    return [FusedLinear(shared, index) for index in range(len(linears))]


def _same_input(
    linears: dict[str, nn.Linear], probe: Callable[[], object]
) -> list[tuple[str, ...]]:
    """Names of sibling layers that get the same tensor, unchanged in between, each once."""
    calls: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def record(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, args: calls.append((name, args[0], args[0].clone()))

    with ExitStack() as hooks:
        for name, linear in linears.items():
            hooks.callback(linear.register_forward_pre_hook(record(name)).remove)
        probe()
    names = [name for name, _, _ in calls]
    groups: dict[tuple[str, int, bool], list[int]] = {}
    for index, (name, x, _) in enumerate(calls):
        if names.count(name) == 1:
            has_bias = linears[name].bias is not None
            groups.setdefault((name.rpartition(".")[0], id(x), has_bias), []).append(index)
    return [
        tuple(names[i] for i in group)
        for group in groups.values()
        if len(group) > 1 and all(torch.equal(calls[group[0]][2], calls[i][2]) for i in group)
    ]


def _can_pack() -> bool:
    return (
        bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _pack(weight: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, 1))


def _product(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return cast(torch.Tensor, out)


@torch.inference_mode()
def _beats(form: nn.Module, weight: torch.Tensor, limits: Sequence[tuple[int, float]]) -> bool:
    """Time `form` beside torch's own product: for so many rows, at most so much of its time."""
    for rows, limit in limits:
        x = torch.randn(rows, weight.shape[1], dtype=weight.dtype)
        plain_s = form_s = float("inf")
        for _ in range(5):
            plain_s = min(plain_s, _seconds(F.linear, x, weight, None))
            form_s = min(form_s, _seconds(form, x))
        if form_s > limit * plain_s:
            return False
    return True


def _seconds(product: Callable[..., torch.Tensor], *args: object) -> float:
    start = time.perf_counter()
    product(*args)
    return time.perf_counter() - start
