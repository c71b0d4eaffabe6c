"""Charts of a pack as SVG that prints, needs no script and takes its colours from the page.

What belongs here: Vega-Lite specifications by Altair, one function per chart, all of a width that a
phone shows in full, and their rendering. What does not: what is shown (`sections.py`), words and
layout (`page.py`).

Colours are CSS variables, so that one SVG serves light and dark; whatever a colour says, a pattern,
a letter or a place says too. Each mark has its values as text (`data-said`), which the page shows
when pointed at.
"""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl
import vl_convert
from markupsafe import Markup, escape

Row = dict[str, Any]

WIDTH = 320
VEGA_LITE = "6.4"
SOURCE_LETTERS = {
    "grid": "",
    "local_surplus": "S",
    "battery": "B",
    "commitment": "C",
    "on_demand": "D",
    "constrained": "\N{MULTIPLICATION SIGN}",
}
# Steps of a currency: the same in every week, so that weeks compare.
COST_STEPS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
CARBON_WAYS = (
    ("location_based_g_per_kwh", "location-based", "circle", "var(--series-1)"),
    ("market_based_g_per_kwh", "market-based", "square", "var(--series-2)"),
    ("hourly_matched_g_per_kwh", "hourly matched", "triangle-up", "var(--series-3)"),
)
# More incident numbers than this over one week would lie on each other.
NUMBERED_INCIDENTS = 12


def supply(
    hours: Sequence[Row],
    incidents: Sequence[tuple[int, Row]],
    monday: date,
    zone: ZoneInfo,
    name: str,
) -> Markup:
    """MW by layer, effective and committed IT MW of a site through the week, incidents above.

    `incidents` are pairs of the number that the list below gives them and the incident.
    """
    started_at = datetime.combine(monday, datetime.min.time(), zone)
    layers, lines = [], []
    for row in hours:
        hour = _hours(started_at, row["hour_started_at"])
        said = f"{_instant(row['hour_started_at']).astimezone(zone):%a %-d %b %H:%M}"
        for column, what in (("grid_mw", "grid"), ("local_mw", "local")):
            said += f", {what} {_number(row[column], 2)} MW"
        said += (
            f"; effective {_number(row['effective_it_mw'], 2)} of"
            f" {_number(row['committed_it_mw'], 2)} MW committed IT"
        )
        grid, local = row["grid_mw"], row["local_mw"]
        if grid is not None:
            layers.append({"from": hour, "layer": "grid", "low": 0, "high": grid, "said": said})
        if local:
            low = grid or 0
            layers.append(
                {"from": hour, "layer": "local", "low": low, "high": low + local, "said": said}
            )
        for column in ("effective_it_mw", "committed_it_mw"):
            if row[column] is not None:
                lines.append({"from": hour, "to": hour + 1, "line": column, "mw": row[column]})
    marks = [
        {
            "from": max(0.0, _hours(started_at, row["started_at"])),
            "to": _hours(started_at, row["ended_at"]),
            "number": str(number) if len(incidents) <= NUMBERED_INCIDENTS else "",
            "said": f"Incident {number}: {row['primary_cause'].replace('_', ' ')}",
        }
        for number, row in incidents
    ]
    ends = [started_at + timedelta(days=day) for day in range(8)]
    ticks = [_hours(started_at, _text(end)) for end in ends]
    top = max([row["high"] for row in layers] + [row["mw"] for row in lines] + [0.1]) * 1.02
    x = alt.X(
        "from:Q",
        scale=alt.Scale(domain=[0, ticks[-1]], nice=False),
        axis=alt.Axis(
            values=ticks[:-1],
            labelExpr=_labels(ticks, [f"{end:%a %-d}" for end in ends]),
            title=None,
            grid=True,
            labelAlign="left",
            labelOffset=2,
            ticks=False,
        ),
    )
    chart = alt.layer(
        alt.Chart(_frame(layers, "from", "layer", "low", "high", "said"))
        .transform_calculate(to="datum.from + 1")
        .mark_rect()
        .encode(
            x=x,
            x2="to:Q",
            y=alt.Y(
                "low:Q",
                scale=alt.Scale(domain=[0, top], nice=False),
                axis=alt.Axis(title=None, tickCount=4),
            ),
            y2="high:Q",
            fill=_scale("layer", ["grid", "local"], ["var(--grid)", "url(#hatch)"]),
            description="said:N",
        ),
        alt.Chart(_frame(lines, "from", "to", "line", "mw"))
        .mark_rule(aria=False)
        .encode(
            x="from:Q",
            x2="to:Q",
            y="mw:Q",
            stroke=_scale(
                "line", ["effective_it_mw", "committed_it_mw"], ["var(--series-3)", "var(--ink)"]
            ),
            size=alt.condition(alt.datum.line == "committed_it_mw", alt.value(3), alt.value(1.75)),
        ),
        alt.Chart(_frame(marks, "from", "to", "number", "said"))
        .mark_rect(fill="var(--bad)", stroke="var(--bad)", strokeWidth=1.5)
        .encode(x="from:Q", x2="to:Q", y=alt.value(-7), y2=alt.value(-1), description="said:N"),
        alt.Chart(_frame(marks, "from", "to", "number", "said"))
        .mark_text(dy=-5, align="left", baseline="bottom", fontWeight=700, aria=False)
        .encode(x="from:Q", y=alt.value(-4), text="number:N"),
    ).properties(width=WIDTH - 40, height=110)
    return _svg(chart, f"{name}: MW by layer, effective and committed IT MW by hour", top=18)


