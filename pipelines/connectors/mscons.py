"""MSCONS: metered energy as German grid and metering operators send it (EDIFACT D.04B, BDEW 2.x).

What belongs here: the interval energies and register reads of metering points in an MSCONS
interchange. What does not: sums of balancing areas, gas, weather, and which site a meter belongs to
(reference).

The meter id is the market or metering location (`LOC+172`, MaLo or MeLo), the direction that of the
OBIS code: 1.x is import, 2.x export. Reactive energy and whatever else a location tells is left
out, as are the parts of single tariffs (1.29.1 …), of which the total (1.29.0) is told apart. A
quantity without a unit is in kWh. A mean power (OBIS 1.4, 1.5 and their like, in kW or MW) is
energy once multiplied by its interval; another power is none. Where a location's interval and
direction are told twice with different energy, under one OBIS code or two, neither is taken. What
spans more than a day is no reading of an interval: the total of a month is left out, and the state
of a register (1.8.0) is a read where its time is told to the minute.

Of the quantities (data element 6063) 220 is measured, 67 substituted; 201 proposed and Z18
preliminary are estimated; 20 unusable and Z30 missing have no value. A forecast (187), a sum (79)
and what a delivery note says (Z31) are no readings. A message that cancels another (BGM function 1)
says what its intervals no longer are, so they are missing until a later one tells them; what it
does not name, or a register read, it cannot take back: it is rejected there. A revision is known
since the date of its message (`DTM+137`), German time where that has no offset.

UNA declares the decimal mark; a number with the other mark is rejected, as it may stand for
thousands. Without UNA both are decimal marks (ISO 9735, 10). A test interchange counts for nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl
from pydifact.control import Characters
from pydifact.exceptions import EDISyntaxError
from pydifact.parser import Parser
from pydifact.tokenizer import Tokenizer

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    number,
    parsed_instant,
    problem,
    problem_in,
    shown,
    text,
)

_EXPECTED = "an MSCONS interchange: UNB, messages with LOC, PIA and QTY segments, UNZ"
_METERING_POINT = "172"
_OBIS = re.compile(r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\*\d{1,3})?")
_ELECTRICITY = "1"
_FLOW = {"1": "import", "2": "export"}
# Measuring types of the OBIS code: time integrals of an interval, mean powers, the register.
_ENERGY = ("9", "10", "29", "30")
_MEAN_POWER = ("4", "5", "14", "15", "24", "25", "27", "28")
_REGISTER = "8"
_TOTAL = "0"
_UNIT = {"": "kWh", "WHR": "Wh", "KWH": "kWh", "MWH": "MWh"}
_POWER_UNIT = {"WTT": "Wh", "KWT": "kWh", "MAW": "MWh"}
_QUALITY = {
    "220": "measured",
    "67": "substituted",
    "201": "estimated",
    "Z18": "estimated",
    "20": "missing",
    "Z30": "missing",
}
_NO_READING = {"187": "a forecast", "79": "a sum", "Z31": "what a delivery note says"}
_CANCELLATION = "1"
_TEST = "1"
_WITHDRAW = "withdraw the file that told it"
_ENDS_A_QUANTITY = ("UNH", "UNS", "NAD", "LOC", "LIN", "QTY", "UNT", "UNZ")
_LONGEST = pl.duration(hours=25)  # the local day on which clocks go back


@dataclass
class _Series:
    """What the segments before a quantity say of it."""

    is_test: bool
    is_cancelled: bool = False
    known: str = ""
    known_form: str = ""
    location_kind: str | None = None
    location: str = ""
    meter_serial: str | None = None
    code: str = ""
    code_list: str = ""


@dataclass
class _Quantity:
    """One QTY segment with its times."""

    series: _Series
    qualifier: str
    value: str
    unit: str
    started: str = ""
    ended: str = ""
    read: str = ""
    used: str = ""


@dataclass(frozen=True)
class _Meaning:
    """What a quantity is of; with a problem or a reason to leave it out where it is of no use."""

    flow: str | None = None
    unit: str | None = None
    is_power: bool = False
    is_register: bool = False
    problem: str | None = None
    left_out: str | None = None


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read interval energies and register reads, one row per QTY segment.

    Raises:
        UnreadableFile: when it is no MSCONS interchange, is cut off, or tells no quantity.
    """
    del file_name, context
    segments, decimal_mark = _segments(content)
    quantities = list(_quantities(segments))
    if not quantities:
        kinds = sorted({_at(one, 2) for one in segments if one[0] == "UNH"})
        raise UnreadableFile(
            f"the messages ({', '.join(kinds)[:60] or 'none'}) have no QTY segment of an MSCONS:"
            f" expected {_EXPECTED}"
        )
    meanings = [_meaning(one) for one in quantities]
    told = list(zip(quantities, meanings, strict=True))
    tables = {}
    if readings := [one for one in told if not one[1].is_register]:
        tables["meter_readings"] = _meter_readings(readings, decimal_mark)
    if reads := [one for one in told if one[1].is_register]:
        tables["register_reads"] = _register_reads(reads, decimal_mark)
    return tables


