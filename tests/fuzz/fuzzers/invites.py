"""Invites, which people copy, and peer ids, which are in them and in everything else."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from swarm import identity
from swarm.errors import ConfigError
from swarm.invite import Invite

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import TEXT, altered, mutated, numbers_hold, plain, valid

_KIND = inspect.type_info(Invite)
_BOUNDS = Bounds(memory_per_byte=64)
_INVITES = valid(_KIND)


def _unchecked(fields: Any) -> str:
    """A line that is whole, of an invite that is none."""
    names = Invite.__struct_fields__
    if not isinstance(fields, list) or len(fields) < len(names):
        fields = list(fields)[: len(names)] if isinstance(fields, list) else []
        fields += [None] * (len(names) - len(fields))
    return Invite(**dict(zip(names, fields, strict=False))).encode()


_LINES = st.one_of(
    _INVITES.flatmap(lambda invite: altered(plain(invite))).map(_unchecked),
    _INVITES.flatmap(lambda invite: mutated([invite.encode().encode()])).map(
        lambda raw: raw.decode("latin1")
    ),
    st.builds("{}{}".format, st.sampled_from(["hs1", "HS1", " h s 1 ", "hſ1", ""]), TEXT),
    st.sampled_from(["hs1" + "a" * 100_000, "a" * 100_000, " " * 100_000, "hs1" + "İ" * 5_000]),
)
_IDS = st.one_of(
    mutated([b"12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"]).map(
        lambda raw: raw.decode("latin1")
    ),
    st.text("1z", max_size=120),
    TEXT,
)


def check(case: tuple[str, str, bytes]) -> None:
    """An invite within its limits or a refusal; and nobody's signature but that of a key."""
    line, peer, signature = case
    size = len(line.encode(errors="replace"))
    invite = read(lambda: Invite.decode(line), ConfigError, size, _BOUNDS)
    if invite is not None:
        assert numbers_hold(invite, _KIND)
        assert Invite.decode(invite.encode()) == invite
    key = identity.public_key(peer)
    assert key is None or len(key) == 32
    assert not identity.verifies(b"message", signature, peer)


FUZZER = Fuzzer(st.tuples(_LINES, _IDS, st.binary(max_size=80)), check)
