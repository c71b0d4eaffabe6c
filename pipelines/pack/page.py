"""A pack as one HTML page that needs nothing else: no script to read it, no request to anybody.

What belongs here: how values read (digits, units, local times), which rows stand where, the words
that follow from them. What does not: charts (`charts.py`), asking the book (`document.py`). The
page is a function of the document alone.

Every figure carries where it comes from, `data-figure="<section>:<row>:<column>"`, and its value as
the document has it, so that anybody can compare it with the SQL of its section.
"""

import json
import math
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
from markupsafe import Markup

from pipelines.pack import charts
from pipelines.pack.document import Document, Row, row_key
from pipelines.published.query import WITH_CONTRACT_PRICES
from pipelines.reference import project

TEMPLATES = Path(__file__).with_name("templates")
DASH = "\N{EN DASH}"
# Rows of a list that are shown at once; the rest opens on request.
SHOWN_ROWS = 8
# What two sheets of A4 hold: sites, rows of incidents, contract values and statements together (a
# table's head takes three), and lines of proposals (what parts two of them takes one).
PAPER_SITES = 4
PAPER_ROWS = 17
PAPER_LINES = 45
# Up to so many rows leave room for the letters of the hours' sources.
ROOMY_ROWS = 6
# Signs on a line of paper, in titles and in texts.
TITLE_SIGNS = 64
TEXT_SIGNS = 92

# How values of one kind read: format and what is put behind.
FORMATS = {
    "ratio": ("{:.1%}", ""),
    "mw": ("{:,.2f}", " MW"),
    "mwh": ("{:,.1f}", " MWh"),
    "kwh": ("{:,.0f}", " kWh"),
    "kg": ("{:,.0f}", " kg"),
    "g": ("{:,.0f}", ""),
    "gpu_hours": ("{:,.0f}", ""),
    "minutes": ("{:,.0f}", " min"),
    "count": ("{:,.0f}", ""),
    "money": ("{:,.0f}", ""),
    "cents": ("{:,.2f}", ""),
    "unit_cost": ("{:,.3f}", ""),
    "quantity": ("{:,.1f}", ""),
}
UNIT_FORMATS = {"ratio": "ratio", "g/kWh": "g", "incidents": "count"}
UNIT_NAMES = {"ratio": "", "g/kWh": "gCO2e/kWh", "incidents": ""}
STATUS_NAMES = {
    "met": "met",
    "missed": "missed",
    "no_target": "no target",
    "unknown": "not known",
}


