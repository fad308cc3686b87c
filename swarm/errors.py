"""Every error that Homeswarm raises on purpose, and whose fault it is.

    SwarmError
    ├── ConfigError              a setting, path, invite or checkpoint is wrong; say which and how
    ├── RequestError             what the caller asked for cannot be done (context too long, …)
    ├── MembershipError          a certificate is missing, forged, expired or revoked
    ├── RecordError              a record in the directory is malformed, forged or stale
    ├── LocalProtocolError       our own code broke the protocol: a bug, nobody else is blamed
    ├── RemoteProtocolError      bytes from outside that are not our protocol (sender not yet known)
    ├── NoRouteError             some blocks are served by nobody
    └── PeerError                one peer is at fault
        ├── Unreachable          it is gone, or was never there
        │   └── Silent           its connection stands, but no sign of life comes over it
        ├── StepTimeout          its connection lives, its answer does not come
        ├── Busy                 it has no room now; it is healthy
        ├── SessionLost          it no longer has the session (restart, memory bound)
        ├── NotAMember           it is of another group, or its certificate does not hold
        └── Misbehaved           it sent what no correct peer sends

A caller's error is never retried. `Busy` is waited for. The other `PeerError`s make a session
look for another route. Anything that is not a `SwarmError` is our bug and propagates.
"""

from __future__ import annotations

from enum import StrEnum


class SwarmError(Exception):
    """Root of the errors that Homeswarm raises on purpose."""


class ConfigError(SwarmError):
    """A setting, a path, an invite or a checkpoint is wrong."""


class RequestError(SwarmError):
    """The caller asked for something that cannot be done."""


class Lapse(StrEnum):
    """Why somebody is not, or no longer, a member."""

    FORGED = "forged"
    FOREIGN = "foreign"
    EXPIRED = "expired"
    REVOKED = "revoked"


class MembershipError(SwarmError):
    """Somebody, perhaps ourselves, is not a member of the group; `lapse` says why."""

    def __init__(self, lapse: Lapse, message: str) -> None:
        self.lapse = lapse
        super().__init__(message)


class RecordError(SwarmError):
    """A directory record is malformed, forged or stale."""


class LocalProtocolError(SwarmError):
    """Our own code broke the protocol."""


class RemoteProtocolError(SwarmError):
    """Bytes from outside that are not our protocol."""


class NoRouteError(SwarmError):
    """No peer serves some of the blocks.

    `missing` lists them as half-open ranges, in order; it is empty where nobody has ever said how
    many blocks the model has.
    """

    def __init__(self, missing: tuple[tuple[int, int], ...], detail: str = "") -> None:
        self.missing = missing
        names = ", ".join(f"{start}:{end}" for start, end in missing)
        what = f"no peer serves blocks {names}" if names else "no peer serves any block"
        super().__init__(what + (f" ({detail})" if detail else ""))


class PeerError(SwarmError):
    """One peer, `peer` (its libp2p id), is at fault."""

    def __init__(self, peer: str, message: str) -> None:
        self.peer = peer
        super().__init__(f"peer {peer[-8:] or '?'}: {message}")


class Unreachable(PeerError):
    """The peer is gone, or cannot be reached by us."""


class Silent(Unreachable):
    """The peer is connected, but silent for longer than heartbeats allow, or does not read."""


class StepTimeout(PeerError):
    """The peer's connection lives, but a step's answer did not come in time."""


class Busy(PeerError):
    """The peer has no room now. It is healthy: wait, do not punish."""


class SessionLost(PeerError):
    """The peer no longer has this session's memory."""


class Misbehaved(PeerError):
    """The peer sent what no correct peer sends."""


class NotAMember(PeerError):
    """The peer has not shown that it belongs to the group, or does not belong to it any more."""

    def __init__(self, peer: str, message: str, lapse: Lapse = Lapse.FORGED) -> None:
        self.lapse = lapse
        super().__init__(peer, message)
