"""NEM12 and NEM13: metering data of Australia's national electricity market.

What belongs here: the records 100 to 900 of a NEM12 file of intervals or a NEM13 file of
accumulated reads. What does not: which site a meter belongs to (reference).

Times are market time, UTC+10 all year. Directions are the market's: E (energy the market exports to
the customer) is import, B is export. The meter id is the NMI; a second register of the same kind,
as E2, has the id `NMI-E2`, so that two registers never overwrite each other. Channels of reactive
or apparent energy, power, voltage and the like (K, Q, kVArh …) are left out, as are those of a
check meter (C, F), whose master's stand beside them. `UpdateDateTime` of the record, else the
header's, is `known_at`.

A 500 record tells what the register of its channel stood at, where somebody read it. It is left out
without an index, where it was estimated, and where its time is 00:00:01, which stands for a time of
day that nobody noted.

A 250 record of NEM13 tells the same of its register twice, at the last read and at this one: E in
its direction indicator is import, I export, and a suffix other than 11 makes a meter of its own. It
comes to two register reads. The energy in between, of weeks or months, is no reading of an
interval: nothing is known of when it was used.

The records are read here and not by nemreader, which drops the update time and skips a day with a
wrong count of values without trace; the tests compare with it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    csv_records,
    decode,
    number,
    problem,
    problem_in,
    shown,
    text,
)

_EXPECTED = "a NEM12 or NEM13 file: a 100 header record, 200 and 300 or 250 records, a 900 record"
_MARKET_AHEAD = pl.duration(hours=10)
_FLOW = {"E": "import", "B": "export"}
_ACCUMULATED_FLOW = {"E": "import", "I": "export"}
_UNIT = {"wh": "Wh", "kwh": "kWh", "mwh": "MWh"}
_NO_ENERGY = re.compile(r"[mk]?(varh|var|vah|va|w|v|a)|pf", re.IGNORECASE)
_CHECK_METER = ("C", "F")
_QUALITY = {
    "A": "measured",
    "E": "estimated",
    "S": "substituted",
    "F": "substituted",
    "N": "missing",
}
_QUALITY_FORM = re.compile(r"([AN]|[ESF](\d\d)?)\Z")
_ACCUMULATED = "NEM13"
_ESTIMATED_READ = "E"
_FIRST_REGISTER = ("", "1", "11")
_NO_TIME_OF_DAY = "000001"
_DAY_MINUTES = 24 * 60
_INTERVAL_RECORDS = ("100", "200", "300", "400", "500", "900")
_ACCUMULATED_RECORDS = ("100", "250", "550", "900")
_SLOTS = {"5": 288, "15": 96, "30": 48}


@dataclass(frozen=True)
class _Channel:
    """What a 200 record says of the records after it."""

    meter_id: str
    meter_serial: str | None
    flow: str | None
    unit: str | None
    slots: int
    problem: str | None
    left_out: str | None


@dataclass
class _Day:
    """A 300 record, with the qualities that its 400 records give."""

    channel: _Channel
    date: str
    values: Sequence[str | None]
    qualities: list[str | None]
    updated: str
    problem: str | None


@dataclass(frozen=True)
class _RegisterRead:
    """A 500 record, of the channel of the 200 record before it if there is one; half a 250."""

    channel: _Channel | None
    is_estimated: bool
    read_at: str
    index_read: str | None
    updated: str


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read interval readings, one row per interval, and reads of registers.

    A day that is malformed is one rejected row. A 500 record is one read, a 250 record two.

    Raises:
        UnreadableFile: when it is not NEM12 or NEM13, is cut off, or no day has as many values as
            it should.
    """
    del file_name, context
    records = list(csv_records(decode(content, expected=_EXPECTED), expected=_EXPECTED))
    if not records or records[0][0].strip() != "100":
        found = ",".join(records[0])[:40] if records else ""
        raise UnreadableFile(
            f"the file starts with '{found}' and not with 100: expected {_EXPECTED}"
        )
    if records[-1][0].strip() != "900":
        raise UnreadableFile("no 900 record at the end: the file is cut off; ask for it again")
    days, reads = _days_and_reads(records)
    if _at(records[0], 1).strip().upper() == _ACCUMULATED:
        if not reads:
            raise UnreadableFile(f"the file has no 250 record: expected {_EXPECTED}")
        return {"register_reads": _register_reads(reads)}
    if not days:
        raise UnreadableFile(f"the file has no 300 record: expected {_EXPECTED}")
    if all(not day.values for day in days):
        raise UnreadableFile(f"no 300 record can be read: {days[0].problem}")
    tables = {"meter_readings": _meter_readings(days)}
    if reads:
        tables["register_reads"] = _register_reads(reads)
    return tables


