"""When the days and weeks of a book begin.

What belongs here: what Dagster has to know of the reference data before anything runs, read from
few files, so that mistakes in the others do not keep its UI from starting. What does not: reading
the folder as a whole (`loading.py`).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from pydantic import TypeAdapter

from pipelines.reference.documents import Mistakes, Reader, ReferenceErrors
from pipelines.reference.organization import Organization
from pipelines.reference.sites import Site


@dataclass(frozen=True)
class Calendar:
    """The organization's time zone and the first day of its book."""

    time_zone: str
    first_day: date

    @property
    def first_monday(self) -> date:
        """The first Monday of the book: on its first day or after it."""
        return self.first_day + timedelta(days=-self.first_day.weekday() % 7)


def load_calendar(reference_dir: Path, data_from: date | None = None) -> Calendar:
    """The calendar of a book: `first_day` of `organization.yml`, else where its data begin.

    Before there is any, `data_from`, the book begins on the first day on which the terms of a site
    hold.

    Raises:
        ReferenceErrors: the files that say it have mistakes, or none says it.
    """
    mistakes = Mistakes()
    read = Reader(reference_dir, mistakes)
    organization = read.one("organization.yml", Organization)
    if organization is not None and organization.first_day is not None:
        return Calendar(organization.time_zone, organization.first_day)
    sites = read.each("sites", TypeAdapter(Site))
    if mistakes.causes:
        raise ReferenceErrors(mistakes.causes)
    first_day = data_from or min(
        (terms.valid_from for site in sites for terms in site.terms), default=None
    )
    if first_day is None:
        raise ReferenceErrors(
            [
                "organization.yml: first_day: not found, and no site has terms that begin on a day:"
                " add the field, as first_day: 2026-04-05"
            ]
        )
    return Calendar(organization.time_zone, first_day)