def marginal_cost(hours: Sequence[Row], monday: date, currency: str, name: str) -> Markup:
    """Cost of one more GPU-hour by day and hour, the letter of what would have served it in it."""
    days = [monday + timedelta(days=offset) for offset in range(7)]
    cells = []
    for row in hours:
        cost, source = row["marginal_cost_per_gpu_hour"], row["marginal_source"]
        day = date.fromisoformat(row["local_date"])
        step = None if cost is None else sum(cost >= bound for bound in COST_STEPS)
        cells.append(
            {
                "day": f"{day:%a %-d}",
                "hour": row["local_hour"],
                "fill": "url(#none)" if step is None else f"var(--heat-{step})",
                "ink": "var(--ground)" if step is not None and step >= 4 else "var(--ink)",
                "letter": SOURCE_LETTERS.get(source or "", "?"),
                "said": f"{day:%a %-d %b} {row['local_hour']:02d}:00,"
                + (" not to be had" if cost is None else f" {cost:.3f} {currency} per GPU-hour")
                + f", {(source or 'source not known').replace('_', ' ')}",
            }
        )
    base = alt.Chart(_frame(cells, "day", "hour", "fill", "ink", "letter", "said")).encode(
        x=alt.X(
            "hour:O",
            scale=alt.Scale(domain=list(range(24)), paddingInner=0.06, paddingOuter=0),
            axis=alt.Axis(title=None, values=[0, 6, 12, 18], labelAngle=0, ticks=False),
        ),
        y=alt.Y(
            "day:O",
            scale=alt.Scale(domain=[f"{day:%a %-d}" for day in days], paddingInner=0.08),
            axis=alt.Axis(title=None, ticks=False, domain=False),
        ),
    )
    chart = alt.layer(
        base.mark_rect().encode(
            fill=alt.Fill("fill:N", scale=None, legend=None), description="said:N"
        ),
        base.mark_text(fontSize=8, fontWeight=700, aria=False).encode(
            text="letter:N", fill=alt.Fill("ink:N", scale=None, legend=None)
        ),
    ).properties(width=WIDTH - 44, height=112)
    return _svg(chart, f"{name}: cost of one more GPU-hour by day and hour")


