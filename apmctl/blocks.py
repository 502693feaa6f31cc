"""What people read of a result: lines, pairs and tables, in which strings from artifacts are safe to print."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apmctl.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid


@dataclass(frozen=True)
class Pairs:
    """One `key  value` a line, indented, the values aligned."""

    values: Sequence[tuple[str, object]]

    def text(self) -> str:
        """The lines."""
        cells = [(clean(key), clean(value)) for key, value in self.values]
        width = max((len(key) for key, _ in cells), default=0)
        return "\n".join(f"  {key.ljust(width)}  {value}".rstrip() for key, value in cells)


@dataclass(frozen=True)
class Table:
    """Columns under their headers. Three fields name columns by their headers and say how they are shown.

    `right`: flush right. `spare`: left out, the first ones first, on a terminal too narrow for all. `wrap`: folded
    there where even that is not enough.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    right: Sequence[str] = ()
    spare: Sequence[str] = ()
    wrap: Sequence[str] = ()

    def text(self) -> str:
        """The table without a terminal, aligned; nothing is cut."""
        aligned = []
        for header, column in zip(self.headers, self._columns(), strict=True):
            width = max(map(len, column))
            aligned.append([v.rjust(width) if header in self.right else v.ljust(width) for v in column])
        return "\n".join("  ".join(row).rstrip() for row in zip(*aligned, strict=True))

    def grid(self, width: int) -> Grid:
        """The table, fitted to a width."""
        from rich.table import Table as Grid
        from rich.text import Text

        table = self._fitted(width)
        grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for header in table.headers:
            grid.add_column(
                Text(clean(header)),
                justify="right" if header in self.right else "left",
                no_wrap=header not in self.wrap,
                overflow="fold" if header in self.wrap else "ellipsis",
            )
        for row in table.rows:
            grid.add_row(*(Text(clean(value)) for value in row))
        return grid

    def _columns(self) -> list[list[str]]:
        return [[clean(value) for value in column] for column in zip(self.headers, *self.rows, strict=True)]

    def _fitted(self, width: int) -> Table:
        if not self.spare or sum(max(map(len, column)) + 2 for column in self._columns()) - 2 <= width:
            return self
        kept = [i for i, header in enumerate(self.headers) if header != self.spare[0]]
        headers, rows = [self.headers[i] for i in kept], [[row[i] for i in kept] for row in self.rows]
        return dataclasses.replace(self, headers=headers, rows=rows, spare=self.spare[1:])._fitted(width)


Block = str | Pairs | Table


def as_text(blocks: Iterable[Block], console: Console | None = None) -> str:
    """Blocks one below the other, as a terminal shows them, or else as plain text in which nothing is cut.

    Lines and pairs are left to the terminal to wrap, so that paths can be copied.
    """
    if console is None:
        return "\n".join(clean(block) if isinstance(block, str) else block.text() for block in blocks)
    with console.capture() as capture:
        for block in blocks:
            if isinstance(block, Table):
                console.print(block.grid(console.width))
            else:
                console.out(clean(block) if isinstance(block, str) else block.text(), highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().removesuffix("\n").split("\n"))
