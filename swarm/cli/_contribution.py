"""Running a peer for `swarm peer`: joining, opening the model, serving, and coming back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from swarm.errors import ConfigError, Unreachable

from . import _census, _metrics, _needed
from ._options import plain

if TYPE_CHECKING:
    from swarm.checkpoint import Checkpoint
    from swarm.energy.metering import Metering
    from swarm.invite import Invite
    from swarm.member import JoinConfig, Member
    from swarm.peer.config import PeerConfig
    from swarm.peer.service import Peer
    from swarm.peer.standby import Standby
    from swarm.web.door import Door
    from swarm.web.metrics import MetricsConfig

logger = logging.getLogger(__name__)

_SOUND_RUN = 60.0
_MAX_RESTARTS = 3


@dataclass(frozen=True)
class Numbers:
    """Where Prometheus asks, and the watts of the machine under full load (0: not known)."""

    metrics: MetricsConfig | None
    watts: float

    def metering(self, device: str) -> Metering:
        """What tells how much energy is spent."""
        from swarm.peer.power import metering

        return metering(device, self.watts)

    @asynccontextmanager
    async def told(self, running: Peer, door: Door[MetricsConfig] | None) -> AsyncIterator[None]:
        """Answers Prometheus for the length of the block, if it is to ask."""
        if door is None:
            yield
            return
        from swarm.peer.metrics import registry
        from swarm.web.metrics import serving

        async with serving(door, registry(running)):
            yield


@dataclass(frozen=True)
class Source:
    """Where the weights come from; without a `model`, from where the group's own come."""

    model: str | None
    revision: str | None
    cache: Path | None


@dataclass
class Kept:
    """What stays on this machine when the way to the network breaks down: neither the model's file
    nor the blocks have changed, and opening and loading them takes longest.
    """

    standby: Standby
    until_the_end: ExitStack
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Contribution:
    """What this machine gives, to whom, and what it says of that.

    What answers have computed is kept for `keep_seconds`. With `as_json` standard output gets a
    line of JSON whenever the peer begins to serve or to pause, in place of a sentence.
    """

    invite: Invite
    place: JoinConfig
    source: Source
    config: PeerConfig
    numbers: Numbers
    keep_seconds: float
    as_json: bool = False

    async def give(self) -> None:
        """Serves until it is cancelled; begins again if our libp2p daemon ends."""
        from swarm.peer.standby import Standby

        with (
            _metrics.opened(self.numbers.metrics) as door,
            _census.told_on_signal() as census,
            ExitStack() as held,
        ):
            kept = Kept(held.enter_context(Standby()), held)
            await kept_up(lambda on_up: self._serve(door, census, on_up, kept))

    async def _serve(
        self,
        door: Door[MetricsConfig] | None,
        census: _census.Census,
        on_up: Callable[[], None],
        kept: Kept,
    ) -> None:
        # torch and transformers take seconds to import: the group is joined first, so that a wrong
        # invite is told at once.
        from swarm.member import join

        from ._progress import JOINING, entering, waiting

        async with entering(join(self.invite, self.place), JOINING) as member:
            with waiting("starting torch"):
                import torch

            torch.set_num_threads(self.config.num_threads)
            if kept.checkpoint is None:
                kept.checkpoint = kept.until_the_end.enter_context(await self._opened(member))
            async with self._serving(member, kept.checkpoint, kept.standby) as running:
                on_up()
                async with self.numbers.told(running, door):
                    with census.counting(lambda: _census.of_peer(running)):
                        await self._say_until_the_end(running)

    async def _opened(self, member: Member) -> Checkpoint:
        from swarm.checkpoint import open_checkpoint

        from ._progress import progress

        model, needed = self.source.model, None
        if model is None:
            typer.echo("Joined the group. Looking which model it needs most …", err=True)
            needed = await _needed.look(member.directory)
            model = needed.model
            typer.echo(f"Taking {plain(model)}: {needed.why}.", err=True)
        typer.echo(f"Joined the group. Opening {plain(model)} …", err=True)
        checkpoint = await asyncio.to_thread(
            open_checkpoint,
            model,
            revision=self.source.revision,
            cache_dir=self.source.cache,
            progress=progress(),
        )
        if needed is not None and checkpoint.fingerprint != needed.fingerprint:
            checkpoint.close()
            raise ConfigError(
                f"{model} is served in another revision than the one that is there to download:"
                " say which with --model and --revision"
            )
        return checkpoint

    @asynccontextmanager
    async def _serving(
        self, member: Member, checkpoint: Checkpoint, standby: Standby
    ) -> AsyncIterator[Peer]:
        from swarm.peer.limits import HandlerConfig
        from swarm.peer.service import serving
        from swarm.transport.link import LinkConfig

        # What it is called is for the group to say.
        name = member.membership.standing.name
        async with serving(
            member,
            checkpoint,
            replace(self.config, name=name, folder=self.place.folder),
            link_config=LinkConfig(upload=self.place.upload),
            handler_config=HandlerConfig(keep_seconds=self.keep_seconds),
            metering=self.numbers.metering(self.config.device),
            standby=standby,
        ) as running:
            yield running

    async def _say_until_the_end(self, running: Peer) -> None:
        from . import _screen

        _screen.show(running)
        said = self._say(running, before="")
        changed = asyncio.Event()
        running.watch(changed.set)
        try:
            while True:
                await changed.wait()
                changed.clear()
                said = self._say(running, before=said)
        finally:
            _say_leaving(running)

    def _say(self, running: Peer, *, before: str) -> str:
        """Tells programs what is served now, if that is new; returns what was said."""
        said = as_json(running) if self.as_json else _line(running)
        if said != before:
            typer.echo(said)
        return said


