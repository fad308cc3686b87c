from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from swarm import identity
from swarm.bootstrap import office
from swarm.bootstrap.authority import Authority
from swarm.bootstrap.config import DAY, Terms
from swarm.bootstrap.denial import NotGranted
from swarm.errors import ConfigError, Lapse, MembershipError
from swarm.invite import Invite
from swarm.membership.certificate import ROLES, Role, Standing, examine
from swarm.membership.membership import Membership, certify_process
from swarm.membership.revocation import Revocation, RevocationList, read_list
from swarm.membership.trust import Trust
from swarm.wire.enrolment import Decline, Entry, Station, Ticket


def standing(authority: Authority, credential: bytes) -> Standing:
    return examine(credential, authority.group, identity.verifies)


def join(authority: Authority, peer: str, role: Role = Role.PEER, name: str = "") -> bytes:
    return authority.redeem(authority.invite(role, name=name).ticket, peer)


def listed(authority: Authority) -> RevocationList:
    return read_list(authority.revocations(), authority.group, identity.verifies)[1]


def member(authority: Authority, peer: str) -> Entry:
    (found,) = [each for each in authority.members() if each.member == peer]
    return found


@contextmanager
def refuses(why: Decline, words: str = ".") -> Iterator[None]:
    """Expects that the authority declines, and why."""
    with pytest.raises(NotGranted, match=words) as caught:
        yield
    assert caught.value.why is why


# Invites


def test_an_invite_makes_a_member(authority, machine, clock) -> None:
    invite = authority.invite(Role.PEER, name="garage-pc", uses=1, expires=clock() + 600)
    assert invite.group == authority.group
    assert (invite.role, invite.expires) == (Role.PEER, clock() + 600)
    assert invite.bootstraps[0].peer == authority.peer_id
    garage = machine("garage")
    ticket = Invite.decode(invite.encode()).ticket
    shown = standing(authority, authority.redeem(ticket, garage.peer_id, "my wish"))
    assert (shown.peer, shown.member, shown.name) == (garage.peer_id, garage.peer_id, "garage-pc")
    assert shown.roles == set(ROLES[Role.PEER])
    assert (shown.begins, shown.expires) == (clock(), clock() + DAY)
    assert authority.invites() == ()
    now = clock()
    assert member(authority, garage.peer_id) == Entry(
        garage.peer_id, "garage-pc", ROLES[Role.PEER], now, now, now + DAY, 0.0, authority.peer_id
    )


@pytest.mark.parametrize("role", Role)
def test_an_invite_gives_its_role(authority, machine, role: Role) -> None:
    shown = standing(authority, join(authority, machine("pc").peer_id, role))
    assert shown.roles == set(ROLES[role])


def test_a_role_that_is_written_into_an_invite_changes_nothing(authority, machine) -> None:
    invite = authority.invite(Role.CLIENT)
    forged = msgspec.structs.replace(invite, role=Role.AUTHORITY, expires=9e10)
    shown = standing(authority, authority.redeem(forged.ticket, machine("pc").peer_id))
    assert shown.roles == {Role.CLIENT}


def test_an_invite_can_be_used_so_often(authority, machine) -> None:
    ticket = authority.invite(Role.PEER, uses=2).ticket
    for name in ("one", "two"):
        authority.redeem(ticket, machine(name).peer_id)
    with refuses(Decline.SPENT, "used up"):
        authority.redeem(ticket, machine("three").peer_id)


def test_an_invite_expires(authority, machine, clock) -> None:
    ticket = authority.invite(Role.PEER, expires=clock() + 60).ticket
    clock.pass_by(60)
    with refuses(Decline.EXPIRED, "has expired"):
        authority.redeem(ticket, machine("pc").peer_id)
    assert authority.invites() == ()


def test_an_invite_is_taken_back(authority, machine) -> None:
    invite = authority.invite(Role.PEER, name="garage-pc")
    assert authority.revoke("garage-pc").invites == 1
    with refuses(Decline.REVOKED, "taken back"):
        authority.redeem(invite.ticket, machine("pc").peer_id)


def test_invites_from_elsewhere(town, authority, machine) -> None:
    ticket = authority.invite(Role.PEER).ticket
    guess = Ticket(ticket.number, bytes(16))
    foreign = town.found("other").invite(Role.PEER).ticket
    of_another_bootstrap = town.deputy(authority, "second").invite(Role.PEER).ticket
    for wrong in (guess, foreign, of_another_bootstrap):
        with refuses(Decline.UNKNOWN, "not written"):
            authority.redeem(wrong, machine("pc").peer_id)
    assert [each.uses for each in authority.invites()] == [1]


def test_an_invite_that_a_restored_ledger_does_not_know(town, machine) -> None:
    authority = town.found()
    path = town.folder / "first" / "ledger"
    copy = path.read_bytes()
    ticket = authority.invite(Role.PEER).ticket
    authority.close()
    path.write_bytes(copy)
    with refuses(Decline.UNKNOWN, "no longer known"):
        town.found().redeem(ticket, machine("pc").peer_id)


