"""Links to other members, opened once each and kept."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from swarm.errors import Misbehaved, NotAMember, PeerError, Silent, Unreachable

from ..membership.certificate import Role
from ..membership.membership import Membership
from . import Stream, Transport
from .link import Link, LinkConfig, OnMessage, Traffic, accept, connect
from .quota import Quota
from .tally import LinkTally

logger = logging.getLogger(__name__)

PROTOCOL = "/homeswarm/steps/1"

_ALARM_MEMORY = 60.0
"""Seconds for which a link that was found silent makes the next one to its peer more patient."""

OnLost = Callable[[Link, PeerError], None]


class Neighbours:
    """All links of one member; their tasks belong to `tasks`.

    `on_message` sees every message of every link, `on_lost` every link that has ended, whichever
    side opened it.
    """

    def __init__(
        self,
        transport: Transport,
        membership: Membership,
        tasks: asyncio.TaskGroup,
        on_message: OnMessage,
        on_lost: OnLost,
        config: LinkConfig | None = None,
    ) -> None:
        self._transport = transport
        self._membership = membership
        self._tasks = tasks
        self._on_message = on_message
        self._on_lost = on_lost
        self._config = config or LinkConfig()
        self._opened: dict[str, Link] = {}
        self._opening: dict[str, asyncio.Task[Link | PeerError]] = {}
        self._links: set[Link] = set()
        # How many links each account has opened to us.
        self._accepted: Counter[str] = Counter()
        self._backlogs: Quota[Link] = Quota(self._config.backlog, self._config.backlogs)
        self._alarms: dict[str, tuple[float, float]] = {}
        self.tally = LinkTally()
        self._upload_rate = 0.0

    @property
    def num_links(self) -> int:
        """Links that are open, whoever opened them."""
        return len(self._links)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received over all links, ended ones included."""
        all_ = self.by_neighbour.values()
        return sum(each.sent_bytes for each in all_), sum(each.received_bytes for each in all_)

    @property
    def by_neighbour(self) -> dict[str, Traffic]:
        """What crossed the links to each neighbour, by name; see `LinkTally`."""
        return self.tally.by_neighbour(self._links)

    @property
    def upload_rate(self) -> float:
        """Bytes per second that we have sent with lately, over the best of our links; 0: unknown.

        Whoever is at the other end of a link may be slow too: the best says what our own line does.
        """
        self._upload_rate = max((link.upload_rate for link in self._links), default=0.0) or (
            self._upload_rate
        )
        most = self._config.upload
        return min(self._upload_rate or most, most) if most else self._upload_rate

    @property
    def upload_limit(self) -> float:
        """Bytes per second that this machine may send; 0: no limit."""
        return self._config.upload

    def get(self, peer: str) -> Link | None:
        """The open link that we have opened to `peer`, if there is one."""
        link = self._opened.get(peer)
        return link if link is not None and not link.closed else None

    async def link(self, peer: str, addresses: Sequence[str] = ()) -> Link:
        """Our link to `peer`, opened now if need be; raises `PeerError` if that fails."""
        if link := self.get(peer):
            return link
        opening = self._opening.get(peer)
        if opening is None:
            opening = self._tasks.create_task(self._open(peer, tuple(addresses)))
            self._opening[peer] = opening
            opening.add_done_callback(lambda _: self._opening.pop(peer, None))
        # Shielded: who asked may lose patience, others may wait for the same link.
        result = await asyncio.shield(opening)
        if isinstance(result, PeerError):
            raise result
        return result

    async def accept(self, stream: Stream) -> None:
        """Serves a stream that somebody opened to us, until it ends."""
        link = await accept(stream, self._membership, self._config)
        link.backlogs = self._backlogs
        account = link.account
        if self._accepted[account] >= self._config.links:
            await link.aclose()
            raise Misbehaved(link.peer, "has too many links")
        self._accepted[account] += 1
        try:
            await self._keep(link)
        finally:
            self._accepted -= Counter([account])

    def close(self, peer: str, why: str) -> None:
        """Ends our link to `peer`, as one does with a peer that is thought dead."""
        if link := self.get(peer):
            logger.info("link dropped peer=%s why=%s", peer, why)
            self._opened.pop(peer)
            self._tasks.create_task(link.aclose())

    async def aclose(self) -> None:
        """Ends all links."""
        for task in list(self._opening.values()):
            task.cancel()
        for link in list(self._links):
            await link.aclose()

    async def _open(self, peer: str, addresses: tuple[str, ...]) -> Link | PeerError:
        # Failures are returned: raised, they would end the task group of everybody's links.
        try:
            stream = await self._transport.open(peer, PROTOCOL, addresses)
            link = await connect(stream, self._membership, self._config)
            if not link.standing.may(Role.PEER):
                # Whoever is dialled for steps is to serve blocks.
                await link.aclose()
                raise NotAMember(peer, f"{link.standing.name} may not serve blocks")
        except PeerError as error:
            self.tally.fail(error)
            return error
        link.backlogs = self._backlogs
        link.forgive(self._leniency(peer))
        self._opened[peer] = link
        self._tasks.create_task(self._keep(link))
        return link

    def _leniency(self, peer: str) -> float:
        """Who answers soon after we thought it silent was not gone: it is given more time."""
        factor, since = self._alarms.get(peer, (1.0, float("-inf")))
        now = asyncio.get_running_loop().time()
        return factor if now - since < _ALARM_MEMORY else 1.0

    def _note_alarm(self, peer: str) -> None:
        now = asyncio.get_running_loop().time()
        self._alarms[peer] = (2 * self._leniency(peer), now)

    async def _keep(self, link: Link) -> None:
        self._links.add(link)
        error: PeerError = Unreachable(link.peer, "the link was closed")
        try:
            await link.run(self._on_message)
        except PeerError as reason:
            error = reason
            if isinstance(reason, Silent):
                self._note_alarm(link.peer)
        except Exception:
            logger.exception("message handler failed peer=%s", link.peer)
        finally:
            self._links.discard(link)
            self.tally.end(link, error)
            if self._opened.get(link.peer) is link:
                del self._opened[link.peer]
        logger.debug("link ended peer=%s why=%s", link.peer, error)
        self._on_lost(link, error)
