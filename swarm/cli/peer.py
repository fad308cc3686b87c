"""`swarm peer`: contributes this machine to a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.forms import Form

from . import _census, _metrics, _options
from ._metrics import MetricsKeyOption, MetricsOption
from ._options import CacheOption, JoinOption, ModelOption, RevisionOption
from ._service import PeerCommand
from .runner import Stopped, run_async

if TYPE_CHECKING:
    from swarm.energy.metering import Metering
    from swarm.invite import Invite
    from swarm.member import JoinConfig
    from swarm.peer.config import PeerConfig
    from swarm.peer.service import Peer
    from swarm.web.door import Door
    from swarm.web.metrics import MetricsConfig


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="peer", cls=PeerCommand)(peer)


def peer(
    join: JoinOption,
    model: ModelOption,
    blocks: Annotated[
        str | None,
        typer.Option(
            metavar="START:END", help="Serve these blocks; otherwise those that are needed most."
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Compute threads; 0: all cores of this process.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps or xpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    quantize: Annotated[
        Form,
        typer.Option(
            help="Weights in fewer bits; file: in as many as the .gguf file has. See"
            " docs/quantization.md."
        ),
    ] = Form.NONE,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Keeps this peer's identity and membership; one process each."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What it would like to be called, where its invite does not say; else the host's"
            " name."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="For weights, such as 6GB; else what is free."),
    ] = None,
    kv_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="For running sessions; else a quarter.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: a free one.")] = 0,
    announce: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="HOMESWARM_ANNOUNCE",
            show_envvar=True,
            help="HOST:PORT that reaches this machine from outside; repeatable.",
        ),
    ] = None,
    map_port: Annotated[
        bool, typer.Option(help="Ask the router to forward the port (UPnP, NAT-PMP).")
    ] = True,
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="When this peer is stopped: how long running answers may take to go on elsewhere.",
        ),
    ] = 30.0,
    keep_prefixes: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long to keep what answers have computed, for the next turn of the same"
            " conversation, while nobody needs the room; 0: not at all.",
        ),
    ] = 3600.0,
    audit: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="RATE",
            help="While no answers run here: part of the time in which this peer has others compute"
            " what it can compute itself, and compares.",
        ),
    ] = 0.0,
    relay: Annotated[
        bool, typer.Option(help="Relay for peers that nobody can dial, where this one can be.")
    ] = True,
    relay_rate: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Bytes per second that each member may send through this relay."
        ),
    ] = None,
    metrics: MetricsOption = None,
    metrics_key: MetricsKeyOption = None,
    watts: Annotated[
        float,
        typer.Option(
            min=0,
            max=1e5,
            help="What this machine draws under full load, for estimates where it has no meters;"
            " 0: not known.",
        ),
    ] = 0.0,
    revision: RevisionOption = None,
    cache: CacheOption = None,
) -> None:
    """Contribute this machine: load blocks of MODEL and serve them to the group.

    On SIGUSR1 one line on stderr says what it holds: sessions, pages, links, tasks, files, memory.
    """
    from swarm.invite import Invite
    from swarm.member import JoinConfig
    from swarm.peer.config import PeerConfig
    from swarm.state import default_folder
    from swarm.transport.relay import RelayConfig

    config = PeerConfig(
        name=name if name is not None else _options.host_name(),
        blocks=_options.blocks(blocks),
        device=device,
        dtype=dtype,
        quantize=quantize,
        threads=threads,
        memory=_options.size(memory),
        kv_memory=_options.size(kv_memory),
        leave_patience=grace,
        audit=audit,
    )
    place = JoinConfig(
        folder=folder or default_folder() / "peer",
        name=config.name,
        host=host,
        port=port,
        announce=tuple(announce or ()),
        map_port=map_port,
        relay=RelayConfig(serve=relay, rate=_options.size(relay_rate) or RelayConfig.rate),
    )
    source = _Source(_options.existing_model(model), revision, cache)
    numbers = Numbers(_metrics.config(metrics, metrics_key), watts)
    with suppress(Stopped):
        run_async(_serve(Invite.decode(join), source, place, config, keep_prefixes, numbers))


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
class _Source:
    """Where the weights come from."""

    model: str
    revision: str | None
    cache: Path | None


async def _serve(
    invite: Invite,
    source: _Source,
    place: JoinConfig,
    config: PeerConfig,
    keep_seconds: float,
    numbers: Numbers,
) -> None:
    # torch and transformers take seconds to import: the group is joined first, so that a wrong
    # invite is told at once.
    from swarm.member import join as join_group

    with _metrics.opened(numbers.metrics) as door, _census.told_on_signal() as census:
        async with join_group(invite, place) as member:
            import torch

            from swarm.checkpoint import open_checkpoint
            from swarm.peer.limits import HandlerConfig
            from swarm.peer.service import serving

            from ._progress import progress

            torch.set_num_threads(config.num_threads)
            typer.echo(f"Joined the group. Opening {source.model} …", err=True)
            checkpoint = await asyncio.to_thread(
                open_checkpoint,
                source.model,
                revision=source.revision,
                cache_dir=source.cache,
                progress=progress(),
            )
            with checkpoint:
                limits = HandlerConfig(keep_seconds=keep_seconds)
                # What it is called is for the group to say.
                known = replace(config, name=member.membership.standing.name)
                serve = serving(
                    member,
                    checkpoint,
                    known,
                    handler_config=limits,
                    metering=numbers.metering(config.device),
                )
                async with serve as running, numbers.told(running, door):
                    census.add(lambda: _census.of_peer(running))
                    typer.echo(_line(running))
                    try:
                        await asyncio.Future()
                    finally:
                        _say_leaving(running)


def _say_leaving(running: Peer) -> None:
    if number := running.num_sessions:
        typer.echo(
            f"Leaving. {number} running answer{'s' * (number > 1)} go on elsewhere, within"
            f" {running.config.leave_patience:g} s; Ctrl-C again leaves at once …",
            err=True,
        )


def _line(running: Peer) -> str:
    entry = running.announcement()
    return (
        f"serving blocks {entry.start}:{entry.end} of {entry.num_blocks} of {entry.model_name}"
        f" as {entry.peer}"
    )