def test_whose_answer_was_lost_gets_it_again(authority, machine, clock) -> None:
    ticket = authority.invite(Role.PEER, name="garage-pc").ticket
    garage = machine("garage").peer_id
    authority.redeem(ticket, garage)
    clock.pass_by(8 * DAY)
    shown = standing(authority, authority.redeem(ticket, garage))
    assert (shown.name, shown.begins) == ("garage-pc", clock())
    assert len(authority.members()) == 2
    with refuses(Decline.SPENT):
        authority.redeem(ticket, machine("other").peer_id)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"uses": 0}, "uses"),
        ({"uses": 1001}, "uses"),
        ({"name": "x" * 65}, "64 characters"),
        ({"name": "a\nb"}, "printable"),
        ({"expires": 0.0}, "expires"),
        ({"expires": 9e10}, "expires"),
    ],
)
def test_invites_are_bounded(authority, settings: dict[str, object], words: str) -> None:
    with refuses(Decline.FORBIDDEN, words):
        authority.invite(Role.PEER, **settings)
    assert authority.invites() == ()


def test_there_are_not_too_many_invites(authority) -> None:
    for _ in range(64):
        authority.invite(Role.PEER)
    with refuses(Decline.FORBIDDEN, "revoke some"):
        authority.invite(Role.PEER)


def test_the_first_invite_is_bounded_and_stays(authority, machine, clock) -> None:
    first = authority.first_invite()
    (line,) = authority.invites()
    assert (line.role, line.name, line.uses) == (Role.PEER, "", 10)
    assert line.expires == first.expires == clock() + 7 * DAY
    authority.redeem(first.ticket, machine("pc").peer_id)
    authority.invite(Role.PEER)
    clock.pass_by(6 * DAY)
    assert authority.first_invite() == first
    clock.pass_by(DAY)
    second = authority.first_invite()
    assert second.ticket != first.ticket
    assert authority.first_invite() == second


def test_a_first_invite_that_is_spent_is_followed_by_another(town, machine) -> None:
    authority = town.found(terms=Terms(uses=1, validity=60))
    first = authority.first_invite()
    assert first.expires == town.clock() + 60
    authority.redeem(first.ticket, machine("pc").peer_id)
    assert authority.first_invite().ticket != first.ticket


def test_an_invite_is_the_same_when_it_is_printed_again(town) -> None:
    first = town.found().first_invite()
    with Authority.open(town.folder / "first", clock=town.clock) as again:
        assert again.first_invite() == first
    assert first.ticket.secret not in (town.folder / "first" / "ledger").read_bytes()


def test_an_invite_names_bootstraps_its_writer_first(town, authority) -> None:
    for number in range(5):
        peer = town.machine(f"b{number}").peer_id
        address = f"/ip4/192.0.2.{number}/tcp/1/p2p/{peer}"
        authority.meet(Station(peer, (address,) * (9 if number else 0)))
        town.clock.pass_by(1)
    bootstraps = authority.invite(Role.PEER).bootstraps
    assert [each.peer for each in bootstraps] == [
        authority.peer_id,
        *(town.machine(f"b{number}").peer_id for number in (4, 3, 2)),
    ]
    assert bootstraps[1].addresses == ("/ip4/192.0.2.4/tcp/1",) * 3


def test_a_bootstrap_that_never_ran_writes_no_invite(tmp_path: Path, clock) -> None:
    office.found(tmp_path, None, clock)
    with Authority.open(tmp_path, clock=clock) as authority:
        with pytest.raises(ConfigError, match="start it once"):
            authority.invite(Role.PEER)
        assert authority.invites() == ()


def test_an_expired_invite_may_be_good_again_while_the_clock_is_wrong_but_not_twice(
    authority, machine, clock
) -> None:
    ticket = authority.invite(Role.PEER).ticket
    authority.redeem(ticket, machine("one").peer_id)
    clock.pass_by(-1000 * DAY)
    with refuses(Decline.SPENT):
        authority.redeem(ticket, machine("two").peer_id)


# Single use


def test_single_use_among_threads(authority, machine) -> None:
    ticket = authority.invite(Role.PEER, uses=3).ticket
    peers = [machine(f"pc{number}").peer_id for number in range(12)]

    def redeem(peer: str) -> bool:
        try:
            authority.redeem(ticket, peer)
        except NotGranted as error:
            assert error.why is Decline.SPENT
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(redeem, peers)) == 3
    assert len(authority.members()) == 1 + 3


def _redeem_all(folder: Path, ticket: Ticket, peers: list[str], ready, results) -> None:
    with Authority.open(folder, clock=lambda: 1.8e9) as authority:
        ready.wait()
        for peer in peers:
            try:
                authority.redeem(ticket, peer)
                results.put(peer)
            except NotGranted as error:
                assert error.why is Decline.SPENT
        results.put(None)


