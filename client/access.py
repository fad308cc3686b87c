"""What all sessions of one client share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from .auditing.auditor import Auditor
from .config import SessionConfig
from .exchange import Exchange
from .passages import Passages
from .recovery import OnWait, log_wait
from .refills import Refills
from .router import Router
from .standbys import Standbys
from .tally import ClientTally


@dataclass(frozen=True)
class Access:
    """One client's way into the swarm; `tasks` owns what sessions do in the background.

    `on_wait` is told what a session waits for, and None when it goes on. `secret` belongs to this
    client in this group. `auditor` checks what peers compute.
    """

    router: Router
    exchange: Exchange
    standbys: Standbys
    auditor: Auditor
    tasks: asyncio.TaskGroup
    config: SessionConfig
    secret: bytes = field(repr=False)
    on_wait: OnWait = log_wait
    refills: Refills = field(default_factory=Refills)
    passages: Passages = field(default_factory=Passages)
    tally: ClientTally = field(default_factory=ClientTally)