def carbon(rows: Sequence[tuple[str, Row]]) -> Markup:
    """Carbon intensity three ways, one line per site name; a shape for each way."""
    dots = [
        {
            "name": name,
            "g": row[column],
            "way": way,
            "said": f"{name}, {way}: {_number(row[column], 0)} gCO2e per kWh",
        }
        for name, row in rows
        for column, way, *_ in CARBON_WAYS
        if row[column] is not None
    ]
    ways = [way for _, way, *_ in CARBON_WAYS]
    y = alt.Y(
        "name:N",
        sort=None,
        scale=alt.Scale(domain=[name for name, _ in rows]),
        axis=alt.Axis(title=None, grid=True, ticks=False, domain=False, labelLimit=110),
    )
    chart = (
        alt.Chart(_frame(dots, "name", "g", "way", "said"))
        .mark_point(filled=False, size=70, strokeWidth=2)
        .encode(
            y=y,
            x=alt.X(
                "g:Q", scale=alt.Scale(zero=True), axis=alt.Axis(title="gCO2e per kWh", tickCount=5)
            ),
            stroke=_scale("way", ways, [colour for *_, colour in CARBON_WAYS]),
            shape=alt.Shape(
                "way:N",
                scale=alt.Scale(domain=ways, range=[shape for _, _, shape, _ in CARBON_WAYS]),
                legend=None,
            ),
            description="said:N",
        )
        .properties(width=WIDTH - 118, height=max(28 * len(rows), 56))
    )
    return _svg(chart, "Carbon intensity three ways by site")


def carbon_free_hours(hours: Sequence[Row], name: str) -> Markup:
    """Carbon-free share of consumption by hour of the day."""
    bars = [
        {
            "hour": row["local_hour"],
            "ratio": row["carbon_free_ratio"],
            "said": f"{row['local_hour']:02d}:00, {row['carbon_free_ratio']:.0%} carbon-free",
        }
        for row in hours
        if row["carbon_free_ratio"] is not None
    ]
    chart = (
        alt.Chart(_frame(bars, "hour", "ratio", "said"))
        .mark_bar(fill="var(--series-3)")
        .encode(
            x=alt.X(
                "hour:O",
                scale=alt.Scale(domain=list(range(24)), paddingInner=0.15),
                axis=alt.Axis(title=None, values=[0, 6, 12, 18], labelAngle=0, ticks=False),
            ),
            y=alt.Y(
                "ratio:Q",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(title=None, format="%", values=[0, 0.5, 1]),
            ),
            description="said:N",
        )
        .properties(width=WIDTH - 44, height=84)
    )
    return _svg(chart, f"{name}: carbon-free share by hour of the day")


def sourcing(months: Sequence[Row], name: str) -> Markup:
    """Committed against secured MW by month; what is not secured is hatched."""
    bars, lines = [], []
    for index, row in enumerate(months):
        month, debt = date.fromisoformat(row["local_month"]), row["energy_debt_mw"]
        committed, secured = row["committed_mw"], row["secured_mw"]
        said = (
            f"{month:%b %Y}: {_number(committed, 1)} MW committed,"
            f" {_number(secured, 1)} MW secured, {_number(debt, 1)} MW energy debt"
        )
        if secured is not None:
            bars.append({"m": index, "what": "secured", "low": 0, "high": secured, "said": said})
        if debt:
            low = committed - debt
            bars.append({"m": index, "what": "debt", "low": low, "high": committed, "said": said})
        if committed is not None:
            lines.append({"m": index, "mw": committed})
    names = [f"{date.fromisoformat(row['local_month']):%b %y}" for row in months]
    every = [*range(0, len(months), 6)]
    chart = alt.layer(
        alt.Chart(_frame(bars, "m", "what", "low", "high", "said"))
        .transform_calculate(to="datum.m + 0.88")
        .mark_rect()
        .encode(
            x=alt.X(
                "m:Q",
                scale=alt.Scale(domain=[0, len(months)], nice=False),
                axis=alt.Axis(
                    title=None,
                    values=every,
                    labelExpr=_labels(every, [names[index] for index in every]),
                    labelAlign="left",
                    grid=False,
                ),
            ),
            x2="to:Q",
            y=alt.Y("low:Q", axis=alt.Axis(title=None, tickCount=4)),
            y2="high:Q",
            fill=_scale("what", ["secured", "debt"], ["var(--grid)", "url(#hatch-bad)"]),
            description="said:N",
        ),
        alt.Chart(_frame(lines, "m", "mw"))
        .transform_calculate(to="datum.m + 0.88")
        .mark_rule(strokeWidth=2.5, stroke="var(--ink)", aria=False)
        .encode(x="m:Q", x2="to:Q", y="mw:Q"),
    ).properties(width=WIDTH - 40, height=96)
    return _svg(chart, f"{name}: committed and secured MW by month")


