"""The process between the machines: takes packets from each one's TUN device, and brings them late.

    python -m home_network.router

One line of JSON on standard input is one order, and each gets one line of JSON in answer. `Open`
makes a TUN device (whoever asked for it moves it into a namespace), `Lines` says what its lines do,
`Report` asks what has passed. The process ends with its input.

It is one loop over `select`, whose timeouts are microseconds (those of `epoll` are milliseconds),
and a heap of what is under way. It asks for a place before all ordinary processes, as they are
allowed to be slow and lines are not.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from .line import BadLineError, Line, LineConfig, Train

# linux/if_tun.h, linux/virtio_net.h
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_HEADER = struct.Struct("=BBHHHH")
"""What stands before each packet: flags, kind of train, bytes of headers, bytes in each wagon…"""

_TARGET = slice(_HEADER.size + 16, _HEADER.size + 20)
_VERSION = _HEADER.size
_IPV4 = 4
_MAX_PACKET = 1 << 16
_BATCH = 64
"""Packets that are taken from one machine before the others have their turn."""

_EARLY = 0.0001
"""Seconds by which something may be brought too early: sleeping for less is not worth it."""

_FAR = 3600.0


@dataclass
class Machine:
    """A machine as the router sees it; counts are of what it has sent."""

    name: str
    device: int
    uplink: Line
    downlink: Line
    num_bytes: int = 0
    num_packets: int = 0
    num_reads: int = 0


class Router:
    """Machines by their IPv4 addresses, and what is under way between them."""

    def __init__(self) -> None:
        self._machines: dict[bytes, Machine] = {}
        self._by_device: dict[int, Machine] = {}
        # By when the head comes to the receiver's line, and by when the tail comes out of it. The
        # numbers keep the order of what comes at once.
        self._coming: list[tuple[float, int, Train, Machine, bytes]] = []
        self._going: list[tuple[float, int, Machine, bytes]] = []
        self._numbers = count()
        self._orders = b""
        self._latest = 0.0

    def run(self) -> None:
        """Runs until standard input ends."""
        orders = sys.stdin.fileno()
        while True:
            timeout = max(0.0, self._next() - time.monotonic())
            ready, _, _ = select.select([orders, *self._by_device], [], [], timeout)
            for descriptor in ready:
                if descriptor != orders:
                    self._take(self._by_device[descriptor])
                elif not self._obey(orders):
                    return
            self._bring()

    def _next(self) -> float:
        """When there is something to do again.

        What comes to a line need not be looked at before it can be through its delay: a process
        that sleeps and wakes seldom leaves the processor to the machines.
        """
        at = self._going[0][0] if self._going else float("inf")
        if self._coming:
            head, _, _, target, _ = self._coming[0]
            at = min(at, head + target.downlink.config.delay)
        return min(at, time.monotonic() + _FAR)

    def _take(self, machine: Machine) -> None:
        """Everything that a machine has sent, for at most one batch."""
        with suppress(BlockingIOError):
            for _ in range(_BATCH):
                packet = os.read(machine.device, _HEADER.size + _MAX_PACKET)
                now = time.monotonic()
                target = self._machines.get(packet[_TARGET])
                if target is None or packet[_VERSION] >> 4 != _IPV4:
                    continue
                size, wagon, num_packets = _measures(packet)
                machine.num_reads += 1
                machine.num_packets += num_packets
                machine.num_bytes += size
                train = machine.uplink.carry(Train(now, now, size, wagon))
                if train is not None:
                    entry = (train.head, next(self._numbers), train, target, packet)
                    heapq.heappush(self._coming, entry)

    def _bring(self) -> None:
        """Everything that is due: into the receiver's line, and out of it."""
        now = time.monotonic() + _EARLY
        while self._coming and self._coming[0][0] <= now:
            _, number, train, target, packet = heapq.heappop(self._coming)
            through = target.downlink.carry(train)
            if through is not None:
                heapq.heappush(self._going, (through.tail, number, target, packet))
        while self._going and self._going[0][0] <= now:
            due, _, target, packet = heapq.heappop(self._going)
            self._latest = max(self._latest, now - _EARLY - due)
            # One that is down loses what is sent to it, as others do.
            with suppress(OSError):
                os.write(target.device, packet)

    def _obey(self, orders: int) -> bool:
        read = os.read(orders, 1 << 16)
        *lines, self._orders = (self._orders + read).split(b"\n")
        for line in lines:
            try:
                answer = self._do(json.loads(line))
            except (BadLineError, OSError) as error:
                answer = {"error": str(error)}
            os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")
        return bool(read)

    def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        match order.pop("order"):
            case "open":
                return self._open(**order)
            case "lines":
                machine = self._machines[socket.inet_aton(order["address"])]
                machine.uplink.config = LineConfig(**order["uplink"])
                machine.downlink.config = LineConfig(**order["downlink"])
                return {}
            case _:
                return self._report()

    def _open(self, name: str, device: str, address: str, seed: int) -> dict[str, Any]:
        descriptor = _open_device(device)
        free = LineConfig(rate=float("inf"))
        machine = Machine(name, descriptor, Line(free, 2 * seed), Line(free, 2 * seed + 1))
        self._machines[socket.inet_aton(address)] = self._by_device[descriptor] = machine
        return {}

    def _report(self) -> dict[str, Any]:
        """Counts since the start; `latest` since the last report."""
        latest, self._latest = self._latest, 0.0
        machines = {
            machine.name: {
                "bytes": machine.num_bytes,
                "packets": machine.num_packets,
                "reads": machine.num_reads,
                "dropped": machine.uplink.num_dropped + machine.downlink.num_dropped,
                "lost": machine.uplink.num_lost + machine.downlink.num_lost,
            }
            for machine in self._machines.values()
        }
        return {"cpu": time.process_time(), "latest": latest, "machines": machines}


def order(kind: str, **values: Any) -> str:
    """An order as the router reads it; lines are given as `LineConfig`."""
    plain = {k: asdict(v) if isinstance(v, LineConfig) else v for k, v in values.items()}
    return json.dumps({"order": kind, **plain})


def _measures(packet: bytes) -> tuple[int, int, int]:
    """Bytes on the wire, bytes of the largest packet, and number of packets of what was read."""
    size = len(packet) - _HEADER.size
    _, kind, headers, wagon, _, _ = _HEADER.unpack_from(packet)
    if not kind or not wagon:
        return size, size, 1
    # Each wagon has the headers that stand before the whole train only once.
    num_packets = max(1, -(-(size - headers) // wagon))
    return size + (num_packets - 1) * headers, headers + wagon, num_packets


def _open_device(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    # TCP's segments come in trains and without checksums, and go on as they came.
    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return descriptor


def main() -> None:
    """Runs the router."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    Router().run()


if __name__ == "__main__":
    main()
