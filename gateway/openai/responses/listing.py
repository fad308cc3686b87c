"""The items of a response, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from swarm.quoting import quoted

from ...refusals import Reason, Refusal
from .answer import ItemList


class Page(Struct, forbid_unknown_fields=True, frozen=True):
    """Which of the items are listed: so many after one of them, the newest first or last."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


def listing(items: Sequence[Mapping[str, Any]], page: Page) -> ItemList:
    """A page. Raises `Refusal` where it is to begin after an item that is not there."""
    ordered = list(items) if page.order == "asc" else list(reversed(items))
    start = 0
    if page.after is not None:
        names = [each["id"] for each in ordered]
        if page.after not in names:
            raise Refusal(
                Reason.INVALID, f"No item found with id {quoted(page.after)}.", param="after"
            )
        start = names.index(page.after) + 1
    shown = ordered[start : start + page.limit]
    return ItemList(
        data=[dict(each) for each in shown],
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
        has_more=start + page.limit < len(ordered),
    )
