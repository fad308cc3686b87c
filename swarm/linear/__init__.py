"""Linear layers in the form that suits the device and the memory: one module for each form.

`prepack` is the one entry. `streamed` and `packed` keep bfloat16, `int8` and `int4` quantize,
`fusing` makes one product of layers that get the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger

import torch
from torch import nn

from ..forms import Form, Stored
from . import packed, streamed
from .fusing import FusedLinear, fused, same_input
from .grid import GROUP
from .int4 import Int4Linear, fits, int4_layer
from .int4_rows import Int4Rows
from .int8 import Int8Linear, IntegerLinear, choose, int8_layer
from .integers import Engine
from .packed import PackedLinear
from .plain import Plain, plain
from .streamed import StreamedLinear

__all__ = [
    "Form",
    "FusedLinear",
    "Int4Linear",
    "Int4Rows",
    "Int8Linear",
    "IntegerLinear",
    "PackedLinear",
    "Plain",
    "Stored",
    "StreamedLinear",
    "plain",
    "prepack",
    "weight_bytes",
]

logger = getLogger(__name__)


def prepack(
    module: nn.Module,
    probe: Callable[[], object] | None = None,
    form: Form = Form.NONE,
    stored: Mapping[str, Stored] | None = None,
) -> None:
    """Replace the `nn.Linear`s inside `module` by layers of the given form.

    `probe` runs `module` once on some input. With it, layers of one parent that get the very
    same input (query, key and value; gate and up) become one product. `stored` says, by the
    names of weights in `module`, how their file keeps them. Layers that stay in plain numbers are
    streamed or packed if they are bfloat16 on a CPU and this machine gains by it; else they stay as
    they are.
    Raises ConfigError where this device or this torch cannot multiply in the form.
    """
    stored = stored or {}
    linears = {n: child for n, child in module.named_modules() if type(child) is nn.Linear}
    forms = {n: _form_of(linear, form, stored.get(f"{n}.weight")) for n, linear in linears.items()}
    exact = {n: linears[n] for n, each in forms.items() if each is Form.NONE}
    way = next((way for way in _EXACT if _pays(way, exact.values())), None)
    for name, linear in exact.items():
        if way is None or not way.takes(linear):
            del linears[name]
    num_layers = len(linears)
    products = same_input(linears, forms, probe) if probe is not None and linears else []
    alone = linears.keys() - {name for names in products for name in names}
    products += [(name,) for name in alone]
    eights = [linears[n].weight for n in linears if forms[n] is Form.INT8]
    engine = choose(max(eights, key=torch.numel)) if eights else None
    for names in products:
        # Popped, so that no more than one product's weights exist twice at a time.
        parts = {name: linears.pop(name) for name in names}
        for name, part in zip(
            names, _replaced(parts, forms[names[0]], stored, engine, way), strict=True
        ):
            module.set_submodule(name, part)
    logger.info("linear form=%s layers=%d products=%d", form, num_layers, len(products))


def weight_bytes(
    module: nn.Module,
    dtype: torch.dtype,
    form: Form = Form.NONE,
    stored: Mapping[str, Stored] | None = None,
) -> int:
    """Bytes that `module`'s weights take once `prepack` has been through; it may be on meta."""
    stored = stored or {}
    total = sum(parameter.numel() for parameter in module.parameters()) * dtype.itemsize
    for name, linear in module.named_modules():
        if type(linear) is nn.Linear:
            rows, columns = linear.weight.shape
            plain = rows * columns * dtype.itemsize
            match _form_of(linear, form, stored.get(f"{name}.weight")):
                case Form.INT8:
                    total += rows * (columns + 4) - plain
                case Form.INT4:
                    total += rows * columns // 2 + 2 * rows * columns // GROUP * dtype.itemsize
                    total -= plain
    return total


def _form_of(linear: nn.Linear, form: Form, stored: Stored | None) -> Form:
    """The form that this layer takes."""
    if form is Form.FILE:
        form = stored.form if stored is not None else Form.NONE
    if form is Form.INT4 and not fits(linear):
        return Form.INT8
    return form


@dataclass(frozen=True)
class _Way:
    """One way to multiply with weights as they are, where it `takes` a layer and `pays`."""

    layer: type[StreamedLinear | PackedLinear]
    takes: Callable[[nn.Linear], bool]
    pays: Callable[[torch.Tensor], bool]


_EXACT = (
    _Way(StreamedLinear, streamed.can_stream, lambda weight: streamed.pays(weight)),
    _Way(PackedLinear, packed.can_pack, lambda weight: packed.pays(weight)),
)


def _pays(way: _Way, linears: Iterable[nn.Linear]) -> bool:
    """Whether a way is worth it: asked of the largest layer."""
    weights = [linear.weight for linear in linears if way.takes(linear)]
    return bool(weights) and way.pays(max(weights, key=torch.numel))


def _replaced(
    linears: dict[str, nn.Linear],
    form: Form,
    stored: Mapping[str, Stored],
    engine: Engine | None,
    way: _Way | None,
) -> Sequence[nn.Module]:
    """A replacement for each of `linears`: one product for all of them."""
    parts = list(linears.values())
    sizes = [linear.out_features for linear in parts]
    product: nn.Module
    match form:
        case Form.INT8:
            product = int8_layer(parts, engine)
        case Form.INT4:
            known = [stored.get(f"{name}.weight") for name in linears]
            product = int4_layer(parts, [how.grid if how else None for how in known])
        case _:
            assert way is not None
            product = way.layer.of(parts)
    return fused(product, sizes) if len(parts) > 1 else [product]
