"""What checks of each other's work rest on: distances, bounds, verdicts, reports, digests."""

from __future__ import annotations

import asyncio
import math
import os

import pytest
import torch

from swarm.auditing.comparison import Difference, difference, distances
from swarm.auditing.digests import announced, contested, dissenters, joined
from swarm.auditing.report import (
    MAX_REPORTS,
    Report,
    against,
    decode_reports,
    encode_reports,
    num_reporters,
)
from swarm.auditing.reports import LIFETIME, Reports
from swarm.auditing.tolerance import COARSE, FINE, tolerance
from swarm.auditing.verdict import Verdict, verdict
from swarm.directory import Announcement, State, decode_announcement, encode_announcement
from swarm.errors import RecordError
from swarm.session.trace import Trace


def drawn(seed: int, count: int = 20, size: int = 64) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_distances_know_equal_from_unrelated() -> None:
    inputs, change, other = drawn(0), drawn(1), drawn(2)
    assert float(distances(inputs + change, inputs + change, inputs).max()) == 0
    unrelated = distances(inputs + change, inputs + other, inputs)
    assert abs(float(unrelated.median()) - math.sqrt(2)) < 0.1
    nothing = distances(inputs, inputs + change, inputs)
    assert torch.allclose(nothing, torch.full_like(nothing, math.sqrt(2)), atol=1e-4)


def test_a_few_large_channels_do_not_hide_the_others() -> None:
    inputs, change, other = drawn(0), drawn(1), drawn(2)
    change[:, 3] = other[:, 3] = 500.0
    assert float(distances(inputs + change, inputs + other, inputs).median()) > 1.2


def test_distances_do_not_depend_on_who_is_who() -> None:
    inputs, one, other = drawn(0), drawn(1), 3 * drawn(2)
    assert torch.equal(distances(one, other, inputs), distances(other, one, inputs))


def test_what_is_not_finite_is_far_away() -> None:
    inputs, one = drawn(0), drawn(1)
    broken = one.clone()
    broken[4, 4] = float("nan")
    assert difference(one, broken, inputs).largest == math.inf
    assert not difference(one, broken, inputs).within(COARSE)


def test_one_wrong_position_is_enough() -> None:
    inputs, one = drawn(0), drawn(1)
    other = one.clone()
    other[7] = drawn(3)[0] + inputs[7]
    found = difference(inputs + one, inputs + other, inputs)
    assert found.usual == 0 and not found.within(COARSE)


@pytest.mark.parametrize(
    ("count", "usual", "within"),
    [(1, 0.69, True), (3, 0.19, True), (4, 0.14, True), (4, 0.25, False), (16, 0.14, False)],
)
def test_a_short_texts_median_may_be_larger(count: int, usual: float, within: bool) -> None:
    """Its first position is much of it, and that rounds badly; these were measured."""
    assert Difference(usual, 0.7, count).within(FINE) is within
    assert not Difference(usual, 1.1, count).within(FINE)


def test_bounds_are_wider_for_weights_in_four_bits_only() -> None:
    assert tolerance("none", "int8") is FINE
    assert tolerance("none", "int4") is COARSE
    assert tolerance("file", "none") is COARSE
    assert tolerance("", "none") is COARSE


@pytest.mark.parametrize(
    ("suspect_third", "witness_third", "expected"),
    [
        (False, True, Verdict.SUSPECT),
        (True, False, Verdict.WITNESS),
        (False, False, Verdict.UNDECIDED),
        (True, True, Verdict.UNDECIDED),
        (None, None, Verdict.UNDECIDED),
        (False, None, Verdict.UNDECIDED),
    ],
)
def test_one_against_two_is_wrong_and_nobody_else(suspect_third, witness_third, expected) -> None:
    assert verdict(suspect_third=suspect_third, witness_third=witness_third) is expected


def report(suspect: str, time: float = 1.0) -> Report:
    return Report(suspect, "f" * 32, 0, 4, 20, 1.3, 0.12, ("a", "b"), time)


