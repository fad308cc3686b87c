"""Multiaddresses: how people write them, which this machine has, and which help others."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

import psutil

from swarm.errors import ConfigError

from .light_hivemind import load

_MAX_PLACES = 32
"""As many as a message may name."""

_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:/\s]+)):(?P<port>\d{1,5})")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def at(ip: IPAddress, port: int) -> str:
    """The multiaddress of a TCP port."""
    return f"/ip{ip.version}/{ip}/tcp/{port}"


def multiaddress(text: str) -> str:
    """The multiaddress, without an id, that a person meant by `text`: one already, or `host:port`.

    Raises `ConfigError` on anything else.
    """
    if text.startswith("/"):
        place = text.partition("/p2p/")[0]
        if ("/tcp/" in place or "/udp/" in place) and _parses(place):
            return place
    elif match := _HOST_AND_PORT.fullmatch(text):
        name, port = match["v6"] or match["name"], int(match["port"])
        if 0 < port < 65536:
            try:
                return at(ipaddress.ip_address(name), port)
            except ValueError:
                return f"/dns/{name}/tcp/{port}"
    raise ConfigError(f"{text!r} is no address; write HOST:PORT or /ip4/HOST/tcp/PORT")


def _parses(place: str) -> bool:
    try:
        load("hivemind.utils.multiaddr").Multiaddr(place)
    except (ValueError, LookupError, TypeError):
        return False
    return True


def parse_tcp(place: str) -> tuple[IPAddress, int] | None:
    """IP address and port of a place of TCP; None for any other."""
    match place.split("/"):
        case ["", "ip4" | "ip6", ip, "tcp", port]:
            try:
                end = ipaddress.ip_address(ip), int(port)
            except ValueError:
                return None
            # Others have named it: no socket takes any other number.
            return end if 0 < end[1] < 65536 else None
    return None


def of_machine(host: IPAddress, port: int) -> list[str]:
    """Where a program listens that listens at `host`; all of this machine where that is not set."""
    if not host.is_unspecified:
        return [at(host, port)]
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                ip = ipaddress.ip_address(entry.address.partition("%")[0])
                if ip.version == host.version:
                    found.append(at(ip, port))
    return found


def reachable(places: Sequence[str]) -> list[str]:
    """Places in the order in which to try them, without those that mean nothing elsewhere.

    Of too many the first are kept, and the last, which is loopback where we listen there.
    """
    ranked = []
    for place in dict.fromkeys(places):
        kind, _, rest = place.lstrip("/").partition("/")
        loopback = False
        if kind in ("ip4", "ip6"):
            ip = ipaddress.ip_address(rest.partition("/")[0])
            if ip.is_link_local or ip.is_unspecified:
                continue
            loopback = ip.is_loopback
        ranked.append((loopback, place))
    places = [place for _, place in sorted(ranked, key=lambda entry: entry[0])]
    return [*places[: _MAX_PLACES - 1], *places[_MAX_PLACES - 1 :][-1:]]