def _segments(content: bytes) -> tuple[list[list[str | list[str]]], str | None]:
    """Segments of the one interchange of a file, and the decimal mark if it declares one.

    A segment is its tag and elements; an element is a text, or a list of its components.
    """
    # UNOC is ISO 8859-1; what is read here is ASCII in any of EDIFACT's character sets.
    interchange = content.removeprefix(b"\xef\xbb\xbf").lstrip().decode("latin-1")
    if not interchange.startswith(("UNA", "UNB")):
        raise UnreadableFile(
            f"the file starts with '{interchange[:20]}' and not with UNA or UNB: expected"
            f" {_EXPECTED}"
        )
    characters, decimal_mark = Characters(), None
    if interchange.startswith("UNA"):
        declared, interchange = interchange[3:9], interchange[9:].lstrip()
        if len(set(declared)) != 6:
            raise UnreadableFile(
                f"UNA declares '{declared}': expected six different characters such as :+.? '"
            )
        characters = Characters.from_str(declared)
        decimal_mark = characters.decimal_point
    try:
        tokens = Tokenizer().get_tokens(interchange, characters)
        segments = list(Parser().convert_tokens_to_raw_segments(tokens))
    except EDISyntaxError as error:
        raise UnreadableFile(
            f"the last segment has no end ({error}): the file is cut off; ask for it again"
        ) from error
    if _count(segments, "UNB") != 1 or segments[0][0] != "UNB":
        raise UnreadableFile(
            f"found {_count(segments, 'UNB')} UNB segments: expected one interchange, {_EXPECTED}"
        )
    if segments[-1][0] != "UNZ":
        raise UnreadableFile("no UNZ segment at the end: the file is cut off; ask for it again")
    return segments, decimal_mark


def _count(segments: list[list[str | list[str]]], tag: str) -> int:
    return sum(segment[0] == tag for segment in segments)


def _quantities(segments: list[list[str | list[str]]]) -> Iterator[_Quantity]:
    series = _Series(is_test=_at(segments[0], 11) == _TEST)
    empty = series
    quantity: _Quantity | None = None
    is_mscons = is_told = False
    for segment in segments:
        tag = segment[0]
        if tag in _ENDS_A_QUANTITY and quantity is not None:
            yield quantity
            quantity, is_told = None, True
        if tag in ("UNH", "UNT", "UNZ"):
            if series.is_cancelled and not is_told:
                yield _Quantity(series, "", "", "")
            is_mscons, series = tag == "UNH" and _at(segment, 2) == "MSCONS", empty
            is_told = False
        elif not is_mscons:
            continue
        elif tag == "BGM":
            series = replace(series, is_cancelled=_at(segment, 3) == _CANCELLATION)
        elif tag == "NAD":
            series = replace(series, location_kind=None, location="", meter_serial=None)
        elif tag == "LOC":
            series = replace(
                series,
                location_kind=_at(segment, 1),
                location=_at(segment, 2),
                meter_serial=None,
                code="",
                code_list="",
            )
        elif tag == "RFF" and _at(segment, 1) == "MG":
            series = replace(series, meter_serial=_at(segment, 1, 1) or None)
        elif tag == "LIN":
            series = replace(series, code="", code_list="")
        elif tag == "PIA" and _at(segment, 1) == "5":
            series = replace(series, code=_at(segment, 2), code_list=_at(segment, 2, 1))
        elif tag == "QTY":
            told = (_at(segment, 1, part) for part in range(3))
            quantity = _Quantity(series, *told)
        elif tag == "DTM":
            series = _time(segment, series, quantity)


def _time(segment: list[str | list[str]], series: _Series, quantity: _Quantity | None) -> _Series:
    """Give a quantity a time that is told of it, or its series the date of the message."""
    kind, value, form = (_at(segment, 1, part) for part in range(3))
    if kind == "137":
        return replace(series, known=value, known_form=form)
    name = {"163": "started", "164": "ended", "9": "read", "7": "used"}.get(kind)
    if quantity is not None and name:
        # A date has no time of day, and format 203 no offset: they are told as they stand.
        setattr(quantity, name, _iso(value) if form == "303" else f"{value}:{form}")
    return series


