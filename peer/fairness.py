"""What one member may take of a peer beside the others: policy alone, without torch or clocks.

A member that is alone may have everything. Where others want something too, each has a share of
the memory, and a member that has more than that gives way with what it can spare: it keeps a
session as long as it uses that. If all were held to their shares, sessions larger than a share
would take turns in pushing one another out, and none would come to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Holding:
    """A session that holds `pages`, and whose it is; `number` rises from session to session."""

    session: str
    account: str
    number: int
    pages: int
    idle: bool = False


def gives_way(
    holdings: Sequence[Holding], account: str, pages: int, num_pages: int
) -> Holding | None:
    """Who makes room for `pages` more of `account`, of `num_pages` in all.

    The newest session that one who would have more than a share can spare. `holdings` are in the
    order of their numbers.
    """
    held = Counter({account: pages})
    oldest: dict[str, Holding] = {}
    for each in holdings:
        if each.pages:
            held[each.account] += each.pages
            oldest.setdefault(each.account, each)
    share = num_pages / len(held)
    found = [
        each
        for each in holdings
        if each.pages
        and held[each.account] > share
        and (each.idle or each is not oldest[each.account])
    ]
    return found[-1] if found else None
