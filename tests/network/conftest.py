"""A small internet on this machine, made of network namespaces.

Everybody's line leads to one backbone, which routes and never answers for anybody. A `host` has a
public address and hears everything. A `home` has a public address too, at a router that translates
addresses and drops what nobody inside asked for; its hosts have private addresses, which are the
same ones in every home. Addresses look public, as libp2p announces no others to strangers, but
nothing leaves the machine: its own network is no part of this.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

PREFIX = "homeswarm-"
LINE_TIMEOUT = 120.0
END_TIMEOUT = 10.0

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


class NoNamespacesError(Exception):
    """This machine does not let us build a network."""


def _do(*command: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    except FileNotFoundError as error:
        raise NoNamespacesError(f"there is no {command[0]}") from error
    if done.returncode:
        raise NoNamespacesError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout


class Program:
    """A program that runs on a host, at the longest until the test ends; errors go to `log`."""

    def __init__(self, host: Host, command: Sequence[str]) -> None:
        self.host = host
        host.folder.mkdir(exist_ok=True)
        self.log = host.folder / f"{len(host.programs)}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", host.namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=host.environment,
            )
        self._read = b""

    def line(self, timeout: float = LINE_TIMEOUT) -> str:
        """The next line of output, without its end; fails if the program ends or is too slow."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._read:
            if not self._read_more(deadline):
                pytest.fail(f"{self} ended or said nothing in {timeout:g} s\n{self.complaints}")
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def rest(self, timeout: float = LINE_TIMEOUT) -> str:
        """Everything that it still says until it closes its output."""
        deadline = time.monotonic() + timeout
        while self._read_more(deadline):
            pass
        rest, self._read = self._read, b""
        return rest.decode()

    def wait(self, timeout: float = END_TIMEOUT) -> int:
        """Its exit code."""
        return self._process.wait(timeout)

    def signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """Gives up what a program that has ended leaves open."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def complaints(self) -> str:
        """The end of its standard error."""
        return self.log.read_text(errors="replace")[-3000:]

    def _read_more(self, deadline: float) -> bool:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(output, 65536) if ready else b""
        self._read += data
        return bool(data)

    def __str__(self) -> str:
        return f"program {self.log.stem} on {self.host.name}"


@dataclass(eq=False)
class Host:
    """A machine with one line, `eth0`, whose other end is `socket` in the namespace `outlet`."""

    name: str
    namespace: str
    folder: Path
    address: str
    outlet: str
    socket: str
    programs: list[Program] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What programs see: folders of this machine's own, and its share of the real cores."""
        kinds = ("STATE", "CACHE", "CONFIG", "DATA")
        own = {f"XDG_{kind}_HOME": str(self.folder / kind.lower()) for kind in kinds}
        own["TMPDIR"] = str(_temporary(self.namespace))
        return {**os.environ, **own, "OMP_NUM_THREADS": "1"}

    def popen(self, command: Sequence[str]) -> Program:
        """Starts a program."""
        program = Program(self, command)
        self.programs.append(program)
        return program

    def run(
        self, command: Sequence[str], timeout: float = LINE_TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )

    @property
    def num_bytes(self) -> int:
        """What has passed its line so far, both ways."""
        (line,) = json.loads(_do("ip", "-n", self.namespace, "-s", "-j", "link", "show", "eth0"))
        counts = line["stats64"]
        return int(counts["rx"]["bytes"] + counts["tx"]["bytes"])

    def unplug(self) -> None:
        """Pulls the cable: programs and their connections live on, and hear nothing."""
        _do("ip", "-n", self.outlet, "link", "set", self.socket, "down")

    def plug(self) -> None:
        """Puts the cable back."""
        _do("ip", "-n", self.outlet, "link", "set", self.socket, "up")


@dataclass
class Home:
    """A router, whose line is the home's, and hosts behind it."""

    internet: Internet
    router: Host
    _numbers: Iterator[int] = field(default_factory=lambda: count(10))

    def host(self, name: str) -> Host:
        """A machine of this home. Its private address may be another one's in another home."""
        number, inside = next(self._numbers), self.router.namespace
        host = self.internet.machine(
            f"{self.router.name}-{name}", f"192.168.1.{number}", inside, f"port{number}"
        )
        _do("ip", "-n", inside, "link", "set", host.socket, "master", "lan")
        _do("ip", "-n", host.namespace, "route", "add", "default", "via", "192.168.1.1")
        return host

    def forward(self, port: int, host: Host) -> str:
        """Has the router pass a TCP port on to a host; `HOST:PORT` as the world sees it."""
        nft = f"add rule ip router arriving iifname eth0 tcp dport {port} dnat to {host.address}"
        iptables = f"-t nat -A PREROUTING -i eth0 -p tcp --dport {port} -j DNAT --to"
        if shutil.which("nft"):
            command = ["nft", nft]
        else:
            command = ["iptables", *iptables.split(), host.address]
        _do("ip", "netns", "exec", self.router.namespace, *command)
        return f"{self.router.address}:{port}"