def test_single_use_among_processes(town, authority, machine) -> None:
    ticket = authority.invite(Role.PEER, uses=4).ticket
    peers = [machine(f"pc{number}").peer_id for number in range(10)]
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(2), context.Queue()
    arguments = (town.folder / "first", ticket)
    processes = [
        context.Process(target=_redeem_all, args=(*arguments, part, ready, results))
        for part in (peers[:5], peers[5:])
    ]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in range(4 + 2)]
    for process in processes:
        process.join()
    assert len(set(answers) - {None}) == 4
    assert {each.member for each in authority.members()} == {*answers, authority.peer_id} - {None}


def _redeem_and_die(folder: Path, ticket: Ticket, peer: str, statement: str) -> None:
    """Is killed when the ledger has done its first statement of this kind."""
    authority = Authority.open(folder, clock=lambda: 1.8e9)
    connection = authority._ledger._connection

    class Dying:
        def __getattr__(self, name: str) -> object:
            return getattr(connection, name)

        def execute(self, question: str, *values: object) -> object:
            result = connection.execute(question, *values)
            if question.startswith(statement):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    authority._ledger._connection = Dying()  # type: ignore[assignment]
    authority.redeem(ticket, peer)


@pytest.mark.parametrize(
    "statement",
    ["BEGIN", "UPDATE invites", "INSERT INTO redemptions", "INSERT INTO members", "COMMIT"],
)
def test_single_use_when_it_is_killed(town, authority, machine, statement: str) -> None:
    ticket = authority.invite(Role.PEER, name="garage-pc").ticket
    garage = machine("garage").peer_id
    arguments = (town.folder / "first", ticket, garage, statement)
    dying = multiprocessing.get_context("spawn").Process(target=_redeem_and_die, args=arguments)
    dying.start()
    dying.join(60)
    assert dying.exitcode == -signal.SIGKILL
    is_in = any(each.member == garage for each in authority.members())
    assert is_in is (statement == "COMMIT")
    assert len(authority.invites()) == (0 if is_in else 1)
    shown = standing(authority, authority.redeem(ticket, garage))
    assert shown.name == "garage-pc"
    with refuses(Decline.SPENT):
        authority.redeem(ticket, machine("other").peer_id)


# Names


def test_names_are_made_unique(authority, machine) -> None:
    ticket = authority.invite(Role.PEER, name="pc", uses=3).ticket
    names = [
        standing(authority, authority.redeem(ticket, machine(f"m{number}").peer_id)).name
        for number in range(3)
    ]
    assert names == ["pc", "pc-2", "pc-3"]


@pytest.mark.parametrize(
    ("wish", "name"), [("", "peer"), ("\x1b[2J", "[2J"), ("bootstrap", "bootstrap-2")]
)
def test_an_open_invite_takes_a_wish(authority, machine, wish: str, name: str) -> None:
    ticket = authority.invite(Role.PEER).ticket
    shown = standing(authority, authority.redeem(ticket, machine("pc").peer_id, wish))
    assert shown.name == name


def test_a_name_is_free_when_its_owner_was_removed(authority, machine) -> None:
    join(authority, machine("one").peer_id, name="pc")
    authority.revoke("pc")
    assert standing(authority, join(authority, machine("two").peer_id, name="pc")).name == "pc"


def test_a_member_that_comes_with_another_invite_stays_who_it_is(authority, machine) -> None:
    pc = machine("pc").peer_id
    join(authority, pc, Role.CLIENT, "pc")
    shown = standing(authority, join(authority, pc, Role.PEER, "other name"))
    assert (shown.name, shown.roles) == ("pc", set(ROLES[Role.PEER]))
    shown = standing(authority, join(authority, pc, Role.CLIENT))
    assert shown.roles == set(ROLES[Role.PEER])
    assert len(authority.members()) == 2


# Renewing


def test_a_certificate_is_renewed_even_after_months(authority, machine, clock) -> None:
    pc = machine("pc").peer_id
    old = join(authority, pc, name="pc")
    clock.pass_by(90 * DAY)
    shown = standing(authority, authority.renew(pc, old))
    assert (shown.name, shown.begins, shown.expires) == ("pc", clock(), clock() + DAY)
    assert (member(authority, pc).renewed, member(authority, pc).joined) == (
        clock(),
        clock() - 90 * DAY,
    )


def test_the_lifetime_is_what_the_terms_say(town, machine, clock) -> None:
    authority = town.found(terms=Terms(lifetime=3600))
    assert standing(authority, join(authority, machine("pc").peer_id)).expires == clock() + 3600


def test_a_certificate_is_renewed_as_what_its_owner_is_now(authority, machine) -> None:
    """Not as what it shows: that may be from before, or from somebody who has lied."""
    pc = machine("pc").peer_id
    old = join(authority, pc, Role.CLIENT)
    join(authority, pc, Role.PEER)
    assert standing(authority, authority.renew(pc, old)).roles == set(ROLES[Role.PEER])


