"""The network as seen from here alone: clock service, port, firewall, names."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarm.errors import ConfigError
from swarm.transport import ports

from .check import Skip, aside
from .finding import Finding, ok, problem, warning
from .machine import Machine


@dataclass(frozen=True)
class TimeServiceCheck:
    """Whether the system keeps its clock right; what the clock says is compared with the group."""

    machine: Machine
    name: str = "clock service"
    seconds: float = 15.0

    async def run(self) -> Sequence[Finding]:
        synchronised = await aside(self.machine.synchronised)
        if synchronised is None:
            raise Skip("this system does not tell whether its clock is set by the network")
        if synchronised:
            return [ok("set by the network")]
        return [
            warning(
                "not set by the network",
                "clocks drift; members' may differ by 10 s at most.",
                "sudo timedatectl set-ntp true",
            )
        ]


@dataclass(frozen=True)
class PortCheck:
    """Whether a peer could listen. A folder that is `in_use` means that one runs already."""

    machine: Machine
    host: str
    port: int
    in_use: Callable[[], bool] = lambda: False
    name: str = "port"
    seconds: float = 15.0

    async def run(self) -> Sequence[Finding]:
        try:
            ports.check(ipaddress.ip_address(self.host), self.port)
        except ConfigError as error:
            return [await self._taken(str(error))]
        told = f"{self.port} is free" if self.port else "any free one is taken (--port 0)"
        return [ok(told)]

    async def _taken(self, why: str) -> Finding:
        holder = await aside(lambda: self.machine.holder(self.port))
        if holder is not None and self.in_use():
            return ok(f"{self.port}: {holder} listens there, and a peer of this machine runs")
        by = f": {holder}" if holder else "; the system does not tell which (try with sudo)"
        return problem(
            why + by,
            "a peer with this --port does not start.",
            "End that program, or choose another --port (0: a free one).",
        )


@dataclass(frozen=True)
class FirewallCheck:
    """A firewall on this machine that keeps others out."""

    machine: Machine
    port: int
    name: str = "firewall"
    seconds: float = 15.0

    async def run(self) -> Sequence[Finding]:
        port = self.port or "PORT"
        opening = {
            "ufw": f"sudo ufw allow {port}/tcp",
            "firewalld": f"sudo firewall-cmd --permanent --add-port={port}/tcp, then --reload",
            "macOS": "System Settings, Network, Firewall, Options: allow Python",
        }
        found = await aside(self.machine.firewall)
        if found is None:
            return [ok("none that is known here is on")]
        return [
            warning(
                f"{found} is on",
                "unless it lets others in, they reach this machine through a relay, more slowly.",
                f"With a fixed --port, {opening[found]}.",
            )
        ]


@dataclass(frozen=True)
class NamesCheck:
    """Whether host names are found, such as the one from which models are downloaded."""

    machine: Machine
    hosts: Sequence[str]
    what: str
    name: str = "name resolution"
    seconds: float = 15.0

    async def run(self) -> Sequence[Finding]:
        lost = []
        for host in self.hosts:
            try:
                await aside(lambda host=host: self.machine.resolve(host))  # type: ignore[misc]
            except (OSError, UnicodeError):
                lost.append(host)
        if not lost:
            return [ok(f"{self.what}: found")]
        means = f"{self.what} cannot be reached by name."
        do = "Look at the network cable or WLAN, and at the DNS servers that the system uses."
        which = f"{len(lost)} of {len(self.hosts)} names not found"
        found = problem if self.what != "model hub" else warning
        return [found(f"{self.what}: {which}", means, do)]
