"""What one client has asked of the swarm, over all its sessions: plain numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from swarm.transport.tally import none_yet

from .reply import Reply

_COUNTED = ("num_steps", "num_drafted", "num_accepted")


@dataclass
class ClientTally:
    """Sessions, how often they were disturbed, and what replies have brought.

    `faults` are by the kind of error that a hop or a link was found to have. Of `tokens`, those of
    `prompt` were asked, those that were `cached` peers had kept, and `completion` is new.
    """

    num_opened: int = 0
    num_open: int = 0
    num_recoveries: int = 0
    num_handovers: int = 0
    faults: Counter[str] = field(default_factory=none_yet)
    tokens: Counter[str] = field(default_factory=Counter)
    num_replies: int = 0
    num_steps: int = 0
    num_drafted: int = 0
    num_accepted: int = 0

    @contextmanager
    def replying(self, reply: Reply) -> Iterator[None]:
        """Counts what a reply comes to within the block; it may have begun, and be cut short."""
        before = {name: getattr(reply, name) for name in _COUNTED}
        num_ids = len(reply.ids)
        try:
            yield
        finally:
            self.num_replies += 1
            for name, number in before.items():
                setattr(self, name, getattr(self, name) + getattr(reply, name) - number)
            prompt = len(reply.prompt_ids) + num_ids
            new = {"prompt": prompt, "cached": reply.num_cached}
            self.tokens.update(new | {"completion": len(reply.ids) - num_ids})
