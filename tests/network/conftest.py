"""A small internet on this machine, made of network namespaces.

Everybody's line leads to one backbone, which routes and never answers for anybody. A `host` has a
public address and hears everything. A `home` has a public address too, at a router that translates
addresses and drops what nobody inside asked for; its hosts have private addresses, which are the
same ones in every home. Addresses look public, as libp2p announces no others to strangers, but
nothing leaves the machine: its own network is no part of this.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from home_network import namespaces
from home_network.box import Box, build
from home_network.namespaces import Host, NoNamespacesError, do

NFT_ROUTER = """
table ip router {
  chain leaving { type nat hook postrouting priority 100; oifname "eth0" masquerade; }
  chain arriving { type nat hook prerouting priority -100; }
  chain entering {
    type filter hook forward priority 0; policy drop;
    iifname "lan" accept
    ct state established,related accept
    ct status dnat accept
  }
  chain own {
    type filter hook input priority 0; policy drop;
    iifname != "eth0" accept
    ct state established,related accept
  }
}
"""
IPTABLES_ROUTER = (
    "-t nat -A POSTROUTING -o eth0 -j MASQUERADE",
    "-P FORWARD DROP",
    "-A FORWARD -i lan -j ACCEPT",
    "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT",
    "-P INPUT DROP",
    "-A INPUT ! -i eth0 -j ACCEPT",
    "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
)


@dataclass(eq=False)
class Machine(Host):
    """A machine at a cable, whose other end is `socket` in the namespace `outlet`."""

    outlet: str = ""
    socket: str = ""

    def unplug(self) -> None:
        """Pulls the cable: programs and their connections live on, and hear nothing."""
        do("ip", "-n", self.outlet, "link", "set", self.socket, "down")

    def plug(self) -> None:
        """Puts the cable back."""
        do("ip", "-n", self.outlet, "link", "set", self.socket, "up")


@dataclass
class Home:
    """A router, whose line is the home's, and hosts behind it."""

    internet: Internet
    router: Machine
    _numbers: Iterator[int] = field(default_factory=lambda: count(10))

    def host(self, name: str) -> Machine:
        """A machine of this home. Its private address may be another one's in another home."""
        number, inside = next(self._numbers), self.router.namespace
        host = self.internet.machine(
            f"{self.router.name}-{name}", f"192.168.1.{number}", inside, f"port{number}"
        )
        do("ip", "-n", inside, "link", "set", host.socket, "master", "lan")
        do("ip", "-n", host.namespace, "route", "add", "default", "via", "192.168.1.1")
        return host

    def take(self, host: Machine) -> None:
        """Has a machine of another home move in: it brings its private address along."""
        inside, socket = self.router.namespace, f"port{next(self._numbers)}"
        do("ip", "-n", host.outlet, "link", "set", host.socket, "netns", inside, "name", socket)
        host.outlet, host.socket = inside, socket
        do("ip", "-n", inside, "link", "set", host.socket, "master", "lan")
        host.plug()

    def forward(self, port: int, host: Machine) -> str:
        """Has the router pass a TCP port on to a host; `HOST:PORT` as the world sees it."""
        nft = f"add rule ip router arriving iifname eth0 tcp dport {port} dnat to {host.address}"
        iptables = f"-t nat -A PREROUTING -i eth0 -p tcp --dport {port} -j DNAT --to"
        if shutil.which("nft"):
            command = ["nft", nft]
        else:
            command = ["iptables", *iptables.split(), host.address]
        do("ip", "netns", "exec", self.router.namespace, *command)
        return f"{self.router.address}:{port}"