async def kept_up(serve: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
    """Runs `serve` to its end, and again where the way to the network broke down meanwhile.

    It calls what it is given once it serves. What fails before that comes out, and so does what
    fails again and again.
    """
    clock = asyncio.get_running_loop().time
    up, restarts = False, 0

    def on_up() -> None:
        nonlocal up
        up = True

    while True:
        started = clock()
        try:
            await serve(on_up)
            return
        except Unreachable as error:
            restarts = 0 if clock() - started > _SOUND_RUN else restarts + 1
            if not up or restarts > _MAX_RESTARTS:
                raise
            logger.warning("peer restarts why=%s", error)
            typer.echo(f"{plain(str(error))}: starting again …", err=True)


def as_json(running: Peer) -> str:
    """What is announced, as far as programs on this machine may want to know it."""
    entry = running.announcement()
    return json.dumps(
        {
            "peer": entry.peer,
            "name": entry.name,
            "state": entry.state,
            "model": entry.model_name,
            "fingerprint": entry.model,
            "blocks": [entry.start, entry.end],
            "num_blocks": entry.num_blocks,
            "why": running.pause.why if running.pause else running.taking.reason,
            "resumes": entry.resumes or None,
            "device": entry.device,
            "dtype": entry.dtype,
            "quantize": entry.quantize,
            "positions": entry.total_positions,
            "weights_bytes": running.taken.weights if running.taken else 0,
            "kv_bytes": running.taken.kv if running.taken else 0,
            "reach": entry.reach,
            "addresses": entry.addresses,
        }
    )


def _line(running: Peer) -> str:
    entry = running.announcement()
    if running.paused:
        return f"paused blocks of {entry.model_name} as {entry.peer}"
    return (
        f"serving blocks {entry.start}:{entry.end} of {entry.num_blocks} of {entry.model_name}"
        f" as {entry.peer}"
    )


def _say_leaving(running: Peer) -> None:
    if number := running.num_sessions:
        typer.echo(
            f"Leaving. {number} running answer{'s' * (number > 1)} go on elsewhere, within"
            f" {running.config.leave_patience:g} s; Ctrl-C again leaves at once …",
            err=True,
        )
