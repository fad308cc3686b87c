from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swarm.errors import ConfigError
from swarm.peer.inbox import Inbox
from swarm.peer.limits import MemberLimits
from swarm.peer.session import Arrival, HopSession
from swarm.wire.messages import DType, Open, RowRange, Step, Want

KB = 1024


def session(name: str, account: str) -> HopSession:
    link: Any = SimpleNamespace(peer=account, account=account)
    request = Open(name * 16, 0, "model", 0, 1, 1, 8, 1.0, DType.FLOAT32)
    return HopSession(request, link, 1)


def arrival(size: int) -> Arrival:
    """A step that holds about so many bytes in all."""
    step = Step("s" * 16, 0, 0, 0, (RowRange(0, 0, 1),), Want.NOTHING)
    return Arrival(step, memoryview(bytes(size - KB)), 0.0)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(MemberLimits(inbox_bytes=10 * KB, all_inbox_bytes=15 * KB))


@pytest.mark.parametrize(
    "limits",
    [
        {"sessions": 0},
        {"waiting": 0},
        {"rows": 0},
        {"patience": 0},
        {"inbox_bytes": 0},
        {"inbox_bytes": 2, "all_inbox_bytes": 1},
    ],
)
def test_limits_are_checked(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MemberLimits(**limits)


def test_steps_are_counted_until_they_are_computed_or_dropped(inbox: Inbox) -> None:
    one, step = session("1", "a"), arrival(4 * KB)
    assert inbox.add(one, step) is None and inbox.add(one, step) is None
    assert inbox.num_bytes == 8 * KB
    inbox.remove(one, step)
    assert inbox.num_bytes == 4 * KB
    inbox.drop(one)
    inbox.drop(one)
    inbox.remove(one, step)  # It was being computed when the others were dropped.
    assert inbox.num_bytes == 0


def test_steps_of_no_bytes_take_something_too(inbox: Inbox) -> None:
    one = session("1", "a")
    full = [inbox.add(one, arrival(KB)) for _ in range(11)]
    assert full == [None] * 10 + [one]


def test_one_member_with_too_much_loses_the_session_that_has_most(inbox: Inbox) -> None:
    small, large = session("1", "a"), session("2", "a")
    assert inbox.add(large, arrival(6 * KB)) is None
    assert inbox.add(small, arrival(5 * KB)) is large


def test_where_all_have_too_much_the_one_with_most_loses(inbox: Inbox) -> None:
    hog, guest = session("1", "hog"), session("2", "guest")
    assert inbox.add(hog, arrival(10 * KB)) is None
    assert inbox.add(guest, arrival(6 * KB)) is hog
    inbox.drop(hog)
    assert inbox.add(guest, arrival(4 * KB)) is None
