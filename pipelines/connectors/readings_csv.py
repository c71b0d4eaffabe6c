"""Meter readings in plain CSV: the book's own contract, and suppliers' layouts by a mapping.

What belongs here: both, and local times made instants. What does not: what a supplier's columns
mean, which `mappings.yml` says by the folder below `landing/readings_csv/`.

Columns of the contract, in any order, others ignored:

| column | what |
|---|---|
| `meter_id` | as in reference |
| `interval_start_utc` | start of the interval, ISO 8601, UTC where it has no offset |
| `interval_seconds` | its length |
| `quantity`, `unit` | energy of the interval in Wh, kWh or MWh; empty where it is missing |
| `direction` | import or export |
| `quality` | measured, estimated, substituted or missing; optional |

Local times of the hour that the clocks repeat are told apart by the order of the rows of their
meter and flow: each stands there twice, the earlier instant first in rows that go forward. Where
that is not so, they are rejected, as are times that the clocks skip.
"""

from collections.abc import Mapping

import polars as pl

from pipelines.connectors.common import Context, Tables
from pipelines.connectors.mappings import ReadingsMapping, Source, Time
from pipelines.connectors.parsing import (
    UTC_TIME,
    Field,
    Problem,
    assemble,
    code,
    constant,
    csv_rows,
    instant,
    number,
    parsed_instant,
    parsed_number,
    problem,
    problem_in,
    require_columns,
    shown,
    text,
)

