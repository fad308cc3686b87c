"""A peer dies while its answer is shown: the text stays the same, and the page tells of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from swarm.checkpoint import open_checkpoint
from swarm.client import Reply, RouteChange
from swarm.gateway.config import GatewayConfig
from swarm.gateway.core import Core
from swarm.peer.runner import Runner

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEMPLATE = (
    "{%- for m in messages %}{{ m.role[0] + ':' + m.content + '\\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}a:{% endif %}"
)
COUNT = 120


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    whole: Any,
    make_byte_level: Any,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Any]:
    """Peers for blocks 0:2 and 2:4 of a tiny model of bytes, and one that nobody knows of yet."""
    monkeypatch.setattr(Runner, "measure", whole._even_speed)
    tiny = whole._make_tiny(tmp_path_factory.mktemp("llama"), "llama", vocab_size=259)
    make_byte_level(template=TEMPLATE).save_pretrained(tiny.folder)
    async with AsyncExitStack() as stack:
        checkpoint = stack.enter_context(open_checkpoint(str(tiny.folder)))
        world = whole.World(tiny, checkpoint, stack)
        await world.chain(0, 2, 4)
        await world.spare((2, 4))
        yield world
        await world.settle()


async def test_an_answer_survives_a_peer(
    looks, serve_page, world, ask, make_byte_level, until
) -> None:
    core = Core({"tiny": await world.client()}, GatewayConfig())
    page = await looks.at(await serve_page(core))
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_label("Temperature", exact=True).fill("0")
    await page.get_by_label("Most tokens", exact=True).fill(str(COUNT))
    await page.get_by_role("button", name="Done").click()
    watch = world.watch()
    await ask(page, "Hello")

    # The hidden states that have reached the last hop are as many as there are tokens.
    async def is_under_way() -> bool:
        return sum(frame.receiver == "peer-1" for frame in watch.frames) >= 30

    await until(is_under_way)
    await world.kill("peer-1")
    mended = page.locator(".mended")
    await mended.wait_for()
    told = await mended.inner_text()
    assert told.startswith("peer-1 was lost after") and told.endswith("spare-2:4 took over.")
    await page.locator(".facts summary").wait_for()  # It is whole.
    words = make_byte_level(template=TEMPLATE)
    ids = world.tiny.greedy(words("u:Hello\na:")["input_ids"], COUNT)
    if words.eos_token_id in ids:
        ids = ids[: ids.index(words.eos_token_id)]
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export all").click()
    (conversation,) = (await exported(await download.value))["conversations"]
    assert conversation["messages"][-1]["text"] == words.decode(ids, skip_special_tokens=True)
    await page.locator(".facts summary").click()
    rows = await page.locator(".hops tbody th").all_inner_texts()
    assert rows == ["peer-0", "peer-1", "spare-2:4"]
    assert "peer-0 → spare-2:4" in await page.locator(".via").inner_text()


async def test_a_lost_peer_is_told_while_the_answer_goes_on(page, speaker, ask) -> None:
    speaker.replies = (reply := Reply([1, 2, 3]),)
    await ask(page, "Hello")
    speaker.say("alpha ")
    mended = page.locator(".answer .mended")
    await page.get_by_text("alpha").wait_for()
    assert not await mended.count()
    reply.timing.changes.append(RouteChange("recovery", 41, ("attic",), ("study",)))
    speaker.say("beta ")
    await mended.wait_for()
    assert await mended.inner_text() == "attic was lost after 41 tokens; study took over."
    assert await page.locator(".answer[aria-busy=true]").count()
    heard = page.get_by_role("status").filter(has_text="attic was lost after 41 tokens")
    await heard.wait_for(state="attached")
    # Nobody tells the trace of an answer that is stopped: what was told before stays.
    await page.get_by_role("button", name="Stop").click()
    await page.get_by_text("Stopped.").first.wait_for()
    assert await mended.inner_text() == "attic was lost after 41 tokens; study took over."


async def test_each_change_is_shown_once_when_the_trace_has_come(page, speaker, ask) -> None:
    change = RouteChange("handover", 2, ("attic",), ("study",))
    speaker.replies = (reply := Reply([1, 2, 3], num_handovers=1),)
    reply.timing.changes.append(change)
    speaker.answer("alpha")
    await ask(page, "Hello")
    await page.locator(".facts summary").wait_for()
    told = await page.locator(".mended li").all_inner_texts()
    assert told == ["attic left after 2 tokens and handed over to study."]


async def test_an_answer_that_stands_still_says_for_how_long(page, speaker, ask) -> None:
    await page.clock.install()
    await ask(page, "Hello")
    speaker.say("alpha ", "beta ")
    await page.get_by_text("beta").wait_for()
    await page.clock.run_for(5000)
    waiting = page.locator(".waiting")
    await waiting.filter(has_text="Nothing has come for").wait_for()
    speaker.say("gamma ")
    await waiting.filter(has_text="Nothing has come for").wait_for(state="detached")
    speaker.end()
    await waiting.wait_for(state="detached")


async def exported(download: Any) -> Any:
    return json.loads((await download.path()).read_text())
