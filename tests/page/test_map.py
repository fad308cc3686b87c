"""The map of who holds which blocks, in a browser."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from swarm.directory import State
from swarm.transport.reach import Reach

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMMAND = "swarm peer --join INVITE --model owner/model --blocks 4:10"
PHONE = {"viewport": {"width": 360, "height": 740}}


def path(*hops: tuple[str, int, int]) -> dict:
    times = {"queue_ms": 0.5, "compute_ms": 2.5, "wire_ms": 1.0}
    told = [{"peer": peer, "start": start, "end": end, **times} for peer, start, end in hops]
    return {"model": "f" * 32, "hops": told, "back_ms": 1.0}


async def fits(view) -> bool:
    """Whether nothing is wider than the window."""
    return await view.evaluate(
        "document.querySelector('main').scrollWidth <= document.documentElement.clientWidth"
    )


async def test_a_gap_appears_with_its_command_and_is_repaired_live(looks, house) -> None:
    await house.announce("garage", 0, 4)
    await house.announce("attic", 4, 10)
    view = await looks.at(house.address())
    await expect(view.get_by_text("Every block is served").first).to_be_visible()
    map = view.get_by_role("img")
    assert "garage 0:4; attic 4:10" in await map.get_attribute("aria-label")
    await view.evaluate("window.loadedOnce = true")
    await house.die("attic")
    gap = view.get_by_role("group", name="Gap, blocks 4 to 10")
    await expect(gap.get_by_text(COMMAND)).to_be_visible()
    await expect(map).to_have_attribute(
        "aria-label", "Who holds which blocks: garage 0:4. Nobody serves 4:10."
    )
    await house.announce("cellar", 4, 10, state=State.LOADING)
    await expect(gap.get_by_text("cellar is loading some of them")).to_be_visible()
    await house.announce("cellar", 4, 10)
    await expect(gap).to_be_hidden()
    await expect(view.get_by_text("Every block is served").first).to_be_visible()
    assert await view.evaluate("window.loadedOnce"), "without loading the page again"


async def test_the_command_is_copied_with_the_keyboard(looks, house) -> None:
    await house.announce("garage", 0, 4)
    view = await looks.at(house.address(), permissions=["clipboard-read", "clipboard-write"])
    button = view.get_by_role("button", name="Copy the command that fills 4:10")
    await button.wait_for()
    for _ in range(40):
        await view.keyboard.press("Tab")
        if await button.evaluate("each => each === document.activeElement"):
            break
    await view.keyboard.press("Enter")
    await expect(button).to_have_text("Copied")
    assert await view.evaluate("navigator.clipboard.readText()") == COMMAND


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
async def test_the_way_of_a_token_lights_up(looks, house, motion: str) -> None:
    await house.announce("garage", 0, 4)
    await house.announce("attic", 4, 10)
    view = await looks.at(house.address(), reduced_motion=motion)
    await view.locator(".span").nth(1).wait_for()
    house.page.feed.tell_path(path(("garage", 0, 4), ("attic", 4, 10)))
    await expect(view.locator(".span.lit")).to_have_count(2)
    assert await view.locator(".way-line").get_attribute("points") == "0,0.8 4,0.8 4,0.8 10,0.8"
    animation = await view.locator(".way").evaluate("each => getComputedStyle(each).animationName")
    assert (animation == "none") == (motion == "reduce")
    await expect(view.get_by_text("The newest token took 9.0 ms")).to_be_visible()
    await expect(view.locator(".span.lit")).to_have_count(0)


async def test_peers_are_told_as_cards_and_as_a_table(looks, house) -> None:
    known = {
        "decode_seconds": 0.02,
        "num_sessions": 3,
        "free_positions": 25,
        "total_positions": 100,
    }
    memory = {"used_bytes": 6 * 2**30 + 2**29, "memory_bytes": 24 * 2**30}
    spent = {"watts": 60.0, "joules": 1.5, "energy": "estimate"}
    await house.announce("garage", 0, 10, reach=Reach.RELAYED, **known, **memory, **spent)
    await house.announce("attic", 0, 5, decode_seconds=0.01, watts=90.0, energy="nvml")
    await house.announce("cellar", 0, 0, state=State.PAUSED, resumes=1.8e9)
    view = await looks.at(house.address())
    card = view.locator(".peer[data-peer=garage]")
    for words in ("20 ms per token", "3 sessions", "75 %", "6.5 GiB of 24 GiB", "through a relay"):
        await expect(card.get_by_text(words)).to_be_visible()
    await expect(card.get_by_text("≈ 60 W · 1.50 J per token · estimated")).to_be_visible()
    await expect(view.locator(".peer[data-peer=attic]").get_by_text("estimated")).to_have_count(0)
    await expect(view.locator(".peer[data-peer=cellar]")).to_contain_text("paused until")
    # Whoever hears the page has the table in any case.
    table = view.get_by_role("table", name="The group's peers")
    await expect(table.get_by_role("row")).to_have_count(4)
    await view.get_by_role("button", name="Table").click()
    await table.get_by_role("button", name="Speed").click()
    names = await table.get_by_role("rowheader").all_inner_texts()
    assert [name.split()[-2] for name in names][:2] == ["attic", "garage"]
    await view.get_by_label("Search peers").fill("relayed")
    await expect(table.get_by_role("row")).to_have_count(2)


HOSTILE = [
    "<img src=x onerror=\"document.title='taken'\"><b>bold</b>",
    "‮drawkcab‮" * 20,
    "x" * 1024,
    "</script><script>document.title='taken'</script>",
    "\x00\x1b[31m\n\n\n",
]


async def test_names_of_hostile_peers_stay_text(looks, house) -> None:
    for number, name in enumerate(HOSTILE):
        entry = {"name": name, "model_name": name, "device": name[:1024], "dtype": name[:1024]}
        await house.announce(f"peer-{number}", 2 * number, 2 * number + 2, **entry)
        await house.announce(f"other-{number}", 0, 1, model=f"{number}" * 32, **entry)
    view = await looks.at(house.address(), **PHONE)
    await expect(view.locator(".served")).to_have_count(6)
    assert await view.title() == "Homeswarm"
    assert not await view.locator(".swarm img, .swarm script, .swarm b").count()
    shown = await view.locator(".swarm").inner_text()
    assert "<img src=x" in shown and "\u202e" not in shown
    # No shell is given what would hurt it.
    commands = await view.locator(".copyable code").all_inner_texts()
    assert all("--model MODEL" in each or "x" * 1000 in each for each in commands)
    assert await fits(view)
    await view.get_by_role("button", name="Table").click()
    assert await fits(view)


async def test_many_blocks_and_peers_stay_readable_on_a_phone(looks, house) -> None:
    for number in range(36):
        start = number * 2
        await house.announce(f"peer-{number:02}", start, start + 10, num_blocks=81)
    view = await looks.at(house.address(), **PHONE)
    await expect(view.locator(".span")).to_have_count(36)
    assert await fits(view)
    boxes = [await each.bounding_box() for each in await view.locator(".span").all()]
    assert all(box["width"] >= 20 and box["height"] >= 16 for box in boxes)
    letters = await view.locator(".span .letters").all_inner_texts()
    assert len(set(letters)) == 36


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_light_dark_and_nothing_that_keeps_anybody_out(looks, house, axe, scheme) -> None:
    await house.announce("garage", 0, 4, decode_seconds=0.02, free_positions=1, total_positions=2)
    await house.announce("attic", 6, 10, state=State.LEAVING)
    await house.announce("cellar", 5, 8)
    view = await looks.at(house.address(), color_scheme=scheme)
    await view.locator(".gap").first.wait_for()
    background = await view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(background[4:].split(",")[0]) < 100) == (scheme == "dark")
    await view.evaluate("document.getAnimations().forEach((each) => each.cancel())")
    await view.evaluate(axe)
    found = await view.evaluate("axe.run().then((found) => found.violations)")
    assert not [(each["id"], each["nodes"][0]["html"]) for each in found]


async def test_it_speaks_spanish(looks, house) -> None:
    await house.announce("garage", 0, 4)
    view = await looks.at(house.address(), locale="es-ES")
    await expect(view.get_by_text("Nadie sirve los bloques 4:10.")).to_be_visible()
    await view.get_by_label("Idioma").select_option("en")
    await expect(view.get_by_text("Nobody serves blocks 4:10.")).to_be_visible()


async def test_where_nobody_serves_anything_it_says_what_to_do(looks, house) -> None:
    view = await looks.at(house.address())
    await expect(view.get_by_text("Nobody serves anything yet")).to_be_visible()
    await house.announce("garage", 0, 10)
    await expect(view.get_by_role("heading", name="owner/model")).to_be_visible()


async def test_a_lost_connection_is_told_and_comes_back(looks, house) -> None:
    await house.announce("garage", 0, 10)
    view = await looks.at(house.address())
    await expect(view.get_by_role("heading", name="owner/model")).to_be_visible()
    await view.context.set_offline(True)
    house.page.feed.close()
    await expect(view.get_by_text("the connection is lost")).to_be_visible()
    await expect(view.get_by_role("heading", name="owner/model")).to_be_visible()
    house.page.feed._closed = False
    await view.context.set_offline(False)
    await expect(view.get_by_text("the connection is lost")).to_be_hidden()


async def test_a_directory_that_does_not_answer_is_told(looks, house) -> None:
    await house.announce("garage", 0, 10)
    view = await looks.at(house.address())
    await expect(view.get_by_role("heading", name="owner/model")).to_be_visible()
    behind, house.page._behind = house.page._behind, None
    await expect(view.get_by_text("The swarm cannot be seen just now.")).to_be_visible()
    house.page._behind = behind
    await expect(view.get_by_text("The swarm cannot be seen just now.")).to_be_hidden()
