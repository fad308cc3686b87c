"""How a program becomes a member and stays one, at a tiny authority over the twin."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarm.background import background
from swarm.directory import Shelf
from swarm.directory.memory import MemoryDirectory, Registry
from swarm.errors import ConfigError, Lapse, MembershipError, Misbehaved, SwarmError, Unreachable
from swarm.identity import Identity
from swarm.invite import Invite
from swarm.membership.certificate import Role
from swarm.membership.founder import Founder
from swarm.membership.papers import Cabinet, Papers
from swarm.membership.registration import Applicant, Registration
from swarm.transport import Stream
from swarm.transport.memory import Network
from swarm.wire.enrolment import (
    PROTOCOL,
    Answer,
    Decline,
    Declined,
    Enrolled,
    Members,
    Question,
    Renew,
    Station,
    decode_question,
)

pytestmark = pytest.mark.simulated_time

DAY = 86_400.0


def now() -> float:
    return 1e9 + asyncio.get_running_loop().time()


@dataclass
class Village:
    """A group whose authority sits in a simulated network, and machines that want to join."""

    folder: Path
    key_of: Callable[[str], Identity]
    open_office: Any
    network: Network = field(default_factory=Network)
    registry: Registry = field(default_factory=Registry)
    num_programs: int = 0

    def __post_init__(self) -> None:
        self.founder = self.found("authority")

    def found(self, authority: str) -> Founder:
        """The group, as one of its authorities."""
        return Founder(self.key_of("group"), self.key_of(authority), clock=now)

    async def office(self, name: str = "authority", founder: Founder | None = None) -> Any:
        key = self.key_of(name)
        office = self.open_office(founder or self.found(name), key)
        await office.serve(self.network.transport(key.peer_id))
        return office

    def cabinet(self, machine: str = "machine") -> Cabinet:
        return Cabinet(self.folder / machine, self.founder.group)

    def papers(self, machine: str = "machine") -> Papers:
        papers = self.cabinet(machine).load()
        assert papers is not None
        return papers

    async def join(
        self,
        invite: Invite,
        role: Role = Role.PEER,
        *,
        machine: str = "machine",
        cabinet: bool = True,
        program: bool = False,
    ) -> Registration:
        """Registers a machine, or a program that runs on it."""
        subject = process = self.key_of(machine)
        if program:
            self.num_programs += 1
            process = self.key_of(f"program {self.num_programs}")
        transport = self.network.member(process.peer_id) or self.network.transport(process.peer_id)
        applicant = Applicant(
            subject, process, role, machine, self.cabinet(machine) if cabinet else None
        )
        return await Registration.obtain(transport, invite, applicant, self.founder.trust())

    def directory(self, name: str = "machine") -> MemoryDirectory:
        return self.registry.directory(self.key_of(name).peer_id)

    async def close(self) -> None:
        for member in list(self.network._members.values()):
            await member.aclose()


@pytest.fixture
async def village(
    tmp_path: Path, key_of: Callable[[str], Identity], open_office: Any
) -> AsyncIterator[Village]:
    village = Village(tmp_path, key_of, open_office)
    yield village
    await village.close()


async def test_the_first_time_an_invite_is_redeemed(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    peer = village.key_of("machine").peer_id
    standing = registration.membership.standing
    assert (standing.peer, standing.member, standing.name) == (peer, peer, "machine")
    assert standing.roles == {Role.CLIENT, Role.PEER}
    assert office.kinds == ["Enrol"]
    assert registration.stations == office.stations
    assert village.papers().credential == registration.membership.credential
    assert village.papers().group_name == "friends"
    (file,) = (village.folder / "machine").rglob("membership")
    assert file.stat().st_mode & 0o77 == 0


async def test_after_that_nobody_is_asked(village: Village) -> None:
    office = await village.office()
    invite = office.invite()
    first = await village.join(invite)
    await village.network.kill(office.key.peer_id)
    again = await village.join(invite)
    assert again.membership.credential == first.membership.credential
    assert office.kinds == ["Enrol"]


async def test_without_papers_somebody_is_new_each_time(village: Village) -> None:
    office = await village.office()
    invite = office.invite(uses=2)
    for machine in ("one", "other"):
        await village.join(invite, machine=machine, cabinet=False)
    with pytest.raises(ConfigError, match="used up"):
        await village.join(invite, machine="a third", cabinet=False)
    assert office.kinds == ["Enrol"] * 3
    assert not list(village.folder.iterdir())


async def test_an_answer_that_was_lost_costs_no_invite(village: Village) -> None:
    """The invite is spent, and the papers never came: the same machine may ask again."""
    office = await village.office()
    invite = office.invite()
    authority = village.network.member(office.key.peer_id)
    assert authority is not None

    async def lose(stream: Stream) -> None:
        header, _ = await stream.receive()
        assert office._redeem(decode_question(bytes(header))) is None

    await authority.serve(PROTOCOL, lose)
    with pytest.raises(Unreachable):
        await village.join(invite)
    assert village.cabinet().load() is None
    await authority.serve(PROTOCOL, office._attend)
    await village.join(invite)
    with pytest.raises(ConfigError, match="used up"):
        await village.join(invite, machine="another")


async def test_programs_of_one_machine_are_one_member(village: Village) -> None:
    office = await village.office()
    invite = office.invite()
    async with asyncio.TaskGroup() as tasks:
        joining = [
            tasks.create_task(village.join(invite, Role.CLIENT, program=True)) for _ in range(3)
        ]
    standings = [task.result().membership.standing for task in joining]
    assert office.kinds == ["Enrol"], "programs that start together redeem an invite once"
    assert len({standing.peer for standing in standings}) == 3
    assert {standing.member for standing in standings} == {village.key_of("machine").peer_id}
    assert {standing.roles for standing in standings} == {frozenset({Role.CLIENT})}


async def test_who_is_killed_while_it_joins_keeps_out_nobody(village: Village) -> None:
    office = await village.office()
    invite = office.invite()
    village.network.freeze(office.key.peer_id)
    joining = asyncio.create_task(village.join(invite, Role.CLIENT, program=True))
    await asyncio.sleep(1)
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    village.network.thaw(office.key.peer_id)
    await village.join(invite, Role.CLIENT, program=True)


async def test_papers_that_have_expired_are_renewed(village: Village) -> None:
    office = await village.office()
    invite = office.invite()
    await village.join(invite)
    await asyncio.sleep(3 * DAY)
    registration = await village.join(invite)
    assert office.kinds == ["Enrol", "Renew"]
    assert registration.membership.standing.expires == pytest.approx(now() + DAY)
    assert village.papers().credential == registration.membership.credential


async def test_papers_that_have_expired_and_nobody_to_renew_them(village: Village) -> None:
    office = await village.office()
    await village.join(office.invite())
    before = village.papers()
    await asyncio.sleep(3 * DAY)
    await village.network.kill(office.key.peer_id)
    with pytest.raises(Unreachable):
        await village.join(office.invite())
    assert village.papers() == before


async def test_who_was_thrown_out_is_told_so_and_not_taken_in_anew(village: Village) -> None:
    office = await village.office()
    await village.join(office.invite())
    before = village.papers()
    office.expel(village.key_of("machine").peer_id)
    await asyncio.sleep(2 * DAY)
    fresh = office.invite(uses=10)
    with pytest.raises(MembershipError) as caught:
        await village.join(fresh)
    assert caught.value.lapse is Lapse.REVOKED
    assert office.kinds == ["Enrol", "Renew"], "no invite of its own accord"
    assert village.papers() == before
    # Without its papers it is not taken in either: the authority knows its key.
    (file,) = (village.folder / "machine").rglob("membership")
    file.unlink()
    with pytest.raises(MembershipError, match="thrown out"):
        await village.join(fresh)
    assert village.cabinet().load() is None


async def test_who_has_heard_that_it_was_thrown_out_knows_it_after_a_restart(
    village: Village,
) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    signed = office.expel(village.key_of("machine").peer_id)
    await village.directory("authority").publish(Shelf.REVOCATIONS, signed)
    with pytest.raises(MembershipError, match="removed"):
        await registration.keep(village.directory())
    with pytest.raises(MembershipError):
        await village.join(office.invite())
    assert office.kinds == ["Enrol", "Renew"]
    # Nobody need be there to say it.
    invite = office.invite()
    await village.network.kill(office.key.peer_id)
    with pytest.raises(MembershipError, match="removed") as caught:
        await village.join(invite)
    assert caught.value.lapse is Lapse.REVOKED


@pytest.mark.parametrize("role", [Role.PEER, Role.ADMIN])
async def test_an_invite_for_more_makes_more_of_a_member(village: Village, role: Role) -> None:
    office = await village.office()
    await village.join(office.invite(Role.CLIENT), Role.CLIENT)
    registration = await village.join(office.invite(role), role)
    assert office.kinds == ["Enrol", "Enrol"]
    assert registration.membership.standing.may(role)
    again = await village.join(office.invite(), Role.PEER)
    assert office.kinds == ["Enrol", "Enrol"]
    assert again.membership.standing == registration.membership.standing


async def test_an_invite_for_less_than_is_needed_says_so(village: Village) -> None:
    office = await village.office()
    with pytest.raises(ConfigError, match="--role peer"):
        await village.join(office.invite(Role.CLIENT), Role.PEER)
    # What it got it keeps: it may ask.
    await village.join(office.invite(), Role.CLIENT)
    assert office.kinds == ["Enrol"]


async def test_an_invite_for_less_that_is_used_up_says_so_too(village: Village) -> None:
    """A laptop that asks, and then would serve by what it has been let in with."""
    office = await village.office()
    invite = office.invite(Role.CLIENT)
    await village.join(invite, Role.CLIENT, machine="client")
    office.twist = lambda *_: Declined(Decline.SPENT, "")
    with pytest.raises(ConfigError, match=r"used up.*--role peer.*for a client"):
        await village.join(invite, Role.PEER, machine="peer")
    with pytest.raises(ConfigError, match=r"ask for a new one$"):
        await village.join(invite, Role.CLIENT, machine="another")


@pytest.mark.parametrize(
    ("why", "error", "said"),
    [
        (Decline.SPENT, ConfigError, "used up"),
        (Decline.EXPIRED, ConfigError, "expired"),
        (Decline.REVOKED, ConfigError, "taken back"),
        (Decline.FOREIGN, ConfigError, "another group"),
        (Decline.UNKNOWN, ConfigError, "does not know this invite"),
        (Decline.FORBIDDEN, MembershipError, "thrown out"),
        (Decline.BUSY, Unreachable, "takes nobody in now"),
    ],
)
async def test_what_is_wrong_with_an_invite_is_said(
    village: Village, why: Decline, error: type[SwarmError], said: str
) -> None:
    office = await village.office()
    for message in ("", "in the authority's own words"):
        office.twist = lambda *_, message=message: Declined(why, message)
        with pytest.raises(error, match=message or said):
            await village.join(office.invite())
    assert village.cabinet().load() is None


async def test_the_proof_is_of_who_asks_and_whom(village: Village) -> None:
    """An authority that gets a question cannot use it at another one, nor can anybody else."""
    office = await village.office()
    await village.join(office.invite(uses=9))
    question = office.asked[0]
    group, machine = village.founder.group.key, village.key_of("machine").peer_id
    answer = office._answer(machine, question)
    assert isinstance(answer, Enrolled)
    assert office._answer(village.key_of("thief").peer_id, question) == Declined(Decline.FOREIGN)
    second = village.open_office(village.found("second"), village.key_of("second"))
    assert second._answer(machine, question) == Declined(Decline.FOREIGN)
    assert group == office.founder.group.key


@pytest.mark.parametrize("whose", ["somebody else", "another group", "expired", "garbage"])
async def test_a_certificate_that_does_not_hold_is_not_kept(village: Village, whose: str) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    before = village.papers()
    key_of = village.key_of
    credential = {
        "somebody else": village.founder.certify(key_of("somebody").peer_id),
        "another group": Founder(key_of("other"), key_of("authority"), clock=now).certify(
            key_of("machine").peer_id
        ),
        "expired": village.founder.certify(key_of("machine").peer_id, lifetime=-1),
        "garbage": b"\xc1",
    }[whose]
    office.twist = lambda *_: Enrolled(credential)
    await registration.verify()
    assert (village.papers(), registration.membership.credential) == (before, before.credential)
    with pytest.raises(Misbehaved, match="does not hold"):
        await village.join(office.invite(), machine="another")
    assert village.cabinet("another").load() is None


@pytest.mark.parametrize("off", [-2 * DAY, 2 * DAY])
async def test_a_clock_that_is_wrong_is_spoken_of(village: Village, off: float) -> None:
    office = await village.office()
    ahead = Founder(village.key_of("group"), village.key_of("authority"), clock=lambda: now() + off)
    office.twist = lambda *_: Enrolled(ahead.certify(village.key_of("machine").peer_id))
    with pytest.raises(Misbehaved, match="clock right"):
        await village.join(office.invite())


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x91" * 9999, b"\x94\xc4\x01x\xa0\x90\x90"])
async def test_damaged_papers_are_named_and_left_alone(village: Village, content: bytes) -> None:
    office = await village.office()
    invite = office.invite(uses=2)
    await village.join(invite)
    (file,) = (village.folder / "machine").rglob("membership")
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="membership"):
        await village.join(invite)
    assert file.read_bytes() == content
    assert office.kinds == ["Enrol"]


async def test_papers_of_another_identity_are_named(village: Village) -> None:
    """The identity was deleted, or a folder copied in part: nobody new joins silently."""
    office = await village.office()
    await village.join(office.invite())
    village.cabinet("copy").place.mkdir(parents=True)
    village.cabinet("copy").save(village.papers())
    place = str(village.cabinet("copy").place)
    with pytest.raises(ConfigError, match=f"used: this certificate is somebody.*delete {place}"):
        await village.join(office.invite(), machine="copy")
    assert office.kinds == ["Enrol"]
    # What it says helps.
    shutil.rmtree(place)
    await village.join(office.invite(), machine="copy")


async def test_papers_of_one_group_are_not_shown_in_another(village: Village) -> None:
    office = await village.office()
    await village.join(office.invite())
    other = Founder(village.key_of("other"), village.key_of("authority"), clock=now)
    assert Cabinet(village.folder / "machine", other.group).load() is None


# While it runs


async def test_it_is_renewed_at_half_its_life(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite(), Role.CLIENT, program=True)
    membership = registration.membership
    shown = membership.credential
    async with background() as tasks:
        tasks.create_task(registration.keep(village.directory()))
        await asyncio.sleep(DAY / 2 - 60)
        assert membership.credential == shown
        await asyncio.sleep(120)
        assert office.kinds == ["Enrol", "Renew"]
        assert membership.credential != shown
        standing = membership.trust.check(membership.credential)
        assert standing.expires == pytest.approx(now() + DAY, abs=120)
        await asyncio.sleep(5 * DAY)
        assert membership.trust.check(membership.credential).may(Role.CLIENT)
        assert office.kinds.count("Renew") == 11
    assert village.papers().credential != shown


async def test_while_no_authority_is_there_it_goes_on(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    membership, shown = registration.membership, registration.membership.credential
    async with background() as tasks:
        keeping = tasks.create_task(registration.keep(village.directory()))
        await village.network.kill(office.key.peer_id)
        await asyncio.sleep(0.9 * DAY)
        assert not keeping.done()
        membership.trust.check(membership.credential)
        await office.serve(village.network.transport(office.key.peer_id))
        await asyncio.sleep(60)
        assert membership.credential != shown
        membership.trust.check(membership.credential)
        # Also when it has been away for so long that the certificate has ended.
        await village.network.kill(office.key.peer_id)
        await asyncio.sleep(3 * DAY)
        assert not keeping.done()
        with pytest.raises(MembershipError):
            membership.trust.check(membership.credential)
        await office.serve(village.network.transport(office.key.peer_id))
        await asyncio.sleep(60)
        membership.trust.check(membership.credential)


async def test_being_thrown_out_ends_it_by_the_directory(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    clock = asyncio.get_running_loop().time
    keeping = asyncio.create_task(registration.keep(village.directory()))
    await asyncio.sleep(1)
    started = clock()
    signed = office.expel(village.key_of("machine").peer_id)
    await village.directory("authority").publish(Shelf.REVOCATIONS, signed)
    with pytest.raises(MembershipError, match="removed") as caught:
        await keeping
    assert caught.value.lapse is Lapse.REVOKED
    assert clock() - started <= 10
    assert signed in village.papers().revocations


async def test_being_thrown_out_ends_it_by_what_others_tell(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    keeping = asyncio.create_task(registration.keep(village.directory()))
    await asyncio.sleep(1)
    started = asyncio.get_running_loop().time()
    registration.membership.trust.learn(office.expel(village.key_of("machine").peer_id))
    with pytest.raises(MembershipError, match="removed"):
        await keeping
    assert asyncio.get_running_loop().time() == started


async def test_being_thrown_out_ends_it_when_somebody_does_not_let_us_in(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    keeping = asyncio.create_task(registration.keep(village.directory()))
    await asyncio.sleep(1)
    office.expel(village.key_of("machine").peer_id)
    registration.membership.doubt()
    with pytest.raises(MembershipError, match="removed"):
        await keeping
    assert office.kinds == ["Enrol", "Renew"]


async def test_doubts_are_settled_by_one_question(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    async with background() as tasks:
        keeping = tasks.create_task(registration.keep(village.directory()))
        for _ in range(100):
            registration.membership.doubt()
            await asyncio.sleep(0.04)
        assert office.kinds == ["Enrol", "Renew"]
        # One that denies us for ever cannot have its neighbours besiege the authority.
        for _ in range(5 * 60):
            registration.membership.doubt()
            await asyncio.sleep(1)
        assert 5 <= office.kinds.count("Renew") <= 11
        assert not keeping.done()


async def test_doubts_that_nobody_can_settle_end_nothing(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    await village.network.kill(office.key.peer_id)
    async with background() as tasks:
        keeping = tasks.create_task(registration.keep(village.directory()))
        registration.membership.doubt()
        await asyncio.sleep(60)
        assert not keeping.done()


async def two_offices(village: Village) -> tuple[Any, Any]:
    """Two authorities that know each other."""
    first = await village.office()
    second = await village.office("second")
    second.members = first.members
    first.stations = second.stations = (*first.stations, *second.stations)
    return first, second


@pytest.mark.parametrize("state", ["dead", "silent", "busy", "confused", "babbling"])
async def test_another_authority_renews_where_one_does_not(village: Village, state: str) -> None:
    first, second = await two_offices(village)
    registration = await village.join(first.invite())
    assert [each.peer for each in registration.stations] == [
        first.key.peer_id,
        second.key.peer_id,
    ]
    authority = village.network.member(first.key.peer_id)
    assert authority is not None

    async def babble(stream: Stream) -> None:
        await stream.send(b"\xc1", b"")

    match state:
        case "dead":
            await authority.aclose()
        case "silent":
            village.network.freeze(first.key.peer_id)
        case "busy":
            first.twist = lambda *_: Declined(Decline.BUSY)
        case "confused":
            first.twist = lambda *_: Members(0, ())
        case "babbling":
            await authority.serve(PROTOCOL, babble)
    shown = registration.membership.credential
    await asyncio.sleep(1)
    await registration.verify()
    assert registration.membership.credential != shown
    assert second.kinds == ["Renew"]
    village.network.thaw(first.key.peer_id)


async def test_authorities_that_move_are_found_by_the_directory(village: Village) -> None:
    office = await village.office()
    registration = await village.join(office.invite())
    encode = msgspec.msgpack.encode
    moved = Station(office.key.peer_id, ("/memory/elsewhere",))
    new = Station(village.key_of("second").peer_id, ("/memory/second",))
    wrong = Station(village.key_of("victim").peer_id, ("/memory/wrong",))
    await village.directory("authority").publish(Shelf.AUTHORITIES, encode(moved))
    await village.directory("second").publish(Shelf.AUTHORITIES, encode(new))
    await village.directory("third").publish(Shelf.AUTHORITIES, encode(wrong))
    await village.directory("fourth").publish(Shelf.AUTHORITIES, b"\xc1")
    async with background() as tasks:
        tasks.create_task(registration.keep(village.directory()))
        await asyncio.sleep(1)
    assert registration.stations == (moved, new)
    assert village.papers().stations == (moved, new)


async def test_an_authority_that_was_thrown_out_is_not_believed(village: Village) -> None:
    """Else it would end every member that asks it for a new certificate."""
    first, second = await two_offices(village)
    registration = await village.join(first.invite())
    first.twist = lambda *_: Declined(Decline.REVOKED, "you are out")
    registration.membership.trust.learn(second.expel(first.key.peer_id))
    await registration.verify()
    assert first.kinds == ["Enrol"], "it is not asked any more"
    assert second.kinds == ["Renew"]


@pytest.mark.parametrize("order", [1, -1])
async def test_that_one_is_out_is_not_taken_from_one_authority_alone(
    village: Village, order: int
) -> None:
    """It may be out itself, without our having heard of that."""
    first, second = await two_offices(village)
    registration = await village.join(first.invite())
    offices = [first, second][::order]
    offices[0].twist = lambda *_: Declined(Decline.REVOKED, "you are out")
    shown = registration.membership.credential
    await asyncio.sleep(1)
    await registration.verify()
    assert registration.membership.credential != shown
    # Where nobody says otherwise, it is so: also if another one does not answer at all.
    offices[1].twist = lambda *_: Declined(Decline.BUSY)
    with pytest.raises(MembershipError, match="you are out"):
        await registration.verify()


async def test_members_of_an_authority_that_was_thrown_out_are_certified_anew(
    village: Village,
) -> None:
    first, second = await two_offices(village)
    registration = await village.join(first.invite())
    membership = registration.membership
    async with background() as tasks:
        tasks.create_task(registration.keep(village.directory()))
        await asyncio.sleep(1)
        membership.trust.learn(second.expel(first.key.peer_id))
        with pytest.raises(MembershipError):
            membership.trust.check(membership.credential)
        await asyncio.sleep(5)
        assert second.kinds == ["Renew"]
        assert membership.trust.check(membership.credential).may(Role.PEER)
    assert registration.stations == second.stations[1:]
    # Also after a restart, and for one that has not run meanwhile.
    again = await village.join(second.invite())
    assert again.membership.standing == membership.standing


async def test_an_answer_of_somebody_elses_kind_is_nobodys(village: Village) -> None:
    office = await village.office()

    def twist(question: Question, answer: Answer) -> Answer:
        return Members(0, ()) if isinstance(question, Renew) else answer

    office.twist = twist
    registration = await village.join(office.invite())
    before = village.papers()
    await registration.verify()
    assert village.papers() == before