def render(pack: Document) -> str:
    """The page of a pack."""
    reader = _Reader(pack)
    return (
        _environment()
        .get_template("pack.html.j2")
        .render(
            pack=pack,
            period=_period(pack),
            sections=pack["sections"],
            sites=reader.rows("sites"),
            rows=reader.rows,
            row=reader.row,
            figure=reader.figure,
            text=reader.text,
            kpi=reader.kpi,
            # The others stand in their sections.
            kpis=tuple(project.headline_kpis()),
            statuses=STATUS_NAMES,
            local=reader.local,
            site_charts=reader.site_charts(),
            carbon_chart=reader.carbon_chart(),
            strip=charts.strip,
            letters=charts.SOURCE_LETTERS,
            cost_steps=charts.COST_STEPS,
            currency=reader.currency,
            with_contract_prices=pack["team"] in WITH_CONTRACT_PRICES,
            days=reader.days,
            shown_rows=SHOWN_ROWS,
            paper=reader.paper(),
        )
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": words, "unit": unit_name}
    return environment


def words(name: str | None) -> str:
    """A name of the book as people read it."""
    return "" if name is None else name.replace("_", " ")


def unit_name(unit: str) -> str:
    """A unit of the scorecard beside its value; shares and counts need none."""
    return UNIT_NAMES.get(unit, unit)


def shown(value: float | None, kind: str) -> str:
    """A value as it reads."""
    if value is None:
        return DASH
    text, suffix = FORMATS[kind]
    return text.format(value) + suffix


class _Reader:
    """What the template asks of a document."""

    def __init__(self, pack: Document) -> None:
        self.pack = pack
        self.zone = ZoneInfo(pack["time_zone"])
        self.monday = date.fromisoformat(pack["first_date"])
        self.days = [self.monday + timedelta(days=offset) for offset in range(7)]
        currencies = {
            row["currency_code"]
            for section in pack["sections"].values()
            for row in section["rows"]
            if row.get("currency_code")
        }
        self.currency = ", ".join(sorted(currencies)) or "reporting currency"

    def rows(self, name: str, **having: object) -> list[Row]:
        """Rows of a section, those alone that have the given values."""
        section = self.pack["sections"].get(name)
        found = section["rows"] if section else []
        return [row for row in found if all(row[key] == value for key, value in having.items())]

    def row(self, name: str, **having: object) -> Row | None:
        """The one row of a section with the given values; None where there is none."""
        return next(iter(self.rows(name, **having)), None)

    def kpi(self, kpi_id: str, site_id: str | None = None) -> Row | None:
        """The scorecard row of a KPI of a site, or of the organization."""
        return self.row("scorecard", kpi_id=kpi_id, site_id=site_id)

    def figure(self, name: str, row: Row | None, column: str, kind: str | None = None) -> Markup:
        """A value with where it comes from; a dash where it is not known."""
        if row is None:
            return Markup('<span class="none">no data</span>')
        value = row[column]
        if kind is None:
            kind = UNIT_FORMATS.get(row["unit"], "unit_cost")
        text: str | Markup = shown(value, kind)
        if value is None:
            text = Markup(
                '<span aria-hidden="true">{}</span><span class="sr">not known</span>'
            ).format(DASH)
        key = row_key(self.pack["sections"][name], row)
        return Markup('<data data-figure="{}:{}:{}" value="{}">{}</data>').format(
            name, key, column, json.dumps(value), text
        )

    def text(self, name: str, row: Row, column: str) -> Markup:
        """A sentence of the book, whose figures are its own, with where it comes from."""
        key = row_key(self.pack["sections"][name], row)
        return Markup('<span data-text="{}:{}:{}">{}</span>').format(name, key, column, row[column])

    def local(self, text: str, form: str = "%a %-d %b %H:%M") -> str:
        """An instant in the organization's time zone."""
        return datetime.fromisoformat(text).astimezone(self.zone).strftime(form)

    def site_charts(self) -> dict[str, dict[str, Markup]]:
        """Kind of chart -> site -> chart, of the sites that have anything to show."""
        incidents = list(enumerate(self.rows("incidents"), start=1))
        found: dict[str, dict[str, Markup]] = {
            "supply": {},
            "marginal_cost": {},
            "carbon_free_hours": {},
            "sourcing": {},
        }
        for site in self.rows("sites"):
            name = site["site_id"]
            hours = self.rows("supply", site_id=name)
            if any(row["known_interval_count"] for row in hours):
                own = [(number, row) for number, row in incidents if row["site_id"] == name]
                found["supply"][name] = charts.supply(hours, own, self.monday, self.zone, name)
            costs = self.rows("marginal_cost", site_id=name)
            if any(row["marginal_source"] for row in costs):
                found["marginal_cost"][name] = charts.marginal_cost(
                    costs, self.monday, self.currency, name
                )
            shares = self.rows("carbon_free_hours", site_id=name)
            if any(row["carbon_free_ratio"] is not None for row in shares):
                found["carbon_free_hours"][name] = charts.carbon_free_hours(shares, name)
            months = self.rows("sourcing", site_id=name)
            if any(row["committed_mw"] is not None for row in months):
                found["sourcing"][name] = charts.sourcing(months, name)
        return found

    def paper(self) -> dict[str, Any]:
        """How many sites, values of contracts and lines of statements two sheets hold.

        `is_brief` says whether proposals are cut, `is_dense` whether charts are small, `left_out`
        in words what is not there.
        """
        counts = {name: len(self.rows(name)) for name in ("sites", "contract_values", "statements")}
        incidents = len(self.rows("incidents"))
        room = PAPER_ROWS - min(incidents, SHOWN_ROWS)
        values = min(counts["contract_values"], room)
        statements = min(counts["statements"], max(0, room - values - 3))
        shown_rows = min(incidents, SHOWN_ROWS) + values + statements
        is_brief = sum(_paper_lines(row) for row in self.rows("agenda")) > PAPER_LINES
        left_out = [
            f"{count} {one if count == 1 else many}"
            for count, one, many in (
                (counts["sites"] - PAPER_SITES, "site", "sites"),
                (incidents - SHOWN_ROWS, "incident", "incidents"),
                (counts["contract_values"] - values, "value of a contract", "values of contracts"),
                (counts["statements"] - statements, "line of statements", "lines of statements"),
            )
            if count > 0
        ]
        if is_brief:
            left_out.append("the ends of proposals cut with …")
        return {
            "sites": PAPER_SITES,
            "values": values,
            "statements": statements,
            "is_brief": is_brief,
            "is_dense": shown_rows > ROOMY_ROWS,
            "left_out": left_out,
        }

    def carbon_chart(self) -> Markup | None:
        """Carbon three ways, the organization last; None where nothing is known."""
        named = [(row["site_id"] or "all sites", row) for row in self._carbon_rows()]
        return charts.carbon(named) if named else None

    def _carbon_rows(self) -> Iterator[Row]:
        known = [row for row in self.rows("carbon") if row["location_based_g_per_kwh"] is not None]
        yield from (row for row in known if row["scope"] == "site")
        yield from (row for row in known if row["scope"] == "organization")


def _paper_lines(proposal: Row) -> int:
    """Lines that a proposal takes on paper, with one that parts it from the next."""
    texts = (
        proposal["proposal"],
        f"If nothing is done: {proposal['inaction']}",
        f"{proposal['owner']} decides · {proposal['kind']} · confidence {proposal['confidence']}: "
        + proposal["confidence_reason"],
    )
    lines = [math.ceil(len(text) / TEXT_SIGNS) for text in texts]
    return 1 + math.ceil(len(proposal["title"]) / TITLE_SIGNS) + sum(lines)


def _period(pack: Document) -> str:
    first, last = (date.fromisoformat(pack[name]) for name in ("first_date", "last_date"))
    return f"{first:%-d %b} {DASH} {last:%-d %b %Y}"
