"""The map at a gateway, over a real swarm in this process: tokens light their way."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from playwright.async_api import expect

from swarm.checkpoint import open_checkpoint

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_real_token_lights_its_way_and_a_gap_is_repaired(
    looks, serve_page, speaker, whole, tmp_path
) -> None:
    tiny = whole._make_tiny(tmp_path, "llama")
    async with AsyncExitStack() as stack:
        world = whole.World(tiny, stack.enter_context(open_checkpoint(str(tiny.folder))), stack)
        await world.chain(0, 2, 4)
        model = await world.client()
        swarm = world.swarms["client"]
        view = await looks.at(await serve_page(speaker, swarm=swarm) + "#/swarm")
        await expect(view.locator(".span")).to_have_count(2)

        async def ask() -> list[int]:
            return await whole.Asker(model).greedy([1, 5, 7], 8)

        expected = tiny.greedy([1, 5, 7], 8)
        assert await ask() == expected
        await expect(view.locator(".span.lit")).to_have_count(2)
        for number in (0, 1):
            await expect(view.locator(".route-hop").nth(number)).to_contain_text(f"peer-{number}")

        await world.leave("peer-1")
        gap = view.get_by_role("group", name="Gap, blocks 2 to 4")
        await expect(gap).to_contain_text("--blocks 2:4")
        await expect(gap).to_contain_text("of weights")
        await world.peer("peer-2", (2, 4))
        await expect(gap).to_be_hidden()
        assert await ask() == expected
        await expect(view.locator(".span.lit[data-peer=peer-2]")).to_be_visible()
