"""Addresses of members behind a relay, in libp2p's own notation.

    /ip4/203.0.113.7/tcp/4001/p2p/RELAY/p2p-circuit/p2p/MEMBER

Source: https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from .control import Place

_MARK = "/p2p-circuit/p2p/"
_MAX_PER_RELAY = 6
_MAX_LEN = 256


def through(relay: Place, member: str) -> tuple[str, ...]:
    """The addresses of a member behind a relay; the relay's loopback only if it has no other."""
    suffix = f"/p2p/{relay.peer}"
    places = [
        place if place.endswith(suffix) else place + suffix
        for place in dict.fromkeys(relay.addresses)
        if _MARK not in place
    ]
    outside = [place for place in places if not _is_loopback(place)]
    full = (f"{place}{_MARK}{member}" for place in outside or places)
    return tuple(address for address in full if len(address) <= _MAX_LEN)[:_MAX_PER_RELAY]


def split(peer: str, addresses: Sequence[str]) -> tuple[tuple[str, ...], tuple[Place, ...]]:
    """Direct addresses of a member, and the relays that its other addresses name."""
    direct: list[str] = []
    relays: dict[str, tuple[str, ...]] = {}
    for address in addresses:
        relay_address, mark, member = address.partition(_MARK)
        if not mark:
            direct.append(address)
        elif member == peer:
            relay = relay_address.rpartition("/p2p/")[2]
            relays[relay] = (*relays.get(relay, ()), relay_address)
    return tuple(direct), tuple(Place(*entry) for entry in relays.items())


def _is_loopback(address: str) -> bool:
    kind, _, rest = address.lstrip("/").partition("/")
    if kind not in ("ip4", "ip6"):
        return False
    try:
        return ipaddress.ip_address(rest.partition("/")[0]).is_loopback
    except ValueError:
        return False
