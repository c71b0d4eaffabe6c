"""Pulling the sources of a book one after the other.

What belongs here: which sources there are and what becomes of each. What does not: asking one (the
modules of the kinds).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from pipelines import reference
from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.pulls import (
    caiso,
    ecb,
    electricity_maps,
    entsoe,
    ercot,
    folder,
    openadr,
    prometheus,
    slurm,
    slurmrestd,
    watttime,
)
from pipelines.pulls.desk import Desk, Limits, Outcome, Progress, PullError, Secrets

KINDS: dict[str, Callable[..., None]] = {
    "prometheus": prometheus.pull,
    "slurm": slurm.pull,
    "slurmrestd": slurmrestd.pull,
    "entsoe": entsoe.pull,
    "electricity_maps": electricity_maps.pull,
    "watttime": watttime.pull,
    "caiso": caiso.pull,
    "ercot": ercot.pull,
    "ecb": ecb.pull,
    "openadr": openadr.pull,
    "folder": folder.pull,
}
DEFAULT_LIMITS = Limits()


def pull(
    book: Book,
    names: Sequence[str] = (),
    *,
    environment: Mapping[str, str] = os.environ,
    now: datetime | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = lambda _: None,
) -> list[Outcome]:
    """Pull the sources named, or all; what became of each. One that fails keeps no other back.

    Raises:
        PullError: a name is no source, or another pull is under way.
        reference.ReferenceErrors: `sources.yml` has mistakes.
    """
    sources = reference.load_sources(book.reference).sources
    known = [source.name for source in sources]
    if missing := [name for name in names if name not in known]:
        given = ", ".join(known) or "none"
        raise PullError([f"{name}: no such source, sources.yml has {given}" for name in missing])
    chosen = [source for source in sources if not names or source.name in names]
    if not chosen:
        return []
    book.pulls.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(book.pulls / "pull.lock", timeout=0):
            _remove_drafts(book)
            outcomes = []
            for source in chosen:
                secrets = Secrets(environment)
                outcome = Outcome(source.name)
                desk = Desk(book, outcome, now or datetime.now(UTC), secrets, limits, progress)
                try:
                    KINDS[source.kind](source, desk)
                except (BookError, OSError) as error:
                    causes = error.causes if isinstance(error, BookError) else [str(error)]
                    outcome.causes = [
                        f"{source.name}: {secrets.without(cause)}" for cause in causes
                    ]
                outcomes.append(outcome)
            return outcomes
    except Timeout:
        raise PullError([f"{book.pulls}: another pull is under way: wait for it"]) from None


def _remove_drafts(book: Book) -> None:
    """Remove what a pull that was killed left: drafts of answers."""
    for file in book.pulls.iterdir():
        if file.is_file() and file.suffix not in (".json", ".lock"):
            file.unlink()