def test_nobody_renews_for_another(authority, machine) -> None:
    credential = join(authority, machine("pc").peer_id)
    with pytest.raises(MembershipError) as caught:
        authority.renew(machine("thief").peer_id, credential)
    assert caught.value.lapse is Lapse.FORGED


def test_a_program_does_not_renew(authority, machine) -> None:
    pc, program = machine("pc"), machine("program").peer_id
    trust = Trust(authority.group, identity.verifies, clock=lambda: 1.8e9)
    membership = Membership(trust, join(authority, pc.peer_id), pc.sign)
    with refuses(Decline.FORBIDDEN, "a program's"):
        authority.renew(program, certify_process(membership, program, lambda: 1.8e9))


def test_foreign_and_forged_certificates_are_not_renewed(town, authority, machine) -> None:
    pc = machine("pc").peer_id
    foreign = join(town.found("other"), pc)
    mine = join(authority, pc)
    for credential, lapse in (
        (foreign, Lapse.FOREIGN),
        (mine[:-9] + bytes(9), Lapse.FORGED),
        (b"", Lapse.FORGED),
    ):
        with pytest.raises(MembershipError) as caught:
            authority.renew(pc, credential)
        assert caught.value.lapse is lapse


def test_who_was_removed_is_not_renewed(authority, machine) -> None:
    pc = machine("pc").peer_id
    credential = join(authority, pc, name="pc")
    authority.revoke("pc")
    with refuses(Decline.REVOKED, "pc was removed"):
        authority.renew(pc, credential)


def test_who_was_removed_is_told_what_to_do(authority, machine) -> None:
    pc = machine("pc").peer_id
    spent = authority.invite(Role.PEER, name="pc").ticket
    authority.redeem(spent, pc)
    authority.revoke("pc")
    fresh = authority.invite(Role.PEER).ticket
    for ticket in (spent, fresh):
        with refuses(Decline.FORBIDDEN, "as pc.*new identity.*new invite"):
            authority.redeem(ticket, pc)
    assert [each.uses for each in authority.invites()] == [1]
    authority.redeem(fresh, machine("new identity").peer_id)


def test_certificates_do_not_end_earlier_by_a_clock_that_goes_back(
    authority, machine, clock
) -> None:
    pc = machine("pc").peer_id
    credential = join(authority, pc, name="pc")
    before = member(authority, pc).expires
    clock.pass_by(-3600)
    authority.renew(pc, credential)
    assert member(authority, pc).expires == before
    authority.revoke("pc")
    (revocation,) = listed(authority).revoked
    assert revocation.until >= before


# Revoking


def test_a_member_is_removed(authority, machine, clock) -> None:
    pc = machine("pc")
    credential = join(authority, pc.peer_id, name="pc")
    trust = Trust(authority.group, identity.verifies, clock=clock)
    trust.learn(authority.revocations())
    trust.check(credential, pc.peer_id)
    clock.pass_by(5)
    expelled = authority.revoke("pc")
    assert (expelled.members, expelled.invites) == (("pc",), 0)
    assert member(authority, pc.peer_id).revoked == clock()
    assert trust.learn(authority.revocations())
    with pytest.raises(MembershipError, match="pc was removed"):
        trust.check(credential, pc.peer_id)
    with refuses(Decline.REVOKED, "removed already"):
        authority.revoke("pc")


@pytest.mark.parametrize("part", [slice(None), slice(0, 14), slice(-8, None)])
def test_a_member_is_meant_by_its_id(authority, machine, part: slice) -> None:
    pc = machine("pc").peer_id
    join(authority, pc, name="pc")
    join(authority, machine("other").peer_id, name="other")
    assert authority.revoke(pc[part]).members == ("pc",)


def test_what_nobody_is_called(authority, machine) -> None:
    join(authority, machine("pc").peer_id, name="pc")
    for name in ("p", "", "12D3", "abcd", machine("pc").peer_id[-5:]):
        with refuses(Decline.UNKNOWN, "no member and no open invite"):
            authority.revoke(name)


def test_what_may_mean_two(authority, machine) -> None:
    """Somebody may call itself by the end of another's id, to be thrown out in its place."""
    pc = machine("pc").peer_id
    join(authority, pc, name="pc")
    authority.redeem(authority.invite(Role.PEER).ticket, machine("liar").peer_id, pc[-8:])
    with refuses(Decline.UNKNOWN, "may mean"):
        authority.revoke(pc[-8:])
    assert listed(authority).revoked == ()
    assert authority.revoke(pc).members == ("pc",)


def test_invites_are_meant_by_their_number(authority) -> None:
    one, two = (authority.invite(Role.PEER).ticket.number.hex() for _ in range(2))
    assert authority.revoke(one[:8]).invites == 1
    assert authority.revoke(two.upper()).invites == 1
    with refuses(Decline.UNKNOWN):
        authority.revoke(one)


