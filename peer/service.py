"""A peer's life: choose blocks, load them, serve, announce, move when a gap opens, leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from msgspec.structs import replace

from swarm import __version__
from swarm.auditing.digests import announced, contested, dissenters, joined
from swarm.background import background, together
from swarm.checkpoint import Checkpoint
from swarm.directory import Announcement, State
from swarm.energy.metering import Metering
from swarm.errors import ConfigError, PeerError, SwarmError
from swarm.forms import form
from swarm.member import Member
from swarm.transport import Buffer
from swarm.transport.link import Link, LinkConfig
from swarm.transport.neighbours import PROTOCOL, Neighbours
from swarm.wire.messages import AnyMessage, Code, Failed, Hold, Open, Step, Wire

from . import placement
from .capacity import kv_budget, weights_budget
from .config import PeerConfig
from .devices import choose_device, choose_dtype, free_memory
from .handler import Handler
from .hosting import Hosting, num_pages
from .kv_cache import page_bytes
from .limits import HandlerConfig
from .load import Speed
from .loading import load, needed_bytes
from .patrol import Patrol
from .runner import Runner
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
        metering: Metering | None = None,
    ) -> None:
        self.member = member
        self.config = config
        self.metering = metering
        self.tally = Tally()
        self._checkpoint = checkpoint
        self._handler_config = handler_config
        self._tasks = tasks
        self._device = choose_device(config.device)
        self._dtype = choose_dtype(config.dtype, self._device)
        self._form = form(config.quantize)
        self._span = (0, 0)
        self._digests = b""
        self._state = State.LOADING
        self._hosting: Hosting | None = None
        self._computing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._patrol = Patrol(member, checkpoint, config.audit, self._link)
        self._neighbours = Neighbours(
            member.transport, member.membership, tasks, self._on_message, self._on_lost, link_config
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
    def leaving(self) -> bool:
        """Whether the peer is about to go: it takes no blocks any more."""
        return self._state is State.LEAVING

    @property
    def neighbours(self) -> Neighbours:
        """Links to other members, whoever opened them."""
        return self._neighbours

    @property
    def patrol(self) -> Patrol:
        """What checks others while nothing else is to do."""
        return self._patrol

    @property
    def num_links(self) -> int:
        """Links to other members, whoever opened them."""
        return self._neighbours.num_links

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received over all links, ended ones included."""
        return self._neighbours.traffic

    def announcement(self) -> Announcement:
        """What we say of ourselves now."""
        hosting, checkpoint = self._hosting, self._checkpoint
        speed = hosting.speed if hosting else Speed(0.0, 0.0)
        return Announcement(
            peer=self.member.peer_id,
            name=self.config.name,
            model=checkpoint.fingerprint,
            model_name=checkpoint.name,
            num_blocks=checkpoint.num_blocks,
            start=self._span[0],
            end=self._span[1],
            state=self._state,
            decode_seconds=speed.decode_seconds,
            prefill_seconds=speed.prefill_seconds,
            free_positions=hosting.free_positions if hosting else 0,
            total_positions=hosting.total_positions if hosting else 0,
            capacity=0 if self.config.blocks else self._span[1] - self._span[0],
            dtype=str(self._dtype).removeprefix("torch."),
            device=str(self._device),
            addresses=self.member.transport.addresses,
            version=__version__,
            time=time.time(),
            reach=self.member.transport.reach,
            queue_seconds=speed.queue_seconds,
            upload_rate=self._neighbours.upload_rate,
            quantize=self._form,
            digests=self._digests if hosting else b"",
            **(self.metering.announced if self.metering is not None else {}),
        )

    async def start(self) -> None:
        """Chooses blocks, loads them and serves; returns once sessions can be opened."""
        await self.member.transport.serve(PROTOCOL, self._neighbours.accept)
        self.member.transport.watch(self._changed.set)
        await self._take(await self._choose())
        self._tasks.create_task(self._keep_announced())
        if self.metering is not None:
            self._tasks.create_task(self.metering.run(lambda: self.tally.work))
        if self.config.blocks is None:
            self._tasks.create_task(self._keep_useful())
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
        await self._drop()
        await self._neighbours.aclose()

    async def move(self, span: tuple[int, int]) -> None:
        """Serves other blocks; running sessions go on at other peers."""
        logger.info("moving from=%d:%d to=%d:%d", *self._span, *span)
        self.tally.num_moves += 1
        if self._hosting is not None:
            self._span, self._state = span, State.LOADING
            await self._announce()
            # Somebody may wait for the other blocks: they come before a smooth handover.
            patience = min(_MOVE_PATIENCE, self.config.leave_patience)
            await self._hand_over(self._hosting.handler, patience)
        await self._drop()
        await self._take(span)

    async def _choose(self) -> tuple[int, int]:
        checkpoint, blocks = self._checkpoint, self.config.blocks
        if blocks is not None and blocks[1] > checkpoint.num_blocks:
            raise ConfigError(
                f"blocks {blocks[0]}:{blocks[1]} of {checkpoint.name}, which has"
                f" {checkpoint.num_blocks}"
            )
        each = await asyncio.to_thread(needed_bytes, checkpoint, self._dtype, self._form)
        free = free_memory(self._device)
        if blocks is not None:
            needed = each * (blocks[1] - blocks[0])
            if needed > free:
                raise ConfigError(
                    f"blocks {blocks[0]}:{blocks[1]} of {checkpoint.name} take"
                    f" {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free on {self._device}"
                )
            return blocks
        budget = self.config.memory or weights_budget(free)
        capacity = budget // each
        if capacity < 1:
            raise ConfigError(
                f"one block of {checkpoint.name} takes {each / 1e6:.0f} MB;"
                f" this peer may use {budget / 1e6:.0f} MB"
            )
        others = await self.member.directory.find(checkpoint.fingerprint)
        others = tuple(entry for entry in others if entry.peer != self.member.peer_id)
        return placement.choose(checkpoint.num_blocks, capacity, others)

    async def _take(self, span: tuple[int, int]) -> None:
        """Loads blocks and begins to serve them, unless the peer leaves meanwhile."""
        if self.leaving:
            return
        self._span, self._state = span, State.LOADING
        await self._announce()
        started = time.perf_counter()
        runner, speed = await asyncio.to_thread(self._load, span)
        if self.leaving:
            runner.close()
            return
        try:
            await self._compare_weights(span)
        except BaseException:
            runner.close()
            raise
        self._hosting = Hosting(
            self._checkpoint.fingerprint,
            runner,
            speed,
            self.member.peer_id,
            self._tasks,
            self._handler_config,
            tally=self.tally,
            brief=self.config.brief,
            form=self._form,
        )
        self._hosting.attach(self._neighbours)
        self._hosting.leases.on_change = self._changed.set
        self._computing = self._tasks.create_task(self._hosting.run())
        self._state = State.SERVING
        await self._announce()
        seconds = time.perf_counter() - started
        self.tally.num_loads += 1
        self.tally.load_seconds += seconds
        logger.info("serving blocks=%d:%d loaded_in=%.1fs", *span, seconds)

    async def _compare_weights(self, span: tuple[int, int]) -> None:
        """Raises `ConfigError` if our blocks are not those that the others have.

        One whose file was hashed as a whole knows better than any majority.
        """
        own = replace(self.announcement(), digests=self._digests)
        try:
            others = await self.member.directory.find(self._checkpoint.fingerprint)
        except SwarmError as error:
            logger.warning("weights not compared why=%s", error)
            return
        others = tuple(entry for entry in others if entry.peer != own.peer and entry.serving)
        blocks = range(*span)
        known = announced(own) if self._checkpoint.whole else {}
        wrong = dissenters((own, *others), known)
        for peer, differing in wrong.items():
            logger.warning("weights differ peer=%s blocks=%s", peer, differing)
        if doubtful := contested((own, *others)) & set(blocks):
            logger.warning("weights are not the same everywhere blocks=%s", sorted(doubtful))
        if own.peer in wrong:
            raise ConfigError(
                f"blocks {wrong[own.peer]} of {self._checkpoint.name} are not those that the other"
                " peers have: the download is damaged; delete it and start again"
            )

    def _load(self, span: tuple[int, int]) -> tuple[Runner, Speed]:
        config = self.config
        blocks = load(
            self._checkpoint, *span, device=self._device, dtype=self._dtype, form=self._form
        )
        self._digests = joined(self._checkpoint.digests(*span))
        kv_bytes = config.kv_memory or kv_budget(free_memory(self._device))
        page = page_bytes(blocks.geometry, config.page_len, blocks.dtype)
        runner = Runner(blocks, num_pages=num_pages(kv_bytes, page), page_len=config.page_len)
        runner.check()
        return runner, Speed(*runner.measure())

    async def _drop(self) -> None:
        hosting, self._hosting = self._hosting, None
        if hosting is None:
            return
        hosting.handler.stop_accepting()
        hosting.handler.close_all(Code.LEAVING, "this peer moves to other blocks")
        if self._computing is not None:
            self._computing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._computing
        hosting.runner.close()
        # Both spans together may not fit: the old one's memory is given back first.
        del hosting
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

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

    async def _keep_useful(self) -> None:
        """Moves to close a gap where that helps the swarm."""
        while True:
            await asyncio.sleep(self.config.move_interval)
            if self._state is not State.SERVING:
                continue
            try:
                found = await self.member.directory.find(self._checkpoint.fingerprint)
            except SwarmError as error:
                logger.warning("swarm not looked at why=%s", error)
                continue
            span = placement.move(self.member.peer_id, self._checkpoint.num_blocks, found)
            if span is not None and span != self._span:
                await self.move(span)

    async def _on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        if self._patrol.on_message(link, message, payload):
            return
        if self._hosting is not None:
            await self._hosting.handler.on_message(link, message, payload)
        elif isinstance(message, Open | Hold | Wire | Step):
            why = "this peer is loading"
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
    metering: Metering | None = None,
) -> AsyncIterator[Peer]:
    """A peer that serves for the length of the block; yields once it does, and leaves at the end.

    With `metering` it says what it spends.

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
            metering=metering,
        )
        try:
            await peer.start()
            yield peer
        finally:
            await peer.leave()
            await peer.aclose()