def _days_and_reads(records: list[list[str]]) -> tuple[list[_Day], list[_RegisterRead]]:
    days: list[_Day] = []
    reads: list[_RegisterRead] = []
    channel: _Channel | None = None
    day: _Day | None = None
    header_time = ""
    version = _at(records[0], 1).strip().upper()
    of_version = _ACCUMULATED_RECORDS if version == _ACCUMULATED else _INTERVAL_RECORDS
    for raw in records:
        record = [value.strip() for value in raw]
        kind = record[0]
        if kind not in of_version:
            raise UnreadableFile(
                f"record '{kind[:20]}': expected {', '.join(of_version[:-1])} or {of_version[-1]}"
            )
        if kind == "100":
            if _at(record, 1).upper() not in ("NEM12", _ACCUMULATED):
                raise UnreadableFile(
                    f"version '{_at(record, 1)[:20]}' in record 100: expected NEM12 or NEM13"
                )
            if _at(record, 1).upper() != version:
                raise UnreadableFile("NEM12 and NEM13 in one file: expected one, split the file")
            header_time, channel, day = _at(record, 2), None, None
        elif kind == "200":
            channel, day = _channel(record), None
        elif kind == "300":
            if channel is None:
                raise UnreadableFile(
                    "a 300 record comes before any 200 record: expected a 200 first"
                )
            day = _day(record, channel, header_time)
            days.append(day)
        elif kind == "400" and day is not None:
            _apply_qualities(day, record)
        elif kind == "500":
            reads.append(
                _RegisterRead(
                    channel=channel,
                    is_estimated=_at(record, 1).upper() == _ESTIMATED_READ,
                    read_at=_at(record, 3),
                    index_read=_at(record, 4) or None,
                    updated=day.updated if day else header_time,
                )
            )
        elif kind == "250":
            reads += _accumulated(record, header_time)
    return days, reads


def _channel(record: list[str]) -> _Channel:
    nmi, suffix, serial, unit, length = (_at(record, index) for index in (1, 4, 6, 7, 8))
    kind = suffix[:1].upper()
    flow = _FLOW.get(kind)
    left_out = None
    if flow is None and _NO_ENERGY.fullmatch(unit):
        left_out = f"suffix {suffix[:2]}, {unit}: no active energy"
    elif kind in _CHECK_METER and unit.lower() in _UNIT:
        left_out = f"suffix {suffix[:2]}: a check meter"
    problems = []
    if not nmi:
        problems.append("the NMI of a 200 record is empty")
    if flow is None:
        problems.append(f"suffix '{suffix[:20]}': expected E (import) or B (export)")
    if unit.lower() not in _UNIT:
        problems.append(f"UOM '{unit[:20]}': expected Wh, kWh or MWh")
    if length not in _SLOTS:
        problems.append(f"interval length '{length[:20]}': expected 5, 15 or 30 minutes")
    return _Channel(
        meter_id=nmi if suffix[1:] in ("", "1") else f"{nmi}-{suffix}",
        meter_serial=serial or None,
        flow=flow,
        unit=_UNIT.get(unit.lower()),
        slots=_SLOTS.get(length, 0),
        problem="; ".join(problems) or None,
        left_out=left_out,
    )


