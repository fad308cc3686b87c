"""What is kept of sessions, for others of the same client: accounting, no tensors.

The next turn of a conversation begins with all that was said before, and many begin with the same
instructions. Their KV pages are computed already, so a session may leave them here, whether it
goes on or ends. They count as free for everybody: no lease knows of them, and the least recently
used go at once when a batch needs their room.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from swarm.session.history import History
from swarm.session.trace import Trace
from swarm.wire.messages import DType, Keep, Open

from .pages import PageTable
from .session import HopSession

logger = logging.getLogger(__name__)

_MAX_KEPT = 256
"""Rows that are kept at once, as some may share all their pages."""

_Owner = tuple[str, tuple[int, int], DType]
"""Whose pages these are (as the link has proved), of which blocks, computed from which type."""


@dataclass(eq=False)
class Kept:
    """A row that outlives its session, and the history of what was sent on for it.

    `name` is the digest of all of it, `lengths` are of what it begins with, by digest; `used_at` is
    in seconds of the event loop. `traces` are of what was received and sent on, if it was traced.
    """

    owner: _Owner
    name: bytes
    lengths: dict[bytes, int]
    row: int
    history: History
    used_at: float
    traces: tuple[Trace, Trace] | None = None


class KeptPrefixes:
    """Rows of `pages` by the prefixes that they begin with, least recently used first.

    Each is kept for `seconds` after its last use, all together in at most `share` of the pages.
    Rows are made and freed between two batches only, like all others.
    """

    def __init__(self, pages: PageTable, *, seconds: float, share: float) -> None:
        self._pages = pages
        self._seconds = seconds
        self._max_pages = int(share * pages.num_pages)
        self._kept: dict[Kept, None] = {}
        self._by_prefix: dict[tuple[_Owner, bytes], list[Kept]] = {}
        self.history_bytes = 0
        """What the histories hold together."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def num_pages(self) -> int:
        """Pages that kept rows use; running sessions may share some of them."""
        return len({page for kept in self._kept for page in self._pages.pages_of(kept.row)})

    @property
    def expires_at(self) -> float | None:
        """When the first of them has been kept long enough; None if there are none."""
        return next(iter(self._kept)).used_at + self._seconds if self._kept else None

    def find(self, client: str, request: Open, now: float) -> tuple[Kept, int] | None:
        """The row with the longest of the prefixes that are asked for, and that length."""
        if request.rows != 1:
            return None
        owner = (client, (request.start, request.end), request.dtype)
        for prefix in sorted(request.prefixes, key=lambda p: -p.length):
            for kept in self._by_prefix.get((owner, prefix.digest), ()):
                # Who asks says the length a second time: it must be that of what was kept.
                if kept.lengths[prefix.digest] == prefix.length <= request.positions:
                    self._use(kept, now)
                    return kept, prefix.length
        return None

    def take(self, session: HopSession, keep: Keep, now: float) -> None:
        """Keeps what `keep` names of a session's row, whatever becomes of the session.

        Called between two batches.
        """
        outdated = session.feed.generation > keep.generation
        if not self._seconds or session.rows is None or session.num_rows > 1 or outdated:
            return
        row, history, owner = session.rows[0], session.feed.history, _owner(session)
        room = self._max_pages * self._pages.page_len
        held = min(self._pages.row_len(row), history.length(0), room)
        lengths = {prefix.digest: prefix.length for prefix in keep.prefixes}
        lengths = {digest: length for digest, length in lengths.items() if length <= held}
        if not lengths:
            return
        name, length = max(lengths.items(), key=lambda entry: entry[1])
        if others := self._by_prefix.get((owner, name)):
            self._use(others[0], now)  # The same has been said before, and perhaps more.
            return
        row = self._pages.copy_row(row, length)
        traces = session.commitments.traces
        if traces is not None:
            traces = traces[0].head(length), traces[1].head(length)
        self._add(Kept(owner, name, lengths, row, history.head(length), now, traces))
        while len(self._kept) > _MAX_KEPT or self.num_pages > self._max_pages:
            self._evict_of_most()

    def expire(self, now: float) -> None:
        """Frees what has not been used for long. Called between two batches."""
        while (due := self.expires_at) is not None and due <= now:
            self._evict_first()

    def make_room(self, needed: Callable[[], int]) -> None:
        """Frees rows until `needed` pages are free, or none is kept. Called between two batches.

        It is asked again after each, as pages that are no longer shared need not be copied.
        """
        while self._kept and needed() > self._pages.free_pages:
            self._evict_first()

    def drop_history(self) -> bool:
        """Forgets the history that was used least recently; False if there is none any more."""
        kept = next((kept for kept in self._kept if kept.history.num_bytes), None)
        if kept is None:
            return False
        self.history_bytes -= kept.history.num_bytes
        kept.history.drop()
        return True

    def _use(self, kept: Kept, now: float) -> None:
        kept.used_at = now
        self._kept[kept] = self._kept.pop(kept)

    def _add(self, kept: Kept) -> None:
        # What the new one goes on from is in it; its own pages are the same.
        for old in [o for o in self._kept if o.owner == kept.owner]:
            if old.name in kept.lengths:
                self._evict(old)
        self._kept[kept] = None
        self.history_bytes += kept.history.num_bytes
        for digest in kept.lengths:
            self._by_prefix.setdefault((kept.owner, digest), []).append(kept)

    def _evict_of_most(self) -> None:
        """Of the client that has had most kept, what it used least recently."""
        clients = Counter(kept.owner[0] for kept in self._kept)
        most = max(clients, key=clients.__getitem__)
        self._evict(next(kept for kept in self._kept if kept.owner[0] == most))

    def _evict_first(self) -> None:
        self._evict(next(iter(self._kept)))

    def _evict(self, kept: Kept) -> None:
        del self._kept[kept]
        self.history_bytes -= kept.history.num_bytes
        for digest in kept.lengths:
            holders = self._by_prefix[kept.owner, digest]
            holders.remove(kept)
            if not holders:
                del self._by_prefix[kept.owner, digest]
        logger.debug("prefix forgotten positions=%d", self._pages.row_len(kept.row))
        self._pages.remove_row(kept.row)


def _owner(session: HopSession) -> _Owner:
    return session.client.peer, session.blocks, session.dtype
