"""Pages: nothing is used twice unless shared, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarm.errors import LocalProtocolError
from swarm.peer.pages import PageShortage, PageTable

PAGES, PAGE_LEN = 9, 3


def _snapshot(table: PageTable, rows: list[int]) -> list[tuple[Any, ...]]:
    return [(row, table.row_len(row), table.pages_of(row)) for row in rows] + [(table.free_pages,)]


class TableWithMemory(RuleBasedStateMachine):
    """A page table beside real memory: every row reads back what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PageTable(PAGES, PAGE_LEN)
        self.memory = [[0] * PAGE_LEN for _ in range(PAGES)]
        self.texts: dict[int, list[int]] = {}
        self.clock = 0

    @precondition(lambda self: len(self.texts) < 5)
    @rule()
    def add(self) -> None:
        row = self.table.add_row()
        assert row not in self.texts
        self.texts[row] = []

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(sorted(self.texts)))
        self.table.remove_row(row)
        del self.texts[row]

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), count=st.integers(0, 8))
    def write(self, data: st.DataObject, count: int) -> None:
        row = data.draw(st.sampled_from(sorted(self.texts)))
        position = data.draw(st.integers(0, len(self.texts[row])))
        needed = self.table.pages_needed(row, position, count)
        before = _snapshot(self.table, sorted(self.texts))
        try:
            copies = self.table.prepare_write(row, position, count)
        except PageShortage as shortage:
            assert shortage.needed == needed > shortage.free == self.table.free_pages
            assert _snapshot(self.table, sorted(self.texts)) == before
            return
        assert needed <= before[-1][0]
        for source, destination in copies:
            self.memory[destination] = list(self.memory[source])
        pages = self.table.pages_of(row)
        del self.texts[row][position:]
        for p in range(position, position + count):
            self.clock += 1
            self.memory[pages[p // PAGE_LEN]][p % PAGE_LEN] = self.clock
            self.texts[row].append(self.clock)

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(sorted(self.texts)), unique=True))
        sources = [data.draw(st.sampled_from(sorted(self.texts))) for _ in rows]
        self.table.reorder(rows, sources)
        self.texts |= {r: list(self.texts[s]) for r, s in zip(rows, sources, strict=True)}

    @invariant()
    def rows_read_back(self) -> None:
        for row, text in self.texts.items():
            assert self.table.row_len(row) == len(text)
            pages = self.table.pages_of(row)
            assert len(pages) == -(-len(text) // PAGE_LEN) == len(set(pages))
            assert [
                self.memory[pages[p // PAGE_LEN]][p % PAGE_LEN] for p in range(len(text))
            ] == text

    @invariant()
    def free_and_used_are_all(self) -> None:
        used = {page for row in self.texts for page in self.table.pages_of(row)}
        assert self.table.free_pages + len(used) == PAGES


TableWithMemory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTableWithMemory = TableWithMemory.TestCase


def test_rows_grow_in_place_beside_each_other() -> None:
    table = PageTable(64, 4)
    rows = [table.add_row() for _ in range(4)]
    for position in range(0, 32, 4):
        for row in rows:
            table.prepare_write(row, position, 4)
    for row in rows:
        pages = table.pages_of(row)
        assert pages == tuple(range(pages[0], pages[0] + 8))


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12))
@settings(deadline=None)
def test_every_page_can_be_used_and_comes_back(sizes: list[int]) -> None:
    table = PageTable(sum(sizes), 2)
    rows = [table.add_row() for _ in sizes]
    for row, size in zip(rows, sizes, strict=True):
        table.prepare_write(row, 0, size * 2)
    assert table.free_pages == 0
    for row in rows[::2] + rows[1::2]:
        table.remove_row(row)
    assert table.free_pages == sum(sizes)
    whole = table.add_row()
    table.prepare_write(whole, 0, sum(sizes) * 2)
    assert table.pages_of(whole) == tuple(range(sum(sizes)))


def test_rollback_to_a_page_boundary_of_a_shared_row_needs_no_copy() -> None:
    table = PageTable(8, 4)
    first, second = table.add_row(), table.add_row()
    table.prepare_write(first, 0, 8)
    table.reorder([second], [first])
    assert table.pages_needed(second, 4, 1) == 1
    assert table.prepare_write(second, 4, 1) == []
    assert table.pages_of(first)[0] == table.pages_of(second)[0]
    assert table.pages_of(first)[1] != table.pages_of(second)[1]


def test_writing_into_a_shared_page_copies_it_once() -> None:
    table = PageTable(8, 4)
    first, second = table.add_row(), table.add_row()
    table.prepare_write(first, 0, 6)
    table.reorder([second], [first])
    shared = table.pages_of(first)[1]
    assert table.pages_needed(second, 6, 1) == 1
    [(source, destination)] = table.prepare_write(second, 6, 1)
    assert (source, destination) == (shared, table.pages_of(second)[1])
    assert table.prepare_write(first, 6, 1) == []


def test_truncate_gives_pages_back() -> None:
    table = PageTable(4, 4)
    row = table.add_row()
    table.prepare_write(row, 0, 16)
    table.truncate(row, 5)
    assert (table.row_len(row), table.free_pages) == (5, 2)


@pytest.mark.parametrize(("position", "count"), [(1, 1), (-1, 1), (0, -1)])
def test_a_gap_is_our_bug(position: int, count: int) -> None:
    table = PageTable(4, 4)
    row = table.add_row()
    with pytest.raises(LocalProtocolError):
        table.prepare_write(row, position, count)


def test_unknown_rows_and_bad_orders_are_our_bug() -> None:
    table = PageTable(4, 4)
    row = table.add_row()
    with pytest.raises(LocalProtocolError):
        table.remove_row(row + 1)
    with pytest.raises(LocalProtocolError):
        table.reorder([row, row], [row, row])
    with pytest.raises(LocalProtocolError):
        table.reorder([row], [])
