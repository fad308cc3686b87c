"""What hostile senders make of valid inputs: cut, altered, repeated, swollen, nested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

HUGE = [2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]

INTEGERS = st.one_of(st.sampled_from([*HUGE, 0, -1, -(2**63)]), st.integers(-(2**63), 2**64 - 1))

FLOATS = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, -1.0, 5e-324, 1.8e308, 1e300]),
    st.floats(),
)

NOT_TEXT = st.sampled_from([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\0"])
"""Bytes that no decoder of UTF-8 may take for text, and one that few expect in it."""

TEXT = st.one_of(
    st.sampled_from(["", "\0", "\n", "\x1b[2J", "١", "\u2028", "ſ", "İ", "/" * 300, ".." * 20]),
    st.text(max_size=40),
)

SCALARS = st.one_of(
    st.none(), st.booleans(), INTEGERS, FLOATS, TEXT, st.binary(max_size=40), NOT_TEXT
)

VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXT, inner, max_size=5)),
    max_leaves=12,
)
"""Values of any shape, as msgpack can carry them; JSON without the bytes."""


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of some valid inputs after a few changes to its bytes, or none."""
    raw = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 16)))
        match draw(st.integers(0, 6)):
            case 0:
                del raw[start:]
            case 1:
                raw[start:end] = draw(st.binary(max_size=16))
            case 2 if start < len(raw):
                raw[start] ^= draw(st.integers(1, 255))
            case 3:
                raw[start:start] = raw[start:end] * draw(st.integers(1, 64))
            case 4:
                del raw[start:end]
            case 5:
                width = draw(st.sampled_from([1, 2, 4, 8]))
                order = draw(st.sampled_from(["big", "little"]))
                value = draw(INTEGERS) % 256**width
                raw[start : start + width] = value.to_bytes(width, order)
            case 6:
                raw += draw(st.binary(max_size=64))
    return bytes(raw)


def raw(samples: Sequence[bytes], max_size: int = 512) -> st.SearchStrategy[bytes]:
    """Bytes of any kind, most of them close to valid ones."""
    changed = mutated(samples)
    return st.one_of(changed, changed, changed, st.binary(max_size=max_size))


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """A value of lists, maps and scalars in which a few parts have become something else."""
    for _ in range(draw(st.integers(0, 3))):
        value = _replace(draw, value, draw(st.integers(0, 63)))
    return value


def _replace(draw: st.DrawFn, value: Any, place: int) -> Any:
    """Changes one part; which one, `place` tells, down the branches."""
    if isinstance(value, dict) and value and place:
        keys = list(value)
        key = keys[place % len(keys)]
        match draw(st.integers(0, 5)):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, draw(TEXT): draw(VALUES)}
        return {**value, key: _replace(draw, value[key], place // len(keys))}
    if isinstance(value, list) and value and place:
        at = place % len(value)
        match draw(st.integers(0, 5)):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[:at], *[value[at]] * draw(st.integers(2, 40)), *value[at + 1 :]]
        return [*value[:at], _replace(draw, value[at], place // len(value)), *value[at + 1 :]]
    return draw(VALUES)


@st.composite
def deep(draw: st.DrawFn, opening: bytes, middle: bytes, closing: bytes = b"") -> bytes:
    """Something nested far deeper than any valid input."""
    depth = draw(st.sampled_from([40, 400, 4_000, 40_000]))
    return opening * depth + middle + closing * draw(st.sampled_from([0, depth]))


DEEP_JSON = st.one_of(deep(b"[", b"1", b"]"), deep(b'{"a":', b"1", b"}"))
DEEP_MSGPACK = st.one_of(deep(b"\x91", b"\xc0"), deep(b"\x81\xa1a", b"\xc0"))


def valid(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values that a msgspec type allows, its limits among them."""
    match kind:
        case inspect.StructType():
            fields = {each.name: valid(each.type) for each in kind.fields}
            return st.builds(kind.cls, **fields)
        case inspect.UnionType():
            return st.one_of(*map(valid, kind.types))
        case inspect.VarTupleType():
            limit = min(kind.max_length or 4, 4)
            return st.lists(valid(kind.item_type), max_size=limit).map(tuple)
        case inspect.IntType():
            low = kind.ge if kind.ge is not None else 0
            top = kind.le if kind.le is not None else (kind.lt or 2**62) - 1
            near = st.integers(low, min(top, low + 9))
            return st.one_of(near, st.sampled_from([low, top]), st.integers(low, top))
        case inspect.FloatType():
            top = kind.le if kind.le is not None else math.inf
            some = st.floats(kind.ge, None if math.isinf(top) else top, allow_nan=False)
            return st.one_of(some, st.sampled_from([kind.ge or 0.0, top]))
        case inspect.StrType():
            return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 20, 70))
        case inspect.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=min(kind.max_length or 20, 70))
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
    raise AssertionError(f"no strategy for {kind}")


def plain(message: Any) -> Any:
    """A struct as the lists, maps and scalars that it travels as."""
    return msgspec.to_builtins(message, builtin_types=(bytes,))


def numbers_hold(value: Any, kind: inspect.Type) -> bool:
    """Whether every number in what was decoded keeps its type's limits; NaN keeps none."""
    match kind:
        case inspect.StructType():
            return all(
                numbers_hold(getattr(value, field.name), field.type) for field in kind.fields
            )
        case inspect.UnionType():
            ours = [k for k in kind.types if _fits(value, k)]
            return any(numbers_hold(value, each) for each in ours)
        case inspect.VarTupleType():
            within = len(value) <= (kind.max_length or math.inf)
            return within and all(numbers_hold(item, kind.item_type) for item in value)
        case inspect.IntType() | inspect.FloatType():
            low, top = _limits(kind)
            return low <= value <= top
        case inspect.StrType() | inspect.BytesType():
            return (kind.min_length or 0) <= len(value) <= (kind.max_length or math.inf)
    return True


def _limits(kind: inspect.IntType | inspect.FloatType) -> tuple[float, float]:
    top = kind.le if kind.le is not None else math.inf
    if kind.lt is not None:
        top = min(top, kind.lt - 1)
    return kind.ge if kind.ge is not None else -math.inf, top


def _fits(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.StructType):
        return type(value) is kind.cls
    return (value is None) == isinstance(kind, inspect.NoneType)
