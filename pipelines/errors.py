"""The error that people see: what failed, one cause a line.

What belongs here: the base class whose causes the command line prints instead of a traceback. What
does not: errors of one stage (they stand in its module), and faults of the program itself, which
keep their traceback.
"""

from collections.abc import Iterator, Sequence


class BookError(Exception):
    """Something in the book's data or settings has to be mended; `causes` has one line each."""

    def __init__(self, causes: Sequence[str]) -> None:
        super().__init__("\n".join(causes))
        self.causes = list(causes)

    def lines(self) -> Iterator[str]:
        """What a person reads: each cause in one line."""
        for cause in self.causes:
            yield " ".join(cause.split())