class Internet:
    """Namespaces whose names begin with `prefix`."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._hosts: list[Host] = []
        self._numbers = count(1)
        self._backbone = self._namespace("backbone")
        _let_forward(self._backbone)
        # Who is away is silent: no router tells that there is no way to it.
        _do("ip", "-n", self._backbone, "route", "add", "blackhole", "default")

    def host(self, name: str) -> Host:
        """A machine with a public address."""
        return self._subscriber(name, "5.0")

    def home(self, name: str, *, scatters: bool = False) -> Home:
        """A household with one public address.

        If its router `scatters`, it gives each connection another port, so that nobody outside can
        know where to meet one.
        """
        router = self._subscriber(name, "8.0")
        inside = router.namespace
        _do("ip", "-n", inside, "link", "add", "lan", "type", "bridge")
        _do("ip", "-n", inside, "addr", "add", "192.168.1.1/24", "dev", "lan")
        _do("ip", "-n", inside, "link", "set", "lan", "up")
        _let_forward(inside)
        nft, iptables = NFT_ROUTER, IPTABLES_ROUTER
        if scatters:
            nft = nft.replace("masquerade", "masquerade random")
            iptables = (f"{iptables[0]} --random", *iptables[1:])
        if shutil.which("nft"):
            _do("ip", "netns", "exec", inside, "nft", "-f", "-", text=nft)
        else:
            for rule in iptables:
                _do("ip", "netns", "exec", inside, "iptables", *rule.split())
        return Home(self, router)

    def machine(self, name: str, address: str, outlet: str, socket: str) -> Host:
        """A machine at a line whose other end is `socket` in the namespace `outlet`."""
        host = Host(name, self._namespace(name), self._folder / name, address, outlet, socket)
        inside = host.namespace
        line = ["link", "add", socket, "type", "veth", "peer", "name", "eth0", "netns", inside]
        _do("ip", "-n", outlet, *line)
        _do("ip", "-n", inside, "addr", "add", f"{address}/24", "dev", "eth0")
        _do("ip", "-n", inside, "link", "set", "eth0", "up")
        host.plug()
        self._hosts.append(host)
        return host

    def close(self) -> None:
        """Kills every program; fails if a program's child stays."""
        programs = [program for host in self._hosts for program in host.programs]
        for program in programs:
            program.signal(signal.SIGKILL)
        for program in programs:
            program.wait()
            program.close()
        deadline = time.monotonic() + END_TIMEOUT
        left = {host.name: pids for host in self._hosts if (pids := _pids_until(host, deadline))}
        assert not left, f"left behind: {left}"

    def _subscriber(self, name: str, network: str) -> Host:
        number = next(self._numbers)
        host = self.machine(name, f"{network}.{number}.2", self._backbone, f"line{number}")
        gateway = f"{network}.{number}.1"
        _do("ip", "-n", self._backbone, "addr", "add", f"{gateway}/24", "dev", host.socket)
        _do("ip", "-n", host.namespace, "route", "add", "default", "via", gateway)
        return host

    def _namespace(self, name: str) -> str:
        namespace = f"{self._prefix}{name}"
        _do("ip", "netns", "add", namespace)
        _temporary(namespace).mkdir()
        _do("ip", "-n", namespace, "link", "set", "lo", "up")
        return namespace


def _temporary(namespace: str) -> Path:
    """For temporary files of programs there: a short path, as sockets need one."""
    return Path(tempfile.gettempdir()) / namespace


def _let_forward(namespace: str) -> None:
    switch = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    _do("ip", "netns", "exec", namespace, "sh", "-c", switch)


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _do("ip", "netns", "list").splitlines() if line]


def _pids(namespace: str) -> list[int]:
    return [int(pid) for pid in _do("ip", "netns", "pids", namespace).split()]


def _pids_until(host: Host, deadline: float) -> list[int]:
    """Processes that still run there at the deadline, or none before."""
    while pids := _pids(host.namespace):
        if time.monotonic() > deadline:
            return pids
        select.select([], [], [], 0.02)
    return []


def _remove(namespace: str) -> None:
    for pid in _pids(namespace):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _do("ip", "netns", "del", namespace)
    shutil.rmtree(_temporary(namespace), ignore_errors=True)


def _remove_all(prefix: str) -> None:
    for name in _namespaces():
        if name.startswith(prefix):
            _remove(name)


def _sweep() -> None:
    """Removes what runs left that could not end themselves."""
    for name in _namespaces():
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove(name)


_runs = count()


def _prefix() -> str:
    return f"{PREFIX}{os.getpid()}-{next(_runs)}-"


@pytest.fixture(scope="session")
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this machine or this user cannot build networks."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if not shutil.which("ip"):
        pytest.skip("network namespaces need `ip`, of iproute2")
    if not shutil.which("nft") and not shutil.which("iptables"):
        pytest.skip("home routers need nftables or iptables")
    prefix = _prefix()
    try:
        _sweep()
        Internet(tmp_path_factory.mktemp("probe"), prefix).home("home").host("pc")
    except NoNamespacesError as error:
        pytest.skip(f"no networks can be built here: {error}")
    finally:
        _remove_all(prefix)


@pytest.fixture
def internet(namespaces: None, tmp_path: Path) -> Iterator[Internet]:
    """An internet without anybody; gone when the test ends."""
    prefix = _prefix()
    try:
        built = Internet(tmp_path, prefix)
        yield built
        built.close()
    finally:
        _remove_all(prefix)
