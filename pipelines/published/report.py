"""A site's yearly data-centre report after (EU) 2024/1364: printed, and as CSV and HTML.

What belongs here: reading `fct_data_centre_reports` from the published book and laying it out. What
does not: any figure of it (`dbt_project/`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.published import page, query

_FIELDS = """
    select *
    from fct_data_centre_reports
    where site_id = $site and year(local_year) = $year
    order by annex_reference, field_id
"""
_KNOWN = """
    select distinct site_id || ' ' || year(local_year) as report
    from fct_data_centre_reports
    order by report
"""
_PARTS = {
    "The data centre": ("I.",),
    "Energy and sustainability": ("II.1",),
    "ICT capacity and data traffic": ("II.2", "II.3"),
    "Sustainability indicators": ("III",),
}
_HEADLINE = {"edc": "EDC", "eit": "EIT", "pue": "PUE", "ref": "REF"}


class ReportError(BookError):
    """There is no such report; the cause says what there is."""


@dataclass(frozen=True)
class Report:
    """One site and calendar year."""

    site_id: str
    year: int
    fields: pl.DataFrame
    """Rows of `fct_data_centre_reports` in the order of the annexes."""

    @property
    def name(self) -> str:
        """Folder and file it goes to, without suffix: `<site>/<year>`."""
        return f"{self.site_id}/{self.year}"


def read(book: Book, team: str, site_id: str, year: int) -> Report:
    """The report of a site for a calendar year, as the team sees it.

    Raises:
        ReportError: no such site or year, or the team may not see reports.
        QueryError: nothing is published yet.
    """
    tables = query.run_sql(book, team, "select table_name from information_schema.tables")
    if "fct_data_centre_reports" not in tables["table_name"].to_list():
        raise ReportError(
            [f"team {team!r} does not see data-centre reports: ask as energy or finance (--team)"]
        )
    fields = query.run_sql(book, team, _FIELDS, {"site": site_id, "year": year})
    if fields.is_empty():
        known = ", ".join(query.run_sql(book, team, _KNOWN)["report"]) or "none yet"
        raise ReportError([f"site {site_id!r} has no report for {year}: there are {known}"])
    return Report(site_id, year, fields)


def write(report: Report, folder: Path) -> list[Path]:
    """Write `<site>/<year>.csv` and `.html` below `folder`; the files written."""
    csv, html = (folder / f"{report.name}.{suffix}" for suffix in ("csv", "html"))
    csv.parent.mkdir(parents=True, exist_ok=True)
    csv.write_bytes(query.encode(report.fields, "csv"))
    html.write_text(render(report), encoding="utf-8")
    return [csv, html]


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing else."""
    shown = list(_shown_fields(report))
    by_id = {field["field_id"]: field for field in shown}
    return page.render(
        "report.html.j2",
        name=by_id["name"]["shown"],
        site_id=report.site_id,
        year=report.year,
        given=sum(not field["is_missing"] for field in shown),
        total=len(shown),
        headline=[(label, by_id[name]["shown"]) for name, label in _HEADLINE.items()],
        parts=[
            (title, [field for field in shown if field["annex_reference"].startswith(points)])
            for title, points in _PARTS.items()
        ],
        remarks=list(remarks(report)),
    )


def table(report: Report) -> Iterator[Table | str]:
    """What to print, one part after the other."""
    shown = Table(
        title=f"{report.site_id}, {report.year}: data-centre report after (EU) 2024/1364",
        title_justify="left",
    )
    for name in ("point", "field", "value", "coverage", "source, or why it is missing"):
        shown.add_column(name, justify="right" if name in ("value", "coverage") else "left")
    for field in _shown_fields(report):
        shown.add_row(
            field["annex_reference"],
            field["field_name"],
            field["shown"],
            field["coverage"],
            field["missing_reason"] or field["field_source"],
        )
    yield shown
    yield from remarks(report)


def remarks(report: Report) -> Iterator[str]:
    """What a reader has to know before sending it."""
    missing = report.fields["is_missing"].sum()
    if missing:
        yield f"{missing} of {report.fields.height} fields are missing; nothing is put in for them."
    if (report.fields["coverage_ratio"] < 1).any():
        yield (
            "Coverage is the share of the year's 15-minute intervals with a reading. Sums hold what"
            " was read and are not extrapolated to the year."
        )
    yield (
        "Due by 15 May of the following year for data centres in the Union with an installed IT"
        " power demand of at least 500 kW."
    )


def _shown_fields(report: Report) -> Iterator[dict[str, Any]]:
    for field in report.fields.iter_rows(named=True):
        coverage = field["coverage_ratio"]
        yield {
            **field,
            "shown": _value(field),
            "coverage": "-" if coverage is None else f"{coverage:.1%}",
        }


def _value(field: dict[str, Any]) -> str:
    if field["value_text"] is not None:
        return str(field["value_text"])
    if field["reported_quantity"] is None:
        return "-"
    if field["reported_quantity_unit"] == "ratio":
        return f"{field['reported_quantity']:.4f}"
    return f"{field['reported_quantity']:,.10g} {field['reported_quantity_unit']}"
