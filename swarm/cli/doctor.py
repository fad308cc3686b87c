"""`swarm doctor`: what is wrong with this machine's set-up and connection, and what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from swarm.amounts import megabytes
from swarm.errors import ConfigError
from swarm.forms import Form

from . import _options
from ._options import CacheOption
from .runner import run_async

if TYPE_CHECKING:
    from swarm.invite import Invite

    from ._doctor.check import Check
    from ._doctor.machine import Machine
    from ._doctor.visit import Visit, VisitConfig


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="doctor")(doctor)


def doctor(
    join: Annotated[
        str | None,
        typer.Option(
            "--join",
            metavar="INVITE",
            envvar="HOMESWARM_INVITE",
            show_envvar=True,
            help="The group, as for the other commands; without it, only the machine is looked at.",
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="A peer's folder; looks with its membership.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="How many blocks of it fit here.")
    ] = None,
    quantize: Annotated[
        Form, typer.Option(help="The form in which its blocks are counted.")
    ] = Form.NONE,
    host: Annotated[str, typer.Option(help="Address at which a peer would listen.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its TCP port; 0: a free one.")] = 0,
    map_port: Annotated[
        bool, typer.Option(help="Ask the router to forward the port (UPnP, NAT-PMP).")
    ] = True,
    bandwidth: Annotated[
        bool, typer.Option(help="Measure how fast lines are, by moving a few megabytes.")
    ] = True,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Say what is wrong with this machine's set-up and connection, and what to do about it.

    Exit code 0 if nothing is a problem, else 1. What it says may be shown to others: no invite, key
    or id, and nobody's address is in it.
    """
    place = _Place(folder, host, port, map_port, cache)
    wanted = None if model is None else (_options.existing_model(model), quantize)
    raise typer.Exit(run_async(_examine(join or "", place, wanted, bandwidth, as_json)))


@dataclass(frozen=True)
class _Place:
    """Where a peer would be."""

    folder: Path | None
    host: str
    port: int
    map_port: bool
    cache: Path | None


def _read(line: str) -> Invite | None:
    """The invite; None where it cannot be read, which a check tells of."""
    from swarm.invite import Invite

    with suppress(ConfigError):
        return Invite.decode(line)
    return None


async def _examine(
    line: str, place: _Place, model: tuple[str, Form] | None, bandwidth: bool, as_json: bool
) -> int:
    """Runs all checks and tells of them; gives the exit code."""
    from ._doctor import report
    from ._doctor.belonging import InviteCheck
    from ._doctor.check import examine
    from ._doctor.finding import Verdict
    from ._doctor.machine import Machine
    from ._doctor.visit import Visit

    machine, findings = Machine(), []
    shown = report.Silent() if as_json else report.Report(Console(highlight=False))
    checks = list(_of_machine(machine, place, model))
    async with AsyncExitStack() as stack:
        if not line:
            shown.say("Without --join INVITE, only this machine is looked at.")
        else:
            checks.append(InviteCheck(line))
        if line and (invite := _read(line)) is not None:
            visit = await stack.enter_async_context(Visit(invite, _visit(place)))
            checks += _of_group(machine, visit, bandwidth)
            if bandwidth:
                shown.say(_warning_of_bytes())
        try:
            async for finding in examine(checks, shown.begin):
                findings.append(finding)
                shown.add(finding)
        finally:
            shown.end()
    shown.close(findings)
    if as_json:
        typer.echo(report.as_json(findings))
    return int(report.count(findings, Verdict.PROBLEM) > 0)


def _warning_of_bytes() -> str:
    from ._doctor.group import BANDWIDTH_BYTES

    size = megabytes(BANDWIDTH_BYTES)
    return f"Measuring lines moves up to {size}; --no-bandwidth leaves that out."


def _visit(place: _Place) -> VisitConfig:
    from ._doctor.visit import VisitConfig

    return VisitConfig(
        place.folder, place.host, place.port, place.map_port, name=_options.host_name()
    )


def _of_machine(machine: Machine, place: _Place, model: tuple[str, Form] | None) -> Sequence[Check]:
    """What needs no group, quick ones first."""
    import platformdirs

    from swarm.state import default_folder

    from ._doctor.compute import CoresCheck, DeviceCheck
    from ._doctor.network import FirewallCheck, NamesCheck, PortCheck, TimeServiceCheck
    from ._doctor.software import KernelsCheck, PackagesCheck, PythonCheck
    from ._doctor.storage import BlocksCheck, DiskCheck, MemoryCheck

    folder = place.folder or default_folder() / "peer"
    cache = place.cache or platformdirs.user_cache_path("homeswarm") / "weights"
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname or ""
    checks: list[Check] = [
        PythonCheck(machine),
        PackagesCheck(machine),
        CoresCheck(machine),
        DiskCheck(machine, folder, "state", little=1e9),
        DiskCheck(machine, cache, "weights"),
        PortCheck(machine, place.host, place.port, lambda: _in_use(folder)),
        FirewallCheck(machine, place.port),
        TimeServiceCheck(machine),
        NamesCheck(machine, (hub,), "model hub"),
        # torch takes seconds to import.
        MemoryCheck(machine),
        KernelsCheck(machine),
        DeviceCheck(machine),
    ]
    if model is not None:
        checks.append(BlocksCheck(lambda: _count(*model, place.cache)))
    return checks


def _of_group(machine: Machine, visit: Visit, bandwidth: bool) -> Sequence[Check]:
    """What needs an invite, in the order in which one gets into the group."""
    from ._doctor.belonging import Asked, BootstrapsCheck, CertificateCheck, ClockCheck
    from ._doctor.group import LinesCheck, MembersCheck, ReachCheck
    from ._doctor.network import NamesCheck

    addresses = [place for each in visit.invite.bootstraps for place in each.addresses]
    hosts = [each.split("/")[2] for each in addresses if each.startswith("/dns")]
    asked = Asked(visit)
    names: list[Check] = [NamesCheck(machine, hosts, "bootstraps")] if hosts else []
    return [
        *names,
        BootstrapsCheck(visit),
        ClockCheck(visit, asked),
        CertificateCheck(visit, asked),
        ReachCheck(visit, machine),
        MembersCheck(visit),
        LinesCheck(visit, bandwidth),
    ]


def _in_use(folder: Path) -> bool:
    """Whether a program runs in a peer's folder."""
    from swarm import state

    if not folder.exists():
        return False
    with suppress(ConfigError), state.lock(folder):
        return False
    return True


def _count(model: str, form: Form, cache: Path | None) -> tuple[int, int, str]:
    """As `BlocksCheck` asks."""
    from swarm.checkpoint.progress import Silent

    from ._fit.here import Here, Source

    here = Here.look(Source(model, None, cache), "auto", "auto", 0, Silent())
    if form not in here.sizes.needs:
        raise ConfigError(f"{here.model} is not in a file that is quantized")
    needs, holding = here.sizes.needs[form], here.sizes.holding(form, here.free)
    told = (
        f"{here.model} in {here.dtype if form is Form.NONE else form}: {holding.blocks} of"
        f" {needs.num_blocks} blocks of {megabytes(needs.block_bytes)} fit, with KV for"
        f" {holding.positions:,} positions"
    )
    return holding.blocks, needs.num_blocks, told