def _accumulated(record: list[str], header_time: str) -> list[_RegisterRead]:
    """The previous and the current read of a 250 record, with the quality that each has."""
    nmi, suffix, serial, direction, unit = (_at(record, index) for index in (1, 4, 6, 7, 19))
    flow = _ACCUMULATED_FLOW.get(direction.upper())
    is_energy = unit.lower() in _UNIT
    left_out = (
        f"suffix {suffix[:2]}, {unit}: no active energy" if _NO_ENERGY.fullmatch(unit) else None
    )
    problems = {
        "the NMI of a 250 record is empty": not nmi,
        f"direction '{direction[:20]}': expected E (import) or I (export)": flow is None,
        f"UOM '{unit[:20]}': expected Wh, kWh or MWh": not is_energy,
    }
    channel = _Channel(
        meter_id=nmi if suffix in _FIRST_REGISTER else f"{nmi}-{suffix}",
        meter_serial=serial or None,
        flow=flow,
        unit=_UNIT.get(unit.lower()),
        slots=0,
        problem="; ".join(told for told, is_there in problems.items() if is_there) or None,
        left_out=left_out,
    )
    return [
        _RegisterRead(
            channel=channel,
            is_estimated=_QUALITY.get(_at(record, index + 2)[:1]) != "measured",
            read_at=_at(record, index + 1),
            index_read=_at(record, index) or None,
            updated=_at(record, 21) or header_time,
        )
        for index in (8, 13)
    ]


def _day(record: list[str], channel: _Channel, header_time: str) -> _Day:
    date, slots = _at(record, 1), channel.slots
    values = record[2 : 2 + slots]
    quality = _at(record, 2 + slots)
    is_variable = quality == "V"
    day = _Day(
        channel=channel,
        date=date,
        values=[value or None for value in values],
        qualities=[None if is_variable else quality] * slots,
        updated=_at(record, 5 + slots) or header_time,
        problem=None if channel.left_out else channel.problem,
    )
    # The quality stands right after the last value: if it is not there, the count is wrong.
    if slots and not (is_variable or _QUALITY_FORM.match(quality)):
        count = sum(1 for _ in _leading_values(record[2:]))
        day.problem = (
            f"300 record of {date[:20]} has {count} values: expected {slots} and then the quality"
        )
    if day.problem:
        day.values, day.qualities = [], []
    return day


def _leading_values(fields: list[str]) -> list[str]:
    """The fields before the first that is a quality."""
    for index, value in enumerate(fields):
        if value == "V" or _QUALITY_FORM.match(value):
            return fields[:index]
    return fields


def _apply_qualities(day: _Day, record: list[str]) -> None:
    """Give the intervals that a 400 record names their quality."""
    first, last, quality = (_at(record, index) for index in (1, 2, 3))
    slots = len(day.values)
    if not slots:
        return
    is_range = first.isdecimal() and last.isdecimal() and len(first) < 5 and len(last) < 5
    if not is_range or not 1 <= int(first) <= int(last) <= slots:
        day.problem = (
            f"400 record names intervals '{first[:9]}' to '{last[:9]}': the day has {slots}"
        )
        day.values, day.qualities = [], []
    else:
        day.qualities[int(first) - 1 : int(last)] = [quality] * (int(last) - int(first) + 1)


def _at(record: list[str], index: int) -> str:
    return record[index] if index < len(record) else ""


