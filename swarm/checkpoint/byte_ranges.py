"""Arithmetic on half-open byte ranges `[begin, end)`. No files, no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Range = tuple[int, int]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as sorted ranges that neither overlap nor touch."""
    result: list[Range] = []
    for begin, end in sorted(r for r in ranges if r[0] < r[1]):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((begin, end))
    return result


def subtracted(wanted: Iterable[Range], have: Iterable[Range]) -> list[Range]:
    """The bytes of `wanted` that are not in `have`."""
    holes: list[Range] = []
    have = merged(have)
    for begin, end in merged(wanted):
        position = begin
        for got_begin, got_end in have:
            if got_end <= position or got_begin >= end:
                continue
            if got_begin > position:
                holes.append((position, got_begin))
            position = got_end
        if position < end:
            holes.append((position, end))
    return holes


def pieces(ranges: Iterable[Range], piece_bytes: int) -> Iterator[Range]:
    """Cut ranges into pieces of at most `piece_bytes`."""
    for begin, end in ranges:
        for start in range(begin, end, piece_bytes):
            yield start, min(start + piece_bytes, end)


def num_bytes(ranges: Iterable[Range]) -> int:
    """How many bytes the ranges hold (overlaps count twice)."""
    return sum(end - begin for begin, end in ranges)
