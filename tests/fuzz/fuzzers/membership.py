"""Certificates, credentials, lists of revocations, and what members keep of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from swarm.errors import MembershipError
from swarm.membership.certificate import ROLES, Certificate, Role, Signed, issue
from swarm.membership.founder import Founder
from swarm.membership.revocation import RevocationList, sign_list
from swarm.membership.trust import Trust

from .actors import Actors
from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_MSGPACK, altered, mutated, plain, raw, valid

_BOUNDS = Bounds(memory=256 * 1024, memory_per_byte=100, lines=4_000)
_NOW = 1_000_000.0

_NETWORK = Actors()
_FOUNDER = Founder(_NETWORK.signer("group"), _NETWORK.signer("authority"), clock=lambda: _NOW)
_GROUP = _FOUNDER.group
_WHO = st.sampled_from(["group", "authority", "admin", "peer", "client", "process", "stranger"])
_NAMES = st.sampled_from(["admin", "peer", "client", "x" * 64])
_TIMES = st.sampled_from([0.0, _NOW - 3600, _NOW + 3600, 1e11])
_ROLES = st.one_of(
    st.sampled_from(list(ROLES.values())), st.lists(st.sampled_from(list(Role)), max_size=4)
).map(tuple)

_SAMPLES = [
    _FOUNDER.certify("peer", Role.PEER, "peer"),
    _FOUNDER.certify("admin", Role.ADMIN, "admin"),
]
# The authority's own is a part of everybody's: who has cut it out shows what all know.
_STANDINGS = [
    _FOUNDER.trust().check(sample) for sample in (*_SAMPLES, _FOUNDER.membership.credential)
]


@st.composite
def _certificates(draw: st.DrawFn) -> tuple[list[Certificate], list[str]]:
    """A chain, mostly one in which each is signed by the one above, and who has signed."""
    holder, chain, signers = "group", [], []
    for _ in range(draw(st.integers(1, 4))):
        issuer = holder if draw(st.integers(0, 9)) else draw(_WHO)
        subject = draw(_WHO)
        name, roles = draw(_NAMES), draw(_ROLES)
        chain.insert(0, Certificate(subject, issuer, name, roles, draw(_TIMES), draw(_TIMES)))
        signers.insert(0, issuer if draw(st.integers(0, 9)) else draw(_WHO))
        holder = subject
    return chain, signers


def _credential(chain: Sequence[Certificate], signers: Sequence[str]) -> bytes:
    encoded = b""
    for certificate, signer in zip(reversed(chain), reversed(signers), strict=True):
        encoded = issue(certificate, _GROUP, _NETWORK.signer(signer).sign, encoded)
    return encoded


def _trust() -> Trust:
    return Trust(_GROUP, _NETWORK.signer("anybody").verifies, clock=lambda: _NOW)


def _check_chain(case: tuple[list[Certificate], list[str]]) -> None:
    """Nobody is more than those above have made of it, and nobody is anything on its own word."""
    chain, signers = case
    credential = _credential(chain, signers)
    found = read(lambda: _trust().check(credential), MembershipError, len(credential), _BOUNDS)
    if found is None:
        return
    assert signers == [certificate.issuer for certificate in chain]
    assert [each.issuer for each in chain] == [*(each.subject for each in chain[1:]), "group"]
    assert all(each.issued <= _NOW + 60 and _NOW < each.expires for each in chain)
    assert found.peer == chain[0].subject and found.roles == set(chain[0].roles)
    for below, above in pairwise(chain):
        if Role.AUTHORITY not in above.roles:
            assert set(below.roles) <= set(above.roles) and below.name == above.name


def _check_bytes(credential: bytes) -> None:
    """What was changed on its way shows nothing, or what it showed before."""
    found = read(lambda: _trust().check(credential), MembershipError, len(credential), _BOUNDS)
    assert found is None or found in _STANDINGS


def _check_list(case: tuple[bytes, str]) -> None:
    """Only an authority throws anybody out, and never the group."""
    signed, author = case
    trust = _trust()
    news = read(lambda: trust.learn(signed), MembershipError, len(signed), _BOUNDS)
    if news:
        assert author == "authority"
        assert "group" not in {each.member for each in trust.revoked}


def _list(content: Any, author: str) -> tuple[bytes, str]:
    credential = _FOUNDER.membership.credential if author == "authority" else _SAMPLES[0]
    return sign_list(content, _GROUP, _NETWORK.signer(author).sign, credential), author


_LISTS = st.one_of(
    st.builds(_list, valid(inspect.type_info(RevocationList)), _WHO),
    st.builds(
        _list,
        valid(inspect.type_info(RevocationList)).flatmap(lambda found: altered(plain(found))),
        _WHO,
    ),
    raw([_FOUNDER.revoke("peer")]).map(lambda signed: (signed, "authority")),
    DEEP_MSGPACK.map(lambda signed: (signed, "authority")),
)
_BYTES = st.one_of(
    raw(_SAMPLES),
    altered(msgspec.msgpack.decode(_SAMPLES[0])).map(msgspec.msgpack.encode),
    DEEP_MSGPACK,
    st.sampled_from([msgspec.msgpack.encode([Signed(b"", b"")] * 7), b"\xdd" + b"\xff" * 4]),
    mutated([_SAMPLES[0] * 3]),
)
_CHECKS: dict[str, Any] = {"chain": _check_chain, "bytes": _check_bytes, "list": _check_list}


def check(case: tuple[str, Any]) -> None:
    """See `_CHECKS`."""
    kind, value = case
    _CHECKS[kind](value)


FUZZER = Fuzzer(
    st.one_of(
        st.tuples(st.just("chain"), _certificates()),
        st.tuples(st.just("bytes"), _BYTES),
        st.tuples(st.just("list"), _LISTS),
    ),
    check,
    examples=600,
)
