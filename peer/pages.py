"""Which page of KV memory belongs to which row: accounting only, no tensors.

A *row* is one sequence with memory here; its positions lie in pages of `page_len` positions.
Rows that were made from one another (`reorder`) share pages until one of them writes. A row's
pages follow each other in memory whenever there is room for that, because attention then reads
them in place instead of gathering them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.errors import LocalProtocolError


class PageShortage(Exception):
    """A write needs more pages than are free. Internal to the peer: the step has to wait."""

    def __init__(self, needed: int, free: int) -> None:
        self.needed = needed
        self.free = free
        super().__init__(f"{needed} pages needed, {free} free")


class _FreeRuns:
    """The free pages as maximal runs of neighbours, in order."""

    def __init__(self, num_pages: int) -> None:
        self._starts = [0] if num_pages else []
        self._ends = [num_pages] if num_pages else []
        self.count = num_pages

    def take(self, after: int | None) -> int:
        """Take the page behind `after` if it is free, else one with much free room behind it.

        That one starts the largest run, unless a neighbour in use may want to grow into it:
        then it is the run's middle.
        """
        assert self.count
        if after is not None:
            index = bisect_right(self._starts, after + 1) - 1
            if index >= 0 and self._ends[index] > after + 1:
                self._remove(index, after + 1)
                return after + 1
        lengths = [end - start for start, end in zip(self._starts, self._ends, strict=True)]
        index = lengths.index(max(lengths))
        start = self._starts[index]
        page = start if start == 0 else start + lengths[index] // 2
        self._remove(index, page)
        return page

    def _remove(self, index: int, page: int) -> None:
        start, end = self._starts[index], self._ends[index]
        runs = [(a, b) for a, b in ((start, page), (page + 1, end)) if a < b]
        self._starts[index : index + 1] = [a for a, _ in runs]
        self._ends[index : index + 1] = [b for _, b in runs]
        self.count -= 1

    def give(self, page: int) -> None:
        """Put `page` back and join it with its free neighbours."""
        index = bisect_left(self._starts, page)
        joins_left = index > 0 and self._ends[index - 1] == page
        joins_right = index < len(self._starts) and self._starts[index] == page + 1
        if joins_left and joins_right:
            self._ends[index - 1] = self._ends.pop(index)
            self._starts.pop(index)
        elif joins_left:
            self._ends[index - 1] = page + 1
        elif joins_right:
            self._starts[index] = page
        else:
            self._starts.insert(index, page)
            self._ends.insert(index, page + 1)
        self.count += 1


@dataclass(slots=True)
class _Row:
    pages: list[int] = field(default_factory=list)
    length: int = 0


class PageTable:
    """Rows, their pages, and how many rows use each page."""

    def __init__(self, num_pages: int, page_len: int) -> None:
        assert num_pages >= 0 and page_len > 0
        self.num_pages = num_pages
        self.page_len = page_len
        self._users = [0] * num_pages
        self._free = _FreeRuns(num_pages)
        self._rows: dict[int, _Row] = {}
        self._next_row = 0

    @property
    def free_pages(self) -> int:
        """Pages that no row uses."""
        return self._free.count

    @property
    def num_rows(self) -> int:
        """Rows that have not been removed."""
        return len(self._rows)

    def add_row(self) -> int:
        """A new, empty row. Its number is never used again."""
        row = self._next_row
        self._next_row += 1
        self._rows[row] = _Row()
        return row

    def copy_row(self, source: int, length: int) -> int:
        """A new row of the first `length` positions of `source`, on the same pages."""
        row = self.add_row()
        self.reorder([row], [source])
        self.truncate(row, length)
        return row

    def remove_row(self, row: int) -> None:
        """Forget `row` and free the pages that it alone used."""
        self._release(self._row(row).pages)
        del self._rows[row]

    def row_len(self, row: int) -> int:
        """Positions that `row` holds."""
        return self._row(row).length

    def pages_of(self, row: int) -> tuple[int, ...]:
        """The pages of `row`, in the order of its positions."""
        return tuple(self._row(row).pages)

    def pages_needed(self, row: int, position: int, count: int) -> int:
        """Free pages that a write of [position, position + count) would take.

        What the rollback itself gives back is already subtracted; copies of shared pages are
        counted.
        """
        state = self._at(row, position, count)
        first, last = self._span(position, count)
        kept_shared = first < len(state.pages) and position % self.page_len and count
        fresh = sum(
            index >= len(state.pages) or self._users[state.pages[index]] > 1
            for index in range(self._kept(position), last)
        )
        if kept_shared and self._users[state.pages[first]] > 1:
            fresh += 1
        released = sum(self._users[page] == 1 for page in state.pages[last:])
        return max(0, fresh - released)

    def prepare_write(self, row: int, position: int, count: int) -> list[tuple[int, int]]:
        """Make [position, position + count) of `row` writable; `row` then ends there.

        Positions from `position` on are forgotten first (a rollback). Returns the page copies
        `(source, destination)` to do before the write: one if the first page stays partly and
        is shared. Raises PageShortage, and changes nothing, if there are too few free pages.
        """
        needed = self.pages_needed(row, position, count)
        if needed > self.free_pages:
            raise PageShortage(needed, self.free_pages)
        pages = self._rows[row].pages
        first, last = self._span(position, count)
        self._release(pages[last:])
        del pages[last:]
        copies: list[tuple[int, int]] = []
        for index in range(first, last):
            if index < len(pages) and self._users[pages[index]] == 1:
                continue
            page = self._take(after=pages[index - 1] if index else None)
            if index < len(pages):
                if index == first and position % self.page_len:
                    copies.append((pages[index], page))
                self._release([pages[index]])
                pages[index] = page
            else:
                pages.append(page)
        self._rows[row].length = position + count
        return copies

    def truncate(self, row: int, length: int) -> None:
        """Forget the positions of `row` from `length` on."""
        self.prepare_write(row, length, 0)

    def reorder(self, rows: Sequence[int], sources: Sequence[int]) -> None:
        """Make each `rows[i]` a copy of what `sources[i]` was before the call.

        Pages are shared, not copied; a later write copies what it must (`prepare_write`).
        """
        if len(rows) != len(sources) or len(set(rows)) != len(rows):
            raise LocalProtocolError("reorder needs one source for each of some distinct rows")
        wanted = [(list(self._row(s).pages), self._row(s).length) for s in sources]
        dropped = [self._row(row).pages for row in rows]
        for pages, _ in wanted:
            for page in pages:
                self._users[page] += 1
        for pages in dropped:
            self._release(pages)
        for row, (pages, length) in zip(rows, wanted, strict=True):
            self._rows[row] = _Row(pages, length)

    def _row(self, row: int) -> _Row:
        try:
            return self._rows[row]
        except KeyError as error:
            raise LocalProtocolError(f"row {row} does not exist") from error

    def _at(self, row: int, position: int, count: int) -> _Row:
        state = self._row(row)
        if not 0 <= position <= state.length or count < 0:
            raise LocalProtocolError(
                f"row {row} holds {state.length} positions: cannot write {count} at {position}"
            )
        return state

    def _kept(self, position: int) -> int:
        """Pages that hold positions before `position`."""
        return -(-position // self.page_len)

    def _span(self, position: int, count: int) -> tuple[int, int]:
        """Half-open range of the pages that a write touches (empty if it writes nothing)."""
        last = self._kept(position + count)
        return (position // self.page_len if count else last), last

    def _take(self, after: int | None) -> int:
        page = self._free.take(after)
        self._users[page] = 1
        return page

    def _release(self, pages: Sequence[int]) -> None:
        for page in pages:
            self._users[page] -= 1
            if not self._users[page]:
                self._free.give(page)
