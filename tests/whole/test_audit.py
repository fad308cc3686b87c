"""X11: what peers compute is checked: wrong weights, garbage, lies about what passed between them.

Peers are made to lie by changing their runner or their commitments from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref

import pytest
import torch
from msgspec.structs import replace

from swarm.auditing.report import decode_reports, num_reporters
from swarm.client.auditing.config import AuditConfig
from swarm.client.auditing.watch import Watch
from swarm.client.config import SessionConfig
from swarm.directory import Shelf
from swarm.errors import ConfigError
from swarm.wire.messages import Output

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
NUM_TOKENS = 24
ALWAYS = AuditConfig(rate=1.0)
PATIENT = SessionConfig(route_patience=1.0)


def slow(world, *names):
    """Routes lead through these only if there are no others."""
    for name in names:
        speed = world.peers[name].hosting._load
        claim = type(speed.idle)(10.0, 1.0)
        speed.speed = lambda now, claim=claim: claim


def changed(peer, change):
    """Has a peer's results pass through `change(positions of the first row, results)`."""
    runner = peer.hosting.runner
    run = runner.run

    def lying(rows, hidden, blocks=None):
        return change(rows, run(rows, hidden, blocks))

    runner.run = lying


def noise(like, seed=0):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def with_other_weights(peer):
    runner = peer.hosting.runner
    runner._program = None
    with torch.no_grad():
        for index, weight in enumerate(runner.span.layers.parameters()):
            weight.copy_(0.08 * noise(weight, index) if weight.dim() > 1 else weight)


async def chain_and_wholes(world, number=2):
    """A chain of three, and peers for everything that no route prefers: they are witnesses."""
    await world.chain(0, 1, 3, 4)
    wholes = [f"whole-{index}" for index in range(number)]
    for name in wholes:
        await world.peer(name, (0, 4))
    slow(world, *wholes)
    for peer in world.peers.values():
        await peer._announce()


async def checked(world, swarm="client"):
    """All checks have ended; what they have brought."""
    await world.swarms[swarm].audited(60.0)
    return world.swarms[swarm].audits


def suspects(records):
    return {report.suspect for record in records.values() for report in decode_reports(record)}


async def test_x11_honest_peers_are_never_accused(world, asker):
    await chain_and_wholes(world)
    model = await world.client(audit_config=ALWAYS)
    for number in range(3):
        ids = await asker(model).greedy(PROMPT[number:], NUM_TOKENS)
        assert ids == world.tiny.greedy(PROMPT[number:], NUM_TOKENS)
    tally = await checked(world)
    assert tally.agreed >= 9
    assert (tally.caught, tally.undecided, tally.failed) == (0, 0, 0)
    assert not await world.registry.read(Shelf.REPORTS)


@pytest.mark.parametrize("victim", ["peer-0", "peer-1", "peer-2"])
async def test_x11_wrong_weights_are_caught_and_reported(world, asker, victim):
    await chain_and_wholes(world)
    with_other_weights(world.peers[victim])
    model = await world.client(audit_config=ALWAYS)
    asked = asker(model)
    await asked.greedy(PROMPT, NUM_TOKENS)
    tally = await checked(world)
    assert tally.caught == 1
    assert asked.reply.distrusted == [victim]
    records = await world.registry.read(Shelf.REPORTS)
    assert suspects(records) == {victim}
    assert num_reporters(records) == {victim: 1}
    ids = await asker(model).greedy(PROMPT, NUM_TOKENS)
    assert ids == world.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_x11_a_liar_is_left_at_once_and_what_it_touched_is_computed_anew(world, asker):
    """The beginning is checked while the reply runs: what follows is right for what is there."""
    await chain_and_wholes(world)
    with_other_weights(world.peers["peer-0"])
    asked = asker(await world.client(audit_config=ALWAYS))
    touched = []

    async def look(number):
        await checked(world)
        touched.append("peer-0" in {hop.peer for hop in asked.reply.route})

    ids = await asked.greedy(PROMPT, NUM_TOKENS, look)
    assert True in touched and not touched[-1]
    count = touched.index(False)
    assert asked.reply.distrusted == ["peer-0"]
    assert ids[count:] == world.tiny.greedy(PROMPT + ids[:count], NUM_TOKENS - count)


@pytest.mark.parametrize("last", [False, True])
async def test_x11_garbage_at_some_steps_only(world, asker, last):
    """One position of many is enough, in the middle of the chain as at its end."""
    await chain_and_wholes(world)
    name = "peer-2" if last else "peer-1"

    def change(rows, out):
        return noise(out) if rows[0].position == 20 else out

    changed(world.peers[name], change)
    await asker(await world.client(audit_config=ALWAYS)).greedy(PROMPT, NUM_TOKENS)
    await checked(world)
    assert suspects(await world.registry.read(Shelf.REPORTS)) == {name}


