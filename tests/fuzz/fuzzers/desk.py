"""An authority's desk, to which members and strangers put questions that they may not ask."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clockwork import ClockworkLoop
from hypothesis import strategies as st

from swarm import identity
from swarm.bootstrap import office
from swarm.bootstrap.authority import Authority
from swarm.bootstrap.desk import Desk
from swarm.errors import PeerError
from swarm.membership.certificate import Role
from swarm.membership.trust import Trust
from swarm.transport.memory import Network
from swarm.wire.enrolment import (
    PROTOCOL,
    Answer,
    Census,
    Declined,
    Enrol,
    Enrolled,
    Expel,
    Issue,
    Issued,
    Members,
    Renew,
    Station,
    Sync,
    Synced,
    Ticket,
    decode_answer,
    encode,
    proof_message,
)

from .fuzzer import Fuzzer
from .hostile import FLOATS, TEXT
from .log import Errors

_NOW = 1_800_000_000.0
_PEOPLE = ("admin", "peer", "stranger", "guest")
_WHO = st.sampled_from(_PEOPLE)
_ROLE_NAMES = st.sampled_from(["admin", "peer", "guest", "authority", "", "nobody", "x" * 64])
_ANY_NAMES = st.one_of(_ROLE_NAMES, TEXT)


@dataclass(frozen=True)
class Ask:
    """A question of `sender`, about whoever it names and with papers of whomever it likes."""

    sender: str
    what: str
    subject: str
    signer: str
    papers: str
    name: str
    number: int
    time: float
    role: Role
    damage: Any


_ASKS = st.builds(
    Ask,
    _WHO,
    st.sampled_from(["enrol", "renew", "issue", "census", "expel", "sync"]),
    _WHO,
    _WHO,
    st.one_of(_WHO, st.sampled_from(["authority", "none", "noise"])),
    _ANY_NAMES,
    st.sampled_from([1, 2, 1000, 0, 2**31 - 1, 2**62 - 1]),
    st.one_of(st.sampled_from([0.0, _NOW - 1, _NOW + 60, 1e11]), FLOATS),
    st.sampled_from(list(Role)),
    st.one_of(st.none(), st.none(), st.none(), st.integers(0, 2**32)),
)


class _Office:
    """A group with an authority, an admin and a peer, and an invite for one guest."""

    def __init__(self, folder: Path) -> None:
        def clock() -> float:
            return _NOW

        (folder / "office").mkdir()
        office.found(folder / "office", None, clock)
        self.authority = Authority.open(folder / "office", clock=clock)
        self.authority.enter()
        self.authority.meet(Station(self.authority.peer_id, ("/ip4/192.0.2.1/tcp/4001",)))
        self.trust = Trust(self.authority.group, identity.verifies, clock=clock)
        self.people = {who: identity.load_or_create(folder / who) for who in _PEOPLE}
        self.network = Network()
        self.transports = {
            who: self.network.transport(me.peer_id) for who, me in self.people.items()
        }
        self.papers = {"authority": self.authority.credential, "none": b"", "noise": b"\x91\x92"}
        for who, role in (("admin", Role.ADMIN), ("peer", Role.PEER)):
            ticket = self.authority.invite(role, name=who).ticket
            self.papers[who] = self.authority.redeem(ticket, self.people[who].peer_id)
        self.ticket = self.authority.invite(Role.CLIENT, name="guest").ticket

    def question(self, ask: Ask) -> bytes:
        """The question as it is sent; its fields need not be what they have to be."""
        subject = self.people[ask.subject].peer_id
        message = proof_message(
            self.authority.group.key, self.people[ask.sender].peer_id, self.authority.peer_id
        )
        proof = self.people[ask.signer].sign(message)
        papers = self.papers.get(ask.papers, b"")
        ticket = self.ticket if ask.number == 1 else Ticket(self.ticket.number, b"?" * 16)
        made: dict[str, Any] = {
            "enrol": Enrol(subject, proof, ticket, ask.name),
            "renew": Renew(subject, proof, papers),
            "issue": Issue(papers, ask.role, ask.name, ask.number, ask.time),
            "census": Census(papers, ask.number),
            "expel": Expel(papers, ask.name),
            "sync": Sync(papers, ask.number),
        }
        raw = bytearray(encode(made[ask.what]))
        if ask.damage is not None:
            raw[ask.damage % len(raw)] ^= 1 << ask.damage % 7
        return bytes(raw)

    async def ask(self, who: str, header: bytes) -> Answer | None:
        """What somebody is answered; None where it is cut off."""
        try:
            stream = await self.transports[who].open(self.authority.peer_id, PROTOCOL)
            await stream.send(header, b"")
            answer, _ = await stream.receive()
        except PeerError:
            return None
        return decode_answer(bytes(answer))


async def _play(asks: list[Ask], folder: Path) -> None:
    place = _Office(folder)
    desk = Desk(place.authority, place.trust)
    await desk.serve(place.network.transport(place.authority.peer_id))
    guests = 0
    for ask in asks:
        answer = await place.ask(ask.sender, place.question(ask))
        if isinstance(answer, Issued | Members) or type(answer).__name__ == "Expelled":
            assert ask.sender == "admin", f"{ask.sender} was answered by {answer}"
        assert not isinstance(answer, Synced), "nobody here is an authority"
        if isinstance(answer, Enrolled):
            standing = place.trust.check(answer.credential)
            assert ask.signer == ask.subject, "a key that somebody does not hold"
            assert standing.peer == place.people[ask.subject].peer_id
            guests += standing.name == "guest" and ask.what == "enrol"
            assert Role.AUTHORITY not in standing.roles
        await asyncio.sleep(1.0)
    assert guests <= sum(ask.subject == "guest" for ask in asks) + 1
    await asyncio.sleep(120.0)  # Who has asked too much may ask again.
    last = Ask("peer", "renew", "peer", "peer", "peer", "", 1, 0.0, Role.PEER, None)
    answer = await place.ask("peer", place.question(last))
    expelled = any(ask.what == "expel" and ask.sender == "admin" for ask in asks)
    assert isinstance(answer, Enrolled) or (expelled and isinstance(answer, Declined)), answer
    place.authority.close()


def check(asks: list[Ask]) -> None:
    """Nobody gets what is not for them, and whoever belongs here is served as before."""
    errors, logger = Errors(), logging.getLogger("swarm")
    logger.addHandler(errors)
    try:
        with tempfile.TemporaryDirectory() as folder:
            with asyncio.Runner(loop_factory=ClockworkLoop) as runner:
                runner.run(_play(asks, Path(folder)))
    finally:
        logger.removeHandler(errors)
    assert not errors.found, errors.found


FUZZER = Fuzzer(st.lists(_ASKS, max_size=8), check, examples=25)
