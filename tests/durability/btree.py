"""Where a table's rows lie in a SQLite file (its format: sqlite.org/fileformat2.html), to damage what is alive there.

The rest of a table's pages is free space, which nothing reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LEAF, INTERIOR = 0x0D, 0x05
INDEX_LEAF, INDEX_INTERIOR = 0x0A, 0x02
HEADER = {LEAF: 8, INTERIOR: 12, INDEX_LEAF: 8, INDEX_INTERIOR: 12}


@dataclass(frozen=True, slots=True)
class Pages:
    """A whole database file without reserved space, no write-ahead log beside it."""

    content: bytes

    def rows(self, root: int) -> Iterator[range]:
        """Where the rows of a table lie, overflow pages included. `root` is its `rootpage` in `sqlite_schema`."""
        for cell in self._cells(root):
            yield from self._row(cell)

    def unread(self, root: int) -> Iterator[int]:
        """The byte of each row that says what type its INTEGER PRIMARY KEY has: NULL, since the key lies elsewhere.
        With its bit of value 8 set it would be the constant 0, which nobody reads either."""
        for cell in self._cells(root):
            _, at = self._varint(cell)
            _, at = self._varint(at)
            _, at = self._varint(at)
            yield at

    def inner(self, root: int) -> Iterator[range]:
        """What leads to the rows: page headers, cell pointers, the cells of interior pages."""
        for page in self._pages(root):
            _, pointers = self._layout(page)
            yield range(page, pointers.stop)
            if self.content[page] == INTERIOR:
                for at in pointers[::2]:
                    cell = page + self._number(at, 2)
                    yield range(cell, self._varint(cell + 4)[1])

    def entries(self, root: int) -> Iterator[range]:
        """Where the entries of an index lie, none of them over several pages, and what leads to them."""
        for page in self._pages(root):
            _, pointers = self._layout(page)
            yield range(page, pointers.stop)
            for at in pointers[::2]:
                cell = page + self._number(at, 2)
                length, payload = self._varint(cell + 4 * (self.content[page] == INDEX_INTERIOR))
                yield range(cell, payload + length)

    @property
    def size(self) -> int:
        """Bytes of a page."""
        return self._number(16, 2)

    def _pages(self, number: int) -> Iterator[int]:
        page = (number - 1) * self.size
        yield page
        if self.content[page] in (INTERIOR, INDEX_INTERIOR):
            for at in self._layout(page)[1][::2]:
                yield from self._pages(self._number(page + self._number(at, 2), 4))
            yield from self._pages(self._number(page + 8, 4))

    def _cells(self, root: int) -> Iterator[int]:
        for page in self._pages(root):
            if self.content[page] == LEAF:
                yield from (page + self._number(at, 2) for at in self._layout(page)[1][::2])

    def _layout(self, page: int) -> tuple[range, range]:
        """Where a page's header lies, and its cell pointers of two bytes each."""
        header = range(page, page + HEADER[self.content[page]])
        return header, range(header.stop, header.stop + 2 * self._number(page + 3, 2))

    def _row(self, cell: int) -> Iterator[range]:
        length, at = self._varint(cell)
        _, at = self._varint(at)
        local = self._local(length)
        if local == length:
            yield range(cell, at + length)
            return
        yield range(cell, at + local + 4)
        yield from self._overflow(self._number(at + local, 4), length - local)

    def _overflow(self, page: int, left: int) -> Iterator[range]:
        while page:
            start = (page - 1) * self.size
            here = min(left, self.size - 4)
            page, left = self._number(start, 4), left - here
            yield range(start if page else start + 4, start + 4 + here)  # nobody reads where the last one points

    def _local(self, length: int) -> int:
        """How much of a payload lies in its leaf page."""
        if length <= self.size - 35:
            return length
        least = (self.size - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.size - 4)
        return local if local <= self.size - 35 else least

    def _number(self, at: int, length: int) -> int:
        return int.from_bytes(self.content[at : at + length], "big")

    def _varint(self, at: int) -> tuple[int, int]:
        """SQLite's: big-endian groups of seven bits, the ninth byte whole. The value, and where it ends."""
        value = 0
        for index in range(8):
            byte = self.content[at + index]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, at + index + 1
        return value << 8 | self.content[at + 8], at + 9