async def test_x11_garbage_in_long_sessions_only(world, asker):
    await chain_and_wholes(world)

    def change(rows, out):
        return noise(out) if rows[0].position >= 60 else out

    changed(world.peers["peer-1"], change)
    model = await world.client(audit_config=ALWAYS)
    await asker(model).greedy(PROMPT, NUM_TOKENS)
    assert (await checked(world)).caught == 0
    await asker(model).greedy(PROMPT, 60)
    assert (await checked(world)).caught == 1
    assert suspects(await world.registry.read(Shelf.REPORTS)) == {"peer-1"}


@pytest.mark.parametrize("victim", ["peer-0", "peer-1"])
async def test_x11_numbers_that_are_not_finite_reach_nobody(world, asker, victim):
    await chain_and_wholes(world)

    def change(rows, out):
        return out * float("nan") if rows[0].position >= 15 else out

    changed(world.peers[victim], change)
    asked = asker(await world.client(audit_config=ALWAYS))
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert victim not in {hop.peer for hop in asked.reply.route}


async def test_x11_without_a_third_nobody_is_blamed(world, asker):
    await chain_and_wholes(world, 1)
    with_other_weights(world.peers["peer-1"])
    asked = asker(await world.client(audit_config=ALWAYS))
    await asked.greedy(PROMPT, NUM_TOKENS)
    tally = await checked(world)
    assert tally.undecided >= 1 and tally.caught == 0
    assert not await world.registry.read(Shelf.REPORTS)
    assert not asked.reply.distrusted


async def test_x11_a_witness_that_lies_is_the_one_that_is_caught(world, asker):
    await chain_and_wholes(world)
    with_other_weights(world.peers["whole-0"])
    model = await world.client(audit_config=ALWAYS)
    for _ in range(4):
        ids = await asker(model).greedy(PROMPT, NUM_TOKENS)
        assert ids == world.tiny.greedy(PROMPT, NUM_TOKENS)
        await checked(world)
    assert suspects(await world.registry.read(Shelf.REPORTS)) == {"whole-0"}


async def test_x11_nobody_witnesses_what_only_one_serves(world, asker):
    """Nor has anybody to show what nobody could compare."""
    await world.chain(0, 1, 3, 4)
    with_other_weights(world.peers["peer-1"])
    for peer in world.peers.values():
        peer.hosting.handler._on_copy = lambda link, message: pytest.fail("shown in vain")
    await asker(await world.client(audit_config=ALWAYS)).greedy(PROMPT, NUM_TOKENS)
    tally = await checked(world)
    assert tally.unwitnessed >= 3 and tally.checked == tally.caught == 0


async def test_a_witness_that_is_full_is_not_waited_for(world, asker):
    """Who needs an answer comes first, and loses nothing to a check."""
    await chain_and_wholes(world)
    for number in range(2):
        leases = world.peers[f"whole-{number}"].hosting.handler._leases
        assert leases.try_hold("s" * 16, leases.free, "somebody")
    clock = asyncio.get_running_loop().time
    started = clock()
    await asker(await world.client(audit_config=ALWAYS)).greedy(PROMPT, NUM_TOKENS)
    tally = await checked(world)
    assert tally.failed >= 3 and tally.checked == tally.caught == 0
    assert clock() - started < 5.0
    for number in range(2):
        world.peers[f"whole-{number}"].hosting.handler._leases.release("s" * 16)


async def test_x11_a_chain_of_witnesses(world, asker):
    """Nobody has all blocks of the liar: several together do its work again."""
    await world.peer("liar", (0, 4))
    for number in range(2):
        await world.peer(f"low-{number}", (0, 2))
        await world.peer(f"high-{number}", (2, 4))
    with_other_weights(world.peers["liar"])
    await asker(await world.client(audit_config=ALWAYS)).greedy(PROMPT, NUM_TOKENS)
    await checked(world)
    assert suspects(await world.registry.read(Shelf.REPORTS)) == {"liar"}


def lies_about(peer, received=False, sent=False):
    """Has a peer commit itself to what was not so."""
    handler = peer.hosting.handler
    let_in = handler._openings._on_opened

    def opened(session, found):
        write = session.commitments.write

        def lying(rows, got, gave):
            other = memoryview(bytes(len(got)))
            return write(rows, other if received else got, other if sent else gave)

        session.commitments.write = lying
        let_in(session, found)

    handler._openings._on_opened = opened