def _iso(value: str) -> str:
    """ISO 8601 of CCYYMMDDHHMM and an offset of hours (format 303), else the text as it is."""
    return re.sub(r"^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)([+-]\d\d)$", r"\1-\2-\3T\4:\5:00\6:00", value)


def _at(segment: list[str | list[str]], element: int, part: int = 0) -> str:
    """A component of an element, empty where it is not told."""
    if element >= len(segment):
        return ""
    told = segment[element]
    parts = [told] if isinstance(told, str) else told
    return parts[part].strip() if part < len(parts) else ""


def _meaning(quantity: _Quantity) -> _Meaning:
    series = quantity.series
    if series.is_test:
        return _Meaning(left_out="a test interchange (UNB element 0035)")
    if series.is_cancelled and not quantity.qualifier:
        return _Meaning(problem=f"the message cancels another and names no interval: {_WITHDRAW}")
    if series.location_kind is None:
        return _Meaning(problem="a QTY segment before any LOC segment of its point")
    if series.location_kind != _METERING_POINT:
        return _Meaning(left_out=f"LOC+{series.location_kind[:3]}: no metering point")
    if series.code_list not in ("", "SRW"):
        return _Meaning(left_out=f"PIA code list {series.code_list[:3]}: no OBIS code")
    obis = _OBIS.fullmatch(series.code)
    if obis is None:
        return _Meaning(
            problem=f"OBIS code '{series.code[:30]}': expected one such as 1-1:1.29.0 in PIA+5"
        )
    medium, _, kind, measure, tariff = obis.groups()
    if medium != _ELECTRICITY:
        return _Meaning(left_out=f"OBIS {medium}-: no electricity")
    name = f"OBIS {kind}.{measure}.{tariff}"
    if kind not in _FLOW:
        return _Meaning(left_out=f"OBIS {kind}.: no active energy of one direction")
    unit = _UNIT.get(quantity.unit)
    is_power = measure in _MEAN_POWER
    if is_power:
        unit = _POWER_UNIT.get(quantity.unit)
    left_out = None
    if unit is None:
        left_out = f"{name} in {quantity.unit[:3] or 'kWh'}: no active energy"
    elif measure not in (*_ENERGY, *_MEAN_POWER, _REGISTER):
        left_out = f"OBIS {kind}.{measure}.: neither energy of an interval nor a register"
    elif tariff != _TOTAL:
        left_out = f"{name}: the part of a tariff"
    elif quantity.qualifier in _NO_READING:
        left_out = f"QTY {quantity.qualifier}: {_NO_READING[quantity.qualifier]}, no reading"
    elif measure == _REGISTER:
        left_out = _no_register_read(quantity)
    told = None
    if quantity.qualifier not in _QUALITY:
        told = f"QTY qualifier '{quantity.qualifier[:9]}': expected {', '.join(_QUALITY)}"
    elif series.is_cancelled and measure == _REGISTER:
        told = f"the message cancels a register read: {_WITHDRAW}"
    return _Meaning(_FLOW[kind], unit, is_power, measure == _REGISTER, told, left_out)


def _no_register_read(quantity: _Quantity) -> str | None:
    if _QUALITY.get(quantity.qualifier, "measured") != "measured":
        return "a register read that is estimated"
    if (quantity.read or quantity.used).endswith(":102"):
        return "a register read without its time of day"
    return None


_TEXTS = (
    *("meter_id", "meter_serial", "obis", "flow", "unit", "quality", "value"),
    *("started", "ended", "read_at", "known", "problem", LEFT_OUT_REASON),
)


def _told(told: list[tuple[_Quantity, _Meaning]], decimal_mark: str | None) -> pl.DataFrame:
    rows = pl.DataFrame(
        {
            "meter_id": [one.series.location or None for one, _ in told],
            "meter_serial": [one.series.meter_serial for one, _ in told],
            "obis": [one.series.code for one, _ in told],
            "flow": [meaning.flow for _, meaning in told],
            "unit": [meaning.unit for _, meaning in told],
            "is_power": [meaning.is_power for _, meaning in told],
            "quality": [
                "missing" if one.series.is_cancelled else _QUALITY.get(one.qualifier)
                for one, _ in told
            ],
            "value": [one.value or None for one, _ in told],
            "started": [one.started or None for one, _ in told],
            "ended": [one.ended or None for one, _ in told],
            "read_at": [one.read or one.used or None for one, _ in told],
            "known": [
                f"{one.series.known}:203" if one.series.known_form == "203"
                else _iso(one.series.known)
                for one, _ in told
            ],
            "problem": [meaning.problem for _, meaning in told],
            LEFT_OUT_REASON: [meaning.left_out for _, meaning in told],
        },
        schema_overrides=dict.fromkeys(_TEXTS, pl.String),
    )  # fmt: skip
    other_mark = {",": ".", ".": ","}.get(decimal_mark or "")
    is_other = pl.col("value").str.contains(other_mark or "$^", literal=bool(other_mark))
    wrong_mark = pl.format(
        f"value '{{}}': UNA declares '{decimal_mark}' as the decimal mark", shown(pl.col("value"))
    )
    legal = (
        pl.col("known")
        .str.extract(r"^(\d{12}):203$")
        .str.strptime(pl.Datetime("us"), "%Y%m%d%H%M", strict=False)
    )
    # In the hour that clocks repeat it was known at the end of it at the latest.
    legal = legal.dt.replace_time_zone("Europe/Berlin", ambiguous="latest", non_existent="null")
    return rows.with_columns(
        pl.coalesce("problem", pl.when(is_other).then(wrong_mark)).alias("problem"),
        pl.when(~is_other.fill_null(value=False))
        .then(pl.col("value").str.replace(",", ".", literal=True))
        .alias("number"),
        pl.coalesce(parsed_instant(pl.col("known")), legal.dt.convert_time_zone("UTC")).alias(
            "known_at"
        ),
    )