def test_a_member_and_the_invites_of_its_name(authority, machine) -> None:
    join(authority, machine("pc").peer_id, name="pc")
    for _ in range(2):
        authority.invite(Role.PEER, name="pc")
    expelled = authority.revoke("pc")
    assert (expelled.members, expelled.invites) == (("pc",), 2)
    assert authority.invites() == ()


def test_who_is_removed_takes_its_invite_with_it(authority, machine) -> None:
    """It knows the line, and could come back by it with another identity."""
    first = authority.first_invite()
    authority.redeem(first.ticket, machine("pc").peer_id, "pc")
    assert authority.revoke("pc").invites == 1
    with refuses(Decline.REVOKED):
        authority.redeem(first.ticket, machine("again").peer_id)
    assert authority.first_invite().ticket != first.ticket


def test_an_admin_that_is_removed_does_not_come_back_by_invites_of_its_own(
    town, authority, machine
) -> None:
    """It has them in its drawer, for any number of machines and for a year."""
    admin = standing(authority, join(authority, machine("admin").peer_id, Role.ADMIN, "admin"))
    own = authority.invite(Role.ADMIN, uses=1000, by=admin)
    others = authority.invite(Role.PEER)
    assert authority.revoke("admin").invites == 1
    with refuses(Decline.REVOKED, "taken back"):
        authority.redeem(own.ticket, machine("again").peer_id)
    assert authority.redeem(others.ticket, machine("pc").peer_id)


def test_an_admin_does_nothing_more_from_the_moment_of_its_removal(authority, machine) -> None:
    """The desk knows that by a list, which comes a moment later."""
    admin = standing(authority, join(authority, machine("admin").peer_id, Role.ADMIN, "admin"))
    join(authority, machine("pc").peer_id, name="pc")
    authority.revoke("admin")
    with refuses(Decline.REVOKED, "admin was removed"):
        authority.invite(Role.PEER, by=admin)
    with refuses(Decline.REVOKED, "admin was removed"):
        authority.revoke("pc", by=admin)
    assert authority.invites() == ()