@pytest.mark.parametrize("sent", [False, True])
async def test_x11_neighbours_that_contradict_each_other_are_both_left(world, asker, sent):
    """One of the two lies, and nobody can say which: neither is blamed."""
    await chain_and_wholes(world)
    lies_about(world.peers["peer-0" if sent else "peer-1"], received=not sent, sent=sent)
    asked = asker(await world.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert not {"peer-0", "peer-1"} & {hop.peer for hop in asked.reply.route}
    assert not await world.registry.read(Shelf.REPORTS)


async def test_x11_who_denies_what_we_sent_is_doubted(world, asker):
    await chain_and_wholes(world)
    lies_about(world.peers["peer-0"], received=True)
    asked = asker(await world.client(audit_config=ALWAYS))
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert "peer-0" not in {hop.peer for hop in asked.reply.route}


async def test_x11_a_last_hop_that_commits_itself_to_something_else_is_caught(world, asker):
    """It computes garbage for us, and would show that it computed what is right."""
    await chain_and_wholes(world)
    lies_about(world.peers["peer-2"], sent=True)
    asked = asker(await world.client(audit_config=ALWAYS))
    await asked.greedy(PROMPT, NUM_TOKENS)
    await checked(world)
    assert asked.reply.distrusted == ["peer-2"]


@pytest.mark.parametrize("name", ["peer-0", "peer-1", "peer-2"])
async def test_x11_who_commits_itself_to_nothing_is_left(world, asker, name):
    await chain_and_wholes(world)
    handler = world.peers[name].hosting.handler
    let_in = handler._openings._on_opened

    def opened(session, found):
        session.commitments.write = lambda rows, got, gave: ()
        let_in(session, found)

    handler._openings._on_opened = opened
    asked = asker(await world.client(audit_config=ALWAYS))
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert name not in {hop.peer for hop in asked.reply.route}
    assert (await checked(world)).caught == 0


async def test_x11_a_pair_that_agrees_on_its_lies_is_caught(world, asker):
    """Two neighbours give each other what they like: what goes in and comes out must still fit."""
    await chain_and_wholes(world)
    with_other_weights(world.peers["peer-0"])
    with_other_weights(world.peers["peer-1"])
    model = await world.client(audit_config=ALWAYS)
    await asker(model).greedy(PROMPT, NUM_TOKENS)
    await checked(world)
    assert suspects(await world.registry.read(Shelf.REPORTS)) <= {"peer-0", "peer-1"}
    assert suspects(await world.registry.read(Shelf.REPORTS))
    await asker(model).greedy(PROMPT, NUM_TOKENS)
    await checked(world)
    ids = await asker(model).greedy(PROMPT, NUM_TOKENS)
    assert ids == world.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_x11_what_passed_is_not_shown(world, asker):
    """A peer that never shows what it has sent on cannot be checked, and is doubted in the end."""
    await chain_and_wholes(world)
    world.peers["peer-1"].hosting.handler._on_copy = lambda link, message: None
    model = await world.client(audit_config=ALWAYS)
    for _ in range(3):
        await asker(model).greedy(PROMPT, NUM_TOKENS)
        await checked(world)
    asked = asker(model)
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert "peer-1" not in {hop.peer for hop in asked.reply.route}
    assert (await checked(world)).caught == 0


async def test_x11_a_later_hop_cannot_speak_for_an_earlier_one(world, asker):
    """It would have it say what suits itself; that shows, and it cannot be whoever is before it."""
    await chain_and_wholes(world)
    handler = world.peers["peer-2"].hosting.handler
    take = handler._on_step

    def forge(time):
        other = tuple(replace(each, sent=bytes(8)) for each in time.commitments)
        return replace(time, commitments=other) if time.start == 1 else time

    def forging(link, step, payload):
        take(link, replace(step, times=tuple(forge(time) for time in step.times)), payload)

    handler._on_step = forging
    asked = asker(await world.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert not {"peer-1", "peer-2"} & {hop.peer for hop in asked.reply.route}
    assert not await world.registry.read(Shelf.REPORTS)


async def test_x11_who_spoils_an_early_hops_words_is_left_with_it(world, asker):
    """All hops after it pass them on: it is not always the next one that has spoilt them."""
    await chain_and_wholes(world)
    handler = world.peers["peer-2"].hosting.handler
    take = handler._on_step

    def spoiling(link, step, payload):
        times = tuple(replace(t, tag=b"") if t.start == 0 else t for t in step.times)
        take(link, replace(step, times=times), payload)

    handler._on_step = spoiling
    asked = asker(await world.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert "peer-2" not in {hop.peer for hop in asked.reply.route}


async def test_nothing_is_committed_where_nothing_is_checked(world, asker):
    await world.chain(0, 2, 4)
    watch = world.watch()
    await asker(await world.client(audit_config=AuditConfig(rate=0))).greedy(PROMPT, 4)
    outputs = [f.message for f in watch.frames if isinstance(f.message, Output)]
    assert outputs
    assert not any(time.commitments or time.tag for output in outputs for time in output.times)


@pytest.mark.parametrize("victim", ["peer-0", "peer-1", "whole-0"])
async def test_a_death_in_the_middle_of_a_check_is_no_finding(world, asker, victim):
    await chain_and_wholes(world)
    model = await world.client(audit_config=ALWAYS, config=PATIENT)
    watch = world.watch()
    await asker(model).greedy(PROMPT, NUM_TOKENS)
    await world.kill(victim)
    del watch
    tally = await checked(world)
    assert (tally.caught, tally.undecided) == (0, 0)


async def test_who_leaves_does_not_wait_for_a_check(world, asker):
    """A session that has ended has nothing to hand over."""
    await chain_and_wholes(world)
    model = await world.client(audit_config=ALWAYS)
    async with model._access.auditor.turn:
        await asker(model).greedy(PROMPT, NUM_TOKENS)
        assert world.peers["peer-1"].hosting.handler.num_sessions == 1
        clock = asyncio.get_running_loop().time
        started = clock()
        await world.leave("peer-1")
        assert clock() - started < 2.0
    tally = await checked(world)
    assert (tally.caught, tally.undecided) == (0, 0)
    assert not model._access.router._avoided()


async def test_what_is_compared_is_held_for_one_check_only(world, asker, monkeypatch):
    """Beginnings of many long texts at once would else fill the client's memory."""
    await chain_and_wholes(world)
    gather, held, most = Watch._gather, [], []

    async def gathered(self, point, index):
        evidence = await gather(self, point, index)
        if evidence is not None:
            held.append(weakref.ref(evidence))
        most.append(sum(ref() is not None for ref in held))
        return evidence

    monkeypatch.setattr(Watch, "_gather", gathered)
    model = await world.client(audit_config=ALWAYS)
    await asyncio.gather(*(asker(model).greedy(PROMPT[n:], 8) for n in range(4)))
    await checked(world)
    assert len(held) >= 8 and max(most) == 1


async def test_x11_reports_of_others_are_a_reason_to_look_closer(world, asker):
    """A report alone takes nobody's place from it; it is checked more, and if it is right, that
    is all."""
    await chain_and_wholes(world)
    with_other_weights(world.peers["peer-1"])
    await asker(await world.client("first", audit_config=ALWAYS)).greedy(PROMPT, NUM_TOKENS)
    await checked(world, "first")
    assert suspects(await world.registry.read(Shelf.REPORTS)) == {"peer-1"}
    rare = AuditConfig(rate=1e-9, watch_rate=1.0)
    second = await world.client("second", audit_config=rare)
    await asker(second).greedy(PROMPT, NUM_TOKENS)
    await asker(second).greedy(PROMPT, NUM_TOKENS)
    assert (await checked(world, "second")).caught == 1
    ids = await asker(second).greedy(PROMPT, NUM_TOKENS)
    assert ids == world.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_x11_a_false_report_harms_nobody(world, asker):
    from swarm.auditing.report import Report, encode_reports

    await chain_and_wholes(world)
    false = Report("peer-1", world.checkpoint.fingerprint, 1, 3, 9, 1.4, 0.1, ("x", "y"), 1.0)
    await world.registry.directory("liar").publish(Shelf.REPORTS, encode_reports([false]), 60.0)
    model = await world.client(audit_config=AuditConfig(rate=1e-9, watch_rate=1.0))
    for _ in range(2):
        asked = asker(model)
        await asked.greedy(PROMPT, NUM_TOKENS)
        assert "peer-1" in {hop.peer for hop in asked.reply.route}
    tally = await checked(world)
    assert tally.agreed >= 1 and tally.caught == 0


async def test_x11_inflated_speed_is_believed_until_it_is_seen(world, asker):
    """One that says it is fast, and is not, loses its place to one that is as slow as it says."""
    await world.peer("boaster", (0, 4))
    await world.peer("honest", (0, 4))
    boast = world.peers["boaster"].hosting._load
    claim = type(boast.idle)(1e-5, 1e-6)
    boast.speed = lambda now: claim
    await world.peers["boaster"]._announce()

    def change(rows, out):
        time.sleep(0.03)
        return out

    changed(world.peers["boaster"], change)
    model = await world.client()
    first = asker(model)
    await first.greedy(PROMPT, 12)
    assert {hop.peer for hop in first.reply.route} == {"boaster"}
    second = asker(model)
    await second.greedy(PROMPT, 4)
    assert {hop.peer for hop in second.reply.route} == {"honest"}


@pytest.mark.parametrize("form", ["int8", "int4"])
async def test_weights_in_other_forms_are_not_wrong(world, asker, form):
    await world.chain(0, 1, 3, 4)
    for number in range(2):
        await world.peer(f"whole-{number}", (0, 4), quantize=form)
    slow(world, "whole-0", "whole-1")
    for peer in world.peers.values():
        await peer._announce()
    await asker(await world.client(audit_config=ALWAYS)).greedy(PROMPT, NUM_TOKENS)
    tally = await checked(world)
    assert tally.agreed >= 3 and (tally.caught, tally.undecided) == (0, 0)


async def test_checks_follow_a_session_through_a_recovery(world, asker):
    await chain_and_wholes(world)
    await world.spare((1, 3))
    asked = asker(await world.client(audit_config=ALWAYS))

    async def kill(number):
        if number == 9:
            await world.kill("peer-1")

    assert await asked.greedy(PROMPT, NUM_TOKENS, kill) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    tally = await checked(world)
    assert tally.agreed >= 3 and (tally.caught, tally.undecided) == (0, 0)


class Damaged:
    """The same checkpoint, with one block's bytes changed on the way."""

    whole = False

    def __init__(self, checkpoint, *, block):
        self._checkpoint, self._block = checkpoint, block

    def __getattr__(self, name):
        return getattr(self._checkpoint, name)

    def digests(self, start, end):
        found = self._checkpoint.digests(start, end)
        return tuple(
            bytes(8) if start + index == self._block else digest
            for index, digest in enumerate(found)
        )


@pytest.fixture
def damaged(world):
    """Peers that are started within have downloaded block 2 damaged."""

    @contextlib.contextmanager
    def context(block=2):
        whole, world.checkpoint = world.checkpoint, Damaged(world.checkpoint, block=block)
        yield
        world.checkpoint = whole

    return context


async def test_x11_a_damaged_download_does_not_serve(world, damaged, caplog):
    await world.chain(0, 3, 4)
    await world.peer("whole-0", (0, 4))
    with damaged(), pytest.raises(ConfigError, match=r"blocks \(2,\)"):
        await world.peer("broken", (1, 4))
    assert "weights differ peer=broken" in caplog.text


async def test_x11_nobody_is_routed_through_other_weights(world, asker, damaged):
    """One against one a peer serves; a client that has the file itself knows whose are right."""
    with damaged():
        await world.peer("broken", (0, 4))
    await world.peer("sound", (0, 4))
    for _ in range(4):
        asked = asker(await world.client(f"client-{_}"))
        assert await asked.greedy(PROMPT, 2) == world.tiny.greedy(PROMPT, 2)
        assert [hop.peer for hop in asked.reply.route] == ["sound"]


async def test_x11_a_peer_with_time_to_spare_catches_one_that_is_wrong(world):
    await world.peer("guard", (0, 3), audit=0.5)
    await world.peer("wrong", (1, 4))
    await world.peer("third", (0, 4))
    with_other_weights(world.peers["wrong"])
    patrol = world.peers["guard"]._patrol
    await world.until(lambda: patrol.num_caught, 120.0)
    records = await world.registry.read(Shelf.REPORTS)
    assert suspects(records) == {"wrong"}
    assert num_reporters(records) == {"wrong": 1}


async def test_a_peer_with_time_to_spare_finds_nothing_wrong_with_honest_ones(world, asker):
    await world.peer("guard", (0, 3), audit=0.5)
    await world.peer("first", (0, 4), quantize="int8")
    await world.peer("second", (2, 4))
    patrol = world.peers["guard"]._patrol
    await world.until(lambda: patrol.num_compared >= 6, 120.0)
    assert patrol.num_caught == 0
    model = await world.client()
    assert await asker(model).greedy(PROMPT, 3) == world.tiny.greedy(PROMPT, 3)
    assert not await world.registry.read(Shelf.REPORTS)


async def test_x11_without_a_third_a_peer_reports_nobody(world):
    await world.peer("guard", (0, 4), audit=0.5)
    await world.peer("wrong", (0, 4))
    with_other_weights(world.peers["wrong"])
    patrol = world.peers["guard"]._patrol
    await world.until(lambda: patrol.num_compared >= 3, 120.0)
    assert patrol.num_caught == 0
    assert not await world.registry.read(Shelf.REPORTS)
