"""What a member has found out about others, as it tells the group.

A report is no proof: who reads it has only the reporter's word (the directory shows whose it is).
It is a reason to look closer, and for an administrator to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import msgspec

from swarm.errors import RecordError

from ..wire.fields import Count, PeerId, Text

MAX_REPORTS = 16
"""Reports of one member at a time: the newest stay."""

MAX_WITNESSES = 8


class Report(msgspec.Struct, frozen=True, array_like=True):
    """One finding: `suspect` computed blocks `[start, end)` of `model` wrongly.

    Over `positions` its results were a median `distance` from those of the `witnesses`, who
    agreed with each other within `tolerance`. `time` is in seconds since 1970.
    """

    suspect: PeerId
    model: Text
    start: Count
    end: Count
    positions: Count
    distance: Annotated[float, msgspec.Meta(ge=0)]
    tolerance: Annotated[float, msgspec.Meta(ge=0)]
    witnesses: Annotated[tuple[PeerId, ...], msgspec.Meta(max_length=MAX_WITNESSES)]
    time: Annotated[float, msgspec.Meta(ge=0)]


_Reports = Annotated[tuple[Report, ...], msgspec.Meta(max_length=MAX_REPORTS)]
_decoder = msgspec.msgpack.Decoder(_Reports)


def encode_reports(reports: Iterable[Report]) -> bytes:
    """A member's reports as one record; only the newest where there are too many."""
    newest = sorted(reports, key=lambda report: report.time)[-MAX_REPORTS:]
    return msgspec.msgpack.encode(tuple(newest))


def decode_reports(record: bytes) -> tuple[Report, ...]:
    """Reads a record; raises `RecordError` on one that no correct member writes."""
    try:
        return _decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"reports not understood: {error}") from error


def against(records: Mapping[str, bytes]) -> dict[str, dict[str, Report]]:
    """By suspect, the newest report of each reporter, from the records of a shelf.

    What is not understood is left out, and what somebody says of itself.
    """
    found: dict[str, dict[str, Report]] = {}
    for reporter, record in records.items():
        try:
            reports = decode_reports(record)
        except RecordError:
            continue
        for report in sorted(reports, key=lambda each: each.time):
            if report.suspect != reporter:
                found.setdefault(report.suspect, {})[reporter] = report
    return found


def num_reporters(
    records: Mapping[str, bytes], owner: Callable[[str], str] = lambda reporter: reporter
) -> dict[str, int]:
    """How many members report each suspect.

    `owner` names the member behind a reporter: one person's many processes count once.
    """
    return {
        suspect: len({owner(reporter) for reporter in reports})
        for suspect, reports in against(records).items()
    }