def _location() -> Field:
    is_missing = pl.col("meter_id").is_null() & pl.col("problem").is_null()
    expected = "a market or metering location"
    empty = problem(is_missing, field="LOC+172", found=None, expected=expected)
    return Field(pl.col("meter_id"), (empty,))


def _when(column: str, name: str) -> Field:
    at = parsed_instant(pl.col(column))
    is_wrong = at.is_null() & pl.col("problem").is_null()
    expected = "CCYYMMDDHHMM with an offset, as 202605040000+00 in format 303"
    return Field(at, (problem(is_wrong, field=name, found=pl.col(column), expected=expected),))


def _meter_readings(
    told: list[tuple[_Quantity, _Meaning]], decimal_mark: str | None
) -> pl.DataFrame:
    rows = _told(told, decimal_mark)
    started, ended = _when("started", "DTM+163"), _when("ended", "DTM+164")
    length = ended.value - started.value
    is_long = (length > _LONGEST).fill_null(value=False)
    long = pl.when(is_long).then(pl.lit("energy of more than a day: no reading of an interval"))
    rows = rows.with_columns(pl.coalesce(LEFT_OUT_REASON, long).alias(LEFT_OUT_REASON))
    value = number("number", at_least=0)
    is_missing = (pl.col("quality") == "missing").fill_null(value=False)
    hours = length.dt.total_seconds() / 3600
    quantity = pl.when(pl.col("is_power")).then(value.value * hours).otherwise(value.value)
    is_counted = ~is_missing & pl.col("problem").is_null() & pl.col(LEFT_OUT_REASON).is_null()
    interval = ["meter_id", "flow", "started", "ended", "known"]
    energies = pl.when(is_counted).then(quantity.round(3)).drop_nulls().n_unique().over(interval)
    twice = Problem(
        is_counted & (energies > 1),
        pl.format(
            "value '{}' of {}: other energy of the interval is told beside it, known as long;"
            " expected one, ask which is right",
            shown(pl.col("value")),
            "obis",
        ),
    )
    backward = problem(
        length <= pl.duration(seconds=0),
        field="DTM+164",
        found=pl.col("ended"),
        expected="a time after that of DTM+163",
    )
    of_interval = value.required("the quantity", "the energy of the interval").problems
    return assemble(
        rows,
        {
            "meter_id": _location(),
            "flow": text("flow"),
            "interval_started_at": started,
            "interval_ended_at": ended,
            "quantity": Field(
                pl.when(~is_missing).then(quantity),
                tuple(
                    Problem(one.is_there & ~is_missing & pl.col("problem").is_null(), one.told)
                    for one in of_interval
                ),
            ),
            "unit": text("unit"),
            "quality": text("quality"),
            "known_at": Field(pl.col("known_at")),
        },
        problems=(problem_in("problem"), twice, backward),
    )


def _register_reads(
    told: list[tuple[_Quantity, _Meaning]], decimal_mark: str | None
) -> pl.DataFrame:
    index = number("number", at_least=0).required("the quantity", "what the register stood at")
    return assemble(
        _told(told, decimal_mark),
        {
            "meter_id": _location(),
            "flow": text("flow"),
            "read_at": _when("read_at", "DTM+9"),
            "meter_serial": text("meter_serial"),
            "index_read": Field(
                index.value,
                tuple(
                    Problem(one.is_there & pl.col("problem").is_null(), one.told)
                    for one in index.problems
                ),
            ),
            "unit": text("unit"),
            "known_at": Field(pl.col("known_at")),
        },
        problems=(problem_in("problem"),),
    )