class Internet:
    """Namespaces whose names begin with `prefix`."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._hosts: list[Machine] = []
        self._numbers = count(1)
        self._backbone = self._namespace("backbone")
        _let_forward(self._backbone)
        # Who is away is silent: no router tells that there is no way to it.
        do("ip", "-n", self._backbone, "route", "add", "blackhole", "default")

    def host(self, name: str) -> Machine:
        """A machine with a public address."""
        return self._subscriber(name, "5.0")

    def home(self, name: str, *, scatters: bool = False) -> Home:
        """A household with one public address.

        If its router `scatters`, it gives each connection another port, so that nobody outside can
        know where to meet one.
        """
        router = self._subscriber(name, "8.0")
        inside = router.namespace
        do("ip", "-n", inside, "link", "add", "lan", "type", "bridge")
        do("ip", "-n", inside, "addr", "add", "192.168.1.1/24", "dev", "lan")
        do("ip", "-n", inside, "link", "set", "lan", "up")
        _let_forward(inside)
        nft, iptables = NFT_ROUTER, IPTABLES_ROUTER
        if scatters:
            nft = nft.replace("masquerade", "masquerade random")
            iptables = (f"{iptables[0]} --random", *iptables[1:])
        if shutil.which("nft"):
            do("ip", "netns", "exec", inside, "nft", "-f", "-", text=nft)
        else:
            for rule in iptables:
                do("ip", "netns", "exec", inside, "iptables", *rule.split())
        return Home(self, router)

    def machine(self, name: str, address: str, outlet: str, socket: str) -> Machine:
        """A machine at a line whose other end is `socket` in the namespace `outlet`."""
        namespace = self._namespace(name)
        host = Machine(name, namespace, self._folder / name, address, outlet=outlet, socket=socket)
        inside = host.namespace
        line = ["link", "add", socket, "type", "veth", "peer", "name", "eth0", "netns", inside]
        do("ip", "-n", outlet, *line)
        do("ip", "-n", inside, "addr", "add", f"{address}/24", "dev", "eth0")
        do("ip", "-n", inside, "link", "set", "eth0", "up")
        host.plug()
        self._hosts.append(host)
        return host

    def readdress(self, host: Machine) -> None:
        """Takes a public machine's address away and gives it one of another network."""
        number = next(self._numbers)
        do("ip", "-n", host.namespace, "addr", "flush", "dev", "eth0")
        do("ip", "-n", self._backbone, "addr", "flush", "dev", host.socket)
        host.address = f"5.0.{number}.2"
        do("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        self._route(host, f"5.0.{number}.1")

    def close(self) -> None:
        """Kills every program; fails if a program's child stays."""
        namespaces.end(self._hosts)

    def _subscriber(self, name: str, network: str) -> Machine:
        number = next(self._numbers)
        host = self.machine(name, f"{network}.{number}.2", self._backbone, f"line{number}")
        self._route(host, f"{network}.{number}.1")
        return host

    def _route(self, host: Machine, gateway: str) -> None:
        do("ip", "-n", self._backbone, "addr", "add", f"{gateway}/24", "dev", host.socket)
        do("ip", "-n", host.namespace, "route", "add", "default", "via", gateway)

    def _namespace(self, name: str) -> str:
        namespace = f"{self._prefix}{name}"
        namespaces.add(namespace)
        return namespace


def _let_forward(namespace: str) -> None:
    switch = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    do("ip", "netns", "exec", namespace, "sh", "-c", switch)


@pytest.fixture(scope="session")
def can_build(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this machine or this user cannot build networks."""
    if not shutil.which("nft") and not shutil.which("iptables"):
        pytest.skip("home routers need nftables or iptables")
    try:
        namespaces.check()
        with namespaces.owned() as prefix:
            Internet(tmp_path_factory.mktemp("probe"), prefix).home("home").host("pc")
    except NoNamespacesError as error:
        pytest.skip(f"no networks can be built here: {error}")


@pytest.fixture
def internet(can_build: None, tmp_path: Path) -> Iterator[Internet]:
    """An internet without anybody; gone when the test ends."""
    with namespaces.owned() as prefix:
        built = Internet(tmp_path, prefix)
        yield built
        built.close()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A home network in a box, without hosts; gone when the test ends."""
    try:
        with build(tmp_path) as built:
            yield built
    except NoNamespacesError as error:
        pytest.skip(f"no networks can be built here: {error}")
