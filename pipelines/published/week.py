"""The latest full ISO week at a glance: KPIs per site, what they lack, incidents, findings.

What belongs here: reading the published book of the energy team and laying it out for a terminal.
What does not: any figure's formula (`dbt_project/`).
"""

from collections.abc import Iterator
from datetime import date

from rich.table import Table

from pipelines.book import Book
from pipelines.published import query
from pipelines.reference.project import kpi_inputs

TEAM = "energy"

# A day is over once it is there as a whole or a later one has begun, its week once that day is a
# Sunday or later. Where nothing is metered, a later day is all that tells.
LATEST_FULL_WEEK = """
    select max(week) as week
    from kpi_organization_weekly
    where week <= (
        select strftime(date_trunc('week', max(local_date) + 1) - interval 1 day, '%G-W%V')
        from kpi_site_daily
        where
            coverage_ratio >= 0.99
            or local_date < (
                select coalesce(
                    max(days.local_date) filter (where days.coverage_ratio > 0),
                    max(days.local_date)
                )
                from kpi_site_daily as days
            )
    )
"""

LAST_WEEKS = f"""
    select week
    from kpi_organization_weekly
    where week <= ({LATEST_FULL_WEEK})
    order by week desc
    limit {{count}}
"""

KPI_IDS = {
    "availability": "effective_availability_ratio",
    "cost": "marginal_cost_per_gpu_hour",
    "carbon": "location_based_g_per_kwh",
    "incidents": "incident_count",
}
KPIS = f"""
    select
        weekly.site_id,
        weekly.mean_effective_it_mw,
        {
    ", ".join(
        f"max(kpis.{column}) filter (where kpis.kpi_id = '{kpi_id}') as {name}{suffix}"
        for name, kpi_id in KPI_IDS.items()
        for column, suffix in (("kpi_value", ""), ("kpi_value - kpis.previous_value", "_change"))
    )
},
        weekly.currency_code
    from kpi_site_weekly as weekly
    inner join governance_scorecard as kpis
        on weekly.site_id = kpis.site_id and weekly.week = kpis.week
    where weekly.week = '{{week}}'
    group by all
    order by weekly.site_id
"""

GAPS = f"""
    select
        site_id,
        effect,
        string_agg(
            case kpi_id {
    " ".join(f"when '{kpi_id}' then '{name}'" for name, kpi_id in KPI_IDS.items())
} end, ', ' order by rank
        ) as kpis,
        arg_max(reason, missing_ratio) as reason,
        any_value(comes_from) as comes_from
    from kpi_gaps
    where week = '{{week}}'
    group by site_id, effect, input_id
    order by effect = 'narrowed', site_id, min(rank)
"""
SHOWN_GAPS = 12
LATEST_GAPS = "select max(week) as week from kpi_gaps"

INCIDENTS = """
    select site_id, started_at, duration_minutes, primary_cause, layer, severity,
        lost_gpu_hours_sensitive + lost_gpu_hours_tolerant as lost_gpu_hours,
        incident_cost, currency_code, is_ongoing
    from fct_energy_constraint_incidents
    where week = '{week}'
    order by severity, incident_cost desc nulls last, started_at
"""

FINDINGS = """
    select rule_id, site_id, subject_id, started_at, ended_at, found_quantity,
        found_quantity_unit, expected, is_withheld
    from fct_findings
    where coalesce(ended_at, timestamptz 'infinity') > timestamptz '{since} 00:00:00+00'
    order by is_withheld desc, started_at desc, site_id, subject_id
"""
SHOWN_FINDINGS = 10


def latest(book: Book) -> Iterator[Table | str]:
    """What to print about the latest full week, one part after the other.

    Raises:
        QueryError: nothing is published yet.
    """
    week = latest_full(book)
    if week is None:
        yield "No full week in the book yet."
        begun: str | None = query.run_sql(book, TEAM, LATEST_GAPS).item()
        yield from _inputs() if begun is None else _gaps(book, begun)
    else:
        yield _kpis(book, week)
        yield from _gaps(book, week)
        yield _incidents(book, week)
    yield from _findings(book, week)


def _gaps(book: Book, week: str) -> Iterator[Table | str]:
    """Which KPIs of a week are absent or known in part, and why."""
    gaps = query.run_sql(book, TEAM, GAPS.format(week=week))
    if gaps.is_empty():
        return
    table = Table(title=f"What is missing of the KPIs of {week}, and why", title_justify="left")
    for name in ("site", "KPI", "is", "why", "comes from"):
        table.add_column(name)
    for row in gaps.head(SHOWN_GAPS).iter_rows(named=True):
        table.add_row(
            row["site_id"], row["kpis"], row["effect"], row["reason"], row["comes_from"] or ""
        )
    yield table
    if len(gaps) > SHOWN_GAPS:
        yield (
            f"{len(gaps) - SHOWN_GAPS} more: wattbook sql --team {TEAM}"
            f" \"select * from kpi_gaps where week = '{week}' order by site_id, rank\""
        )


