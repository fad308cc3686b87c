"""Members and invites on the page, in a browser, by the real authority."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from swarm.bootstrap.page_keys import Right
from swarm.invite import Invite
from swarm.membership.certificate import Role

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def opened(looks, house, **options):
    view = await looks.at(house.address(Right.ADMINISTER), **options)
    await view.get_by_role("link", name=re.compile("Group|Grupo")).click()
    return view


async def test_an_invite_made_here_lets_a_member_in_who_is_thrown_out_again(looks, house) -> None:
    view = await opened(looks, house)
    await view.get_by_role("radio", name="Client").check()
    await view.get_by_label("What they are called").fill("carols-laptop")
    await view.get_by_role("button", name="Write the invite").click()
    await expect(view.get_by_role("img", name="The same invite as a QR code")).to_be_visible()
    invite = Invite.decode(await view.locator(".written code").inner_text())
    assert invite.role is Role.CLIENT and invite.group_name == "maple street"
    await expect(view.get_by_role("button", name="Take back carols-laptop")).to_be_visible()

    member = house.redeem(invite)
    row = view.locator(f"[data-member='{member}']")
    await expect(row).to_contain_text("carols-laptop")
    await row.get_by_role("button", name="Throw out carols-laptop").click()
    dialog = view.get_by_role("dialog", name="Throw out carols-laptop?")
    # Whoever presses Enter too quickly has thrown out nobody.
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    await view.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert not [each for each in house.authority.members() if each.revoked]
    await row.get_by_role("button", name="Throw out carols-laptop").click()
    await dialog.get_by_role("button", name="Throw out").click()
    await expect(dialog).to_be_hidden()
    await expect(view.get_by_text("1 was removed")).to_be_visible()
    (gone,) = [each for each in house.authority.members() if each.revoked]
    assert gone.member == member


async def test_an_invite_is_taken_back(looks, house) -> None:
    house.authority.invite(Role.PEER, name="attic")
    view = await opened(looks, house)
    await view.get_by_role("button", name="Take back attic").click()
    await view.get_by_role("dialog").get_by_role("button", name="Take back").click()
    await expect(view.get_by_text("Nobody can join just now")).to_be_visible()
    assert not house.authority.invites()


async def test_who_may_only_look_is_told_so(looks, house) -> None:
    house.admit("garage")
    view = await looks.at(house.address(Right.LOOK))
    await view.get_by_role("link", name="Group").click()
    await expect(view.get_by_text("This key may look, and no more")).to_be_visible()
    assert "garage" not in await view.get_by_role("main").inner_text()


async def test_the_bootstrap_does_not_offer_to_throw_out_itself(looks, house) -> None:
    view = await opened(looks, house)
    row = view.locator(f"[data-member='{house.authority.peer_id}']")
    await expect(row).to_contain_text("this one")
    await expect(row.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("locale", ["en-US", "es-ES"])
async def test_on_a_phone_names_of_members_stay_text_and_all_can_be_reached(
    looks, house, axe, locale: str
) -> None:
    house.admit("<b>bold</b><img src=x>")
    house.admit("m" * 64)
    house.authority.invite(Role.PEER, name="<i>x</i>")
    size = {"width": 360, "height": 740}
    view = await opened(looks, house, viewport=size, locale=locale)
    await expect(view.get_by_text("<b>bold</b><img src=x>").first).to_be_visible()
    assert not await view.locator(".group b, .group i, .group img").count()
    assert await view.evaluate("document.querySelector('main').scrollWidth <= innerWidth")
    await view.evaluate(axe)
    found = await view.evaluate("axe.run().then((found) => found.violations)")
    assert not [(each["id"], each["nodes"][0]["html"]) for each in found]


async def test_a_refusal_is_told(looks, house) -> None:
    view = await opened(looks, house)
    await view.get_by_label("What they are called").fill("bad\u200bname")
    await view.get_by_role("button", name="Write the invite").click()
    await expect(view.get_by_role("alert")).to_contain_text("printable")
