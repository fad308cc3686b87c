"""`swarm bootstrap`: starts a private group, and is where it is met."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.bootstrap.config import BootstrapConfig
from swarm.transport.relay import RelayConfig

from . import _options
from ._census import told_on_signal
from .runner import Stopped, run_async

if TYPE_CHECKING:
    from swarm.invite import Invite


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="bootstrap")(bootstrap)


def bootstrap(
    folder: Annotated[
        Path, typer.Option("--dir", help="Keeps the group's secret; made if it does not exist.")
    ],
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one and keeps to it."),
    ] = BootstrapConfig.port,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = BootstrapConfig.host,
    announce: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="HOST:PORT or multiaddress that reaches this machine from outside; repeatable.",
        ),
    ] = None,
    map_port: Annotated[
        bool, typer.Option(help="Ask the router to forward the port (UPnP, NAT-PMP).")
    ] = BootstrapConfig.map_port,
    name: Annotated[
        str | None, typer.Option(help="What the group is called; kept from then on.")
    ] = BootstrapConfig.name,
    relay: Annotated[
        bool, typer.Option(help="Relay between members that cannot reach each other directly.")
    ] = RelayConfig.serve,
    relay_rate: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Bytes per second that each member may send through the relay."
        ),
    ] = None,
    relay_circuits: Annotated[
        int, typer.Option(min=1, help="Relayed connections that each member may have at once.")
    ] = RelayConfig.member_circuits,
) -> None:
    """Start a private group: prints its invite, and is where the members meet.

    On SIGUSR1 one line on stderr says what it holds: tasks, files, memory.
    """
    relaying = RelayConfig(
        serve=relay,
        rate=_options.size(relay_rate) or RelayConfig.rate,
        member_circuits=relay_circuits,
        max_circuits=max(relay_circuits, RelayConfig.max_circuits),
    )
    places = tuple(announce or ())
    config = BootstrapConfig(folder, host, port, places, map_port, name, relaying)
    with suppress(Stopped):
        run_async(_serve(config))


async def _serve(config: BootstrapConfig) -> None:
    from swarm.bootstrap.service import serve

    with told_on_signal():
        await serve(config, _print_invite)


def _print_invite(invite: Invite) -> None:
    typer.echo(invite.encode())
    typer.echo(
        "The group is open. Give the line above to people whom you trust:\n"
        "  swarm peer --join INVITE --model MODEL",
        err=True,
    )
