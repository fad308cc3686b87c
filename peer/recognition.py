"""Which blocks can be written down for `program`, found by what their modules are and do.

Nothing is taken from a model's name. A block is recognized if its children are exactly those of
a known arrangement; norms and activations are identified by trying them on numbers. What the
children do not show (a multiplier in a block's own code, say) is found by `Runner.check`, which
compares a program's results with the model's. What is not recognized runs through torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from swarm.kernels import TYPES, Instruction, Kind
from swarm.linear import Plain, plain

from .attention import Attend
from .blocks import Span
from .kv_cache import KVCache, LayerGeometry
from .program import Listing, Program, Rotation, fits

_STREAM, _NORMED, _QKV, _MIXED, _GATES, _GATED, _ADDED = range(7)
"""Buffers: the residual stream, its norm, queries with keys and values, attention's result, gate
with up, their product, and what is added to the stream."""

_ACTIVATIONS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    F.silu,
    lambda x: F.gelu(x, approximate="tanh"),
    F.gelu,
)
"""By their numbers in `kernels.c`."""

_PRE = frozenset({"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"})
_SANDWICH = _PRE | {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
_POST = _SANDWICH - {"input_layernorm", "pre_feedforward_layernorm"}
_BEFORE_MLP = {_PRE: "post_attention_layernorm", _SANDWICH: "pre_feedforward_layernorm"}
"""Arrangements of a block by the names of its children, and which norm the MLP's input gets."""

_DROPOUTS = {"resid_attn_dropout", "resid_mlp_dropout"}
_ATTENTION_PARTS = {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "q_norm", "k_norm"}
_MLP_PARTS = {"gate_proj", "up_proj", "gate_up_proj", "down_proj", "act_fn", "activation_fn"}


_FAR = (0, 1000, 1 << 14, 1 << 20)
"""Positions at which queries and keys are compared."""


class _Unknown(Exception):
    """A block, or a part of it, is none that we know."""


def recognize(span: Span, kv: KVCache) -> Program | None:
    """A program for all blocks of `span`, with keys and values in `kv`; None if there is none."""
    if not fits(span.dtype, span.device) or span.max_sessions_per_batch is not None:
        return None
    try:
        listing = _listing(span, kv)
        _only_rotates(span)
        return Program(listing, kv.page_len)
    except _Unknown:
        return None


@torch.inference_mode()
def _listing(span: Span, kv: KVCache) -> Listing:
    blocks = [
        _Block(layer, geometry, how, kv.storage(index))
        for index, (layer, geometry, how) in enumerate(
            zip(span.layers, span.geometry, span.attends, strict=True)
        )
    ]
    hidden = span.hidden_size
    mlp = max(block.mlp_size for block in blocks)
    mixed = max(block.mixed_size for block in blocks)
    qkv = max(block.qkv_size for block in blocks)
    listing = Listing(
        widths=[hidden, hidden, qkv, mixed, 2 * mlp, mlp, hidden],
        group=max(block.group for block in blocks),
        rotation=_rotation(span),
    )
    for block in blocks:
        listing.blocks.append(block.instructions(hidden))
        listing.tensors += block.tensors
    return listing


