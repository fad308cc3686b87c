"""What sessions may take of a peer: all together, and those of one member."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.errors import ConfigError


@dataclass(frozen=True)
class MemberLimits:
    """What the sessions of one member, on however many links, may take of this peer.

    It may have `sessions`, of which `waiting` may wait for room, none for more than `patience` s
    whatever it asks for; the open ones may have `rows` together. Of steps that have come and are
    not computed yet, `inbox_bytes` are held for one member, and `all_inbox_bytes` for all: there,
    whoever has most loses a session.
    """

    sessions: int = 256
    waiting: int = 64
    rows: int = 2048
    patience: float = 300.0
    inbox_bytes: int = 1 << 29
    all_inbox_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if min(self.sessions, self.waiting, self.rows) < 1 or self.patience <= 0:
            raise ConfigError("a member needs a session, a row, a place to wait, and time to")
        if not 0 < self.inbox_bytes <= self.all_inbox_bytes:
            raise ConfigError("a member's inbox needs 0 < inbox_bytes <= all_inbox_bytes")


@dataclass(frozen=True)
class HandlerConfig:
    """Limits of what sessions may take.

    `history_bytes` bounds what all sessions' histories hold together, `session_history_bytes` what
    one of them holds; beyond it the sessions that have been silent longest (or the one) lose
    theirs, and recovery then goes one hop further back for them.
    `growth_patience` is how many seconds a running session waits for more KV memory before the
    newest session has to give way.
    What a session has computed is kept for `keep_seconds` after its last use (0: not at
    all), where nobody needs the room, in at most `keep_share` of all pages. Histories that are
    kept count among all, and go first.
    `member` limits what one member's sessions may take of all this.
    """

    history_bytes: int = 1 << 30
    session_history_bytes: int = 1 << 28
    growth_patience: float = 2.0
    max_sessions: int = 1024
    keep_seconds: float = 3600.0
    keep_share: float = 0.5
    member: MemberLimits = field(default_factory=MemberLimits)

    def __post_init__(self) -> None:
        if (
            min(self.history_bytes, self.session_history_bytes) < 0
            or self.growth_patience <= 0
            or self.max_sessions < 1
        ):
            raise ConfigError("a handler's limits must be positive")
        if self.keep_seconds < 0 or not 0 <= self.keep_share <= 1:
            raise ConfigError("keep_seconds cannot be negative, keep_share is a part of 1")
