"""Rows that outlive their sessions: found again, limited, and gone when anybody needs the room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swarm.peer.kept import KeptPrefixes
from swarm.peer.pages import PageTable
from swarm.peer.session import HopSession
from swarm.session.history import Piece
from swarm.wire.messages import DType, Keep, Open, Prefix, Want

PAGE_LEN = 4


def prefix(text: str) -> Prefix:
    """A name for a text of one position a letter."""
    return Prefix(len(text), text.encode().ljust(16, b"."))


def prefixes(text: str) -> tuple[Prefix, ...]:
    """Names for its beginnings, in units of two positions."""
    return tuple(prefix(text[:end]) for end in range(2, len(text) + 1, 2))


def keep(text: str, generation: int = 0) -> Keep:
    return Keep("s" * 16, generation, prefixes(text))


class Bench:
    """A store over ten pages of four positions."""

    def __init__(self, seconds: float = 60.0, share: float = 1.0) -> None:
        self.pages = PageTable(10, PAGE_LEN)
        self.kept = KeptPrefixes(self.pages, seconds=seconds, share=share)

    def request(self, text: str = "", client: str = "client", **changes: Any) -> Open:
        fields = {"start": 0, "end": 2, "rows": 1, "dtype": DType.FLOAT32, "positions": 40}
        named = prefixes(text)
        return Open("s" * 16, 0, "model", patience=1.0, prefixes=named, **(fields | changes))

    def leave(self, text: str, client: str = "client", now: float = 0.0, **changes: Any) -> bool:
        """A session that has computed `text` ends; whether its row was kept."""
        link: Any = SimpleNamespace(peer=client)
        session = HopSession(self.request(**changes), link, 1)
        session.rows = [self.pages.add_row()]
        self.pages.prepare_write(session.rows[0], 0, len(text))
        data = memoryview(text.encode() * 4)
        session.feed.history.append(Piece(0, 0, len(text), data, Want.LAST))
        before = set(self.kept._kept)
        self.kept.take(session, keep(text), now)
        self.pages.remove_row(session.rows[0])
        return not set(self.kept._kept) <= before

    def find(
        self, text: str, client: str = "client", now: float = 0.0, **changes: Any
    ) -> int | None:
        """How many positions of `text` are found."""
        found = self.kept.find(client, self.request(text, **changes), now)
        return None if found is None else found[1]


def test_the_longest_beginning_is_found() -> None:
    bench = Bench()
    assert bench.leave("abcdefg")
    assert bench.pages.row_len(next(iter(bench.kept._kept)).row) == 6
    assert (bench.find("abcdefgh"), bench.find("abcdxx"), bench.find("xb")) == (6, 4, None)


@pytest.mark.parametrize(
    "other",
    [
        {"client": "other"},
        {"end": 1},
        {"dtype": DType.BFLOAT16},
        {"rows": 2},
        {"positions": 1},
    ],
    ids=str,
)
def test_nobody_else_finds_it_and_nothing_else_does(other: dict[str, Any]) -> None:
    bench = Bench()
    bench.leave("abcdefgh")
    assert bench.find("abcdefgh", **other) is None


def test_a_name_with_another_length_finds_nothing() -> None:
    bench = Bench()
    bench.leave("abcdefgh")
    lies = (Prefix(2, prefix("abcd").digest), Prefix(6, prefix("abcd").digest))
    request = Open("s" * 16, 0, "model", 0, 2, 1, 40, 1.0, DType.FLOAT32, prefixes=lies)
    assert bench.kept.find("client", request, 0.0) is None


def test_only_what_the_session_really_has_is_kept() -> None:
    bench = Bench()
    link: Any = SimpleNamespace(peer="client")
    session = HopSession(bench.request(), link, 1)
    bench.kept.take(session, keep("abcdefgh"), 0.0)  # It has not even a row.
    assert len(bench.kept) == 0
    session.rows = [bench.pages.add_row()]
    bench.pages.prepare_write(session.rows[0], 0, 8)
    session.feed.history.append(Piece(0, 0, 5, memoryview(bytes(20)), Want.LAST))
    session.feed.generation = 1
    bench.kept.take(session, keep("abcdefgh"), 0.0)  # It holds another text by now.
    assert len(bench.kept) == 0
    bench.kept.take(session, keep("abcdefgh", generation=1), 0.0)
    assert bench.find("abcdefgh") == 4
    # The session goes on: what it writes is its own.
    assert bench.pages.row_len(session.rows[0]) == 8
    bench.pages.prepare_write(session.rows[0], 2, 4)
    assert bench.pages.pages_of(session.rows[0])[0] != bench.pages.pages_of(1)[0]


def test_what_goes_on_takes_the_place_of_what_it_went_on_from() -> None:
    bench = Bench()
    assert bench.leave("abcd") and bench.leave("abcdefgh")
    assert (len(bench.kept), bench.find("abcd")) == (1, 4)
    # Nothing new in it: what is there is used.
    assert not bench.leave("abcdef")
    assert bench.leave("abcdxxxx")
    assert len(bench.kept) == 2
    # They are not another client's.
    assert bench.leave("abcdefghij", client="other")
    assert len(bench.kept) == 3


def test_the_least_recently_used_makes_room_and_no_more_than_needed() -> None:
    bench = Bench()
    for text in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        bench.leave(text)
    bench.find("aaaaaaaa")
    assert (bench.kept.num_pages, bench.pages.free_pages) == (6, 4)
    bench.kept.make_room(lambda: 4)
    assert len(bench.kept) == 3
    bench.kept.make_room(lambda: 5)
    assert [bench.find(letter * 8) for letter in "abc"] == [8, None, 8]
    bench.kept.make_room(lambda: 99)
    assert (len(bench.kept), bench.pages.free_pages, bench.pages.num_rows) == (0, 10, 0)
    assert bench.kept.history_bytes == 0 and not bench.kept._by_prefix


def test_no_more_than_its_share_and_not_for_ever() -> None:
    bench = Bench(seconds=10.0, share=0.5)
    for time, text in enumerate(("aaaaaaaa", "bbbbbbbb", "cccccccc")):
        assert bench.leave(text, now=time)
    assert [bench.find(letter * 8, now=5.0 + n) for n, letter in enumerate("abc")] == [None, 8, 8]
    assert bench.kept.expires_at == 16.0
    bench.kept.expire(15.9)
    assert len(bench.kept) == 2
    bench.kept.expire(16.0)
    assert [bench.find(letter * 8) for letter in "abc"] == [None, None, 8]
    assert bench.leave("d" * 24)  # More than the share alone.
    assert (len(bench.kept), bench.find("d" * 24)) == (1, 20)


def test_nothing_is_kept_where_nothing_is_to_be_kept() -> None:
    bench = Bench(seconds=0.0)
    assert not bench.leave("abcd")
    assert bench.kept.expires_at is None


def test_histories_go_first_and_what_they_were_of_stays() -> None:
    bench = Bench()
    bench.leave("aaaa")
    bench.leave("bbbb")
    assert bench.kept.history_bytes == 32
    assert bench.kept.drop_history() and bench.kept.drop_history()
    assert (bench.kept.history_bytes, bench.kept.drop_history()) == (0, False)
    found = bench.kept.find("client", bench.request("aaaa"), 0.0)
    assert found is not None
    kept, length = found
    history = kept.history.head(length)
    assert (history.lengths, history.replayable) == ((4,), False)


def test_many_that_share_their_pages_are_limited_too(monkeypatch) -> None:
    monkeypatch.setattr("swarm.peer.kept._MAX_KEPT", 3)
    bench = Bench()
    for letter in "abcde":
        bench.leave(letter * 2)
    assert len(bench.kept) == 3


def test_one_client_that_keeps_much_pushes_out_its_own() -> None:
    bench = Bench(share=0.5)
    bench.leave("modest.1", "modest", now=0.0)
    for number in range(5):
        bench.leave(f"{number}-greedy", "greedy", now=1.0 + number)
    found = [bench.find(f"{number}-greedy", "greedy") for number in range(5)]
    assert (bench.find("modest.1", "modest"), found) == (8, [None, None, None, None, 8])
