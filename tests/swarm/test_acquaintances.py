from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import acquaintances
from swarm.acquaintances import Acquaintance, remember
from swarm.group import Group


def met(peer: str, seen: float, place: str = "/ip4/10.0.0.1/tcp/1") -> Acquaintance:
    return Acquaintance(peer, (place,), seen)


def test_the_newest_entry_of_a_member_counts() -> None:
    old, new = met("a", 1, "/ip4/10.0.0.1/tcp/1"), met("a", 2, "/ip4/10.0.0.2/tcp/1")
    assert remember((old,), [new]) == remember((new,), [old]) == (new,)


def test_who_was_seen_last_stays() -> None:
    known = (met("a", 3), met("b", 2))
    assert remember(known, [met("c", 4)], limit=2) == (met("c", 4), met("a", 3))


def test_who_has_no_address_helps_nobody() -> None:
    assert remember((), [Acquaintance("a", (), 1)]) == ()


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 1e10))), st.integers(1, 4))
def test_bounded_sorted_and_one_entry_each(seen: list[tuple[str, float]], limit: int) -> None:
    entries = [met(peer, time) for peer, time in seen]
    known = remember((), entries, limit)
    assert len(known) <= limit
    assert len({entry.peer for entry in known}) == len(known)
    assert sorted((entry.seen for entry in known), reverse=True) == [e.seen for e in known]
    assert remember(known, entries, limit) == known


def test_addresses_carry_the_id_once() -> None:
    entry = Acquaintance("a", ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1/p2p/a"), 1)
    assert entry.multiaddresses == ("/ip4/10.0.0.1/tcp/1/p2p/a", "/ip4/10.0.0.2/tcp/1/p2p/a")


def test_they_survive_on_disk_per_group(tmp_path: Path) -> None:
    group, other = Group("one"), Group("other")
    path = acquaintances.path_for(group, tmp_path)
    assert acquaintances.load(path) == ()
    acquaintances.save(path, (met("a", 1),))
    assert acquaintances.load(path) == (met("a", 1),)
    assert acquaintances.load(acquaintances.path_for(other, tmp_path)) == ()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[[1]]", b'[{"peer":1}]', b"\xff\xfe", b"[" * 9999]
)
def test_a_damaged_file_is_ignored_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "members.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert acquaintances.load(path) == ()
    assert str(path) in caplog.text
