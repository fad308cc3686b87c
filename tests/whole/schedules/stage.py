"""Plays a schedule: a group in a simulated network, its clients, and what happens to them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from clockwork import COMPUTING
from doubling import Doubling
from props import LINK_CONFIG, PAGE_LEN, Errors, Props, num_pages, session_config
from schedule import (
    NUM_BLOCKS,
    Abandon,
    After,
    AtFrame,
    AtToken,
    Blocks,
    Disconnect,
    Double,
    Event,
    Freeze,
    Host,
    Join,
    Kill,
    Leave,
    Nothing,
    On,
    Rest,
    Schedule,
    Talk,
    Weather,
)
from talking import Talker

from swarm.background import background
from swarm.client import AuditConfig, RemoteModel, Swarm
from swarm.client.route import Hop, missing
from swarm.client.router import FRESH
from swarm.errors import NoRouteError, PeerError
from swarm.peer.config import PeerConfig
from swarm.peer.handler import HandlerConfig
from swarm.peer.pausing import Pause
from swarm.peer.service import Peer, serving
from swarm.transport import Buffer
from swarm.transport.memory import Condition
from swarm.wire.messages import decode


@dataclass
class _Cast:
    """A peer on stage."""

    host: Host
    end: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    peer: Peer | None = None


class Stage:
    """One play of one schedule."""

    def __init__(
        self, schedule: Schedule, props: Props, world: Any, tasks: asyncio.TaskGroup
    ) -> None:
        self._schedule = schedule
        self._props = props
        self._world = world
        self._tasks = tasks
        self._config = session_config(schedule)
        self._cast: dict[str, _Cast] = {}
        self._able: set[str] = set()
        """Peers that serve: neither dead nor frozen, nor leaving."""
        self._leaving: set[str] = set()
        """Peers that still serve the sessions which they had."""
        self._gaps_since: list[tuple[float, tuple[Blocks, ...]]] = []
        self._num_joined = 0
        self._talkers: list[Talker] = []
        self._playing: list[asyncio.Task[None]] = []
        self._abandoned: set[int] = set()
        self._answered = [0] * len(schedule.talks)
        self._events = list(schedule.events)
        self._countdown: int | None = None
        self._doubling = Doubling(world.network)
        self._effects: set[asyncio.Task[None]] = set()
        # With commitments always; some have everything done again by others, which takes its time.
        alone = len(self._schedule.talks) == 1
        self._checks = AuditConfig(rate=1.0 if alone else 1e-9, patience=30.0)
        world.network.drop = self._on_frame

    async def play(self) -> None:
        """From the first peer's start to the last trace of the last session."""
        for host in self._schedule.hosts:
            await self._enter(host)
        async with AsyncExitStack() as stack:
            models = await self._models(stack)
            for number, (talk, model) in enumerate(zip(self._schedule.talks, models, strict=True)):
                self._add_talker(number, talk, model)
            self._arm()
            await self._finish_talks()
            self._events.clear()
            for effect in list(self._effects):
                effect.cancel()
            for name in self._cast:
                self._world.network.thaw(name)
            for swarm in self._world.swarms.values():
                await swarm.audited(self._checks.patience)
                # Whatever dies, is lost or comes late: it makes nobody a liar.
                tally = swarm.audits
                assert (tally.caught, tally.undecided, tally.contradictions) == (0, 0, 0)
            leftovers = self._world.leftovers
            await self._world.until(lambda: not leftovers(), 10 * LINK_CONFIG.patience, leftovers)
        for cast in self._cast.values():
            cast.end.set()

    def check(self) -> None:
        """Compares what the clients were told with what they should have been."""
        for talker in self._talkers:
            talker.check()

    # Peers

    async def _enter(self, host: Host) -> None:
        name = f"p{len(self._cast)}"
        cast = self._cast[name] = _Cast(host)
        ready = asyncio.Event()
        self._tasks.create_task(self._serve(name, cast, ready))
        await ready.wait()

    async def _serve(self, name: str, cast: _Cast, ready: asyncio.Event) -> None:
        host = cast.host
        COMPUTING.set(host.seconds)
        num_blocks = host.blocks[1] - host.blocks[0]
        pages = num_pages(self._schedule, host)
        config = PeerConfig(
            name=name,
            blocks=host.blocks,
            device="cpu",
            dtype="float32",
            threads=1,
            kv_memory=pages * num_blocks * self._props.page_bytes,
            page_len=PAGE_LEN,
            brief=0.0,  # How long a batch really takes is not to matter.
        )
        limits = None if host.history is None else HandlerConfig(history_bytes=host.history)
        world = self._world
        try:
            async with serving(
                world.member(name),
                world.checkpoint,
                config,
                link_config=LINK_CONFIG,
                handler_config=limits,
            ) as cast.peer:
                world.peers[name] = cast.peer
                self._set_able(name, able=True)
                ready.set()
                await cast.end.wait()
        finally:
            self._leaving.discard(name)
            self._set_able(name, able=False)
            world.peers.pop(name, None)
            world.directories[name].silent = True
            with suppress(asyncio.CancelledError):
                await world.network.kill(name)
            ready.set()
            cast.ended.set()

    def _gaps(self) -> tuple[Blocks, ...]:
        served = [Hop(name, *self._cast[name].host.blocks) for name in self._able]
        return missing(served, 0, NUM_BLOCKS)

    def _set_able(self, name: str, *, able: bool) -> None:
        self._able = self._able | {name} if able else self._able - {name}
        self._gaps_since.append((asyncio.get_running_loop().time(), self._gaps()))

    def _lose(self, name: str) -> None:
        """Notes that a peer does not serve; somebody comes for what it alone has served."""
        self._set_able(name, able=False)
        if self._gaps() and self._schedule.rescue is not None:
            self._do(self._rescue(self._schedule.rescue))

    async def _rescue(self, after: float) -> None:
        await asyncio.sleep(after)
        for gap in self._gaps():
            await self._enter(Host(gap))

    # Clients

    async def _models(self, stack: AsyncExitStack) -> list[RemoteModel]:
        models: list[RemoteModel] = []
        for number in range(len(self._schedule.talks)):
            if models and self._schedule.shared:
                models.append(models[0])
                continue
            swarm = await stack.enter_async_context(
                Swarm.over(
                    self._world.member(f"c{number}"),
                    session_config=self._config,
                    link_config=LINK_CONFIG,
                    audit_config=self._checks,
                )
            )
            self._world.swarms[f"c{number}"] = swarm
            models.append(swarm.remote(self._world.checkpoint, self._props.head))
        return models

    def _add_talker(self, number: int, talk: Talk, model: RemoteModel) -> None:
        talker = Talker(
            talk,
            model,
            self._props.undisturbed,
            partial(self._on_answer, number),
            partial(self._on_missing, number),
        )
        self._talkers.append(talker)
        self._playing.append(asyncio.create_task(talker.play()))

    async def _finish_talks(self) -> None:
        _, hanging = await asyncio.wait(self._playing, timeout=self._deadline())
        try:
            assert not hanging, f"{len(hanging)} replies hang"
            for number, task in enumerate(self._playing):
                if number in self._abandoned:
                    error = None if task.cancelled() else task.exception()
                    if isinstance(error, PeerError | NoRouteError):
                        continue
                if not task.cancelled():
                    task.result()
                assert number in self._abandoned or not task.cancelled()
        finally:
            for task in self._playing:
                task.cancel()
            await asyncio.gather(*self._playing, return_exceptions=True)

    def _deadline(self) -> float:
        """Simulated seconds after which somebody hangs: every patience, once for each event."""
        config, schedule = self._config, self._schedule
        silences = config.step_patience * 2 ** (config.max_silences + 1)
        each = config.open_patience + config.route_patience + config.hold_patience + silences
        return 10.0 + each * (1 + len(schedule.events)) * len(schedule.talks)

    def _on_answer(self, number: int) -> None:
        self._answered[number] += 1
        self._check_token()

    async def _on_missing(self, number: int, error: NoRouteError) -> None:
        if number in self._abandoned:
            raise error  # It is dead itself: everything is far from it.
        # A client may go by what it has seen a moment ago.
        since = asyncio.get_running_loop().time() - FRESH - LINK_CONFIG.patience
        later = [index for index, (time, _) in enumerate(self._gaps_since) if time > since]
        recent = self._gaps_since[max(0, min(later, default=len(self._gaps_since)) - 1) :]
        missed = [_blocks(gaps) for _, gaps in recent]
        all_along, at_times = set.intersection(*missed), set.union(*missed)
        all_along -= _blocks(tuple(self._cast[name].host.blocks for name in self._leaving))
        named = _blocks(error.missing)
        assert all_along <= named <= at_times, f"{named} are named, {missed} were missing"
        assert self._schedule.rescue is None, "nobody waited for the rescue"
        for gap in self._gaps():
            await self._enter(Host(gap))

    # Events

    def _arm(self) -> None:
        self._countdown = None
        if not self._events:
            return
        match self._events[0].when:
            case After(0):
                self._fire()
            case After(seconds):
                asyncio.get_running_loop().call_later(seconds, self._fire)
            case AtFrame(_, number):
                self._countdown = number
            case AtToken():
                self._check_token()

    def _check_token(self) -> None:
        match self._events[:1]:
            case [Event(AtToken(client, number))]:
                if self._answered[client % len(self._answered)] >= number:
                    self._fire()

    def _on_frame(self, sender: str, receiver: str, header: bytes, payload: Buffer) -> bool:
        if self._countdown is None and not self._doubling.waits:
            return False
        kind = type(decode(header)).__name__
        self._doubling.see((sender, receiver, kind), header, bytes(payload))
        match self._events[:1]:
            case [Event(AtFrame(wanted, _, lost))] if wanted == kind:
                assert self._countdown is not None
                if self._countdown == 0:
                    self._fire()
                    return lost
                self._countdown -= 1
        return False

    def _fire(self) -> None:
        if not self._events:
            return  # The play is over.
        what = self._events.pop(0).what
        match what:
            case Kill(targets):
                for name in {self._find(target) for target in targets} & self._able:
                    self._lose(name)
                    self._do(self._kill(name))
            case Freeze(target, thaws_after):
                self._freeze(self._find(target), thaws_after)
            case Disconnect(target):
                self._disconnect(target)
            case Leave(target):
                name = self._find(target)
                if name in self._able:
                    self._leaving.add(name)
                    self._lose(name)
                    self._cast[name].end.set()
            case Rest(target, seconds):
                name = self._find(target)
                if name in self._able:
                    self._leaving.add(name)
                    self._lose(name)
                    self._do(self._rest(name, seconds))
            case Join(host):
                self._do(self._enter(host))
            case Weather():
                self._change_weather(what)
            case Double():
                self._doubling.expect(what)
            case Abandon(client, politely):
                self._abandon(client % len(self._talkers), politely)
            case Nothing():
                pass
        self._arm()

    def _do(self, effect: Any) -> None:
        task = self._tasks.create_task(effect)
        self._effects.add(task)
        task.add_done_callback(self._effects.discard)

    def _find(self, target: On) -> str:
        """The peer that is meant; a client without a route means any."""
        session = self._talkers[target.client % len(self._talkers)].session
        route = session.route if session is not None else ()
        names = [hop.peer for hop in route] or sorted(self._able) or sorted(self._cast)
        return names[target.hop % len(names)]

    async def _rest(self, name: str, seconds: float) -> None:
        cast = self._cast[name]
        assert cast.peer is not None
        await cast.peer.begin_pause(Pause("others use this machine"))
        self._leaving.discard(name)
        await asyncio.sleep(seconds)
        if not cast.end.is_set():
            await cast.peer.end_pause()
            self._set_able(name, able=True)

    async def _kill(self, name: str) -> None:
        self._world.directories[name].silent = True
        self._world.peers.pop(name, None)
        await self._world.network.kill(name)
        self._cast[name].end.set()

    def _freeze(self, name: str, thaws_after: float | None) -> None:
        if name not in self._able:
            return
        self._world.network.freeze(name)
        self._world.directories[name].silent = True
        if thaws_after is not None:
            self._do(self._thaw(name, thaws_after))
        self._lose(name)

    async def _thaw(self, name: str, after: float) -> None:
        await asyncio.sleep(after)
        self._world.network.thaw(name)
        if not self._cast[name].end.is_set():
            self._world.directories[name].silent = False
            self._set_able(name, able=True)

    def _disconnect(self, target: On) -> None:
        name = self._find(target)
        other = self._find(On(target.client, target.hop + 1))
        if other == name or target.hop % 3 == 2:
            other = f"c{0 if self._schedule.shared else target.client % len(self._talkers)}"
        if self._world.network.member(name) is not None:
            self._world.network.disconnect(name, other)

    def _change_weather(self, weather: Weather) -> None:
        network = self._world.network
        condition = Condition(weather.delay, weather.jitter, weather.rate)
        if weather.target is None:
            network.default = condition
            return
        name = self._find(weather.target)
        for other in (*self._cast, *self._world.swarms):
            if other != name:
                network.between(name, other, condition)

    def _abandon(self, number: int, politely: bool) -> None:
        self._abandoned.add(number)
        if politely:
            self._playing[number].cancel()
        elif not self._schedule.shared:
            self._world.swarms.pop(f"c{number}", None)
            self._do(self._world.network.kill(f"c{number}"))


def _blocks(gaps: tuple[Blocks, ...]) -> set[int]:
    return {block for gap in gaps for block in range(*gap)}


async def play(schedule: Schedule, props: Props) -> None:
    """Plays a schedule; `AssertionError` says what was wrong."""
    errors = Errors()
    logger = logging.getLogger("swarm")
    logger.addHandler(errors)
    try:
        async with AsyncExitStack() as stack:
            world = props.open_world(stack)
            async with background() as tasks:
                stage = Stage(schedule, props, world, tasks)
                await stage.play()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
    finally:
        logger.removeHandler(errors)
    stage.check()
    assert not errors.found, errors.found
