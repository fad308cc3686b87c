"""What a bootstrap tells Prometheus, asked over HTTP while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from swarm.background import background
from swarm.bootstrap.config import BootstrapConfig, PageConfig
from swarm.bootstrap.metrics import Group, GroupMetrics
from swarm.bootstrap.page import Page
from swarm.bootstrap.page_keys import Right
from swarm.bootstrap.service import serve
from swarm.directory import Announcement, State
from swarm.invite import Invite
from swarm.member import JoinConfig, join
from swarm.metrics.labels import OTHER
from swarm.overview import Overview

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"

Numbers = dict[tuple[str, ...], float]


def read(text: str) -> Numbers:
    """Values by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def ask(page: Page, key: str | None) -> tuple[int, str]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(page.url + "/metrics", headers=headers) as response,
    ):
        return response.status, await response.text()


async def test_it_tells_of_its_group_to_who_may_look(tmp_path: Path) -> None:
    invites: asyncio.Queue[Invite] = asyncio.Queue()
    pages: list[Page] = []
    config = BootstrapConfig(
        tmp_path / "group", "127.0.0.1", map_port=False, page=PageConfig(port=0, asked=True)
    )
    async with background() as tasks:
        tasks.create_task(serve(config, invites.put_nowait, pages.append))
        async with asyncio.timeout(HANGING):
            invite = await invites.get()
        (page,) = pages
        key = page._keys.text(Right.LOOK)
        for wrong in (None, "wrong" * 8):
            status, text = await ask(page, wrong)
            assert status == 401 and "homeswarm_members" not in text
        status, text = await ask(page, key)
        before = read(text)
        assert status == 200
        assert before["homeswarm_members", "authority"] == 1
        assert before["homeswarm_invite_uses", "peer"] == 10
        place = JoinConfig(
            folder=tmp_path / "peer", host="127.0.0.1", map_port=False, state_folder=tmp_path
        )
        async with join(invite, place) as member:
            entry = Announcement(
                member.peer_id, "ann", "f" * 8, "tiny", 4, 0, 3, State.SERVING, time=1.0
            )
            await member.directory.announce(entry)
            async with asyncio.timeout(HANGING):
                while ("homeswarm_model_missing_blocks", "tiny") not in (numbers := before):
                    await asyncio.sleep(0.3)
                    before = read((await ask(page, key))[1])
    assert numbers["homeswarm_members", "peer"] == 1
    assert numbers["homeswarm_invite_uses", "peer"] == 9
    assert numbers["homeswarm_bootstrap_questions_total", "enrol", "granted"] == 1
    assert numbers["homeswarm_bootstrap_records", "peers"] == 1
    assert numbers["homeswarm_peers", "serving"] == 1
    assert numbers["homeswarm_model_missing_blocks", "tiny"] == 1
    assert numbers["homeswarm_model_gaps", "tiny"] == 1


def test_models_are_few_whatever_peers_call_them() -> None:
    entries = [
        Announcement(PEER, "ann", f"{n:08}", f"model-{n}", 4, 0, 2, State.SERVING)
        for n in range(200)
    ]
    metrics = GroupMetrics(lambda: Group(overview=Overview.of(entries)))
    (family,) = [each for each in metrics.collect() if each.name.endswith("model_missing_blocks")]
    values = {sample.labels["model"]: sample.value for sample in family.samples}
    assert len(values) == 65 and values[OTHER] == 2 * (200 - 64)