_EXPECTED = (
    "a CSV with the columns meter_id, interval_start_utc, interval_seconds, quantity, unit,"
    " direction; another layout is declared for its folder in reference/mappings.yml"
)
_REQUIRED = (
    *("meter_id", "interval_start_utc", "interval_seconds"),
    *("quantity", "unit", "direction"),
)
_UNITS = {"Wh": "Wh", "kWh": "kWh", "MWh": "MWh"}
_FLOWS = {"import": "import", "export": "export"}
_QUALITIES = {word: word for word in ("measured", "estimated", "substituted", "missing")}
_ENERGY_OF_POWER = {"W": "Wh", "kW": "kWh", "MW": "MWh"}
_LONGEST_S = 31 * 86_400
_LOCAL_TIME = pl.Datetime("us")
# Columns beside those of the file, whose names may be any.
_METER, _FLOW, _INSTANT, _LOCAL = (
    f"{name} of row" for name in ("meter", "flow", "instant", "local")
)
_EARLIER, _LATER, _MEANT = (f"{name} instant of row" for name in ("earlier", "later", "meant"))
_NOTHING = [pl.lit(None, UTC_TIME).alias(name) for name in (_EARLIER, _MEANT)]


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read interval readings, one row per line.

    Raises:
        UnreadableFile: when it is no CSV with the columns of its mapping or of the contract.
    """
    mapping = context.mappings.readings_of(file_name)
    if mapping is None:
        return {"meter_readings": _of_contract(content)}
    return {"meter_readings": _mapped(content, mapping)}


def _of_contract(content: bytes) -> pl.DataFrame:
    rows = csv_rows(content, expected=_EXPECTED)
    require_columns(rows, [*_REQUIRED], expected=_EXPECTED)
    started = instant("interval_start_utc", is_utc=True).required(
        "interval_start_utc", "the start of the interval"
    )
    length = number("interval_seconds", at_least=1, at_most=_LONGEST_S).required(
        "interval_seconds", "the length of the interval"
    )
    microseconds = (length.value * 1e6).round(0).cast(pl.Int64)
    quality = code("quality", _QUALITIES) if "quality" in rows.columns else None
    return assemble(
        rows,
        {
            "meter_id": text("meter_id").required("meter_id", "the meter's id"),
            "flow": code("direction", _FLOWS).required("direction", "import or export"),
            "interval_started_at": started,
            "interval_ended_at": Field(
                started.value + pl.duration(microseconds=microseconds), length.problems
            ),
            "unit": code("unit", _UNITS).required("unit", "Wh, kWh or MWh"),
            **_quantity_and_quality(number("quantity", at_least=0), pl.col("quantity"), quality),
        },
    )


def _quantity_and_quality(
    quantity: Field, told: pl.Expr, quality: Field | None, *, hours: pl.Expr | None = None
) -> dict[str, Field]:
    """Both as the raw table has them: what is missing has no quantity, whatever stands there.

    A mean power is told with the hours that it is of.
    """
    if quality is None:
        quality = Field(
            pl.when(told.is_null()).then(pl.lit("missing")).otherwise(pl.lit("measured"))
        )
    else:
        quality = quality.required("quality", "a quality")
    is_missing = (quality.value == "missing").fill_null(value=False)
    needed = quantity.required("quantity", "the energy of the interval, or quality missing")
    problems = tuple(Problem(one.is_there & ~is_missing, one.told) for one in needed.problems)
    return {
        "quantity": Field(
            pl.when(~is_missing).then(quantity.value * (1 if hours is None else hours)), problems
        ),
        "quality": quality,
    }


def _mapped(content: bytes, mapping: ReadingsMapping) -> pl.DataFrame:
    expected = (
        f"a CSV as mappings.yml declares it for readings_csv/{mapping.folder}: correct the mapping,"
        " or move the file"
    )
    rows = csv_rows(content, expected=expected, delimiter=mapping.delimiter)
    sources = (mapping.meter_id, mapping.flow, mapping.quality)
    times = {"start": mapping.started_at, "end": mapping.ended_at}
    columns = [
        *(source.column for source in sources if source and source.column),
        *(column for time in times.values() if time for column in time.columns),
        mapping.quantity.column,
    ]
    require_columns(rows, [*dict.fromkeys(columns)], expected=expected)
    meter_id, flow = _source(mapping.meter_id), _source(mapping.flow, _FLOWS)
    named = rows.with_columns(meter_id.value.alias(_METER), flow.value.alias(_FLOW))
    for name, time in times.items():
        if time is not None:
            named = _with_instants(named, name, time)
    length = pl.duration(minutes=mapping.interval_minutes or 0)
    start, end = pl.col("start of row"), pl.col("end of row")
    started = start if mapping.started_at else end - length
    ended = end if mapping.ended_at else start + length
    unit = mapping.quantity.unit
    hours = (ended - started).dt.total_microseconds() / 3.6e9
    quality = _source(mapping.quality, _QUALITIES) if mapping.quality else None
    return assemble(
        named,
        {
            "meter_id": meter_id.required(mapping.meter_id.column or "", "the meter's id"),
            "flow": flow.required(mapping.flow.column or "", "import or export"),
            "interval_started_at": Field(started),
            "interval_ended_at": Field(ended),
            "unit": constant(_ENERGY_OF_POWER.get(unit, unit)),
            **_quantity_and_quality(
                _number(mapping),
                pl.col(mapping.quantity.column),
                quality,
                hours=hours if unit in _ENERGY_OF_POWER else None,
            ),
        },
        problems=tuple(problem_in(f"problem of {name}") for name, time in times.items() if time),
    )


def _source(source: Source, words: Mapping[str, str] | None = None) -> Field:
    """A field of the source, whose texts are its codes, else one of these words, else any."""
    if source.column is None:
        return constant(source.constant)
    codes = source.codes or words
    return code(source.column, {**codes}) if codes else text(source.column)


def _number(mapping: ReadingsMapping) -> Field:
    """The quantity; with a decimal comma a point is none, and no mark of thousands is guessed."""
    column = mapping.quantity.column
    if mapping.decimal_mark == ".":
        return number(column, at_least=0)
    raw = pl.col(column)
    parsed = parsed_number(
        pl.when(~raw.str.contains(".", literal=True)).then(raw.str.replace(",", ".", literal=True))
    )
    is_wrong = raw.is_not_null() & ~(parsed >= 0).fill_null(value=False)
    expected = "a number, at least 0, with a decimal comma and no mark of thousands"
    return Field(parsed, (problem(is_wrong, field=column, found=raw, expected=expected),))


def _with_instants(rows: pl.DataFrame, name: str, time: Time) -> pl.DataFrame:
    """The rows with an instant, null where there is none, and what is wrong with it."""
    raw = pl.concat_str(time.columns, separator=" ")
    if time.format is None:
        instant_told = parsed_instant(raw)
        local = parsed_instant(raw, is_utc=True).dt.replace_time_zone(None)
    elif time.time_zone is None:
        instant_told = raw.str.to_datetime(
            time.format, strict=False, time_unit="us", time_zone="UTC"
        )
        local = pl.lit(None, _LOCAL_TIME)
    else:
        instant_told = pl.lit(None, UTC_TIME)
        local = raw.str.to_datetime(time.format, strict=False, time_unit="us")
    zone = time.time_zone
    rows = rows.with_columns(
        instant_told.alias(_INSTANT),
        pl.when(instant_told.is_null()).then(local).alias(_LOCAL),
    )
    rows = _with_either(rows, zone) if zone else rows.with_columns(_NOTHING)
    found = pl.coalesce(_INSTANT, _MEANT)
    field = " and ".join(time.columns)

    def told(what: str) -> pl.Expr:
        return pl.concat_str(
            pl.lit(f"{field} '"), shown(raw.fill_null("")), pl.lit(f"'{what}"), ignore_nulls=True
        )

    why = (
        pl.when(pl.col(_INSTANT).is_null() & pl.col(_LOCAL).is_null())
        .then(told(f": expected a time such as {time.format or '2026-04-05T12:00:00Z'}"))
        .when(pl.lit(zone is None))
        .then(told(" has no time zone: expected Z or an offset, or time_zone in mappings.yml"))
        .when(pl.col(_EARLIER).is_null())
        .then(told(f" does not exist in {zone}: clocks skip it"))
        .otherwise(
            told(
                f" is twice in {zone}, where clocks are put back: expected it in two rows of its"
                " meter and every other time in one, or times with an offset"
            )
        )
    )
    return rows.with_columns(
        found.alias(f"{name} of row"),
        pl.when(found.is_null()).then(why).alias(f"problem of {name}"),
    ).drop(_INSTANT, _LOCAL, _EARLIER, _MEANT)


def _with_either(rows: pl.DataFrame, zone: str) -> pl.DataFrame:
    """The rows with the earlier instant that a local time can mean, and the one it does mean."""
    if rows.is_empty():
        # Polars panics where the hour that clocks repeat is told by a column without rows.
        return rows.with_columns(_NOTHING)
    local, earlier, later = pl.col(_LOCAL), pl.col(_EARLIER), pl.col(_LATER)
    rows = rows.with_columns(
        local.dt.replace_time_zone(zone, ambiguous=pl.lit(which), non_existent="null")
        .dt.convert_time_zone("UTC")
        .alias(name)
        for name, which in ((_EARLIER, "earliest"), (_LATER, "latest"))
    )
    of_meter = (_METER, _FLOW)
    of_time = (*of_meter, _LOCAL)
    is_repeated = (earlier != later).fill_null(value=False)
    is_double = local.is_not_null() & ~is_repeated & (pl.len().over(of_time) > 1)
    goes_forward = local.drop_nulls().first() <= local.drop_nulls().last()
    can_be_told = (pl.len().over(of_time) == 2) & ~is_double.any().over(of_meter)
    is_first = (pl.int_range(pl.len()).over(of_time) == 0) == goes_forward.over(of_meter)
    meant = pl.when(is_first).then(earlier).otherwise(later)
    return rows.with_columns(
        pl.when(~is_repeated).then(earlier).when(can_be_told).then(meant).alias(_MEANT)
    ).drop(_LATER)
