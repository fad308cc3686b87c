"""What is kept: for its caller, for a while, and not without end."""

from __future__ import annotations

import msgspec
import pytest

from swarm.errors import ConfigError
from swarm.gateway.openai.responses import Store, StoreConfig
from swarm.gateway.openai.responses.store import Kept


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _kept(*names: str, size: int = 0) -> Kept:
    output = [{"id": names[-1], "text": "x" * size}]
    items = [{"id": name} for name in names[:-1]]
    raw = msgspec.json.encode({"output": output}), msgspec.json.encode(items)
    return Kept(*raw, frozenset(names))


def test_each_caller_has_their_own() -> None:
    store = Store()
    store.keep("ann", "r", _kept("a", "b"))
    assert store.find("ann", "r") == _kept("a", "b")
    assert store.find("bob", "r") is None
    assert not store.forget("bob", "r")
    assert store.item("bob")("a") is None
    assert store.item("ann")("a") == {"id": "a"}
    assert store.forget("ann", "r")
    assert store.find("ann", "r") is None
    assert store.item("ann")("a") is None


def test_the_oldest_go_first() -> None:
    store = Store(StoreConfig(most_responses=2))
    for name in "abc":
        store.keep("ann", name, _kept(name))
    assert [store.find("ann", name) is not None for name in "abc"] == [False, True, True]
    store.keep("bob", "d", _kept("d"))
    assert store.find("ann", "b") is not None


def test_bytes_are_limited() -> None:
    size = _kept("a", size=1000).size
    store = Store(StoreConfig(most_bytes=2 * size))
    for name in "abc":
        store.keep("ann", name, _kept(name, size=1000))
    assert [store.find("ann", name) is not None for name in "abc"] == [False, True, True]
    store.keep("ann", "d", _kept("d", size=3000))
    assert all(store.find("ann", name) is None for name in "abcd")
    store.keep("ann", "e", _kept("e", size=1000))
    assert store.find("ann", "e") is not None


def test_nothing_is_kept_for_ever() -> None:
    clock = _Clock()
    store = Store(StoreConfig(lifetime=10), clock)
    store.keep("ann", "a", _kept("a"))
    clock.now = 5
    store.keep("ann", "b", _kept("b"))
    clock.now = 10
    assert store.find("ann", "a") is None
    assert store.item("ann")("a") is None
    assert store.find("ann", "b") is not None
    clock.now = 15
    assert store.find("ann", "b") is None


def test_what_is_too_old_takes_no_memory_once_anybody_asks() -> None:
    clock = _Clock()
    store = Store(StoreConfig(lifetime=10), clock)
    store.keep("ann", "a", _kept("a"))
    clock.now = 10
    store.find("bob", "b")
    assert not store._shelves


def test_what_holds_an_item_is_read_once_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    for name in "abc":
        store.keep("ann", name, _kept(name, f"{name}."))
    read: list[Kept] = []
    context = Kept.context

    def counted(kept: Kept) -> list[dict[str, object]]:
        read.append(kept)
        return context(kept)

    monkeypatch.setattr(Kept, "context", counted)
    find = store.item("ann")
    assert [find(name) for name in "axbxa"] == [{"id": "a"}, None, {"id": "b"}, None, {"id": "a"}]
    assert len(read) == 2


@pytest.mark.parametrize("wrong", [{"most_responses": -1}, {"most_bytes": -1}, {"lifetime": -1}])
def test_limits_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        StoreConfig(**wrong)