def test_reports_count_by_member_not_by_how_often() -> None:
    records = {
        "one": encode_reports([report("liar", 1.0), report("liar", 2.0)]),
        "two": encode_reports([report("liar"), report("other")]),
        "liar": encode_reports([report("liar")]),
        "broken": b"\xff\x00",
    }
    assert num_reporters(records) == {"liar": 2, "other": 1}
    assert against(records)["liar"]["one"].time == 2.0
    assert num_reporters(records, owner=lambda reporter: "same") == {"liar": 1, "other": 1}


class Records:
    """A directory that has only the shelf of reports."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}

    async def read(self, shelf: object) -> dict[str, bytes]:
        return self.records


@pytest.mark.simulated_time
async def test_a_report_is_news_once_a_day() -> None:
    """Else whoever repeats it would have others do the suspect's work twice, for as long."""
    shelf = Records()
    reports = Reports(shelf, "we")  # type: ignore[arg-type]
    shelf.records["one"] = encode_reports([report("suspect", 1.0)])
    assert await reports.news() == {"suspect"}
    shelf.records["one"] = encode_reports([report("suspect", 2.0), report("other")])
    assert await reports.news() == {"other"}
    shelf.records["two"] = encode_reports([report("suspect", 2.0)])
    assert await reports.news() == {"suspect"}
    assert await reports.news() == set()
    await asyncio.sleep(LIFETIME + 1)
    assert await reports.news() == {"suspect", "other"}


async def test_who_reports_everybody_is_not_heard_for_ever() -> None:
    shelf, heard = Records(), set[str]()
    reports = Reports(shelf, "we")  # type: ignore[arg-type]
    for number in range(20):
        names = [f"{number}-{each}" for each in range(MAX_REPORTS)]
        shelf.records["one"] = encode_reports(report(name) for name in names)
        heard |= await reports.news()
    assert len(heard) == 64


def test_the_newest_reports_stay() -> None:
    record = encode_reports(report(f"peer-{n}", float(n)) for n in range(MAX_REPORTS + 5))
    kept = decode_reports(record)
    assert len(kept) == MAX_REPORTS and kept[-1].suspect == f"peer-{MAX_REPORTS + 4}"
    assert len(record) < 8192


@pytest.mark.parametrize(
    "record", [b"", b"\x90\x90", bytes(range(64, 128)), b"\x91" * 4000, b"\xc1"]
)
def test_what_is_no_report_is_a_record_error(record: bytes) -> None:
    with pytest.raises(RecordError):
        decode_reports(record)


def entry(peer: str, span: tuple[int, int], digests: list[bytes]) -> Announcement:
    return Announcement(peer, peer, "f" * 32, "m", 8, *span, State.SERVING, digests=joined(digests))


A, B, C = (bytes([each]) * 8 for each in b"abc")


def test_the_majority_is_right_and_one_against_one_is_open() -> None:
    two = [entry("p", (0, 2), [A, B]), entry("q", (1, 3), [C, A])]
    assert contested(two) == {1}
    assert dissenters(two) == {}
    three = [*two, entry("r", (1, 2), [B])]
    assert dissenters(three) == {"q": (1,)}
    even = [*three, entry("s", (1, 2), [C])]
    assert dissenters(even) == {}


def test_who_knows_needs_no_majority() -> None:
    entries = [entry("p", (0, 1), [A]), entry("q", (0, 1), [B]), entry("r", (0, 1), [B])]
    assert dissenters(entries, {0: A}) == {"q": (0,), "r": (0,)}


def test_digests_that_do_not_fit_their_span_say_nothing() -> None:
    assert announced(entry("p", (0, 3), [A])) == {}
    sound = decode_announcement(encode_announcement(entry("p", (0, 2), [A, B])))
    assert announced(sound) == {0: A, 1: B}
    assert joined([A] * 1000) == b""


def test_a_trace_stands_for_all_bytes_however_they_were_cut() -> None:
    data = memoryview(os.urandom(16 * 10))
    whole, parts = Trace(16), Trace(16)
    whole.write(0, data)
    parts.write(0, data[:48])
    parts.write(3, data[48:])
    assert [whole.mark(end) for end in range(11)] == [parts.mark(end) for end in range(11)]
    parts.write(5, data[: 5 * 16])
    assert len(parts) == 10
    assert parts.mark(5) == whole.mark(5) and parts.mark(6) != whole.mark(6)
    assert whole.head(4).mark(4) == whole.mark(4) and len(whole.head(4)) == 4
