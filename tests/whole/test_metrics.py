"""What a peer and a client tell Prometheus, in a swarm that works and is disturbed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from swarm.client import Reply, RowInput
from swarm.client.config import SessionConfig
from swarm.client.tally import ClientTally
from swarm.errors import SwarmError
from swarm.peer.handler import HandlerConfig
from swarm.peer.metrics import registry
from swarm.peer.service import Peer
from swarm.wire.messages import Code


def told(peer: Peer) -> dict[tuple[str, ...], float]:
    """What a peer tells."""
    return read(generate_latest(registry(peer)).decode())


def read(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_peer_tells_what_it_has_computed(world: Any, asker: Any) -> None:
    await world.chain(0, 2, 4)
    ids = list(range(1, 41))
    tokens = await asker(await world.client()).greedy(ids, 6)
    assert tokens == world.tiny.greedy(ids, 6)
    numbers = told(world.peers["peer-0"])
    phases = [numbers["homeswarm_peer_positions_total", each] for each in ("prefill", "decode")]
    # The last token is never computed; a short rest of a prompt is scheduled like tokens.
    assert sum(phases) == len(ids) + 5 and phases[0] >= 32
    steps = numbers["homeswarm_peer_steps_total", "decode"]
    assert numbers["homeswarm_peer_queue_seconds_count", "decode"] == steps >= 5
    assert (
        numbers["homeswarm_peer_compute_seconds_count",]
        == (numbers["homeswarm_peer_batch_steps_count",])
    )
    assert numbers["homeswarm_peer_compute_seconds_sum",] > 0
    assert numbers["homeswarm_peer_state", "serving"] == 1
    assert numbers["homeswarm_peer_state", "loading"] == 0
    assert numbers["homeswarm_peer_blocks",] == 2
    assert numbers["homeswarm_peer_sessions_opened_total",] == 1


async def test_a_peer_tells_of_those_around_it(world: Any, asker: Any) -> None:
    await world.chain(0, 2, 4)
    await asker(await world.client()).greedy([1, 2, 3], 4)
    numbers = told(world.peers["peer-0"])
    names = {link.standing.name for link in world.peers["peer-0"].neighbours._links}
    assert {labels[0] for name, *labels in numbers if name.endswith("link_sent_bytes_total")} == (
        names
    )
    sent, received = world.peers["peer-0"].neighbours.traffic
    told_bytes = [value for (name, *_), value in numbers.items() if "link_sent_bytes" in name]
    assert sum(told_bytes) == sent > 0 and received > 0


async def test_deaths_show_at_those_who_are_left(world: Any, asker: Any) -> None:
    await world.chain(0, 2, 4)
    await world.spare((2, 4))
    ids = list(range(1, 20))

    async def kill(count: int) -> None:
        if count == 3:
            await world.kill("peer-1")

    tokens = await asker(await world.client()).greedy(ids, 8, kill)
    assert tokens == world.tiny.greedy(ids, 8)
    numbers = told(world.peers["peer-0"])
    assert numbers["homeswarm_peer_recoveries_total",] == 1
    assert numbers["homeswarm_peer_replayed_positions_total", "recovery"] >= len(ids)
    ended = {labels[0]: v for (n, *labels), v in numbers.items() if "links_ended" in n}
    assert sum(ended.values()) >= 1, "the dead one's link"
    spare = told(world.peers["spare-2:4"])
    assert spare["homeswarm_peer_positions_total", "decode"] > 0


async def test_departures_show(world: Any, asker: Any) -> None:
    await world.chain(0, 2, 4)
    await world.spare((2, 4))
    peer = world.peers["peer-1"]

    async def leave(count: int) -> None:
        if count == 3:
            await world.show()
            await world.leave("peer-1")

    tokens = await asker(await world.client()).greedy([1, 2, 3], 8, leave)
    assert tokens == world.tiny.greedy([1, 2, 3], 8)
    numbers = told(peer)
    assert numbers["homeswarm_peer_handovers_total", "done"] == 1
    assert numbers["homeswarm_peer_handovers_total", "late"] == 0
    assert numbers["homeswarm_peer_state", "leaving"] == 1


async def test_refusals_show_by_code(world: Any) -> None:
    peer = await world.peer("full", (0, 4), HandlerConfig(max_sessions=1))
    model = await world.client(config=SessionConfig(route_patience=0.2))
    hidden = model.head.embed(torch.tensor([1]))
    async with model.session() as first, model.session() as second:
        await first.step([RowInput(0, 0, hidden)])
        with pytest.raises(SwarmError):
            await second.step([RowInput(0, 0, hidden)])
        numbers = told(peer)
    assert numbers["homeswarm_peer_refusals_total", "busy"] >= 1
    assert numbers["homeswarm_peer_sessions",] == 1
    assert numbers["homeswarm_peer_leased_pages",] >= 1


async def test_a_client_tells_in_a_registry_of_its_owner(world: Any, asker: Any) -> None:
    """The example of docs/observing.md, and what a death does to it."""
    await world.chain(0, 2, 4)
    await world.spare((2, 4))
    model = await world.client()
    swarm = world.swarms["client"]
    page = (Path(__file__).parents[2] / "docs" / "observing.md").read_text()
    (example,) = re.findall(r"```python\n(.*?CollectorRegistry.*?)```", page, re.DOTALL)
    scope: dict[str, Any] = {"swarm": swarm}
    exec(example, scope)

    async def kill(count: int) -> None:
        if count == 3:
            await world.kill("peer-1")

    await asker(model).greedy([1, 2, 3], 8, kill)
    numbers = read(scope["generate_latest"](scope["registry"]).decode())
    assert numbers["homeswarm_client_sessions_opened_total",] == 1
    assert numbers["homeswarm_client_sessions",] == 0
    assert numbers["homeswarm_client_recoveries_total",] == 1
    assert numbers["homeswarm_client_faults_total", "unreachable"] >= 1
    sent = sum(v for key, v in numbers.items() if key[0] == "homeswarm_link_sent_bytes_total")
    assert sent == swarm.traffic[0] > 0


async def test_replies_are_counted_as_they_grow(world: Any) -> None:
    reply, tally = Reply([1, 2], ids=[3]), ClientTally()
    with pytest.raises(SwarmError), tally.replying(reply):
        reply.ids += [4, 5]
        reply.num_steps += 2
        raise SwarmError
    with tally.replying(reply):
        reply.ids += [6]
        reply.num_steps += 1
    assert (tally.num_replies, tally.num_steps, tally.tokens["completion"]) == (2, 3, 3)


async def test_what_never_happened_is_told_as_none(world: Any) -> None:
    """A counter that appears with its first event would not seem to have risen."""
    numbers = told(await world.peer("ann", (0, 4)))
    for code in Code:
        assert numbers["homeswarm_peer_failures_total", str(code)] == 0
    assert numbers["homeswarm_links_ended_total", "not_a_member"] == 0
    assert numbers["homeswarm_links_failed_total", "step_timeout"] == 0
