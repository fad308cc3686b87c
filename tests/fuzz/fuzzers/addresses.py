"""Addresses that others name: of themselves, of relays, of those that relays see; and who answers
at them in libp2p's first messages."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import strategies as st

from swarm import identity
from swarm.errors import ConfigError, Unreachable
from swarm.transport import circuits, daemon_wire, dial_back, multiaddresses, punch
from swarm.transport.control import Place

from .bounds import Bounds, bounded, read
from .fuzzer import Fuzzer
from .hostile import TEXT, mutated

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
multiaddresses.multiaddress("/ip4/1.2.3.4/tcp/1")  # loads hivemind, which is nobody's input
_KEY = identity.public_key(PEER)
assert _KEY is not None

_BOUNDS = Bounds(memory=1 << 20, memory_per_byte=400, lines=20_000)

_HOSTS = st.one_of(
    st.sampled_from(["1.2.3.4", "::1", "::ffff:1.2.3.4", "fe80::1%eth0", "0.0.0.0", "example.org"]),
    st.sampled_from(["1.2.3.4\0", "a\0b", "xn--", "a" * 70, ".", "..", "١.٢.٣.٤", "\udcff"]),
    TEXT,
)
_PORTS = st.one_of(
    st.integers(-1, 70_000).map(str), st.sampled_from(["٤٠٠١", "9" * 200, "1e3", "²"]), TEXT
)
_TAILS = st.sampled_from(
    ["", f"/p2p/{PEER}", "/p2p/", "/ws", f"/p2p/{PEER}/p2p-circuit/p2p/{PEER}", "/p2p-circuit/p2p/"]
)
_PLACES = st.one_of(
    st.builds(
        "/{}/{}/{}/{}{}".format,
        st.sampled_from(["ip4", "ip6", "dns", "dns4", "dnsaddr", "ip6zone", ""]),
        _HOSTS,
        st.sampled_from(["tcp", "udp"]),
        _PORTS,
        _TAILS,
    ),
    st.builds("{}:{}".format, _HOSTS, _PORTS),
    mutated([f"/ip4/1.2.3.4/tcp/4001/p2p/{PEER}".encode()]).map(lambda raw: raw.decode("latin1")),
    TEXT,
).map(lambda place: place[:256])
_IDS = st.one_of(
    st.just(PEER), TEXT, mutated([PEER.encode()]).map(lambda raw: raw.decode("latin1"))
)

_ANSWER = b"\x13/multistream/1.0.0\n\x07/noise\n"
_PAYLOADS = mutated([bytes([0x0A, 0x24, 0x08, 0x01, 0x12, 0x20]) + _KEY])


class _Loop(asyncio.SelectorEventLoop):
    """A loop that looks names up in itself: what is no number has no address."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, **options)


class _Sink:
    """The half of a connection that is written to: what a responder would see."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


class _Responder(dial_back._Noise):
    """The other side of the handshake, with any payload."""

    def respond(self, theirs: bytes, payload: bytes) -> bytes:
        """`<- e, ee, s, es`"""
        self._mix_hash(theirs)
        self._mix_hash(b"")
        ours = self._ephemeral.public_key().public_bytes_raw()
        self._mix_hash(ours)
        self._mix_key(theirs)
        static = X25519PrivateKey.generate()
        message = ours + self._seal(static.public_key().public_bytes_raw())
        self._ephemeral = static
        self._mix_key(theirs)
        return message + self._seal(payload)

    def _seal(self, plain: bytes) -> bytes:
        sealed = ChaCha20Poly1305(self._key).encrypt(bytes(12), plain, self._hash)
        self._mix_hash(sealed)
        return sealed


def _check_places(peer: str, places: list[str]) -> None:
    for place in places:
        end = multiaddresses.parse_tcp(place)
        assert end is None or 0 < end[1] < 65536, place
        size = len(place)
        written = read(partial(multiaddresses.multiaddress, place), ConfigError, size, _BOUNDS)
        assert written is None or written.startswith("/")
    direct, relays = circuits.split(peer, places)
    assert len(direct) + sum(len(relay.addresses) for relay in relays) <= len(places)
    for relay in relays:
        assert all(len(full) <= 256 for full in circuits.through(relay, peer))
    circuits.through(Place(peer, tuple(places)), PEER)
    punch.places(places)
    daemon_wire.address_bytes(peer, places)
    try:
        daemon_wire.peer_bytes(peer)
    except Unreachable:
        pass


async def _identify(answer: bytes, payload: bytes | None) -> bytes:
    """What a dialler takes for the key of who answers so; a payload comes in a whole handshake."""
    reader, sink = asyncio.StreamReader(), _Sink()
    asked = asyncio.ensure_future(dial_back._identify(reader, sink))  # type: ignore[arg-type]
    reader.feed_data(answer)
    for _ in range(5):
        await asyncio.sleep(0)
    if payload is not None and len(sink.written) > len(_ANSWER):
        message = _Responder().respond(sink.written[-32:], payload)
        reader.feed_data(len(message).to_bytes(2, "big") + message)
    reader.feed_eof()
    return await asked


def check(case: tuple[str, list[str], list[str], bytes, bytes | None]) -> None:
    """Addresses are dialled or passed over; an answer is a key or one of the errors of a dial."""
    peer, seen, named, answer, payload = case
    size = sum(map(len, (*seen, *named))) + len(answer) + len(payload or b"")
    with bounded(size, _BOUNDS), asyncio.Runner(loop_factory=_Loop) as runner:
        _check_places(peer, [*seen, *named])
        for place, ip, port in runner.run(dial_back._places(seen, named)):
            assert 0 < port < 65536
            assert any(str(ip) in other for other in seen), place
        try:
            key = runner.run(_identify(answer, payload))
        except (OSError, EOFError, ValueError, InvalidTag):
            return
        assert payload is not None and len(key) <= 32


FUZZER = Fuzzer(
    st.tuples(
        _IDS,
        st.lists(_PLACES, max_size=4),
        st.lists(_PLACES, max_size=4),
        st.one_of(st.just(_ANSWER), mutated([_ANSWER + b"\0\x60" + bytes(96)])),
        st.one_of(st.none(), _PAYLOADS),
    ),
    check,
)
