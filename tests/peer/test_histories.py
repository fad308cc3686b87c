from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swarm.peer.histories import Histories
from swarm.peer.kept import KeptPrefixes
from swarm.peer.pages import PageTable
from swarm.peer.session import HopSession
from swarm.session.history import Piece
from swarm.wire.messages import DType, Next, Open, Want


class Bench:
    """Histories of sessions, in the order of their last use; all together may hold 10 bytes."""

    def __init__(self) -> None:
        self.sessions: dict[str, HopSession] = {}
        kept = KeptPrefixes(PageTable(0, 1), seconds=0.0, share=0.0)
        self.histories = Histories(self.sessions, kept, max_bytes=10, max_session_bytes=8)

    def add(self, name: str, size: int, *, sent: bool = True) -> None:
        """A session of whoever the name begins with."""
        link: Any = SimpleNamespace(peer=name[0], account=name[0])
        request = Open(name * 8, 0, "model", 0, 1, 1, 8, 1.0, DType.INT8)
        session = self.sessions[name] = HopSession(request, link, 1)
        session.position_len, session.feed.history._position_len = 1, 1
        session.feed.history.append(Piece(0, 0, size, memoryview(bytes(size)), Want.ALL))
        session.feed.next = Next(None, "s" * 16) if sent else None

    @property
    def held(self) -> dict[str, int]:
        return {name: one.feed.history.num_bytes for name, one in self.sessions.items()}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_of_who_has_most_the_longest_silent_go_first(bench: Bench) -> None:
    bench.add("guest", 3)
    for number in range(3):
        bench.add(f"hog{number}", 4)
    bench.histories.bound()
    assert bench.held == {"guest": 3, "hog0": 0, "hog1": 0, "hog2": 4}


def test_one_session_has_a_limit_of_its_own(bench: Bench) -> None:
    bench.add("guest", 9)
    bench.histories.bound()
    assert bench.held == {"guest": 0}


def test_what_was_not_sent_yet_stays_whatever_it_takes(bench: Bench) -> None:
    bench.add("hog0", 8, sent=False)
    bench.add("hog1", 7, sent=False)
    bench.add("guest", 3)
    bench.histories.bound()
    assert bench.held == {"hog0": 8, "hog1": 7, "guest": 0}
    bench.histories.bound()
