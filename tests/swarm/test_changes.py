"""What `swarm status --watch` says has happened."""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from swarm.cli import _board, _watch
from swarm.cli._changes import changes
from swarm.directory import Announcement, State
from swarm.overview import Overview

PEER = Announcement("one-id-123456", "garage", "f" * 32, "a/model", 10, 0, 5, State.SERVING)
OTHER = replace(PEER, peer="two-id-123456", name="attic", start=5, end=10)


def kinds(before: list[Announcement], after: list[Announcement]) -> list[str]:
    return [str(each.kind) for each in changes(Overview.of(before), Overview.of(after))]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([PEER, OTHER], []),
        ([PEER, replace(OTHER, decode_seconds=1.0, free_positions=9, time=5.0)], []),
        ([PEER], ["left", "gap"]),
        ([], ["left", "left", "gap"]),
        ([PEER, OTHER, replace(OTHER, peer="three")], ["came"]),
        ([PEER, replace(OTHER, state=State.LOADING)], ["state", "gap"]),
        ([PEER, replace(OTHER, start=4)], ["moved"]),
        ([PEER, replace(OTHER, state=State.PAUSED, start=0, end=0)], ["state", "gap"]),
        ([replace(each, model="e" * 32) for each in (PEER, OTHER)], ["moved", "moved"]),
    ],
)
def test_only_what_matters_is_a_change(after: list[Announcement], expected: list[str]) -> None:
    found = kinds([PEER, OTHER], after)
    assert found[: len(expected)] == expected if expected else not found


def test_a_gap_that_is_filled_is_told() -> None:
    (came, whole) = changes(Overview.of([PEER]), Overview.of([PEER, OTHER]))
    assert came.text == "attic …123456 came with blocks 5:10 of a/model (serving)"
    assert whole.text == "a/model: every block is served"
    (report,) = changes(Overview.of([PEER, OTHER]), Overview.of([PEER, OTHER], {PEER.peer: 1}))
    assert "reported" in report.text


RICH = replace(
    PEER,
    name="living-room-pc-with-a-long-name",
    decode_seconds=0.01,
    prefill_seconds=0.001,
    free_positions=5,
    total_positions=10,
    num_sessions=3,
    used_bytes=3_000_000_000,
    memory_bytes=8_000_000_000,
    watts=45.2,
    joules=1.25,
    energy="estimate",
    device="cuda:0",
    dtype="bfloat16",
)


def drawn(width: int, *entries: Announcement) -> str:
    console = Console(width=width, file=io.StringIO())
    (model,) = Overview.of(entries).models
    for part in _board.parts(model, width):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_table_is_as_wide_as_there_is_room(width: int) -> None:
    text = drawn(width, RICH, OTHER)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "serving" in text and "0:5" in text and "10.0" in text
    assert ("3.0 of 8.0 GB" in text) == (width == 200)
    if width == 200:
        assert "~45 W" in text and "~1.2 J" in text and "cuda:0 bfloat16" in text


def test_who_pauses_says_until_when() -> None:
    paused = replace(PEER, state=State.PAUSED, start=0, end=0, resumes=time.time() + 3600)
    assert "paused, back " in drawn(120, paused, OTHER)
    # Nor what it would hold, which is no blocks; hours may look alike.
    assert not re.search(r"\b0:0\b", drawn(120, paused, OTHER))


def test_a_gap_has_a_command() -> None:
    text = drawn(100, PEER)
    assert "Missing blocks 5:10" in text
    assert "swarm peer --join INVITE --model a/model --blocks 5:10" in text


def frames() -> list[Any]:
    whole, half = Overview.of([PEER, OTHER]), Overview.of([PEER])
    return [
        _watch.Frame(whole, time=1.0),
        _watch.Frame(whole, time=2.0),
        _watch.Frame(half, changes(whole, half), time=3.0),
        _watch.Frame(half, trouble="the group does not answer\x1b[2J", time=4.0),
    ]


def test_programs_get_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    show = _watch._JsonLines().show
    for frame in frames():
        show(frame)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["changes"]) for line in lines] == [0, 2]
    assert lines[1]["models"][0]["missing"] == [[5, 10]]


def test_a_log_gets_a_block_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    show = _watch._Blocks().show
    for frame in frames():
        show(frame)
    text = capsys.readouterr().out
    assert text.count("garage") == 2 and "attic …123456 left" in text and "\x1b" not in text
    assert text.count("does not answer") == 1


def test_who_left_stands_on_the_screen_for_a_while() -> None:
    console = Console(width=100, height=40, file=io.StringIO(), force_terminal=False)
    board = _watch._Board(console)
    for frame in frames():
        console.print(board.drawn(frame))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("gone") == 2 and "\x1b" not in text
    late = _watch.Frame(Overview.of([PEER]), time=60.0)
    console.print(board.drawn(late))
    assert console.file.getvalue().count("gone") == 2  # type: ignore[attr-defined]
