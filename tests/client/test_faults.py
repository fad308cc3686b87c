from __future__ import annotations

import pytest

from swarm.client.faults import Fault, fault
from swarm.errors import (
    Busy,
    Misbehaved,
    PeerError,
    RequestError,
    SessionLost,
    Unreachable,
)
from swarm.wire.messages import Code, Failed

SESSION = "s" * 16


def meaning(code: Code, peer: str | None = None) -> Fault:
    return fault(Failed(SESSION, 1, code, "why", peer), "reporter")


def test_every_code_has_a_meaning() -> None:
    for code in Code:
        found = meaning(code)
        assert "why" in str(found.error)
        if code is not Code.BAD_REQUEST:
            assert isinstance(found.error, PeerError) and found.error.peer == "reporter"


@pytest.mark.parametrize(
    ("code", "error", "loses_hop", "excludes", "blames"),
    [
        (Code.BUSY, Busy, True, True, False),
        (Code.TOO_LONG, Busy, True, True, False),
        (Code.LEAVING, SessionLost, True, True, False),
        (Code.UNKNOWN_SESSION, SessionLost, True, False, False),
        (Code.WRONG_MODEL, SessionLost, True, False, False),
        (Code.STEP_MISSING, SessionLost, False, False, False),
        (Code.NEXT_UNREACHABLE, Unreachable, True, True, False),
        (Code.BAD_STEP, Misbehaved, True, True, True),
        (Code.INTERNAL, Misbehaved, True, True, True),
        (Code.BAD_REQUEST, RequestError, False, False, False),
    ],
)
def test_meanings(
    code: Code, error: type[Exception], loses_hop: bool, excludes: bool, blames: bool
) -> None:
    found = meaning(code)
    assert type(found.error) is error
    assert (found.loses_hop, found.excludes, found.blames) == (loses_hop, excludes, blames)
    assert found.too_long is (code is Code.TOO_LONG)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.BAD_REQUEST])
def test_whom_the_reporter_names_is_meant(code: Code) -> None:
    error = meaning(code, "other").error
    assert isinstance(error, PeerError) and error.peer == "other"


@pytest.mark.parametrize("code", Code)
def test_nobody_is_blamed_whom_the_session_would_keep(code: Code) -> None:
    found = meaning(code)
    assert found.excludes or not found.blames
    assert found.loses_hop or not found.excludes