def _inputs() -> Iterator[Table | str]:
    """What to land and declare, for a book that has nothing of any site yet."""
    yield "Nothing of any site has been loaded yet. Begin with any of these."
    names = {kpi_id: name for name, kpi_id in KPI_IDS.items()}
    table = Table(title="What each KPI is made of", title_justify="left")
    for name in ("what", "for", "land it in", "declare it in"):
        table.add_column(name)
    for one in kpi_inputs():
        needed = f", where {one['needed_where']}" if "needed_where" in one else ""
        table.add_row(
            one["name"] + needed,
            ", ".join(names[kpi_id] for kpi_id in one["kpi_ids"]),
            ", ".join(f"landing/{name}" for name in one["landing_formats"]),
            one["reference_field"],
        )
    yield table


def _incidents(book: Book, week: str) -> Table | str:
    incidents = query.run_sql(book, TEAM, INCIDENTS.format(week=week))
    if incidents.is_empty():
        return f"No energy-constraint incident in {week}."
    table = Table(title=f"Energy-constraint incidents of {week}", title_justify="left")
    for name in ("site", "started (UTC)", "minutes", "cause", "layer", "severity"):
        table.add_column(name, justify="right" if name in ("minutes", "severity") else "left")
    table.add_column("GPU-hours lost", justify="right")
    table.add_column("cost", justify="right")
    for row in incidents.iter_rows(named=True):
        table.add_row(
            row["site_id"],
            query.show(row["started_at"]),
            query.show(row["duration_minutes"]) + (" and open" if row["is_ongoing"] else ""),
            row["primary_cause"],
            row["layer"],
            query.show(row["severity"]),
            _number(row["lost_gpu_hours"], 0),
            f"{_number(row['incident_cost'], 0)} {row['currency_code']}",
        )
    return table


def _findings(book: Book, week: str | None) -> Iterator[Table | str]:
    """What the data of the week and after it breaks, what is kept out of figures first."""
    since = "2000-01-01" if week is None else date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
    findings = query.run_sql(book, TEAM, FINDINGS.format(since=since))
    if findings.is_empty():
        return
    title = f"Findings in the data since {since}" if week else "Findings in the data"
    table = Table(title=title, title_justify="left")
    for name in ("rule", "site", "what", "from (UTC)", "to (UTC)", "found", "expected"):
        table.add_column(name, justify="right" if name == "found" else "left")
    table.add_column("kept out of figures")
    for row in findings.head(SHOWN_FINDINGS).iter_rows(named=True):
        table.add_row(
            row["rule_id"],
            row["site_id"] or "",
            row["subject_id"],
            query.show(row["started_at"]),
            query.show(row["ended_at"]),
            f"{_number(row['found_quantity'], 1)} {row['found_quantity_unit'] or ''}",
            row["expected"],
            "yes" if row["is_withheld"] else "no",
        )
    yield table
    if len(findings) > SHOWN_FINDINGS:
        yield (
            f"{len(findings) - SHOWN_FINDINGS} more, and what mends each:"
            f' wattbook sql --team {TEAM} "select * from fct_findings"'
        )


def latest_full(book: Book) -> str | None:
    """The latest ISO week that is over and there as a whole, as 2026-W44; None without one.

    Raises:
        QueryError: nothing is published yet.
    """
    week: str | None = query.run_sql(book, TEAM, LATEST_FULL_WEEK).item()
    return week


def last_weeks(book: Book, count: int) -> list[str]:
    """So many weeks of the book up to the latest full one, in order.

    Raises:
        QueryError: nothing is published yet.
    """
    found = query.run_sql(book, TEAM, LAST_WEEKS.format(count=count))
    weeks: list[str] = found["week"].sort().to_list()
    return weeks


def _kpis(book: Book, week: str) -> Table:
    table = Table(title=f"Week {week}, in brackets against the week before", title_justify="left")
    table.add_column("site")
    for name in (
        "effective MW",
        "of commitment",
        "one more GPU-hour",
        "gCO2e per kWh",
        "incidents",
    ):
        table.add_column(name, justify="right")
    for row in query.run_sql(book, TEAM, KPIS.format(week=week)).iter_rows(named=True):
        currency = row["currency_code"] or ""
        table.add_row(
            row["site_id"],
            _number(row["mean_effective_it_mw"], 2),
            _with_change(row["availability"], row["availability_change"], 1, 100, " %"),
            _with_change(row["cost"], row["cost_change"], 3, 1, f" {currency}"),
            _with_change(row["carbon"], row["carbon_change"], 0),
            _with_change(row["incidents"], row["incidents_change"], 0),
        )
    return table


def _with_change(
    value: float | None, change: float | None, digits: int, factor: float = 1, unit: str = ""
) -> str:
    if value is None:
        return "-"
    shown = f"{value * factor:,.{digits}f}{unit}"
    return shown if change is None else f"{shown} ({change * factor:+,.{digits}f})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
