"""Every way in which a chain of certificates can be wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import identity
from swarm.errors import Lapse, MembershipError
from swarm.group import Group
from swarm.membership.certificate import (
    MAX_CREDENTIAL,
    ROLES,
    Role,
    Signed,
    Standing,
    examine,
    issue,
)
from swarm.membership.membership import certify_process

NOW, DAY = 1.8e9, 86_400.0

ADMIN, AUTHORITY, CLIENT, PEER = Role.ADMIN, Role.AUTHORITY, Role.CLIENT, Role.PEER


def shows(holder: Any, group: Any = None) -> Standing:
    return examine(holder.credential, group or holder.group, identity.verifies)


def links(*holders: Any) -> list[Signed]:
    """The lowest certificate of each."""
    chains = [msgspec.msgpack.decode(each.credential, type=tuple[Signed, ...]) for each in holders]
    return [chain[0] for chain in chains]


def chain(*certificates: Signed) -> bytes:
    return msgspec.msgpack.encode(certificates)


def test_a_member_is_what_an_authority_says(root: Any, authority: Any) -> None:
    member = authority.certify("garage-pc", PEER, expires=NOW + 5)
    standing = shows(member)
    assert standing == Standing(
        peer=member.peer,
        member=member.peer,
        name="garage-pc",
        roles=frozenset({CLIENT, PEER}),
        begins=NOW,
        expires=NOW + 5,
        issuers=frozenset({root.peer, authority.peer}),
    )
    assert standing.may(PEER) and not standing.may(ADMIN)


def test_whom_an_authority_certifies_is_a_member_of_its_own(root: Any, authority: Any) -> None:
    second = authority.certify("second", AUTHORITY)
    assert shows(second).member == second.peer
    member = second.certify("garage-pc")
    assert shows(member).member == member.peer
    assert shows(member).issuers == {root.peer, authority.peer, second.peer}


def test_a_members_programs_are_that_member(authority: Any) -> None:
    member = authority.certify("garage-pc", ADMIN)
    program = member.certify("p1", name="garage-pc", roles=(CLIENT, ADMIN))
    helper = program.certify("p2", name="garage-pc", roles=(CLIENT,))
    for each, roles in ((program, {CLIENT, ADMIN}), (helper, {CLIENT})):
        standing = shows(each)
        assert (standing.peer, standing.member) == (each.peer, member.peer)
        assert (standing.name, standing.roles) == ("garage-pc", roles)
    assert program.peer in shows(helper).issuers


def test_a_program_may_ask_and_serves_nothing(authority: Any) -> None:
    member = authority.certify("garage-pc", AUTHORITY).certify("machine", ADMIN)
    membership = member.membership(lambda: NOW)
    credential = certify_process(membership, "process", lambda: NOW + 1)
    standing = examine(credential, member.group, identity.verifies)
    assert standing.roles == {CLIENT, ADMIN}
    assert (standing.peer, standing.member) == ("process", member.peer)
    assert (standing.begins, standing.expires) == (NOW + 1, NOW + DAY)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_nothing_lasts_longer_than_what_is_above_it(root: Any, at: int) -> None:
    ends, begins = [3 * DAY] * 3, [0.0] * 3
    ends[at], begins[at] = DAY, DAY / 2
    holder = root
    for level, role in enumerate((AUTHORITY, PEER, PEER)):
        times = {"issued": NOW + begins[level], "expires": NOW + ends[level]}
        holder = holder.certify(f"level {level}", role, name="same", **times)
    standing = shows(holder)
    assert (standing.begins, standing.expires) == (NOW + DAY / 2, NOW + DAY)


def more_roles(authority: Any) -> Any:
    return authority.certify("m", CLIENT).certify("m", PEER)


def more_roles_for_a_program(authority: Any) -> Any:
    return authority.certify("m", PEER).certify("p", ADMIN, name="m")


def a_name_of_its_own(authority: Any) -> Any:
    return authority.certify("m").certify("p", name="bootstrap")


def roles_that_only_the_machine_has(authority: Any) -> Any:
    program = authority.certify("m", ADMIN).certify("p", CLIENT, name="m")
    return program.certify("q", ADMIN, name="m")


def a_new_authority(authority: Any) -> Any:
    return authority.certify("m", ADMIN).certify("m2", AUTHORITY, name="m")


def the_authoritys_name_on_its_own_key(authority: Any) -> Any:
    return authority.certify("m").certify("authority", AUTHORITY, name="m")


@pytest.mark.parametrize(
    "make",
    [
        more_roles,
        more_roles_for_a_program,
        a_name_of_its_own,
        roles_that_only_the_machine_has,
        a_new_authority,
        the_authoritys_name_on_its_own_key,
    ],
)
def test_a_member_cannot_certify_more_than_it_is(
    make: Callable[[Any], Any], authority: Any
) -> None:
    holder = make(authority)
    with pytest.raises(MembershipError, match="more than it is") as caught:
        shows(holder)
    assert caught.value.lapse is Lapse.FORGED
    # Neither do those below become any better by being modest.
    with pytest.raises(MembershipError, match="more than it is"):
        shows(holder.certify("z", CLIENT, name="m"))


def test_whoever_certifies_itself_again_is_what_it_was(authority: Any) -> None:
    member = authority.certify("m", PEER)
    again = member.certify("m", PEER, issued=NOW - DAY, expires=NOW + 9 * DAY)
    issuers = shows(member).issuers | {member.peer}
    assert shows(again) == dataclasses.replace(shows(member), issuers=issuers)


def test_a_key_that_the_group_does_not_know(root: Any, stranger: Any) -> None:
    with pytest.raises(MembershipError) as caught:
        shows(stranger.certify("m", AUTHORITY), root.group)
    assert caught.value.lapse is Lapse.FOREIGN
    with pytest.raises(MembershipError, match="signature is wrong"):
        shows(stranger.certify("m", AUTHORITY, issuer=root.peer), root.group)


def test_what_was_signed_for_another_group(root: Any, stranger: Any) -> None:
    """One bootstrap of two groups: its members of one are not members of the other."""
    here, there = (each.certify("both", AUTHORITY) for each in (root, stranger))
    assert here.peer == there.peer
    member = there.certify("m")
    moved = chain(*links(member, here))
    with pytest.raises(MembershipError, match="signature is wrong"):
        examine(moved, root.group, identity.verifies)
    with pytest.raises(MembershipError) as caught:
        shows(member, root.group)
    assert caught.value.lapse is Lapse.FOREIGN


def test_chains_that_are_none(root: Any, authority: Any, stranger: Any) -> None:
    second = authority.certify("second", AUTHORITY)
    member = second.certify("m")
    leaf, middle, top = links(member, second, authority)
    assert examine(chain(leaf, middle, top), root.group, identity.verifies) == shows(member)
    (foreign,) = links(stranger.certify("authority", AUTHORITY))
    for wrong in (
        (top, middle, leaf),
        (middle, leaf, top),
        (leaf, top),
        (middle, top, top),
        (leaf, middle, middle, top),
        (leaf, leaf, middle, top),
        (leaf, middle),
        (leaf,),
        (leaf, middle, foreign),
        (leaf, middle, foreign, top),
        (top, top),
    ):
        with pytest.raises(MembershipError) as caught:
            examine(chain(*wrong), root.group, identity.verifies)
        assert caught.value.lapse in (Lapse.FORGED, Lapse.FOREIGN)


def test_a_signature_is_of_its_certificate_only(root: Any, authority: Any) -> None:
    (leaf, other, top) = links(authority.certify("m"), authority.certify("n", ADMIN), authority)
    for signed in (Signed(other.body, leaf.signature), Signed(leaf.body, b"")):
        with pytest.raises(MembershipError, match="signature is wrong"):
            examine(chain(signed, top), root.group, identity.verifies)


def test_depth_is_limited(root: Any) -> None:
    holder = root
    for level in range(6):
        holder = holder.certify(f"{level}", AUTHORITY)
    assert shows(holder).member == holder.peer
    with pytest.raises(MembershipError, match="no credential"):
        shows(holder.certify("one more"))


def test_size_is_limited_before_anything_is_read(root: Any) -> None:
    asked: list[bytes] = []

    def verifies(message: bytes, signature: bytes, peer: str) -> bool:
        asked.append(message)
        return True

    with pytest.raises(MembershipError, match="4097 bytes"):
        examine(bytes(MAX_CREDENTIAL + 1), root.group, verifies)
    assert not asked


def test_the_deepest_chain_with_the_longest_names_fits(root: Any) -> None:
    holder = root
    for level in range(6):
        name = "n" * 62 + f"{level:02}"
        holder = holder.certify(name, AUTHORITY)
    assert len(holder.credential) < MAX_CREDENTIAL
    usual = root.certify("a", AUTHORITY).certify("m").certify("p", name="m")
    assert len(usual.credential) < 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "n" * 65},
        {"roles": ("king",)},
        {"roles": (CLIENT,) * 5},
        {"issued": -1.0},
        {"issued": float("nan")},
        {"expires": float("inf")},
        {"expires": 1e12},
        {"subject": "s" * 129},
        {"subject": 5},
    ],
)
def test_fields_that_no_authority_writes(changes: dict[str, Any], authority: Any) -> None:
    with pytest.raises(MembershipError, match="no certificate") as caught:
        shows(authority.certify("m", **changes))
    assert caught.value.lapse is Lapse.FORGED


@pytest.mark.parametrize("alias", ["1{}", "{}1", " {}", "{}\0", "\uff11{}"])
def test_a_key_has_one_spelling(alias: str, authority: Any) -> None:
    """Else one that was thrown out would come back under another spelling of its own id."""
    member = authority.certify("m")
    spelled = authority.certificate(alias.format(member.peer), name="m")
    other = issue(spelled, authority.group, authority.key.sign, authority.credential)
    program = msgspec.structs.replace(
        member.certificate("program", name="m"), issuer=spelled.subject
    )
    credential = issue(program, authority.group, member.key.sign, other)
    with pytest.raises(MembershipError, match="signature is wrong"):
        examine(credential, authority.group, identity.verifies)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_credential_or_an_error(raw: bytes) -> None:
    with pytest.raises(MembershipError):
        examine(raw, Group("key"), identity.verifies)


def test_every_changed_byte_is_seen(authority: Any) -> None:
    credential = authority.certify("m").credential
    for place in range(len(credential)):
        damaged = bytearray(credential)
        damaged[place] ^= 1 + place % 255
        with pytest.raises(MembershipError):
            examine(bytes(damaged), authority.group, identity.verifies)


def test_nothing_is_added_to_what_was_signed(authority: Any) -> None:
    chain = msgspec.msgpack.decode(authority.certify("m").credential)
    chain[0].append(b"more")
    with pytest.raises(MembershipError, match="no credential"):
        examine(msgspec.msgpack.encode(chain), authority.group, identity.verifies)


def test_nesting_that_would_exhaust_the_stack_is_an_error(authority: Any) -> None:
    for raw in (b"\x91" * 4000, b"\x92" * 4000, b"\x81" * 4000):
        with pytest.raises(MembershipError):
            examine(raw, authority.group, identity.verifies)


def test_roles_include_what_they_need() -> None:
    """Whoever serves may ask too; each role has all that the one before has."""
    order = [CLIENT, PEER, ADMIN, AUTHORITY]
    for number, role in enumerate(order):
        assert set(ROLES[role]) == set(order[: number + 1])
