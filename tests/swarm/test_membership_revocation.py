"""Lists of those who were thrown out: who may write them, and what they can do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import identity
from swarm.errors import Lapse, MembershipError
from swarm.group import Group
from swarm.membership.certificate import Role
from swarm.membership.revocation import (
    MAX_LIST,
    MAX_REVOKED,
    Revocation,
    RevocationList,
    read_list,
    sign_list,
)

NOW, DAY = 1.8e9, 86_400.0


def test_a_list_says_whose_it_is_and_whom_it_names(authority: Any) -> None:
    author, content = read_list(
        authority.revoke("m", "n", number=7), authority.group, identity.verifies
    )
    assert author.peer == authority.peer
    assert content == RevocationList(
        7, tuple(Revocation(each, "name", NOW, NOW + DAY) for each in ("m", "n"))
    )


def test_a_full_list_fits_and_a_fuller_one_is_refused(authority: Any) -> None:
    members = [identity.peer_id(number.to_bytes(32, "big")) for number in range(MAX_REVOKED + 1)]
    named = [Revocation(each, "n" * 64, NOW, NOW + DAY) for each in members]
    sign = authority.key.sign
    for count, taken in ((MAX_REVOKED, True), (MAX_REVOKED + 1, False)):
        content = RevocationList(1, tuple(named[:count]))
        signed = sign_list(content, authority.group, sign, authority.credential)
        assert len(signed) < MAX_LIST
        if taken:
            assert read_list(signed, authority.group, identity.verifies)[1] == content
        else:
            with pytest.raises(MembershipError, match="no list"):
                read_list(signed, authority.group, identity.verifies)


def test_the_names_of_most_letters_fit_too(authority: Any) -> None:
    """Letters of other scripts take up to four bytes each."""
    members = [identity.peer_id(number.to_bytes(32, "big")) for number in range(MAX_REVOKED)]
    named = tuple(Revocation(each, "\U0001f99c" * 64, NOW, NOW + DAY) for each in members)
    signed = sign_list(
        RevocationList(1, named), authority.group, authority.key.sign, authority.credential
    )
    assert read_list(signed, authority.group, identity.verifies)[1].revoked == named


def test_what_is_too_long_is_not_read(authority: Any) -> None:
    with pytest.raises(MembershipError, match=f"{MAX_LIST + 1} bytes"):
        read_list(bytes(MAX_LIST + 1), authority.group, identity.verifies)


def test_a_forged_list(root: Any, authority: Any, stranger: Any) -> None:
    signed = authority.revoke("m")
    body, signature, credential = msgspec.msgpack.decode(signed)
    other_body, other_signature, _ = msgspec.msgpack.decode(authority.revoke("n"))
    foreign = stranger.certify("authority", Role.AUTHORITY)
    theirs = msgspec.msgpack.decode(foreign.revoke("m"))
    member = authority.certify("member")
    for wrong, lapse in (
        ((other_body, signature, credential), Lapse.FORGED),
        ((body, other_signature, credential), Lapse.FORGED),
        ((body, b"", credential), Lapse.FORGED),
        ((body, signature, b""), Lapse.FORGED),
        # Whose signature it is, is said by the credential: a member's does not fit.
        ((body, signature, member.credential), Lapse.FORGED),
        # The same key is an authority of two groups.
        ((theirs[0], theirs[1], credential), Lapse.FORGED),
        (theirs, Lapse.FOREIGN),
    ):
        with pytest.raises(MembershipError) as caught:
            read_list(msgspec.msgpack.encode(wrong), root.group, identity.verifies)
        assert caught.value.lapse is lapse


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_an_error(raw: bytes) -> None:
    with pytest.raises(MembershipError):
        read_list(raw, Group("key"), identity.verifies)


def test_nobody_adds_to_a_list_that_everybody_passes_on(authority: Any) -> None:
    parts = [*msgspec.msgpack.decode(authority.revoke("m")), bytes(100_000)]
    with pytest.raises(MembershipError, match="no list"):
        read_list(msgspec.msgpack.encode(parts), authority.group, identity.verifies)


def test_every_changed_byte_is_seen(authority: Any) -> None:
    signed = authority.revoke("m")
    for place in range(len(signed)):
        damaged = bytearray(signed)
        damaged[place] ^= 1 + place % 255
        with pytest.raises(MembershipError):
            read_list(bytes(damaged), authority.group, identity.verifies)
