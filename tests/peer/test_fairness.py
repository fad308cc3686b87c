from __future__ import annotations

from swarm.peer.fairness import Holding, gives_way


def hold(*sessions: tuple[str, int], idle: tuple[int, ...] = ()) -> list[Holding]:
    """Sessions in the order of their numbers, each as (whose, pages)."""
    return [
        Holding(f"{account}{number}", account, number, pages, idle=number in idle)
        for number, (account, pages) in enumerate(sessions)
    ]


def name(found: Holding | None) -> str | None:
    return found.session if found else None


def test_who_is_alone_gives_way_to_itself_only_with_its_newest() -> None:
    held = hold(("a", 5), ("a", 3), ("a", 2))
    assert name(gives_way(held, "a", 1, 10)) == "a2"
    assert gives_way(hold(("a", 10)), "a", 1, 10) is None


def test_who_has_more_than_a_share_gives_way_to_who_has_less() -> None:
    held = hold(("hog", 2), ("guest", 2), ("hog", 3), ("hog", 3))
    assert name(gives_way(held, "guest", 1, 10)) == "hog3"
    # The guest is older at this peer or not: shares count, not who came first.
    assert name(gives_way(hold(("hog", 5), ("hog", 5)), "guest", 4, 10)) == "hog1"


def test_nobody_gives_way_to_who_has_more_than_a_share() -> None:
    held = hold(("hog", 4), ("hog", 3), ("guest", 3))
    assert name(gives_way(held, "hog", 1, 10)) == "hog1", "its own"
    assert gives_way(hold(("hog", 7), ("guest", 3)), "hog", 1, 10) is None


def test_a_members_oldest_session_stays_while_it_is_in_use() -> None:
    """Else sessions larger than a share would take turns in pushing one another out."""
    several = hold(("a", 3), ("b", 3), ("c", 4))
    assert all(gives_way(several, each, 1, 10) is None for each in "abcd")
    assert name(gives_way(hold(("a", 3), ("b", 7), idle=(1,)), "a", 1, 10)) == "b1"


def test_sessions_without_memory_are_no_members_with_a_share() -> None:
    held = hold(("a", 6), ("x", 0), ("y", 0), ("a", 0), ("b", 4))
    assert gives_way(held, "b", 1, 10) is None, "of what 'a' has, only its oldest session takes"
    held = hold(("a", 3), ("x", 0), ("y", 0), ("a", 3), ("b", 4))
    assert name(gives_way(held, "b", 1, 10)) == "a3"
