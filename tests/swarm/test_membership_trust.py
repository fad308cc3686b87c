"""Whom a member trusts, and what it learns of those who were thrown out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swarm import identity
from swarm.errors import Lapse, MembershipError
from swarm.membership import trust as trust_module
from swarm.membership.certificate import CLOCK_TOLERANCE, Role
from swarm.membership.trust import Trust

NOW, DAY = 1.8e9, 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trust(root: Any, clock: Clock) -> Trust:
    return Trust(root.group, identity.verifies, clock=clock)


def refused(trust: Trust, holder: Any) -> Lapse:
    with pytest.raises(MembershipError) as caught:
        trust.check(holder.credential, holder.peer)
    return caught.value.lapse


def trusted(trust: Trust, *holders: Any) -> bool:
    return all(trust.check(each.credential, each.peer).peer == each.peer for each in holders)


def test_a_credential_is_its_peers_only(trust: Trust, authority: Any) -> None:
    member, other = authority.certify("m"), authority.certify("n")
    assert trust.check(member.credential) == trust.check(member.credential, member.peer)
    for peer in (other.peer, "", member.peer + " ", "1" + member.peer):
        with pytest.raises(MembershipError, match="somebody else's") as caught:
            trust.check(member.credential, peer)
        assert caught.value.lapse is Lapse.FORGED


def test_it_ends_on_time(trust: Trust, authority: Any, clock: Clock) -> None:
    member = authority.certify("m", expires=NOW + 10)
    clock.now = NOW + 9.99
    assert trusted(trust, member)
    clock.now = NOW + 10
    assert refused(trust, member) is Lapse.EXPIRED


def test_clocks_may_differ_a_little(trust: Trust, authority: Any, clock: Clock) -> None:
    member = authority.certify("m")
    clock.now = NOW - CLOCK_TOLERANCE
    assert trusted(trust, member)
    clock.now -= 0.01
    with pytest.raises(MembershipError, match="a clock is wrong"):
        trust.check(member.credential)


def test_what_has_expired_in_the_middle_holds_nothing(
    trust: Trust, authority: Any, clock: Clock
) -> None:
    second = authority.certify("second", Role.AUTHORITY, expires=NOW + 10)
    member = second.certify("m", expires=NOW + DAY)
    program = member.certify("p", name="m", expires=NOW + DAY)
    assert trusted(trust, second, member, program)
    clock.now += 10
    for each in (second, member, program):
        assert refused(trust, each) is Lapse.EXPIRED


def test_what_begins_later_in_the_middle_holds_nothing(trust: Trust, authority: Any) -> None:
    second = authority.certify("second", Role.AUTHORITY, issued=NOW + 100)
    assert refused(trust, second.certify("m")) is Lapse.EXPIRED


def test_who_was_thrown_out_is_so_with_its_programs(trust: Trust, authority: Any) -> None:
    member, other = authority.certify("m"), authority.certify("n")
    program = member.certify("p", Role.CLIENT, name="m")
    helper = program.certify("q", Role.CLIENT, name="m")
    # They have been looked at before: what was found out then must not count any more.
    assert trusted(trust, member, other, program, helper)
    standing = trust.check(program.credential)
    assert trust.learn(authority.revoke(member.peer))
    for each in (member, program, helper):
        assert refused(trust, each) is Lapse.REVOKED
    with pytest.raises(MembershipError, match="removed from the group"):
        trust.check_standing(standing)
    assert trusted(trust, other, authority)
    # Neither does another certificate of the same key help, nor a new program.
    assert refused(trust, authority.certify("m", Role.ADMIN, issued=NOW + 1)) is Lapse.REVOKED
    assert refused(trust, member.certify("r", Role.CLIENT, name="m")) is Lapse.REVOKED


def test_one_program_alone_can_be_thrown_out(trust: Trust, authority: Any) -> None:
    member = authority.certify("m")
    program, other = (member.certify(each, Role.CLIENT, name="m") for each in "pq")
    helper = program.certify("h", Role.CLIENT, name="m")
    trust.learn(authority.revoke(program.peer))
    assert refused(trust, program) is refused(trust, helper) is Lapse.REVOKED
    assert trusted(trust, member, other)


def test_with_an_authority_go_those_whom_it_has_certified(trust: Trust, authority: Any) -> None:
    second = authority.certify("second", Role.AUTHORITY)
    third = second.certify("third", Role.AUTHORITY)
    theirs = [second.certify("m"), third.certify("n"), third.certify("p").certify("q", name="p")]
    ours = authority.certify("ours")
    assert trusted(trust, second, third, *theirs, ours)
    trust.learn(authority.revoke(second.peer))
    for each in (second, third, *theirs):
        assert refused(trust, each) is Lapse.REVOKED
    assert trusted(trust, ours)
    # Whoever is certified anew by another authority is back.
    assert trusted(trust, authority.certify("m"))


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER, Role.ADMIN])
def test_only_authorities_throw_out(trust: Trust, authority: Any, role: Role) -> None:
    member, victim = authority.certify("m", role), authority.certify("victim")
    with pytest.raises(MembershipError, match="may not revoke") as caught:
        trust.learn(member.revoke(victim.peer))
    assert caught.value.lapse is Lapse.FORGED
    assert trusted(trust, victim)
    assert trust.lists == trust.revoked == ()


def test_an_authoritys_programs_throw_nobody_out(trust: Trust, authority: Any) -> None:
    victim = authority.certify("victim")
    program = authority.certify("p", Role.ADMIN, name="authority")
    with pytest.raises(MembershipError, match="may not revoke"):
        trust.learn(program.revoke(victim.peer))
    assert trusted(trust, victim)


def test_the_groups_own_key_needs_a_certificate_to_write_a_list(
    trust: Trust, root: Any, authority: Any
) -> None:
    with pytest.raises(MembershipError, match="no credential"):
        trust.learn(root.revoke(authority.peer))
    trust.learn(root.certify("group", Role.AUTHORITY).revoke(authority.peer))
    assert refused(trust, authority) is Lapse.REVOKED


def test_who_was_thrown_out_throws_nobody_out(trust: Trust, authority: Any, clock: Clock) -> None:
    second = authority.certify("second", Role.AUTHORITY)
    third = second.certify("third", Role.AUTHORITY, expires=NOW + 5)
    victim = authority.certify("victim")
    trust.learn(authority.revoke(second.peer))
    for author in (second, third):
        with pytest.raises(MembershipError) as caught:
            trust.learn(author.revoke(victim.peer))
        assert caught.value.lapse is Lapse.REVOKED
    assert trusted(trust, victim)


def test_who_has_expired_throws_nobody_out(trust: Trust, authority: Any, clock: Clock) -> None:
    second = authority.certify("second", Role.AUTHORITY, expires=NOW + 5)
    victim = authority.certify("victim")
    clock.now += 5
    with pytest.raises(MembershipError) as caught:
        trust.learn(second.revoke(victim.peer))
    assert caught.value.lapse is Lapse.EXPIRED
    assert trusted(trust, victim)


def test_nobody_throws_out_who_stands_above(trust: Trust, root: Any, authority: Any) -> None:
    second = authority.certify("second", Role.AUTHORITY)
    third = second.certify("third", Role.AUTHORITY)
    victim = authority.certify("victim")
    everybody = (root.peer, authority.peer, second.peer, victim.peer)
    trust.learn(third.revoke(*everybody))
    assert trusted(trust, authority, second)
    assert refused(trust, victim) is Lapse.REVOKED
    trust.learn(second.revoke(*everybody, third.peer))
    assert trusted(trust, authority)
    assert refused(trust, third) is Lapse.REVOKED
    # That one has thrown itself out, as it may.
    assert refused(trust, second) is Lapse.REVOKED


def test_an_older_list_changes_nothing(trust: Trust, authority: Any) -> None:
    members = [authority.certify(name) for name in "mno"]
    peers = [each.peer for each in members]
    newer = authority.revoke(*peers[:2], number=2)
    assert trust.learn(newer)
    assert not trust.learn(newer)
    assert not trust.learn(authority.revoke(peers[0], number=1))
    assert not trust.learn(authority.revoke(peers[2], number=2))
    assert trust.lists == (newer,)
    for each in members[:2]:
        assert refused(trust, each) is Lapse.REVOKED
    assert trusted(trust, members[2])


def test_a_list_on_which_somebody_is_missing_lets_nobody_in_again(
    trust: Trust, authority: Any
) -> None:
    member = authority.certify("m")
    trust.learn(authority.revoke(member.peer, number=1))
    assert trust.learn(authority.revoke(number=2))
    assert refused(trust, member) is Lapse.REVOKED


def test_each_authority_has_a_list_of_its_own(trust: Trust, authority: Any) -> None:
    second = authority.certify("second", Role.AUTHORITY)
    members = [authority.certify(name) for name in "mn"]
    lists = [
        author.revoke(member.peer)
        for author, member in zip((authority, second), members, strict=True)
    ]
    assert all(trust.learn(signed) for signed in lists)
    assert trust.lists == tuple(lists)
    assert {each.member for each in trust.revoked} == {each.peer for each in members}


def test_who_watches_is_told_of_news_only(trust: Trust, authority: Any) -> None:
    calls: list[int] = []
    trust.watch(lambda: calls.append(len(trust.revoked)))
    trust.learn(authority.revoke(number=1))
    assert calls == []
    trust.learn(authority.revoke("m", number=2))
    trust.learn(authority.revoke("m", number=2))
    trust.learn(authority.revoke("m", number=3))
    assert calls == [1]
    trust.learn(authority.revoke("m", "n", "o", number=4))
    assert calls == [1, 3]


def test_many_authorities_are_nobodys_fault(trust: Trust, root: Any, authority: Any) -> None:
    """One that certifies more of them than we keep lists of must not set members, who have taken
    different ones of their lists, against each other."""
    bad = authority.certify("bad", Role.AUTHORITY)
    for number in range(16):
        assert trust.learn(bad.certify(f"{number}", Role.AUTHORITY).revoke("nobody"))
    before = trust.lists
    assert not trust.learn(bad.certify("one more", Role.AUTHORITY).revoke("nobody"))
    assert trust.lists == before


def test_nobody_keeps_out_the_lists_of_those_above(trust: Trust, authority: Any) -> None:
    bad = authority.certify("bad", Role.AUTHORITY)
    for number in range(20):
        trust.learn(bad.certify(f"{number}", Role.AUTHORITY).revoke("nobody"))
    # Neither one of the same rank nor the one above is kept from saying what is wrong.
    for author, victim in ((authority.certify("late", Role.AUTHORITY), "a"), (authority, "b")):
        member = authority.certify(victim)
        assert trust.learn(author.revoke(member.peer, bad.peer))
        assert refused(trust, member) is Lapse.REVOKED
    assert refused(trust, bad) is Lapse.REVOKED


def test_lists_of_those_who_were_thrown_out_make_room(
    trust: Trust, authority: Any, clock: Clock
) -> None:
    for number in range(8):
        trust.learn(authority.certify(f"{number}", Role.AUTHORITY, expires=NOW + 5).revoke("x"))
    bad = authority.certify("bad", Role.AUTHORITY)
    for number in range(7):
        trust.learn(bad.certify(f"{8 + number}", Role.AUTHORITY).revoke("x"))
    ours = authority.revoke(bad.peer)
    assert trust.learn(ours)
    clock.now += 5
    victim = authority.certify("victim")
    late = authority.certify("late", Role.AUTHORITY).revoke(victim.peer)
    assert trust.learn(late)
    assert set(trust.lists) == {ours, late}
    # Those whom they had thrown out stay so.
    assert "x" in {each.member for each in trust.revoked}
    assert refused(trust, victim) is Lapse.REVOKED


def counting() -> tuple[list[str], Callable[[bytes, bytes, str], bool]]:
    asked: list[str] = []

    def verifies(message: bytes, signature: bytes, peer: str) -> bool:
        asked.append(peer)
        return identity.verifies(message, signature, peer)

    return asked, verifies


def test_signatures_are_checked_once(root: Any, authority: Any, clock: Clock) -> None:
    asked, verifies = counting()
    trust = Trust(root.group, verifies, clock=clock)
    member = authority.certify("m")
    for _ in range(5):
        assert trusted(trust, member)
    assert len(asked) == 2


def test_a_list_that_every_neighbour_shows_is_checked_once(
    root: Any, authority: Any, clock: Clock
) -> None:
    asked, verifies = counting()
    trust = Trust(root.group, verifies, clock=clock)
    signed = authority.revoke(authority.certify("m").peer)
    trust.learn(signed)
    num_asked = len(asked)
    assert not any(trust.learn(signed) for _ in range(5))
    assert len(asked) == num_asked


def test_what_is_remembered_is_limited(
    root: Any, authority: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_module, "_MAX_EXAMINED", 3)
    trust = Trust(root.group, identity.verifies, clock=clock)
    members = [authority.certify(f"{number}") for number in range(6)]
    trust.learn(authority.revoke(members[0].peer))
    for _ in range(2):
        assert refused(trust, members[0]) is Lapse.REVOKED
        assert trusted(trust, *members[1:])
        assert len(trust._examined) == 3


def test_what_is_forged_takes_no_room(trust: Trust, root: Any, stranger: Any) -> None:
    for number in range(5):
        with pytest.raises(MembershipError):
            trust.check(stranger.certify(f"{number}", issuer=root.peer).credential)
    assert not trust._examined
