from __future__ import annotations

import stat
from pathlib import Path

import pytest

from swarm import identity
from swarm.errors import ConfigError
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport


def test_an_identity_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    assert identity.load(path) is None
    made = identity.load_or_create(path)
    assert identity.load_or_create(path) == made == identity.load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_identities_differ(tmp_path: Path) -> None:
    assert identity.create(tmp_path / "a").peer_id != identity.create(tmp_path / "b").peer_id


async def test_libp2p_has_the_same_id_for_it(tmp_path: Path) -> None:
    made = identity.create(tmp_path / "identity")
    config = Libp2pConfig(made.path, host="127.0.0.1")
    async with Libp2pTransport.start(config) as transport:
        assert transport.peer_id == made.peer_id
        assert transport.addresses[0].endswith(f"/p2p/{made.peer_id}")


@pytest.mark.parametrize("damage", ["cut", "empty", "other kind", "public half", "private half"])
def test_a_damaged_identity_is_named_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "identity"
    identity.create(path)
    raw = bytearray(path.read_bytes())
    match damage:
        case "cut":
            raw = raw[:-1]
        case "empty":
            raw = bytearray()
        case "other kind":
            raw[1] = 0
        case "public half":
            raw[-1] ^= 1
        case "private half":
            raw[5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=str(path)):
        identity.load_or_create(path)
    assert path.read_bytes() == raw


def test_derived_secrets_are_ours_and_for_one_purpose(tmp_path: Path) -> None:
    me, other = identity.create(tmp_path / "me"), identity.create(tmp_path / "other")
    again = identity.load(tmp_path / "me")
    assert again is not None
    assert me.derive(b"this") == again.derive(b"this") and len(me.derive(b"this")) == 32
    assert len({me.derive(b"this"), me.derive(b"that"), other.derive(b"this")}) == 3
    assert me.key.private_bytes_raw() != me.derive(b"this")
