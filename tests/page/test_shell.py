"""What surrounds the tabs."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_comes_up_without_anything_from_elsewhere(page) -> None:
    await page.get_by_role("main").wait_for()
    names = await page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert names
    assert {name.split("/page/")[0] for name in names} == {page.url.split("/#")[0].rstrip("/")}
