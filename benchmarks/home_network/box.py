"""Machines with a TUN device for a line each, and the router that all lines lead to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from . import namespaces
from .line import LineConfig
from .namespaces import Host, NoNamespacesError, do
from .router import order

MTU = 1500
TOP_MBIT = 1000.0
"""The router has been seen to keep up with this much, in one direction between two machines."""

_DEVICES = "hsbox"
_CONGESTION = ("cubic", "reno")
"""What most PCs have, and what is like it where the kernel does not allow that in a namespace."""

_TRAIN_SECONDS = 0.001
"""How long a train may be at its line's rate: real cards put one's packets on the wire one by one,
and others get theirs between them."""

_LEAST_TRAIN, _LONGEST_TRAIN = 2 * MTU, 65536
_BYTES_PER_MBIT = 1e6 / 8


@dataclass(frozen=True)
class Setting:
    """A network in which all machines have lines alike, as people speak of them.

    `rtt` is milliseconds from one machine to another and back, `jitter` the most that it grows by
    in each direction, `uplink` and `downlink` Mbit/s (0: as the uplink), `loss` the share of
    packets that do not arrive, `queue` the milliseconds that packets wait before some are dropped.
    """

    rtt: float = 0.0
    uplink: float = 100.0
    downlink: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    queue: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.uplink <= TOP_MBIT or not 0 <= self.downlink <= TOP_MBIT:
            raise ValueError(f"rates are above 0 and at most {TOP_MBIT:g} Mbit/s")

    @property
    def one_way(self) -> float:
        """Seconds from one machine to another."""
        return self.rtt / 2e3

    @property
    def slowest(self) -> float:
        """Bytes per second between two machines."""
        return min(self.uplink, self.downlink or self.uplink) * _BYTES_PER_MBIT

    def lines(self) -> tuple[LineConfig, LineConfig]:
        """What each machine's lines do, out and in; what is random happens on the way out."""
        delay, queue = self.one_way / 2, self.queue / 1e3
        rates = [rate * _BYTES_PER_MBIT for rate in (self.uplink, self.downlink or self.uplink)]
        out = LineConfig(rates[0], delay, self.jitter / 1e3, self.loss, queue)
        return out, LineConfig(rates[1], delay, queue=queue)


class Box:
    """A network of `host`s that nothing leaves. Made by `build`."""

    def __init__(self, folder: Path, prefix: str, seed: int) -> None:
        self.hosts: list[Host] = []
        self._folder, self._prefix, self._seed = folder, prefix, seed
        self._numbers = count(1)
        self._setting = Setting()
        self._router = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.router"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            start_new_session=True,
        )

    def host(self, name: str) -> Host:
        """A machine with a public address."""
        number = next(self._numbers)
        namespace, device = f"{self._prefix}{name}", f"{_DEVICES}{os.getpid()}-{number}"
        address = f"5.0.0.{number}"
        host = Host(name, namespace, self._folder / name, address)
        namespaces.add(namespace)
        self._ask("open", name=name, device=device[-15:], address=address, seed=self._seed + number)
        do("ip", "link", "set", device[-15:], "netns", namespace, "name", "eth0")
        line = ["ip", "-n", namespace]
        do(*line, "link", "set", "eth0", "mtu", str(MTU), "up")
        do(*line, "addr", "add", f"{address}/32", "dev", "eth0")
        do(*line, "route", "add", "default", "dev", "eth0")
        _set_tcp(host)
        self.hosts.append(host)
        self.apply(self._setting, host)
        return host

    def apply(self, setting: Setting, *hosts: Host) -> None:
        """From now on these hosts' lines, or all, are like this."""
        if not hosts:
            self._setting = setting
        uplink, downlink = setting.lines()
        train = max(_LEAST_TRAIN, min(int(uplink.rate * _TRAIN_SECONDS), _LONGEST_TRAIN))
        # Where packets are lost, each goes its own way, or many would be lost together.
        num_packets = 1 if uplink.loss else 65535
        limits = ["gso_max_size", str(train), "gso_max_segs", str(num_packets)]
        for host in hosts or self.hosts:
            do("ip", "-n", host.namespace, "link", "set", "eth0", *limits)
            self._ask("lines", address=host.address, uplink=uplink, downlink=downlink)

    def report(self) -> dict[str, Any]:
        """The router's counts; `cpu` in seconds, `latest` how late something was brought."""
        return self._ask("report")

    def close(self) -> None:
        """Ends all programs and the router."""
        try:
            namespaces.end(self.hosts)
        finally:
            assert self._router.stdin is not None and self._router.stdout is not None
            self._router.stdin.close()
            self._router.wait(namespaces.END_TIMEOUT)
            self._router.stdout.close()

    def _ask(self, kind: str, **values: Any) -> dict[str, Any]:
        assert self._router.stdin is not None and self._router.stdout is not None
        self._router.stdin.write(order(kind, **values).encode() + b"\n")
        self._router.stdin.flush()
        line = self._router.stdout.readline()
        if not line:
            raise NoNamespacesError("the router has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NoNamespacesError(answer["error"])
        return answer


def _set_tcp(host: Host) -> None:
    """What PCs have, whatever this machine has; and what one run learns is not for the next."""
    host.set_kernel("net.ipv4.tcp_no_metrics_save", "1")
    with suppress(NoNamespacesError):
        host.set_kernel("net.ipv6.conf.all.disable_ipv6", "1")  # Unless there is none anyway.
    for algorithm in _CONGESTION:
        with suppress(NoNamespacesError):
            host.set_kernel("net.ipv4.tcp_congestion_control", algorithm)
            return


@contextmanager
def build(folder: Path, setting: Setting | None = None, *, seed: int = 0) -> Iterator[Box]:
    """A box without hosts; gone at the end. Raises `NoNamespacesError` where none can be."""
    namespaces.check()
    with namespaces.owned() as prefix:
        box = Box(folder, prefix, seed)
        try:
            box.apply(setting or Setting())
            yield box
        finally:
            box.close()


__all__: Sequence[str] = ("Box", "Setting", "build")