def _rotation(span: Span) -> Rotation:
    """Cosines and sines as the model's own rotary embedding gives them."""
    model: Any = span.model
    rotary: Any = getattr(model, "rotary_emb", None)
    like = torch.zeros(1, 1, span.hidden_size, dtype=span.dtype)

    @torch.inference_mode()
    def tables(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        cosines, sines = rotary(like, torch.arange(count)[None])
        return cosines[0].float(), sines[0].float()

    try:
        shapes = {tuple(table.shape) for table in tables(2)}
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _Unknown from error
    dim = min(geometry.key_dim for geometry in span.geometry)
    if len(shapes) != 1 or not all(len(s) == 2 and s[1] <= dim for s in shapes):
        raise _Unknown
    return tables


@torch.inference_mode()
def _only_rotates(span: Span) -> None:
    """Raise _Unknown if a position far out does more to queries and keys than turn them.

    Some models scale queries by the position, from where `Runner.check` never comes to.
    """
    far = torch.tensor([_FAR])
    lengths = _Lengths()
    try:
        span.forward(torch.ones(1, len(_FAR), span.hidden_size, dtype=span.dtype), far, lengths)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise _Unknown from error
    for seen in lengths.seen:
        if not torch.allclose(seen, seen[..., :1].expand_as(seen), rtol=2e-2, atol=1e-6):
            raise _Unknown


class _Lengths:
    """A plan that computes nothing: it notes how long queries and keys are."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        how: Attend,
        others: dict[str, Any],
    ) -> torch.Tensor:
        self.seen += query.float().norm(dim=-1), key.float().norm(dim=-1)
        repeats = query.shape[1] // value.shape[1]
        return value.repeat_interleave(repeats, dim=1).transpose(1, 2).contiguous()


class _Block:
    """One block: its parts, and the instructions that they make."""

    def __init__(
        self,
        layer: nn.Module,
        geometry: LayerGeometry,
        how: Attend,
        storage: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        self.tensors: list[torch.Tensor] = [*storage]
        self._layer: Any = layer
        self._geometry = geometry
        self._how = how
        self._storage = storage
        self._arrangement = frozenset(_children(layer) - _DROPOUTS)
        if self._arrangement not in (_PRE, _SANDWICH, _POST):
            raise _Unknown
        attention: Any = layer.self_attn
        mlp: Any = layer.mlp
        if _children(attention) - _ATTENTION_PARTS or _children(mlp) - _MLP_PARTS:
            raise _Unknown
        self._inputs = _columns(attention, "qkv_proj") or _columns(
            attention, "q_proj", "k_proj", "v_proj"
        )
        self._gates = _columns(mlp, "gate_up_proj") or _columns(mlp, "gate_proj", "up_proj")
        self._outputs = _columns(attention, "o_proj"), _columns(mlp, "down_proj")
        if not (self._inputs and self._gates and all(self._outputs)):
            raise _Unknown
        self.qkv_size = sum(each.weight.shape[0] for each in self._inputs)
        keys = geometry.kv_heads * geometry.key_dim
        values = geometry.kv_heads * geometry.value_dim
        self.heads, rest = divmod(self.qkv_size - keys - values, geometry.key_dim)
        if rest or self.heads % geometry.kv_heads:
            raise _Unknown
        self.group = self.heads // geometry.kv_heads
        self.mixed_size = self.heads * geometry.value_dim
        self.mlp_size = sum(each.weight.shape[0] for each in self._gates) // 2
        self._activation = _activation(mlp)

    def instructions(self, hidden: int) -> list[Instruction]:
        """The block, with hidden states [rows, hidden] in the stream before and after."""
        return [*self._attention(hidden), *self._feed_forward(hidden)]

    def _attention(self, hidden: int) -> list[Instruction]:
        geometry = self._geometry
        post = self._arrangement == _POST
        made = [] if post else [self._norm("input_layernorm", _STREAM, _NORMED, hidden)]
        source = _STREAM if post else _NORMED
        made += self._product(self._inputs, source, _QKV)
        queries = self.heads * geometry.key_dim
        keys = geometry.kv_heads * geometry.key_dim
        attention = self._layer.self_attn
        if hasattr(attention, "q_norm"):
            made.append(self._head_norm(attention.q_norm, 0, queries))
            made.append(self._head_norm(attention.k_norm, queries, keys))
        made += self._attend(queries)
        return made + self._onto_stream(
            self._outputs[0], _MIXED, "post_attention_layernorm", hidden
        )

    def _attend(self, queries: int) -> list[Instruction]:
        """Rotates, stores, and attends; keys lie behind as many numbers of `queries`."""
        geometry, how = self._geometry, self._how
        return [
            Instruction(
                kind=Kind.ROTATE,
                source=_QKV,
                target=_QKV,
                width=geometry.key_dim,
                heads=self.heads + geometry.kv_heads,
            ),
            self._memory(
                Kind.STORE,
                source=_QKV,
                source_at=queries,
                target=_QKV,
                width=geometry.key_dim,
                outputs=geometry.value_dim,
            ),
            self._memory(
                Kind.ATTEND,
                source=_QKV,
                target=_MIXED,
                width=geometry.key_dim,
                outputs=geometry.value_dim,
                heads=self.heads,
                option=how.window or 0,
                scale=how.scaling,
                cap=how.softcap or 0.0,
                third=self._floats(how.sinks),
            ),
        ]

    def _feed_forward(self, hidden: int) -> list[Instruction]:
        before = _BEFORE_MLP.get(self._arrangement)
        made = [self._norm(before, _STREAM, _NORMED, hidden)] if before else []
        made += self._product(self._gates, _NORMED if before else _STREAM, _GATES)
        made.append(
            Instruction(
                kind=Kind.GATE,
                source=_GATES,
                target=_GATED,
                width=self.mlp_size,
                option=self._activation,
            )
        )
        return made + self._onto_stream(
            self._outputs[1], _GATED, "post_feedforward_layernorm", hidden
        )

    def _onto_stream(
        self, columns: list[Plain], source: int, norm: str, hidden: int
    ) -> list[Instruction]:
        """A product that is added to the stream, after a norm where the block has one there."""
        if self._arrangement == _PRE:
            return self._product(columns, source, _STREAM, add=1)
        return [
            *self._product(columns, source, _ADDED),
            self._norm(norm, _ADDED, _ADDED, hidden),
            Instruction(kind=Kind.ADD, source=_ADDED, target=_STREAM, width=hidden),
        ]

    def _product(
        self, columns: list[Plain], source: int, target: int, add: int = 0
    ) -> list[Instruction]:
        made, at = [], 0
        for each in columns:
            weight = each.weight
            self.tensors.append(weight)
            made.append(
                Instruction(
                    kind=Kind.LINEAR,
                    type=each.kind,
                    source=source,
                    target=target,
                    target_at=at,
                    width=each.width,
                    outputs=weight.shape[0],
                    option=add,
                    first=weight.data_ptr(),
                    second=self._floats(each.bias),
                    third=self._floats(each.scale),
                )
            )
            at += weight.shape[0]
        return made

    def _norm(self, name: str, source: int, target: int, hidden: int) -> Instruction:
        weight, epsilon = _norm_of(getattr(self._layer, name), hidden)
        return Instruction(
            kind=Kind.NORM,
            source=source,
            target=target,
            width=hidden,
            heads=1,
            scale=epsilon,
            first=self._floats(weight),
        )

    def _head_norm(self, module: nn.Module, at: int, size: int) -> Instruction:
        """A norm of queries or keys: of each head, or of all together."""
        width = self._geometry.key_dim if _size(module) == self._geometry.key_dim else size
        weight, epsilon = _norm_of(module, width)
        return Instruction(
            kind=Kind.NORM,
            source=_QKV,
            source_at=at,
            target=_QKV,
            target_at=at,
            width=width,
            heads=size // width,
            scale=epsilon,
            first=self._floats(weight),
        )

    def _memory(self, kind: Kind, **fields: Any) -> Instruction:
        keys, values = self._storage
        return Instruction(
            kind=kind,
            type=TYPES[keys.dtype],
            kv_heads=self._geometry.kv_heads,
            first=keys.data_ptr(),
            second=values.data_ptr(),
            **fields,
        )

    def _floats(self, tensor: torch.Tensor | None) -> int | None:
        """Address of a float32 copy."""
        if tensor is None:
            return None
        self.tensors.append(tensor.detach().float().contiguous().clone())
        return self.tensors[-1].data_ptr()


def _children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _columns(module: nn.Module, *names: str) -> list[Plain]:
    """Weights of linear layers side by side; none unless the kernels can read them all."""
    children = dict(module.named_children())
    columns = [plain(children[name]) if name in children else None for name in names]
    found = [each for each in columns if each is not None and each.kind is not None]
    return found if len(found) == len(names) else []


def _activation(mlp: nn.Module) -> int:
    """Number of the activation in `mlp`, found by its values."""
    children = dict(mlp.named_children())
    module = children.get("act_fn", children.get("activation_fn"))
    if module is None:
        raise _Unknown
    x = torch.linspace(-6, 6, 97, dtype=torch.float32)
    values = module(x)
    for number, known in enumerate(_ACTIVATIONS):
        if torch.allclose(values, known(x), rtol=1e-5, atol=1e-6):
            return number
    raise _Unknown


def _size(norm: nn.Module) -> int:
    weight = getattr(norm, "weight", None)
    return 0 if weight is None else int(weight.numel())


def _norm_of(norm: nn.Module, width: int) -> tuple[torch.Tensor, float]:
    """Factors and epsilon of a root-mean-square norm, found by trying them: Gemma's adds one."""
    weight = getattr(norm, "weight", None)
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if weight is None or weight.shape != (width,) or not isinstance(epsilon, float):
        raise _Unknown
    x = torch.linspace(-2, 3, width, dtype=torch.float32).to(weight.dtype)[None]
    values = norm(x).float()
    normed = x.float() * torch.rsqrt(x.float().pow(2).mean() + epsilon)
    tolerance = 1e-5 if weight.dtype == torch.float32 else 2e-2
    for factors in (weight.float(), weight.float() + 1):
        if torch.allclose(values, normed * factors, rtol=tolerance, atol=tolerance):
            return factors, epsilon
    raise _Unknown
