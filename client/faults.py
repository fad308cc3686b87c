"""What a hop's `Failed` means to a client: which error it is, and whom to leave alone."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import Busy, Misbehaved, PeerError, RequestError, SessionLost, Unreachable
from swarm.wire.messages import Code, Failed


@dataclass(frozen=True)
class _Meaning:
    error: type[PeerError]
    loses_hop: bool = True
    excludes: bool = False
    blames: bool = False


_MEANINGS: dict[Code, _Meaning] = {
    # Others first. If there are none, a full peer is asked again, and then we wait our turn.
    Code.BUSY: _Meaning(Busy, excludes=True),
    Code.TOO_LONG: _Meaning(Busy, excludes=True),
    Code.LEAVING: _Meaning(SessionLost, excludes=True),
    Code.UNKNOWN_SESSION: _Meaning(SessionLost),
    Code.WRONG_MODEL: _Meaning(SessionLost),
    Code.STEP_MISSING: _Meaning(SessionLost, loses_hop=False),
    # It may be the line between the two: whether the peer is gone, our own link to it tells.
    Code.NEXT_UNREACHABLE: _Meaning(Unreachable, excludes=True),
    Code.BAD_STEP: _Meaning(Misbehaved, excludes=True, blames=True),
    Code.INTERNAL: _Meaning(Misbehaved, excludes=True, blames=True),
}
"""Every code but `BAD_REQUEST`, which is the caller's error and no peer's."""


@dataclass(frozen=True)
class Fault:
    """A refusal or a failure, as the session has to take it.

    With `loses_hop`, the peer's hops leave the chain. With `excludes`, it is not asked again in
    this recovery; only with `blames` is it avoided for a while, by all sessions.
    """

    error: PeerError | RequestError
    loses_hop: bool = False
    excludes: bool = False
    blames: bool = False
    too_long: bool = False


def fault(failed: Failed, reporter: str) -> Fault:
    """What `failed`, which the hop on peer `reporter` sent, means."""
    if failed.code is Code.BAD_REQUEST:
        return Fault(RequestError(failed.message))
    meaning = _MEANINGS[failed.code]
    return Fault(
        meaning.error(failed.peer or reporter, failed.message),
        meaning.loses_hop,
        meaning.excludes,
        meaning.blames,
        too_long=failed.code is Code.TOO_LONG,
    )
