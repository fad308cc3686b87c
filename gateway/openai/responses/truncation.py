"""Which items of an input go along where not all of them fit into a model's context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from .conversation import leading_orders
from .items import FunctionCall, FunctionCallOutput, Item, Message

Fits = Callable[[Sequence[Item]], Awaitable[bool]]
"""Whether items fit."""


async def newest(items: Sequence[Item], fits: Fits) -> tuple[Item, ...]:
    """The newest turns that fit, or else the newest one, after the orders at the beginning.

    A turn is what a user says and everything up to where one speaks again: templates, and calls
    with their outputs, stay whole. Few are tried more often than twice, as what is tried first is
    short: an endless input takes no more time than one that just does not fit.
    """
    orders = leading_orders(items)
    starts = _turns(items, len(orders))

    async def tail_fits(num_turns: int) -> bool:
        return await fits([*orders, *items[starts[-num_turns] :]])

    good, bad = 1, len(starts) + 1
    while good * 2 < bad and await tail_fits(good * 2):
        good *= 2
    bad = min(bad, good * 2)
    while bad - good > 1:
        middle = (good + bad) // 2
        if await tail_fits(middle):
            good = middle
        else:
            bad = middle
    return (*orders, *items[starts[-good] :])


def _turns(items: Sequence[Item], first: int) -> list[int]:
    """Where turns begin, from the item `first` on; never between a call and its output."""
    starts = [first]
    unanswered: set[str] = set()
    for at in range(first, len(items)):
        item = items[at]
        if isinstance(item, FunctionCall):
            unanswered.add(item.call_id)
        elif isinstance(item, FunctionCallOutput):
            unanswered.discard(item.call_id)
        elif at > first and not unanswered and _is_users(item) and not _is_users(items[at - 1]):
            starts.append(at)
    return starts


def _is_users(item: Item) -> bool:
    return isinstance(item, Message) and item.role == "user"
