"""`swarm bootstrap`: starts a private group, and is where it is met."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.bootstrap.config import MAX_USES, PAGE_PORT, BootstrapConfig, PageConfig, Terms
from swarm.transport.relay_config import RelayConfig

from . import _options, _qr, _times, _wording
from ._census import told_on_signal
from ._qr import QrOption
from ._service import BootstrapCommand
from .runner import Stopped, run_async

if TYPE_CHECKING:
    from swarm.bootstrap.page import Page
    from swarm.invite import Invite


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="bootstrap", cls=BootstrapCommand)(bootstrap)


def bootstrap(
    folder: Annotated[
        Path,
        typer.Option(
            "--dir", help="Keeps the group's key and its members; made if it does not exist."
        ),
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
            envvar="HOMESWARM_ANNOUNCE",
            show_envvar=True,
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
    join: Annotated[
        str | None,
        typer.Option(
            metavar="INVITE",
            envvar="HOMESWARM_BOOTSTRAP_INVITE",
            show_envvar=True,
            help="Be one more bootstrap of the group of this invite, which has the role authority,"
            " instead of starting a group.",
        ),
    ] = None,
    first_uses: Annotated[
        int, typer.Option(min=1, max=MAX_USES, help="How many machines the first invite lets in.")
    ] = Terms.uses,
    first_expires: Annotated[
        str,
        typer.Option(metavar="DURATION", help="How long the first invite can be used."),
    ] = "7d",
    certificate_lifetime: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How long members' certificates last, which renew themselves: how long members go"
            " on while no bootstrap is there.",
        ),
    ] = "1d",
    page: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help=f"Where the group's page is shown; by default 127.0.0.1:{PAGE_PORT}, or another"
            " port where that is taken.",
        ),
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Show no page.")] = False,
    page_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM): show the page over https.")
    ] = None,
    page_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    qr: QrOption = None,
) -> None:
    """Start a private group: prints a first invite, and is where the members meet.

    The first invite is for peers, and bounded in uses and time; while it is good, it stays the same
    when the bootstrap is started again. `swarm invite` writes others, `swarm members` lists who
    came, `swarm revoke` throws out.

    On SIGUSR1 one line on stderr says what it holds: tasks, files, memory.
    """
    relaying = RelayConfig(
        serve=relay,
        rate=_options.size(relay_rate) or RelayConfig.rate,
        member_circuits=relay_circuits,
        max_circuits=max(relay_circuits, RelayConfig.max_circuits),
    )
    places = tuple(announce or ())
    terms = Terms(_times.duration(certificate_lifetime), _times.duration(first_expires), first_uses)
    above = None if join is None else _invite(join)
    if no_page and (page or page_cert or page_key):
        raise typer.BadParameter("there is no page to say that of", param_hint="--no-page")
    shown = None if no_page else _page(page, page_cert, page_key)
    config = BootstrapConfig(
        folder, host, port, places, map_port, name, relaying, terms, above, shown
    )
    with suppress(Stopped):
        run_async(_serve(config, partial(_tell, folder, qr)))


def _page(where: str | None, certificate: Path | None, private_key: Path | None) -> PageConfig:
    if where is None:
        return PageConfig(certificate=certificate, private_key=private_key)
    host, port = _options.place(where, "--page")
    return PageConfig(
        host=host or PageConfig.host,
        port=port,
        asked=True,
        certificate=certificate,
        private_key=private_key,
    )


async def _serve(config: BootstrapConfig, on_ready: Callable[[Invite, Page | None], None]) -> None:
    from swarm.bootstrap.service import serve

    pages: list[Page] = []
    with told_on_signal():
        await serve(config, lambda invite: on_ready(invite, *pages or (None,)), pages.append)


def _invite(line: str) -> Invite:
    from swarm.invite import Invite

    return Invite.decode(line)


def _tell(folder: Path, qr: bool | None, invite: Invite, page: Page | None) -> None:
    """Prints the first invite, and says what it is worth and what else there is to do."""
    from swarm.bootstrap.authority import Authority

    line = invite.encode()
    typer.echo(line)
    number = invite.ticket.number
    with Authority.open(folder) as authority:
        uses = next((each.uses for each in authority.invites() if each.number == number), 0)
    place = shlex.quote(str(folder))
    worth = _wording.meaning(invite.role, uses, invite.expires, time.time())
    typer.echo(
        f"The group is open. The line above is a first invite. {worth}\n"
        "  swarm peer --join INVITE --model MODEL\n"
        "Better write one for each person, list who came, and throw out:\n"
        f"  swarm invite --dir {place} --role client|peer|admin --name NAME\n"
        f"  swarm members --dir {place}\n"
        f"  swarm revoke --dir {place} NAME\n"
        "Whoever has a copy of that folder has the group: keep it safe.",
        err=True,
    )
    if page is not None:
        typer.echo(_page_told(page), err=True)
    _qr.show(line, qr)


def _page_told(page: Page) -> str:
    """Where the page is. The key of admins is for a screen, not for a log that others may read."""
    from swarm.bootstrap.page_keys import FILES, Right

    yours = (
        page.address(Right.ADMINISTER)
        if sys.stderr.isatty()
        else f"the same with the key in {FILES[Right.ADMINISTER]} instead"
    )
    lines = [
        "The group's page, for whoever may look:",
        f"  {page.address(Right.LOOK)}",
        "and for whoever may also invite and throw out, as you may:",
        f"  {yours}",
    ]
    if not page.sealed:
        lines.append("Keys cross the network as they are: --page-cert and --page-key seal them.")
    return "\n".join(lines)
