"""What surrounds the tabs."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_comes_up_without_anything_from_elsewhere(page) -> None:
    await page.get_by_role("main").wait_for()
    origins = await page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)"
    )
    assert {*origins} == {await page.evaluate("location.origin")}
