"""The desk over the in-memory network, asked as members and strangers ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest

from swarm import identity
from swarm.bootstrap.authority import Authority
from swarm.bootstrap.callers import CallerConfig
from swarm.bootstrap.desk import DECLINES, Desk, members_page
from swarm.errors import ConfigError, Lapse, MembershipError, PeerError, Unreachable
from swarm.invite import Invite
from swarm.membership import enrolment
from swarm.membership.certificate import ROLES, Role
from swarm.membership.membership import Membership, certify_process
from swarm.membership.papers import Papers
from swarm.membership.trust import Trust
from swarm.transport.gate import GateLimits
from swarm.transport.memory import MemoryTransport, Network
from swarm.wire.enrolment import (
    PROTOCOL,
    Answer,
    Census,
    Decline,
    Declined,
    Enrol,
    Enrolled,
    Entry,
    Expel,
    Expelled,
    Issue,
    Issued,
    Members,
    Question,
    Renew,
    Station,
    Sync,
    Synced,
    decode_answer,
    encode,
    proof_message,
)
from swarm.wire.frames import DEFAULT_LIMITS

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""


class Street:
    """A network with the desk of one authority, and machines that come to it."""

    def __init__(self, town, authority: Authority) -> None:
        self.town = town
        self.authority = authority
        self.network = Network()
        self.trust = Trust(authority.group, identity.verifies, clock=town.clock)
        self.station = Station(authority.peer_id)
        self.changes = 0
        self._transports: dict[str, MemoryTransport] = {}

    async def open(self, config: CallerConfig | None = None) -> Desk:
        def on_change() -> None:
            self.changes += 1

        desk = Desk(self.authority, self.trust, config=config, on_change=on_change)
        await desk.serve(self.transport(self.authority.me))
        return desk

    def transport(self, me: identity.Identity) -> MemoryTransport:
        if me.peer_id not in self._transports:
            self._transports[me.peer_id] = self.network.transport(me.peer_id)
        return self._transports[me.peer_id]

    def proof(self, subject: identity.Identity, asker: identity.Identity) -> bytes:
        group, authority = self.authority.group, self.authority.peer_id
        return subject.sign(proof_message(group.key, asker.peer_id, authority))

    async def ask(self, me: identity.Identity, question: Question) -> Answer:
        return await enrolment.ask(self.transport(me), self.station, question)

    async def declined(self, me: identity.Identity, question: Question) -> Decline:
        answer = await self.ask(me, question)
        assert isinstance(answer, Declined)
        assert answer.message
        return answer.why

    def member(self, name: str, role: Role = Role.PEER) -> tuple[identity.Identity, bytes]:
        """A machine that has joined, and its credential."""
        me = self.town.machine(name)
        ticket = self.authority.invite(role, name=name).ticket
        return me, self.authority.redeem(ticket, me.peer_id)


@pytest.fixture
def street(town, authority) -> Street:
    return Street(town, authority)


@pytest.fixture
async def open_street(street: Street) -> Street:
    await street.open()
    return street


# With what members use


async def test_a_machine_enrols_and_renews(open_street: Street, town) -> None:
    street, garage = open_street, town.machine("garage")
    invite = street.authority.invite(Role.PEER, name="garage-pc")
    transport = street.transport(garage)
    trust = Trust(invite.group, identity.verifies, clock=town.clock)
    papers = await enrolment.enrol(transport, garage, invite, trust, "a wish")
    assert trust.check(papers.credential, garage.peer_id).name == "garage-pc"
    assert [each.peer for each in papers.stations] == [street.authority.peer_id]
    town.clock.pass_by(3600)
    renewed = await enrolment.renew(transport, garage, trust, papers)
    assert trust.check(renewed.credential, garage.peer_id).begins == town.clock()


async def test_a_program_enrols_its_machine(open_street: Street, town) -> None:
    street, machine, program = open_street, town.machine("machine"), town.machine("program")
    invite = street.authority.invite(Role.CLIENT)
    trust = Trust(invite.group, identity.verifies, clock=town.clock)
    papers = await enrolment.enrol(street.transport(program), machine, invite, trust, "desk")
    assert trust.check(papers.credential, machine.peer_id).name == "desk"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("spent", "used up"),
        ("expired", "expired"),
        ("withdrawn", "taken back"),
        ("unknown", "not written"),
    ],
)
async def test_a_wrong_invite_says_exactly_what_it_is(
    open_street: Street, town, state: str, words: str
) -> None:
    street, pc = open_street, town.machine("pc")
    invite = street.authority.invite(Role.PEER, name="pc", expires=town.clock() + 60)
    trust = Trust(invite.group, identity.verifies, clock=town.clock)
    match state:
        case "spent":
            street.authority.redeem(invite.ticket, town.machine("other").peer_id)
        case "expired":
            town.clock.pass_by(60)
        case "withdrawn":
            street.authority.revoke("pc")
        case "unknown":
            ticket = msgspec.structs.replace(invite.ticket, secret=bytes(16))
            invite = msgspec.structs.replace(invite, ticket=ticket)
    with pytest.raises(ConfigError, match=words):
        await enrolment.enrol(street.transport(pc), pc, invite, trust, "")


async def test_an_invite_of_another_group_says_so(open_street: Street, town) -> None:
    """Its line names this bootstrap, by mistake or on purpose."""
    street, pc = open_street, town.machine("pc")
    foreign = town.found("other").invite(Role.PEER)
    ours = street.authority.invite(Role.PEER)
    mixed = msgspec.structs.replace(ours, key=foreign.key)
    trust = Trust(mixed.group, identity.verifies, clock=town.clock)
    with pytest.raises(ConfigError, match="of another group"):
        await enrolment.enrol(street.transport(pc), pc, mixed, trust, "")
    assert [each.uses for each in street.authority.invites()] == [1]


async def test_who_was_removed_hears_it(open_street: Street, town) -> None:
    street = open_street
    pc, credential = street.member("pc")
    trust = Trust(street.authority.group, identity.verifies, clock=town.clock)
    street.authority.revoke("pc")
    papers = Papers(credential, stations=(street.station,))
    with pytest.raises(MembershipError, match="pc was removed") as caught:
        await enrolment.renew(street.transport(pc), pc, trust, papers)
    assert caught.value.lapse is Lapse.REVOKED
    with pytest.raises(MembershipError, match="new identity"):
        invite = street.authority.invite(Role.PEER)
        await enrolment.enrol(street.transport(pc), pc, invite, trust, "")


# Proofs


async def test_a_subject_must_agree(street: Street, town) -> None:
    await street.open(CallerConfig(budget=1000))
    pc, thief = town.machine("pc"), town.machine("thief")
    ticket = street.authority.invite(Role.PEER).ticket
    _, credential = street.member("victim")
    victim = town.machine("victim")
    for proof in (
        b"",
        bytes(64),
        street.proof(thief, thief),
        # What the subject has signed for another program, or for another authority.
        street.proof(victim, pc),
        victim.sign(proof_message(street.authority.group.key, thief.peer_id, "elsewhere")),
        victim.sign(proof_message("another group", thief.peer_id, street.authority.peer_id)),
    ):
        for question in (
            Enrol(victim.peer_id, proof, ticket),
            Renew(victim.peer_id, proof, credential),
        ):
            assert await street.declined(thief, question) is Decline.FOREIGN
    assert [each.uses for each in street.authority.invites()] == [1]


async def test_ids_that_are_no_keys(open_street: Street, town) -> None:
    street, pc = open_street, town.machine("pc")
    ticket = street.authority.invite(Role.PEER).ticket
    for subject in ("", "x", "12D3KooW", "\0" * 100):
        question = Enrol(subject, street.proof(pc, pc), ticket)
        assert await street.declined(pc, question) is Decline.FOREIGN


async def test_certificates_that_cannot_be_renewed(open_street: Street, town) -> None:
    street = open_street
    pc, credential = street.member("pc")
    other, _ = street.member("other")
    proof = street.proof(pc, pc)
    foreign_ticket = town.found("foreign").invite(Role.PEER).ticket
    foreign = town.found("foreign").redeem(foreign_ticket, pc.peer_id)
    membership = Membership(street.trust, credential, pc.sign)
    program = certify_process(membership, other.peer_id, town.clock)
    for shown, why in (
        (foreign, Decline.FOREIGN),
        (b"nonsense", Decline.FORBIDDEN),
        (program, Decline.FORBIDDEN),
    ):
        assert await street.declined(pc, Renew(pc.peer_id, proof, shown)) is why
    assert (
        await street.declined(other, Renew(other.peer_id, street.proof(other, other), program))
        is Decline.FORBIDDEN
    )


def test_every_lapse_has_an_answer() -> None:
    assert set(DECLINES) == set(Lapse)


# Admins


def questions(credential: bytes, name: str = "pc") -> Iterator[Question]:
    yield Issue(credential, Role.PEER, "new-pc", 1, 1_800_000_600.0)
    yield Census(credential)
    yield Expel(credential, name)


async def test_an_admin_invites_lists_and_removes(open_street: Street, town) -> None:
    street = open_street
    admin, credential = street.member("admin", Role.ADMIN)
    street.member("pc")
    issued, census, expelled = [await street.ask(admin, each) for each in questions(credential)]
    assert isinstance(issued, Issued) and issued.invite.startswith("hs1")
    assert isinstance(census, Members)
    assert {each.name for each in census.members} == {"bootstrap", "admin", "pc"}
    assert [each.name for each in census.invites] == ["new-pc"]
    assert expelled == Expelled(("pc",), 0)
    assert street.changes == 1


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER])
async def test_who_is_no_admin_does_not(open_street: Street, role: Role) -> None:
    street = open_street
    pc, credential = street.member("pc", role)
    for question in questions(credential):
        assert await street.declined(pc, question) is Decline.FORBIDDEN
    assert await street.declined(pc, Sync(credential)) is Decline.FORBIDDEN
    assert street.authority.invites() == ()
    assert street.changes == 0


async def test_nobody_is_an_admin_with_anothers_certificate(open_street: Street, town) -> None:
    street = open_street
    _, credential = street.member("admin", Role.ADMIN)
    thief = town.machine("thief")
    for question in (*questions(credential), Sync(street.authority.credential)):
        assert await street.declined(thief, question) is Decline.FORBIDDEN


async def test_an_admin_that_was_removed_or_has_expired_is_none(open_street: Street, town) -> None:
    street = open_street
    admin, credential = street.member("admin", Role.ADMIN)
    late, expired = street.member("late", Role.ADMIN)
    street.authority.revoke("admin")
    street.trust.learn(street.authority.revocations())
    for question in questions(credential):
        assert await street.declined(admin, question) is Decline.REVOKED
    town.clock.pass_by(2 * 86400)
    for question in questions(expired):
        assert await street.declined(late, question) is Decline.EXPIRED


async def test_a_program_of_an_admin_is_one(open_street: Street, town) -> None:
    street, program = open_street, town.machine("program")
    admin, credential = street.member("admin", Role.ADMIN)
    membership = Membership(street.trust, credential, admin.sign)
    shown = certify_process(membership, program.peer_id, town.clock)
    assert isinstance(await street.ask(program, Census(shown)), Members)
    # What it may give away is what its machine is.
    street.member("pc")
    for role in (Role.CLIENT, Role.PEER, Role.ADMIN):
        issue = Issue(shown, role, "", 1, 1.8e9 + 60)
        assert isinstance(await street.ask(program, issue), Issued)
    assert isinstance(await street.ask(program, Expel(shown, "pc")), Expelled)
    assert (
        await street.declined(program, Issue(shown, Role.AUTHORITY, "", 1, 1.8e9 + 60))
        is Decline.FORBIDDEN
    )


async def test_an_admin_gives_no_more_than_it_has(open_street: Street, town) -> None:
    street = open_street
    town.deputy(street.authority, "second")
    admin, credential = street.member("admin", Role.ADMIN)
    another = Issue(credential, Role.ADMIN, "", 1, 1.8e9 + 60)
    assert isinstance(await street.ask(admin, another), Issued)
    for question in (
        Issue(credential, Role.AUTHORITY, "", 1, 1.8e9 + 60),
        Issue(credential, Role.PEER, "", 1, 1.0),
        Expel(credential, "second"),
        Expel(credential, "bootstrap"),
    ):
        assert await street.declined(admin, question) is Decline.FORBIDDEN
    assert await street.declined(admin, Expel(credential, "nobody")) is Decline.UNKNOWN


async def test_long_lists_come_in_pages(open_street: Street, town) -> None:
    street = open_street
    admin, credential = street.member("admin", Role.ADMIN)
    entries = [
        Entry(f"{number:052d}", "\N{BRICK}" * 61 + f"{number:03d}", ROLES[Role.AUTHORITY], 1, 2, 3)
        for number in range(300)
    ]
    street.authority.merge(street.authority.credential, entries)
    for _ in range(60):
        street.authority.invite(Role.PEER, name="\N{BRICK}" * 64)
    found: list[Entry] = []
    sizes = []
    while True:
        answer = await street.ask(admin, Census(credential, len(found)))
        assert isinstance(answer, Members)
        assert len(answer.invites) == (0 if found else 60)
        found += answer.members
        sizes.append(len(encode(answer)))
        if len(found) == answer.total:
            break
    assert tuple(found) == street.authority.members()
    assert len(sizes) > 2 and max(sizes) < DEFAULT_LIMITS.header


def test_a_page_is_never_empty() -> None:
    longest = Entry("x" * 128, "\N{BRICK}" * 64, ROLES[Role.AUTHORITY], 1, 2, 3, 4, "y" * 128)
    assert len(members_page([longest] * 500)) > 40
    assert members_page([]) == ()


async def test_a_list_beyond_its_end(open_street: Street) -> None:
    admin, credential = open_street.member("admin", Role.ADMIN)
    answer = await open_street.ask(admin, Census(credential, 10_000))
    assert isinstance(answer, Members) and (answer.total, answer.members) == (2, ())


# Other authorities


async def test_another_authority_is_told_what_has_changed(open_street: Street, town) -> None:
    street = open_street
    deputy = town.deputy(street.authority, "second")
    street.member("pc")
    addresses = ("/ip4/192.0.2.7/tcp/1",)
    answer = await street.ask(deputy.me, Sync(deputy.credential, 0, addresses))
    assert isinstance(answer, Synced)
    assert {each.name for each in answer.members} == {"bootstrap", "second", "pc"}
    assert answer.credential == street.authority.credential
    assert not answer.more
    assert Station(deputy.peer_id, addresses) in street.authority.stations()
    again = await street.ask(deputy.me, Sync(deputy.credential, answer.change))
    assert again == Synced(street.authority.credential, answer.change)


async def test_a_certificate_comes_with_all_stations_and_lists(open_street: Street, town) -> None:
    street = open_street
    deputy = town.deputy(street.authority, "second")
    street.authority.meet(Station(deputy.peer_id, ("/ip4/192.0.2.7/tcp/1",)))
    street.member("pc")
    street.authority.revoke("pc")
    street.trust.learn(deputy.revocations())
    street.trust.learn(street.authority.revocations())
    other, credential = street.member("other")
    proof = street.proof(other, other)
    answer = await street.ask(other, Renew(other.peer_id, proof, credential))
    assert isinstance(answer, Enrolled)
    assert [each.peer for each in answer.stations] == [street.authority.peer_id, deputy.peer_id]
    assert set(answer.revocations) == set(street.trust.lists)
    assert answer.revocations[0] == street.authority.revocations()


async def test_all_that_comes_with_a_certificate_fits_into_an_answer(
    open_street: Street, town
) -> None:
    street = open_street
    long = tuple(f"/dns4/{'x' * 230}{number:03d}/tcp/1" for number in range(32))
    for number in range(16):
        town.clock.pass_by(1)
        street.authority.meet(Station(town.machine(f"b{number}").peer_id, long))
    for number in range(400):
        street.authority._ledger.write(
            Entry(f"{number:052d}", f"member {number}" * 3, (Role.PEER,), 1, 2, 9e9, 1.7e9)
        )
    pc, credential = street.member("pc")
    proof = street.proof(pc, pc)
    answer = await street.ask(pc, Renew(pc.peer_id, proof, credential))
    assert isinstance(answer, Enrolled) and answer.stations
    assert len(encode(answer)) < DEFAULT_LIMITS.header
    Invite.decode(street.authority.invite(Role.PEER).encode())


# Limits


async def raw(street: Street, me: identity.Identity, header: bytes, payload: bytes = b"") -> Answer:
    stream = await street.transport(me).open(street.authority.peer_id, PROTOCOL)
    try:
        await stream.send(header, payload)
        answer, _ = await stream.receive()
    finally:
        await stream.aclose()
    return decode_answer(bytes(answer))


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x91" * 5000, b"\x92\xa5enrol", b"x" * 60_000])
async def test_nonsense_ends_the_stream_and_nothing_else(
    open_street: Street, town, header: bytes
) -> None:
    street = open_street
    with pytest.raises(PeerError):
        await raw(street, town.machine("stranger"), header)
    admin, credential = street.member("admin", Role.ADMIN)
    assert isinstance(await street.ask(admin, Census(credential)), Members)


async def test_no_payload_of_a_stranger_is_taken(open_street: Street, town) -> None:
    with pytest.raises(PeerError):
        await raw(open_street, town.machine("stranger"), encode(Census(b"")), b"payload")


async def test_who_guesses_has_to_wait(street: Street, town) -> None:
    await street.open(CallerConfig(budget=10, vain_cost=6))
    guesser, honest = town.machine("guesser"), town.machine("honest")
    invite = street.authority.invite(Role.PEER)
    guess = msgspec.structs.replace(invite.ticket, secret=bytes(16))
    question = Enrol(guesser.peer_id, street.proof(guesser, guesser), guess)
    answers = [await street.declined(guesser, question) for _ in range(4)]
    assert answers == [Decline.UNKNOWN, Decline.UNKNOWN, Decline.BUSY, Decline.BUSY]
    # Also with the right one; others are served meanwhile.
    right = Enrol(guesser.peer_id, street.proof(guesser, guesser), invite.ticket)
    assert await street.declined(guesser, right) is Decline.BUSY
    own = Enrol(honest.peer_id, street.proof(honest, honest), invite.ticket)
    assert isinstance(await street.ask(honest, own), Enrolled)


async def test_a_machine_asks_no_more_often_under_many_keys(street: Street, town) -> None:
    """Each renewal waits for the disk, and whoever has a machine can make keys for programs."""
    desk = await street.open(CallerConfig(budget=10))
    desk._callers._clock = lambda: 0.0  # On a slow machine it would get its budget back meanwhile.
    garage, credential = street.member("garage", Role.ADMIN)
    group = Membership(street.trust, credential, garage.sign)
    answers = []
    for number in range(15):
        program = town.machine(f"program {number}")
        question: Question = Renew(garage.peer_id, street.proof(garage, program), credential)
        if number % 2:
            question = Census(certify_process(group, program.peer_id, town.clock))
        answers.append(await street.ask(program, question))
    assert not any(isinstance(each, Declined) for each in answers[:10])
    assert all(isinstance(each, Declined) and each.why is Decline.BUSY for each in answers[10:])
    other, own = street.member("other")
    question = Renew(other.peer_id, street.proof(other, other), own)
    assert isinstance(await street.ask(other, question), Enrolled)


def test_strangers_alone_do_not_fill_the_desk() -> None:
    assert CallerConfig().max_streams > GateLimits().strangers


async def silent_stream(street: Street, me: identity.Identity) -> Callable[[], Awaitable[None]]:
    stream = await street.transport(me).open(street.authority.peer_id, PROTOCOL)
    await asyncio.sleep(0)
    return stream.aclose


async def test_one_caller_does_not_take_all_places(street: Street, town) -> None:
    await street.open(CallerConfig(max_streams=6, caller_streams=4))
    slow = town.machine("slow")
    for _ in range(6):
        await silent_stream(street, slow)
    admin, credential = street.member("admin", Role.ADMIN)
    assert isinstance(await street.ask(admin, Census(credential)), Members)
    answer = await raw(street, slow, encode(Census(b"")))
    assert isinstance(answer, Declined) and answer.why is Decline.BUSY


async def test_there_are_so_many_places(street: Street, town) -> None:
    await street.open(CallerConfig(max_streams=3, caller_streams=1))
    leave = [await silent_stream(street, town.machine(f"slow{number}")) for number in range(3)]
    admin, credential = street.member("admin", Role.ADMIN)
    assert await street.declined(admin, Census(credential)) is Decline.BUSY
    await leave[0]()
    async with asyncio.timeout(HANGING):
        while isinstance(  # noqa: ASYNC110
            await street.ask(admin, Census(credential)), Declined
        ):
            await asyncio.sleep(0)


async def test_who_does_not_ask_is_cut_off(
    street: Street, town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.bootstrap.desk._PATIENCE", 0.01)
    await street.open()
    stream = await street.transport(town.machine("slow")).open(street.authority.peer_id, PROTOCOL)
    async with asyncio.timeout(HANGING):
        with pytest.raises(Unreachable):
            await stream.receive()


async def test_a_ledger_that_is_damaged_is_no_ones_fault_but_ours(
    open_street: Street, town, caplog
) -> None:
    street = open_street
    admin, credential = street.member("admin", Role.ADMIN)
    street.authority._ledger._ask("DROP TABLE members")
    assert await street.declined(admin, Census(credential)) is Decline.BUSY
    assert "ledger" in caplog.text and "is damaged" in caplog.text
    caplog.clear()


async def test_many_come_with_one_invite_at_once(street: Street, town) -> None:
    await street.open()
    ticket = street.authority.invite(Role.PEER, uses=3).ticket
    machines = [town.machine(f"pc{number}") for number in range(10)]
    answers = await asyncio.gather(
        *(
            street.ask(each, Enrol(each.peer_id, street.proof(each, each), ticket))
            for each in machines
        )
    )
    assert sum(isinstance(each, Enrolled) for each in answers) == 3
    assert {each.why for each in answers if isinstance(each, Declined)} == {Decline.SPENT}
