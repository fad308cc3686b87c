"""A peer's life: take blocks, serve, announce, move when a gap opens, pause, leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from swarm.background import background, together
from swarm.checkpoint import Checkpoint
from swarm.checkpoint.progress import Halted
from swarm.directory import Announcement, State
from swarm.energy.metering import Metering
from swarm.errors import PeerError, SwarmError
from swarm.member import Member
from swarm.transport import Buffer
from swarm.transport.link import Link, LinkConfig
from swarm.transport.neighbours import PROTOCOL, Neighbours
from swarm.wire.messages import AnyMessage, Code, Failed, Hold, Open, Step, Wire

from . import devices, moving, presence
from .config import PeerConfig
from .handler import Handler
from .hosting import Hosting
from .limits import HandlerConfig
from .notes import Notes
from .patrol import Patrol
from .pausing import Pause, Pauses
from .standby import Standby
from .taking import Taken, Taking, give_up
from .tally import Tally

logger = logging.getLogger(__name__)

_MOVE_PATIENCE = 10.0
"""Seconds that a peer which moves gives its sessions to go on elsewhere."""


class Peer:
    """One machine's contribution to one model. Made by `serving`."""

    def __init__(
        self,
        member: Member,
        checkpoint: Checkpoint,
        config: PeerConfig,
        tasks: asyncio.TaskGroup,
        *,
        link_config: LinkConfig | None = None,
        handler_config: HandlerConfig | None = None,
        pauses: Pauses | None = None,
        metering: Metering | None = None,
        standby: Standby | None = None,
    ) -> None:
        self.member = member
        self.config = config
        self.metering = metering
        self.tally = Tally()
        self.taking = Taking(member, checkpoint, config, standby)
        """What this machine gives."""
        self.taken: Taken | None = None
        """What it has taken, while it serves."""
        self.pause: Pause | None = None
        """Why it pauses, while it does."""
        self._checkpoint = checkpoint
        self._handler_config = self.taking.budget.handler(handler_config)
        self._tasks = tasks
        self._notes = Notes(config.folder, checkpoint.fingerprint)
        self._span = (0, 0)
        self._last = self._notes.span()
        self._digests = b""
        self._state = State.LOADING
        self._hosting: Hosting | None = None
        self._computing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._changing = asyncio.Lock()
        self._watchers: list[Callable[[], None]] = []
        self._pauses = pauses or Pauses.of(config, self.taking.device)
        self._patrol = Patrol(member, checkpoint, config.audit, self._link)
        self._neighbours = Neighbours(
            member.transport,
            member.membership,
            tasks,
            self._on_message,
            self._on_lost,
            self.taking.budget.links(link_config),
        )

    @property
    def hosting(self) -> Hosting | None:
        """What is being served now, if anything."""
        return self._hosting

    @property
    def num_sessions(self) -> int:
        """Sessions that run here now."""
        return self._hosting.handler.num_sessions if self._hosting is not None else 0

    @property
    def span(self) -> tuple[int, int]:
        """The blocks that are served or being loaded."""
        return self._span

    @property
    def model(self) -> tuple[str, int]:
        """The fingerprint of the model, and how many blocks it has in all."""
        return self._checkpoint.fingerprint, self._checkpoint.num_blocks

    @property
    def leaving(self) -> bool:
        """Whether the peer is about to go: it takes no blocks any more."""
        return self._state is State.LEAVING

    @property
    def paused(self) -> bool:
        """Whether the peer holds no blocks until its pause is over, or gives them up for one."""
        return self._state is State.PAUSED

    def watch(self, on_change: Callable[[], None]) -> None:
        """Calls `on_change` from now on when it begins to serve or to pause."""
        self._watchers.append(on_change)

    @property
    def neighbours(self) -> Neighbours:
        """Links to other members, whoever opened them."""
        return self._neighbours

    @property
    def patrol(self) -> Patrol:
        """What checks others while nothing else is to do."""
        return self._patrol

    def announcement(self) -> Announcement:
        """What we say of ourselves now."""
        return presence.announcement(self, self._checkpoint, self._state, self._digests)

    async def start(self) -> None:
        """Chooses blocks, loads them and serves; returns once sessions can be opened.

        Outside its hours it only sees that blocks would fit, and begins with a pause.
        """
        await self.member.transport.serve(PROTOCOL, self._neighbours.accept)
        self.member.transport.watch(self._changed.set)
        self.member.absence.watch(self._changed.set)
        span = await self.taking.choose(self._last)
        if (pause := self._pauses.look()) is not None:
            self.pause, self._last, self._state = pause, span, State.PAUSED
            await self._announce()
        else:
            await self._take(span)
        if self._pauses.any:
            self._tasks.create_task(self._pauses.keep(self))
        self._tasks.create_task(self._keep_announced())
        if self.metering is not None:
            self._tasks.create_task(self.metering.run(lambda: self.tally.work))
        if self.config.blocks is None:
            self._tasks.create_task(moving.keep_useful(self))
        if self.config.audit:
            self._tasks.create_task(self._patrol.run(lambda: self._hosting))

    async def leave(self) -> None:
        """Withdraws, has every session handed over while it still runs here, and ends the rest.

        Takes at most `leave_patience` seconds of the config.
        """
        self._state = State.LEAVING
        # A move that is under way may give up the blocks meanwhile.
        if (hosting := self._hosting) is None:
            await self._withdraw()
            return
        # The directory may take seconds, in which users' sessions could be elsewhere already.
        patience = self.config.leave_patience
        await together([self._withdraw(), self._hand_over(hosting.handler, patience)])
        hosting.handler.close_all(Code.LEAVING, "this peer is leaving")

    async def _withdraw(self) -> None:
        with contextlib.suppress(SwarmError):
            await self.member.directory.withdraw()

    async def _hand_over(self, handler: Handler, seconds: float) -> None:
        handler.stop_accepting()
        if handler.num_sessions:
            logger.info("handing over sessions=%d within=%gs", handler.num_sessions, seconds)
            await handler.drain(seconds)

    async def aclose(self) -> None:
        """Frees the blocks and ends every link."""
        # What was posted last (that we leave) goes out before the links close.
        await asyncio.sleep(0)
        await self._drop(self.taking.leave)
        await self._neighbours.aclose()

    async def move(self, span: tuple[int, int]) -> None:
        """Serves other blocks; running sessions go on at other peers."""
        async with self._changing:
            if self._state is not State.SERVING or self._hosting is None:
                return
            logger.info("moving from=%d:%d to=%d:%d", *self._span, *span)
            self.tally.num_moves += 1
            self._span, self._state = span, State.LOADING
            await self._announce()
            # Somebody may wait for the other blocks: they come before a smooth handover.
            patience = min(_MOVE_PATIENCE, self.config.leave_patience)
            await self._hand_over(self._hosting.handler, patience)
            await self._drop(why="this peer moves to other blocks")
            await self._take(span)

    async def begin_pause(self, pause: Pause) -> None:
        """Has sessions handed over while they still run here, and gives all memory back.

        Nothing happens unless the peer serves. It stays a member, and others find it meanwhile.
        """
        async with self._changing:
            if self._state is not State.SERVING or self._hosting is None:
                return
            logger.info("pause begins why=%s resumes=%.0f", pause.why, pause.resumes)
            self.tally.num_pauses += 1
            self.pause, self._last, self._state = pause, self._span, State.PAUSED
            self._span = (0, 0)
            patience = self.config.leave_patience
            await together([self._announce(), self._hand_over(self._hosting.handler, patience)])
            await self._drop(why="this peer pauses")
            self._tell()

    async def end_pause(self) -> None:
        """Takes blocks again: the same ones, unless others are needed more.

        Raises `SwarmError` where that is not possible now, and the pause goes on.
        """
        async with self._changing:
            if self._state is not State.PAUSED:
                return
            try:
                await self._take(await self.taking.choose(self._last))
            except SwarmError:
                if not self.leaving:
                    self._span, self._state = (0, 0), State.PAUSED
                raise

    async def _take(self, span: tuple[int, int]) -> None:
        """Loads blocks and begins to serve them, unless it has to leave or pause meanwhile."""
        if self.leaving:
            return
        self._span, self._state = span, State.LOADING
        await self._announce()
        started = time.perf_counter()
        try:
            taken = await self.taking.bring(span, self._gives_up)
        except Halted:
            logger.info("loading given up blocks=%d:%d", *span)
            if not self.leaving:
                self._last, self._span, self._state = span, (0, 0), State.PAUSED
                await self._announce()
                self._tell()
            return
        self._digests = taken.digests
        try:
            await self.taking.compare(replace(self.announcement(), digests=taken.digests))
        except BaseException:
            taken.runner.close()
            raise
        self.taken = taken
        self._hosting = Hosting(
            self._checkpoint.fingerprint,
            taken.runner,
            taken.speed,
            self.member.peer_id,
            self._tasks,
            self._handler_config,
            tally=self.tally,
            brief=self.config.brief,
            form=self.taking.form,
        )
        self._hosting.attach(self._neighbours)
        self._hosting.leases.on_change = self._changed.set
        self._computing = self._tasks.create_task(self._hosting.run())
        self._state, self.pause = State.SERVING, None
        self._notes.keep(span)
        self._tell()
        await self._announce()
        seconds = time.perf_counter() - started
        self.tally.num_loads += 1
        self.tally.load_seconds += seconds
        logger.info("serving blocks=%d:%d loaded_in=%.1fs", *span, seconds)

    def _gives_up(self) -> bool:
        """Whether what is being loaded is not to be served now."""
        if (pause := self._pauses.look()) is not None:
            self.pause = pause
        return self.leaving or pause is not None

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()

    async def _drop(
        self, part: Callable[[Taken], None] = give_up, *, why: str = "this peer is leaving"
    ) -> None:
        """Ends what is served, and has `part` do what is to be done with the blocks."""
        hosting, self._hosting = self._hosting, None
        taken, self.taken = self.taken, None
        if hosting is None:
            return
        hosting.handler.stop_accepting()
        hosting.handler.close_all(Code.LEAVING, why)
        if self._computing is not None:
            self._computing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._computing
            # Even ended, its frames hold on to the weights.
            self._computing = None
        assert taken is not None
        part(taken)
        # Both spans together may not fit: the old one's memory is given back first.
        del hosting, taken
        # Its task is let go of in the next turns of the loop, and its frames with the task.
        for _ in range(3):
            await asyncio.sleep(0)
        devices.give_back()

    async def _announce(self) -> None:
        try:
            await self.member.directory.announce(self.announcement(), self.config.announce_lifetime)
        except SwarmError as error:
            logger.warning("not announced why=%s", error)

    async def _keep_announced(self) -> None:
        """Announces every few seconds, and soon after the free memory has changed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.announce_interval):
                    await self._changed.wait()
                    await asyncio.sleep(self.config.announce_interval / 5)
            self._changed.clear()
            if self._state is not State.LEAVING:
                await self._announce()

    async def _on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        if self._patrol.on_message(link, message, payload):
            return
        if self._hosting is not None:
            await self._hosting.handler.on_message(link, message, payload)
        elif isinstance(message, Open | Hold | Wire | Step):
            why = "this peer pauses" if self.paused else "this peer is loading"
            link.post(Failed(message.session, message.epoch, Code.LEAVING, why))

    def _on_lost(self, link: Link, error: PeerError) -> None:
        self._patrol.on_lost(link, error)
        if self._hosting is not None:
            self._hosting.handler.on_lost(link, error)

    async def _link(self, entry: Announcement) -> Link:
        return await self._neighbours.link(entry.peer, entry.addresses)


@asynccontextmanager
async def serving(
    member: Member,
    checkpoint: Checkpoint,
    config: PeerConfig,
    *,
    link_config: LinkConfig | None = None,
    handler_config: HandlerConfig | None = None,
    pauses: Pauses | None = None,
    metering: Metering | None = None,
    standby: Standby | None = None,
) -> AsyncIterator[Peer]:
    """A peer that serves for the length of the block; yields once it does, and leaves at the end.

    With `metering` it says what it spends. Blocks that are in `standby` are served at once, and
    those that are served at the end are put there.

    Raises `ConfigError` where this machine or this model cannot be used so.
    """
    async with background() as tasks:
        peer = Peer(
            member,
            checkpoint,
            config,
            tasks,
            link_config=link_config,
            handler_config=handler_config,
            pauses=pauses,
            metering=metering,
            standby=standby,
        )
        try:
            await peer.start()
            yield peer
        finally:
            await peer.leave()
            await peer.aclose()