def _meter_readings(days: list[_Day]) -> pl.DataFrame:
    rows = pl.DataFrame(
        {
            "meter_id": [day.channel.meter_id for day in days],
            "flow": [day.channel.flow for day in days],
            "unit": [day.channel.unit for day in days],
            "date": [day.date for day in days],
            "minutes": [_DAY_MINUTES // (day.channel.slots or 1) for day in days],
            "updated": [day.updated for day in days],
            "problem": [day.problem for day in days],
            LEFT_OUT_REASON: [day.channel.left_out for day in days],
            # A day that is rejected as a whole stands as one row without a value.
            "slot": [list(range(max(len(day.values), 1))) for day in days],
            "value": [list(day.values) or [None] for day in days],
            "quality": [list(day.qualities) or [None] for day in days],
        },
        schema={
            "meter_id": pl.String,
            "flow": pl.String,
            "unit": pl.String,
            "date": pl.String,
            "minutes": pl.Int64,
            "updated": pl.String,
            "problem": pl.String,
            LEFT_OUT_REASON: pl.String,
            "slot": pl.List(pl.Int64),
            "value": pl.List(pl.String),
            "quality": pl.List(pl.String),
        },
    ).explode("slot", "value", "quality")
    day_start = pl.col("date").str.strptime(pl.Datetime("us"), "%Y%m%d", strict=False)
    in_form = pl.col("date").str.contains(r"^\d{8}$")
    started = (
        pl.when(in_form).then(day_start)
        + pl.duration(minutes=pl.col("slot") * pl.col("minutes"))
        - _MARKET_AHEAD
    ).dt.replace_time_zone("UTC")
    quality = (
        pl.col("quality")
        .str.slice(0, 1)
        .replace_strict(_QUALITY, default=None, return_dtype=pl.String)
    )
    value = number("value", at_least=0)
    is_missing = (quality == "missing").fill_null(value=False)
    energy = "the energy of the interval, or quality N"
    is_whole = pl.col("problem").is_null()
    no_date = Problem(
        started.is_null(), pl.format("date '{}': expected YYYYMMDD", shown(pl.col("date")))
    )
    no_quality = Problem(
        is_whole & quality.is_null(),
        pl.format(
            "quality '{}' of interval {}: expected A, E, F, S or N",
            shown(pl.col("quality").fill_null("V without a 400 record")),
            pl.col("slot") + 1,
        ),
    )
    return assemble(
        rows,
        {
            "meter_id": text("meter_id"),
            "flow": text("flow"),
            "interval_started_at": Field(started, (no_date,)),
            "interval_ended_at": Field(started + pl.duration(minutes=pl.col("minutes"))),
            "quantity": Field(
                pl.when(~is_missing).then(value.value),
                tuple(
                    Problem(one.is_there & is_whole & ~is_missing, one.told)
                    for one in value.required("value", energy).problems
                ),
            ),
            "unit": text("unit"),
            "quality": Field(quality, (no_quality,)),
            "known_at": Field(_market_instant(pl.col("updated"))),
        },
        problems=(Problem(~is_whole, pl.col("problem")),),
    )


def _register_reads(reads: list[_RegisterRead]) -> pl.DataFrame:
    channels = [read.channel for read in reads]
    texts = ("meter_id", "flow", "meter_serial", "unit", "problem", "read_at", "index_read")
    rows = pl.DataFrame(
        {
            "meter_id": [channel and channel.meter_id for channel in channels],
            "flow": [channel and channel.flow for channel in channels],
            "meter_serial": [channel and channel.meter_serial for channel in channels],
            "unit": [channel and channel.unit for channel in channels],
            "problem": [
                channel.problem if channel else "a 500 record comes before any 200 record"
                for channel in channels
            ],
            "is_estimated": [read.is_estimated for read in reads],
            "read_at": [read.read_at or None for read in reads],
            "index_read": [read.index_read for read in reads],
            "updated": [read.updated for read in reads],
            LEFT_OUT_REASON: [channel and channel.left_out for channel in channels],
        },
        schema_overrides=dict.fromkeys((*texts, LEFT_OUT_REASON), pl.String),
    )
    not_read = (
        pl.when(pl.col("index_read").is_null())
        .then(pl.lit("a register read without an index"))
        .when("is_estimated")
        .then(pl.lit("a register read that is estimated"))
        .when(pl.col("read_at").str.slice(8) == _NO_TIME_OF_DAY)
        .then(pl.lit("a register read without its time of day"))
    )
    read_at = _market_instant(pl.col("read_at"))
    no_time = problem(
        read_at.is_null(), field="ReadDateTime", found=pl.col("read_at"), expected="YYYYMMDDhhmmss"
    )
    return assemble(
        rows.with_columns(pl.coalesce(LEFT_OUT_REASON, not_read).alias(LEFT_OUT_REASON)),
        {
            "meter_id": text("meter_id"),
            "flow": text("flow"),
            "read_at": Field(read_at, (no_time,)),
            "meter_serial": text("meter_serial"),
            "index_read": number("index_read", at_least=0),
            "unit": text("unit"),
            "known_at": Field(_market_instant(pl.col("updated"))),
        },
        problems=(problem_in("problem"),),
    )


def _market_instant(raw: pl.Expr) -> pl.Expr:
    """UTC time of a market time YYYYMMDDhhmmss or YYYYMMDDhhmm; null when it is none."""
    seconds = pl.when(raw.str.contains(r"^\d{12}$")).then(raw + "00").otherwise(raw)
    in_form = pl.when(seconds.str.contains(r"^\d{14}$")).then(seconds)
    at = in_form.str.strptime(pl.Datetime("us"), "%Y%m%d%H%M%S", strict=False)
    return (at - _MARKET_AHEAD).dt.replace_time_zone("UTC")
