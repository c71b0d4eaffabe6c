"""Answers as text for people: aligned columns, or a record per row.

What belongs here: widths, alignment, what is left out where a table is too wide. What does not:
how one value reads (`query.show`), files (`query.encode`, `excel.py`), and paging (`cli.py`).
"""

import textwrap
from collections.abc import Iterable, Iterator

from rich.cells import cell_len

from pipelines.published.query import Rows, show

GAP = "  "


def lines(batches: Iterable[Rows]) -> Iterator[str]:
    """A table, one row a line and whole: names, a rule, rows, numbers to the right.

    Columns are as wide as the widest value so far, so that the first lines wait for no later ones.
    """
    widths: list[int] = []
    for number, batch in enumerate(batches):
        rows = [[_one_line(value) for value in row] for row in batch.values]
        heads = [list(batch.names)] if number == 0 else []
        widths = [
            max([wide, *(cell_len(row[column]) for row in [*heads, *rows])])
            for column, wide in enumerate(widths or [0] * len(batch.names))
        ]
        for head in heads:
            yield _aligned(head, widths, batch.is_number)
            yield GAP.join("─" * width for width in widths)
        for row in rows:
            yield _aligned(row, widths, batch.is_number)


def fitted(rows: Rows, width: int) -> tuple[list[str], list[str]]:
    """Lines at most `width` wide, and the names of columns that are left out of them.

    Where the table is too wide, columns that are empty in all rows are left out; where that is not
    enough, each row is a record, a line for each of its fields.
    """
    whole = list(lines([rows]))
    if _width(whole) <= width or not rows.values:
        return whole, []
    kept = [
        column
        for column in range(len(rows.names))
        if any(row[column] is not None for row in rows.values)
    ]
    left_out = [name for column, name in enumerate(rows.names) if column not in kept]
    if not kept:
        return whole, []
    fuller = Rows(
        tuple(rows.names[column] for column in kept),
        tuple(rows.is_number[column] for column in kept),
        [tuple(row[column] for column in kept) for row in rows.values],
    )
    narrower = list(lines([fuller]))
    return (narrower if _width(narrower) <= width else list(_records(fuller, width))), left_out


def described(rows: Rows, width: int) -> list[str]:
    """Lines at most `width` wide of a table whose last column is text, which is folded."""
    *names, last = rows.names
    others = Rows(tuple(names), rows.is_number[:-1], [row[:-1] for row in rows.values])
    head, rule, *left = lines([others])
    indent = max(cell_len(line) for line in [head, rule]) + len(GAP)
    room = max(width - indent, 20)
    shown = [head.ljust(indent) + last, rule + GAP + "─" * min(room, 40)]
    for line, row in zip(left, rows.values, strict=True):
        first, *more = textwrap.wrap(_one_line(row[-1]), room) or [""]
        shown += [(line.ljust(indent) + first).rstrip(), *(" " * indent + text for text in more)]
    return shown


def _records(rows: Rows, width: int) -> Iterator[str]:
    wide = max(cell_len(name) for name in rows.names)
    indent = " " * (wide + len(GAP))
    for number, row in enumerate(rows.values, 1):
        yield f"── row {number} ".ljust(min(width, 60), "─")
        for name, value in zip(rows.names, row, strict=True):
            first = name + " " * (wide - cell_len(name)) + GAP
            yield from textwrap.wrap(
                _one_line(value),
                max(width, len(indent) + 20),
                initial_indent=first,
                subsequent_indent=indent,
            ) or [first.rstrip()]


def _aligned(cells: list[str], widths: list[int], is_number: Iterable[bool]) -> str:
    return GAP.join(
        " " * (width - cell_len(cell)) + cell if right else cell + " " * (width - cell_len(cell))
        for cell, width, right in zip(cells, widths, is_number, strict=True)
    ).rstrip()


def _one_line(value: object) -> str:
    """A value on one line, without what would steer a terminal."""
    text = " ".join(show(value).splitlines())
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _width(text: list[str]) -> int:
    return max(cell_len(line) for line in text)