def test_invites_of_an_admin_that_is_removed_elsewhere_are_void(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    admin = standing(authority, join(authority, machine("admin").peer_id, Role.ADMIN, "admin"))
    own = authority.invite(Role.PEER, by=admin)
    tell(authority, deputy)
    deputy.revoke("admin")
    tell(deputy, authority)
    with refuses(Decline.REVOKED, "taken back"):
        authority.redeem(own.ticket, machine("again").peer_id)


def test_an_authority_does_not_remove_itself_or_who_is_above(town, authority) -> None:
    deputy = town.deputy(authority, "second")
    authority_entry = member(authority, authority.peer_id)
    deputy.merge(authority.credential, [authority_entry])
    for who in (authority, deputy):
        with refuses(Decline.FORBIDDEN, "is this bootstrap, or one above"):
            who.revoke("bootstrap")
    with refuses(Decline.FORBIDDEN):
        deputy.revoke("second")
    assert authority.revoke("second").members == ("second",)


def test_an_admin_gives_and_takes_no_more_than_it_has(town, authority, machine) -> None:
    town.deputy(authority, "second")
    admin = standing(authority, join(authority, machine("admin").peer_id, Role.ADMIN, "admin"))
    assert authority.invite(Role.ADMIN, by=admin)
    with refuses(Decline.FORBIDDEN, "admin may not invite"):
        authority.invite(Role.AUTHORITY, by=admin)
    with refuses(Decline.FORBIDDEN, "admin may not remove second"):
        authority.revoke("second", by=admin)
    join(authority, machine("pc").peer_id, name="pc")
    assert authority.revoke("pc", by=admin).members == ("pc",)


def test_what_is_refused_has_not_been_half_done(town, authority) -> None:
    authority.invite(Role.PEER, name="bootstrap")
    with refuses(Decline.FORBIDDEN):
        authority.revoke("bootstrap")
    assert len(authority.invites()) == 1


def test_lists_are_numbered_upwards_whatever_the_clock_does(authority, machine, clock) -> None:
    numbers = [listed(authority).number]
    for passed in (1.0, -100 * DAY, 0.0):
        clock.pass_by(passed)
        join(authority, machine(f"pc{passed}").peer_id, name="pc")
        authority.revoke("pc")
        numbers.append(listed(authority).number)
    assert numbers == sorted(set(numbers))
    assert len(listed(authority).revoked) == 3


def test_a_list_forgets_what_nobody_needs_to_know(authority, machine, clock) -> None:
    pc = machine("pc").peer_id
    credential = join(authority, pc, name="pc")
    authority.revoke("pc")
    (revocation,) = listed(authority).revoked
    assert revocation.until >= standing(authority, credential).expires
    number = listed(authority).number
    clock.pass_by(revocation.until - clock() + 61)
    assert listed(authority) == RevocationList(number, ())
    with refuses(Decline.REVOKED):
        authority.renew(pc, credential)


def test_a_list_has_an_end(authority, clock, monkeypatch, machine, caplog) -> None:
    monkeypatch.setattr("swarm.bootstrap.authority.MAX_REVOKED", 2)
    for number in range(3):
        clock.pass_by(1)
        join(authority, machine(f"m{number}").peer_id, name=f"m{number}")
        authority.revoke(f"m{number}")
    assert [each.name for each in listed(authority).revoked] == ["m2", "m1"]
    assert "more were removed" in caplog.text


@pytest.mark.parametrize("way", ["told", "listed"])
def test_a_rogue_bootstrap_cannot_fill_the_list_from_which_it_is_to_be_read(
    town, authority, machine, clock, monkeypatch, way: str
) -> None:
    """It says beforehand that others are removed in the year 5138; lists begin with the last."""
    monkeypatch.setattr("swarm.bootstrap.authority.MAX_REVOKED", 3)
    rogue = town.deputy(authority, "rogue")
    far = 1e11
    for number in range(5):
        name, peer = f"m{number}", machine(f"m{number}").peer_id
        if way == "told":
            made_up = Entry(peer, name, ROLES[Role.PEER], 1, 2, far, far, rogue.peer_id)
            authority.merge(rogue.credential, [made_up])
        else:
            authority.hear([Revocation(peer, name, far, far)])
    clock.pass_by(1)
    authority.revoke("rogue")
    assert listed(authority).revoked[0].member == rogue.peer_id


def test_other_processes_see_what_is_done(town, authority, machine) -> None:
    before = authority.change
    join(authority, machine("pc").peer_id, name="pc")
    joined = authority.change
    assert joined > before
    with Authority.open(town.folder / "first", clock=town.clock) as command:
        assert {each.name for each in command.members()} == {"bootstrap", "pc"}
        command.revoke("pc")
    assert authority.change > joined
    assert [each.name for each in listed(authority).revoked] == ["pc"]


# More than one authority


def tell(teller: Authority, hearer: Authority) -> None:
    entries = [entry for _, entry in teller.changes(0, 1000)]
    hearer.merge(teller.credential, entries)


def test_a_deputy_does_all_that_the_first_one_does(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    pc, other = machine("pc").peer_id, machine("other").peer_id
    mine = join(authority, pc, name="pc")
    join(deputy, other, name="other")
    tell(authority, deputy)
    tell(deputy, authority)
    names = {"bootstrap", "second", "pc", "other"}
    assert {each.name for each in authority.members()} == names
    assert {each.name for each in deputy.members()} == names
    renewed = deputy.renew(pc, mine)
    shown = standing(authority, renewed)
    assert shown.issuers == {authority.group.key, authority.peer_id, deputy.peer_id}
    deputy.revoke("pc")
    tell(deputy, authority)
    with refuses(Decline.REVOKED):
        authority.renew(pc, renewed)
    assert [each.name for each in listed(authority).revoked] == ["pc"]


def test_a_member_is_renewed_before_it_was_heard_of(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    pc = machine("pc").peer_id
    credential = join(authority, pc, name="second")
    entry_before = standing(authority, credential).name
    shown = standing(deputy, deputy.renew(pc, credential))
    assert (entry_before, shown.name) == ("second-2", "second-2")
    assert member(deputy, pc).issuer == authority.peer_id


def test_a_new_bootstrap_does_not_bring_back_who_was_removed_long_ago(
    town, authority, machine, clock
) -> None:
    """Lists name nobody for ever, and its ledger is empty until the others have told it."""
    pc = machine("pc").peer_id
    credential = join(authority, pc, name="pc")
    authority.revoke("pc")
    clock.pass_by(32 * DAY)
    assert listed(authority).revoked == ()
    deputy = town.deputy(authority, "second")
    with refuses(Decline.UNKNOWN, "pc.*not known here yet"):
        deputy.renew(pc, credential)
    tell(authority, deputy)
    with refuses(Decline.REVOKED):
        deputy.renew(pc, credential)


def test_authorities_stand_below_one_another_only_so_deep(town, authority, machine) -> None:
    last = authority
    for number in range(3):
        last = town.deputy(last, f"deputy{number}")
    with refuses(Decline.FORBIDDEN, "too many bootstraps"):
        last.invite(Role.AUTHORITY)
    # A program of a member of the deepest one can still show who it is.
    pc, program = machine("pc"), machine("program").peer_id
    trust = Trust(authority.group, identity.verifies, clock=town.clock)
    membership = Membership(trust, join(last, pc.peer_id), pc.sign)
    trust.check(certify_process(membership, program, town.clock), program)


def test_members_of_a_deputy_that_is_removed_need_a_new_invite(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    pc, own = machine("pc").peer_id, machine("own").peer_id
    by_deputy = join(deputy, pc, Role.ADMIN, name="pc")
    mine = join(authority, own, name="own")
    tell(authority, deputy)
    tell(deputy, authority)
    renewed = authority.renew(pc, by_deputy)
    renewed_there = deputy.renew(own, mine)
    authority.revoke("second")
    for credential in (by_deputy, renewed):
        with refuses(Decline.REVOKED, "the bootstrap that let pc in"):
            authority.renew(pc, credential)
    # Whom the first one has let in is renewed, also if the other one has renewed it last.
    authority.renew(own, renewed_there)
    shown = standing(authority, join(authority, pc, Role.PEER))
    assert (shown.name, shown.roles) == ("pc", set(ROLES[Role.PEER]))
    authority.renew(pc, by_deputy)


def test_an_old_invite_gives_back_no_more_than_it_gave(town, authority, machine) -> None:
    """A deputy has made somebody an admin, and was removed: asking again is no way around that."""
    deputy = town.deputy(authority, "second")
    pc = machine("pc").peer_id
    ticket = authority.invite(Role.CLIENT, name="pc").ticket
    authority.redeem(ticket, pc)
    tell(authority, deputy)
    join(deputy, pc, Role.ADMIN)
    tell(deputy, authority)
    assert Role.ADMIN in member(authority, pc).roles
    authority.revoke("second")
    shown = standing(authority, authority.redeem(ticket, pc))
    assert shown.roles == {Role.CLIENT}


def test_a_deputy_below_one_that_is_removed_answers_for_nobody(town, authority, machine) -> None:
    second = town.deputy(authority, "second")
    third = town.deputy(second, "third")
    credential = join(third, machine("pc").peer_id, name="pc")
    for teller in (third, second):
        tell(teller, authority)
    authority.revoke("second")
    with refuses(Decline.REVOKED, "the bootstrap that let pc in"):
        authority.renew(machine("pc").peer_id, credential)


def test_a_removed_deputy_cannot_say_who_let_somebody_in(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    pc = machine("pc").peer_id
    credential = join(deputy, pc, name="pc")
    lie = msgspec.structs.replace(member(deputy, pc), issuer=authority.peer_id)
    authority.merge(deputy.credential, [lie])
    authority.revoke("second")
    with refuses(Decline.REVOKED):
        authority.renew(pc, credential)


@pytest.mark.parametrize("claimed", ["nobody", "third", "first", "the group"])
@pytest.mark.parametrize("honest_before", [False, True])
def test_a_deputy_that_lies_about_who_let_somebody_in_is_found_out(
    town, authority, machine, claimed: str, honest_before: bool
) -> None:
    rogue, third = town.deputy(authority, "rogue"), town.deputy(authority, "third")
    issuers = {
        "nobody": machine("x").peer_id,
        "third": third.peer_id,
        "first": authority.peer_id,
        "the group": authority.group.key,
    }
    pc = machine("pc").peer_id
    credential = join(rogue, pc, name="pc")
    lie = msgspec.structs.replace(member(rogue, pc), issuer=issuers[claimed])
    tell(third, authority)
    if honest_before:
        tell(rogue, authority)
        tell(rogue, third)
    for hearer in (authority, third):
        hearer.merge(rogue.credential, [lie])
    tell(third, authority)
    authority.revoke("rogue")
    with refuses(Decline.REVOKED):
        authority.renew(pc, credential)


@pytest.mark.parametrize("when", ["before", "after", "with an invite"])
def test_a_rogue_bootstrap_leaves_no_other_behind(town, authority, machine, when: str) -> None:
    """It tells one of the others, and only that one, that the first has let in a third."""
    rogue, third = town.deputy(authority, "rogue"), town.deputy(authority, "third")
    tell(authority, third)
    heir = machine("heir").peer_id
    credential = join(rogue, heir, Role.AUTHORITY, "heir")
    third.merge(
        rogue.credential,
        [msgspec.structs.replace(member(rogue, heir), issuer=authority.peer_id)],
    )
    if when == "with an invite":
        shown = standing(third, join(third, heir, Role.CLIENT))
        assert Role.AUTHORITY not in shown.roles
        return
    if when == "after":
        tell(third, authority)
        tell(authority, third)
        authority.revoke("rogue")
        tell(authority, third)
    for each in (authority, third) if when == "after" else (third,):
        with refuses(Decline.UNKNOWN, "only the one that let it in"):
            each.renew(heir, credential)


def test_a_bootstrap_is_renewed_by_the_one_that_let_it_in(town, authority) -> None:
    deputy = town.deputy(authority, "second")
    renewed = authority.renew(deputy.peer_id, deputy.credential)
    assert Role.AUTHORITY in standing(authority, renewed).roles


@pytest.mark.parametrize("claim", ["first", "the group"])
def test_a_deputy_cannot_say_that_it_stands_higher(town, authority, machine, claim: str) -> None:
    """What its credential shows counts: it goes with the one that has really certified it."""
    rogue = town.deputy(authority, "rogue")
    friend = town.deputy(rogue, "friend")
    pc = machine("pc").peer_id
    credential = join(friend, pc, name="pc")
    tell(rogue, authority)
    told = {"first": authority.peer_id, "the group": authority.group.key}[claim]
    mine = [
        msgspec.structs.replace(entry, issuer=told) if entry.member == friend.peer_id else entry
        for entry in friend.members()
    ]
    authority.merge(friend.credential, mine)
    assert member(authority, friend.peer_id).issuer == rogue.peer_id
    authority.revoke("rogue")
    with refuses(Decline.REVOKED):
        authority.renew(pc, credential)


def test_who_stands_above_is_answered_for_by_nobody_below(town, authority, machine) -> None:
    second, third = town.deputy(authority, "second"), town.deputy(authority, "third")
    pc = machine("pc").peer_id
    credential = join(authority, pc, name="pc")
    tell(authority, second)
    # The third one hears of all of it from the second one only.
    tell(second, third)
    authority.revoke("second")
    tell(authority, third)
    assert third.renew(pc, credential)


def test_an_authority_that_nobody_has_heard_of_answers_for_nobody(town, authority, machine) -> None:
    """A deputy that was thrown out could make others, and have them let people in."""
    rogue = town.deputy(authority, "rogue")
    hidden = town.deputy(rogue, "hidden")
    pc = machine("pc").peer_id
    credential = join(hidden, pc, name="pc")
    with refuses(Decline.UNKNOWN, "not known here yet"):
        authority.renew(pc, credential)
    tell(rogue, authority)
    authority.renew(pc, credential)
    authority.revoke("rogue")
    with refuses(Decline.REVOKED):
        authority.renew(pc, credential)


def test_whoever_stands_above_is_not_removed_from_below(town, authority) -> None:
    deputy = town.deputy(authority, "second")
    lie = msgspec.structs.replace(member(authority, authority.peer_id), revoked=5.0)
    authority.merge(deputy.credential, [lie])
    assert not member(authority, authority.peer_id).revoked


def test_names_that_two_have_given_at_the_same_time_end_the_same(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    one, two = machine("one").peer_id, machine("two").peer_id
    join(authority, one, name="pc")
    town.clock.pass_by(1)
    join(deputy, two, name="pc")
    for _ in range(2):
        tell(authority, deputy)
        tell(deputy, authority)
    for who in (authority, deputy):
        assert (member(who, one).name, member(who, two).name) == ("pc", "pc-2")
    before = authority.change
    tell(deputy, authority)
    assert authority.change == before


def test_names_from_elsewhere_are_shown_safely(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    pc = machine("pc").peer_id
    join(deputy, pc)
    evil = msgspec.structs.replace(member(deputy, pc), name="\x1b[2J\r")
    authority.merge(deputy.credential, [evil])
    assert member(authority, pc).name == "[2J"


def test_who_is_removed_elsewhere_takes_its_invite_with_it(town, authority, machine) -> None:
    deputy = town.deputy(authority, "second")
    first = authority.first_invite()
    authority.redeem(first.ticket, machine("pc").peer_id, "pc")
    tell(authority, deputy)
    deputy.revoke("pc")
    tell(deputy, authority)
    with refuses(Decline.REVOKED):
        authority.redeem(first.ticket, machine("again").peer_id)


def test_lists_of_others_are_taken_into_the_ledger(town, authority, machine, clock) -> None:
    deputy = town.deputy(authority, "second")
    known, unknown = machine("known").peer_id, machine("unknown").peer_id
    join(authority, known, name="known")
    credential = join(deputy, unknown, name="unknown")
    tell(authority, deputy)
    for name in ("known", "unknown"):
        deputy.revoke(name)
    trust = Trust(authority.group, identity.verifies, clock=clock)
    trust.learn(deputy.revocations())
    authority.hear(trust.revoked)
    assert {each.member for each in listed(authority).revoked} == {known, unknown}
    with refuses(Decline.REVOKED):
        authority.renew(unknown, credential)
    before = authority.change
    authority.hear(trust.revoked)
    assert authority.change == before


def test_a_removed_authority_is_no_station(town, authority) -> None:
    deputy = town.deputy(authority, "second")
    place = Station(deputy.peer_id, ("/ip4/192.0.2.9/tcp/1",))
    authority.meet(place)
    assert place in authority.stations()
    authority.revoke("second")
    authority.meet(place)
    assert [each.peer for each in authority.stations()] == [authority.peer_id]


def test_who_stands_above_is_renewed_elsewhere(town, authority) -> None:
    deputy = town.deputy(authority, "second")
    with refuses(Decline.UNKNOWN, "stands above"):
        deputy.renew(authority.peer_id, authority.credential)
    shown = standing(authority, authority.renew(deputy.peer_id, deputy.credential))
    assert shown.may(Role.AUTHORITY)
    assert shown.expires - shown.begins > 9 * 365 * DAY
