"""What people read of a result: lines, pairs and tables, in which strings from artifacts are safe to print."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apmctl.text import clean

if TYPE_CHECKING:
    from rich.console import Console


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
        """Aligned text, two spaces between columns."""
        widths = self._widths()
        return "\n".join("  ".join(map(self._padded, row, self.headers, widths)).rstrip() for row in self._cells())

    def show(self, console: Console) -> None:
        """Draw the table on a terminal, fitted to its width."""
        from rich.table import Table as Grid
        from rich.text import Text

        table = self._fitted(console.width)
        grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for header in table.headers:
            wrap = header in self.wrap
            grid.add_column(
                header,
                justify="right" if header in self.right else "left",
                no_wrap=not wrap,
                overflow="fold" if wrap else "ellipsis",
            )
        for row in table.rows:
            grid.add_row(*(Text(clean(value)) for value in row))
        console.print(grid)

    def _fitted(self, width: int) -> Table:
        if not self.spare or sum(self._widths()) + 2 * (len(self.headers) - 1) <= width:
            return self
        index = self.headers.index(self.spare[0])
        headers = [header for header in self.headers if header != self.spare[0]]
        rows = [[*row[:index], *row[index + 1 :]] for row in self.rows]
        return dataclasses.replace(self, headers=headers, rows=rows, spare=self.spare[1:])._fitted(width)

    def _padded(self, cell: str, header: str, width: int) -> str:
        return cell.rjust(width) if header in self.right else cell.ljust(width)

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(*self._cells(), strict=True)]

    def _cells(self) -> list[list[str]]:
        return [[clean(value) for value in row] for row in (self.headers, *self.rows)]


Block = str | Pairs | Table


def as_text(blocks: Iterable[Block]) -> str:
    """Blocks as plain text, one below the other."""
    return "\n".join(clean(block) if isinstance(block, str) else block.text() for block in blocks)


def on_terminal(blocks: Iterable[Block], console: Console) -> str:
    """Blocks as a terminal shows them; it wraps lines and pairs itself, so that paths can be copied."""
    with console.capture() as capture:
        for block in blocks:
            if isinstance(block, Table):
                block.show(console)
            else:
                console.out(as_text([block]), highlight=False)
    return capture.get().removesuffix("\n")