def strip(row: Row) -> Markup:
    """Where a KPI lies: value (diamond), week before (circle), range of eight weeks (bar), target.

    Empty where there is no value at all.
    """
    names = (
        "kpi_value",
        "target_value",
        "previous_value",
        "lowest_8_weeks_value",
        "highest_8_weeks_value",
    )
    known = [row[name] for name in names if row[name] is not None]
    if row["kpi_value"] is None and row["previous_value"] is None:
        return Markup("")
    low, high = min(known), max(known)
    span = (high - low) or max(abs(high), 1.0)
    low, width = (low - 0.5 * span, 2 * span) if high == low else (low, span)

    def place(name: str) -> float:
        return round(8 + 104 * (row[name] - low) / width, 1)

    parts = ['<path class="strip-ground" d="M4 10H116"/>']
    if row["lowest_8_weeks_value"] is not None:
        first, last = place("lowest_8_weeks_value"), place("highest_8_weeks_value")
        parts.append(
            f'<rect class="strip-range" x="{first - 3:.1f}" y="6"'
            f' width="{last - first + 6:.1f}" height="8" rx="2"/>'
        )
    if row["target_value"] is not None:
        parts.append(f'<path class="strip-target" d="M{place("target_value")} 1V19"/>')
    if row["previous_value"] is not None:
        parts.append(
            f'<circle class="strip-previous" cx="{place("previous_value")}" cy="10" r="3.2"/>'
        )
    if row["kpi_value"] is not None:
        parts.append(f'<path class="strip-value" d="M{place("kpi_value")} 4l5 6-5 6-5-6z"/>')
    return Markup(
        '<svg class="strip" viewBox="0 0 120 20" aria-hidden="true" focusable="false">{}</svg>'
    ).format(Markup("".join(parts)))


def _svg(chart: Any, label: str, top: int = 4) -> Markup:
    text = vl_convert.vegalite_to_svg(
        chart.configure(
            background="transparent",
            font="system-ui",
            padding={"left": 2, "right": 4, "top": top, "bottom": 2},
            view=alt.ViewConfig(stroke=None),
            text=alt.MarkConfig(fill="var(--ink)", fontSize=10),
            axis=alt.AxisConfig(
                labelColor="var(--soft)",
                titleColor="var(--soft)",
                titleFontWeight="normal",
                gridColor="var(--line)",
                domainColor="var(--line)",
                tickColor="var(--line)",
                labelFontSize=10.5,
                titleFontSize=10.5,
            ),
        ).to_dict(),
        vl_version=VEGA_LITE,
    )
    # The whole is one picture with a name; its marks stay readable one by one when pointed at.
    text = re.sub(r' (?:role="graphics-\w+"|aria-roledescription="[^"]*")', "", text)
    text = re.sub(r'(<g[^>]*?) aria-label="[^"]*"', r"\1", text)
    text = text.replace(" aria-label=", " data-said=")
    return Markup(re.sub(r'<svg [^>]*?width="(\d+)" height="(\d+)"', _head(label), text, count=1))


def _head(label: str) -> Any:
    def head(match: re.Match[str]) -> str:
        return (
            f'<svg class="chart" role="img" aria-label="{escape(label)}" focusable="false"'
            f' style="max-width:{int(match[1]) * 1.5:.0f}px"'
        )

    return head


def _scale(field: str, domain: list[str], colours: list[str]) -> alt.Color:
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=domain, range=colours), legend=None)


def _frame(rows: list[Row], *columns: str) -> pl.DataFrame:
    """A frame that has its columns without rows, too."""
    return pl.DataFrame(rows or {column: [] for column in columns})


def _labels(values: Sequence[float], names: Sequence[str]) -> str:
    pairs = ", ".join(f"'{value:g}': '{name}'" for value, name in zip(values, names, strict=True))
    return f"({{{pairs}}})[format(datum.value, 'd')]"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _hours(started_at: datetime, text: str) -> float:
    """Hours from the start of the week; a day of a clock change has 23 or 25 of them."""
    return (_instant(text) - started_at).total_seconds() / 3600


def _text(instant: datetime) -> str:
    return instant.astimezone(ZoneInfo("UTC")).isoformat()


def _number(value: float | None, digits: int) -> str:
    return "not known" if value is None else f"{value:,.{digits}f}"
