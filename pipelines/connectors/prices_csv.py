"""Market prices in CSV: of ERCOT's settlement points, of CAISO's nodes, and plain hourly lists.

What belongs here: reading the layouts below. What does not: ENTSO-E documents (`entsoe.py`), and
converting currencies (dbt staging).

ERCOT real-time: DeliveryDate, DeliveryHour 1 to 24, DeliveryInterval 1 to 4, SettlementPointName,
SettlementPointType, SettlementPointPrice, DSTFlag. ERCOT day-ahead: DeliveryDate, HourEnding 01:00
to 24:00, SettlementPoint, SettlementPointPrice, DSTFlag. ERCOT's archives write the same names with
spaces and call the flag Repeated Hour Flag. Times are America/Chicago, prices USD. The flag is Y in
the second of the two equal hours of the autumn change, the one in standard time; without a flag
both hours are rejected. A load zone has two prices an interval, of the types LZ and LZEW (DC ties
LZ_DC and LZ_DCEW): the second, weighted by energy, is the zone `LZ_WEST:LZEW` and so never the
price of `LZ_WEST`.

CAISO, as OASIS packs it (PRC_LMP, PRC_INTVL_LMP, PRC_RTPD_LMP, PRC_HASP_LMP): the price stands in
MW, VALUE or PRC, in USD; the zone is NODE_ID, times are the GMT columns. Of a node and interval the
row of the LMP_TYPE LMP is the price; its components (MCE, MCC, MCL, MGHG) add up to it and are left
out. MARKET_RUN_ID tells the market: DAM is day-ahead; RTM is real-time, of 5 minutes. The 15-minute
market (RTPD) and the hour-ahead one (HASP) clear before it at prices of their own: they are the
sequences 2 and 3 of real-time.

List: `Datetime (UTC)` or `Datetime`, and `Price (USD/MWh)` or another currency. Times under
`Datetime` need an offset; without one the row is rejected. The zone is what the file name starts
with, up to a word of the list itself or a year (`LZ_WEST_prices_2026.csv`: LZ_WEST; `_NOT_ZONE`);
the market is `real_time` where the name says so, else `day_ahead`; intervals are as long as the
shortest step between the times, at most an hour.
"""

import re
from datetime import timedelta
from pathlib import PurePosixPath

import polars as pl

from pipelines.connectors.common import (
    LEFT_OUT_REASON,
    REJECT_REASON,
    Context,
    Tables,
    UnreadableFile,
)
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    code,
    constant,
    csv_rows,
    instant,
    number,
    shown,
    text,
)

_EXPECTED = (
    "an ERCOT settlement point price report, CAISO's LMP from OASIS, or a list with"
    " 'Datetime (UTC)' and 'Price (USD/MWh)'"
)
_ERCOT_ZONE = "America/Chicago"
_PRICE = re.compile(r"price\(([a-z]{3})/mwh\)\Z")
_HOUR = timedelta(hours=1)
_NOT_ZONE = re.compile(
    r"_(day_?ahead|real_?time|spot|market|electricity|prices?|processed|standardized|hourly"
    r"|quarter_?hourly|historical|data|export|eur|usd|[12]\d{3,})(_|\Z|(?=[^a-z0-9]))",
    re.IGNORECASE,
)
_ENERGY_WEIGHTED = "EW"
_OASIS = {"intervalstarttimegmt", "intervalendtimegmt", "nodeid", "marketrunid", "lmptype"}
_OASIS_PRICES = ("mw", "value", "prc")
_OASIS_MARKETS = {"DAM": "day_ahead", "RTM": "real_time", "RTPD": "real_time", "HASP": "real_time"}
_OASIS_SEQUENCES = {"DAM": 1, "RTM": 1, "RTPD": 2, "HASP": 3}
_OASIS_PRICE_TYPE = "LMP"
_OASIS_COMPONENTS = ("MCE", "MCC", "MCL", "MGHG")
_ALIASES = {"settlementpointname": "settlementpoint", "repeatedhourflag": "dstflag"}


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read prices, one row per settlement point or zone and interval.

    Raises:
        UnreadableFile: when the header is of none of the layouts.
    """
    del context
    rows = csv_rows(content, expected=_EXPECTED)
    names = {name: name.lower().replace(" ", "").replace("_", "") for name in rows.columns}
    names = {name: _ALIASES.get(plain, plain) for name, plain in names.items()}
    names |= {name: name for name in (REJECT_REASON, LEFT_OUT_REASON) if name in names}
    if len(set(names.values())) != len(names):
        raise UnreadableFile(f"two columns of the header mean the same: expected {_EXPECTED}")
    rows = rows.rename(names)
    columns = set(rows.columns)
    if {"deliverydate", "settlementpoint", "settlementpointprice"} <= columns:
        if {"deliveryhour", "deliveryinterval"} <= columns:
            return {"market_prices": _ercot(rows, "real_time")}
        if "hourending" in columns:
            return {"market_prices": _ercot(rows, "day_ahead")}
    if columns >= _OASIS:
        value = next((name for name in _OASIS_PRICES if name in columns), None)
        if value is None:
            raise UnreadableFile(f"no column MW, VALUE or PRC in the header: expected {_EXPECTED}")
        return {"market_prices": _oasis(rows, value)}
    price = next((name for name in rows.columns if _PRICE.match(name)), None)
    time = next((name for name in ("datetime(utc)", "datetime") if name in columns), None)
    if price is None or time is None:
        found = ", ".join(name for name in names if name not in (REJECT_REASON, LEFT_OUT_REASON))[
            :300
        ]
        raise UnreadableFile(f"the header is '{found}': expected {_EXPECTED}")
    return {"market_prices": _list(rows, time, price, file_name)}


def _ercot(rows: pl.DataFrame, market: str) -> pl.DataFrame:
    if market == "real_time":
        hour, quarter = _whole("deliveryhour", 24), _whole("deliveryinterval", 4)
        minutes, offset = 15, (quarter.value - 1) * 15
    else:
        ending = pl.col("hourending").str.extract(r"^(\d{1,2})(?::00)?$").cast(pl.Int64)
        hour = _bounded("hourending", ending, 24)
        quarter = constant(1, pl.Int64)
        minutes, offset = 60, pl.lit(0)
    day = pl.coalesce(
        pl.col("deliverydate").str.strptime(pl.Datetime("us"), "%m/%d/%Y", strict=False),
        pl.col("deliverydate").str.strptime(pl.Datetime("us"), "%Y-%m-%d", strict=False),
    )
    in_form = pl.col("deliverydate").str.contains(r"^(\d{2}/\d{2}/\d{4}|\d{4}-\d{2}-\d{2})$")
    wall = pl.when(in_form).then(day) + pl.duration(minutes=(hour.value - 1) * 60 + offset)
    flag = (
        pl.col("dstflag")
        .str.to_lowercase()
        .replace_strict(
            {"y": "latest", "true": "latest", "n": "earliest", "false": "earliest"},
            default=None,
            return_dtype=pl.String,
        )
        if "dstflag" in rows.columns
        else pl.lit(None, pl.String)
    )
    local = wall.dt.replace_time_zone(
        _ERCOT_ZONE, ambiguous=flag.fill_null("null"), non_existent="null"
    )
    started = local.dt.convert_time_zone("UTC")
    no_date = Problem(
        wall.is_null() & ~hour.has_problem() & ~quarter.has_problem(),
        pl.format("DeliveryDate '{}': expected MM/DD/YYYY", shown(_told("deliverydate"))),
    )
    no_time = Problem(
        wall.is_not_null() & started.is_null(),
        pl.format(
            "{} in America/Chicago does not exist, or twice without DSTFlag N or Y",
            wall.dt.strftime("%Y-%m-%d %H:%M"),
        ),
    )
    return assemble(
        rows,
        {
            "zone": _point(rows).required("SettlementPoint", "a hub, zone or node"),
            "market": constant(market),
            "sequence": constant(1, pl.Int64),
            "interval_started_at": Field(started, (no_date, no_time)),
            "interval_ended_at": Field(started + pl.duration(minutes=minutes)),
            "price_per_mwh": number("settlementpointprice").required(
                "SettlementPointPrice", "USD/MWh"
            ),
            "currency_code": constant("USD"),
        },
        problems=(*hour.problems, *quarter.problems),
    )


def _oasis(rows: pl.DataFrame, value: str) -> pl.DataFrame:
    kind = pl.col("lmptype")
    component = pl.when(kind.is_in(_OASIS_COMPONENTS)).then(
        pl.format("LMP_TYPE {}: a component of the price", kind)
    )
    told = pl.col(LEFT_OUT_REASON) if LEFT_OUT_REASON in rows.columns else pl.lit(None, pl.String)
    rows = rows.with_columns(pl.coalesce(told, component).alias(LEFT_OUT_REASON))
    known = ", ".join((_OASIS_PRICE_TYPE, *_OASIS_COMPONENTS))
    no_price = Problem(
        kind.ne_missing(_OASIS_PRICE_TYPE),
        pl.format(f"LMP_TYPE '{{}}': expected one of {known}", shown(_told("lmptype"))),
    )
    sequence = (
        pl.col("marketrunid")
        .str.to_uppercase()
        .replace_strict(_OASIS_SEQUENCES, default=None, return_dtype=pl.Int64)
    )
    started, ended = instant("intervalstarttimegmt"), instant("intervalendtimegmt")
    backward = Problem(
        ended.value <= started.value,
        pl.format(
            "INTERVALENDTIME_GMT '{}': expected a time after the start",
            shown(_told("intervalendtimegmt")),
        ),
    )
    return assemble(
        rows,
        {
            "zone": text("nodeid").required("NODE_ID", "a hub or node"),
            "market": code("marketrunid", _OASIS_MARKETS).required(
                "MARKET_RUN_ID", f"one of {', '.join(_OASIS_MARKETS)}"
            ),
            "sequence": Field(sequence),
            "interval_started_at": started.required(
                "INTERVALSTARTTIME_GMT", "the start of the interval"
            ),
            "interval_ended_at": ended.required("INTERVALENDTIME_GMT", "the end of the interval"),
            "price_per_mwh": number(value).required(value.upper(), "USD/MWh"),
            "currency_code": constant("USD"),
        },
        problems=(no_price, backward),
    )


def _point(rows: pl.DataFrame) -> Field:
    point = text("settlementpoint")
    if "settlementpointtype" not in rows.columns:
        return point
    kind = pl.col("settlementpointtype").str.to_uppercase()
    weighted = pl.format("{}:{}", point.value, kind)
    is_weighted = kind.str.ends_with(_ENERGY_WEIGHTED).fill_null(value=False)
    return Field(pl.when(is_weighted).then(weighted).otherwise(point.value), point.problems)


def _whole(column: str, most: int) -> Field:
    return _bounded(column, pl.col(column).cast(pl.Int64, strict=False), most)


def _bounded(column: str, value: pl.Expr, most: int) -> Field:
    is_fine = value.is_between(1, most).fill_null(value=False)
    told = pl.format(f"{column} '{{}}': expected 1 to {most}", shown(_told(column)))
    return Field(pl.when(is_fine).then(value), (Problem(~is_fine, told),))


def _told(column: str) -> pl.Expr:
    return pl.col(column).fill_null("")


def _list(rows: pl.DataFrame, time: str, price: str, file_name: str) -> pl.DataFrame:
    stem = PurePosixPath(file_name.rpartition("!")[2]).name.split(".")[0]
    zone = _NOT_ZONE.split(stem)[0]
    if not zone:
        raise UnreadableFile(
            f"the file name '{file_name}' does not start with a zone: expected one such as "
            "DE-LU_prices_2024.csv"
        )
    started = instant(time, is_utc=time == "datetime(utc)").required(
        time, "the start of the interval"
    )
    step = started.value.sort().diff()
    shortest = pl.min_horizontal(step.filter(step > timedelta(0)).min(), pl.lit(_HOUR))
    currency = _PRICE.match(price)
    return assemble(
        rows,
        {
            "zone": constant(zone),
            "market": constant("real_time" if "real_time" in stem.lower() else "day_ahead"),
            "sequence": constant(1, pl.Int64),
            "interval_started_at": started,
            "interval_ended_at": Field(started.value + shortest.fill_null(_HOUR)),
            "price_per_mwh": number(price).required("price", "a price per MWh"),
            "currency_code": constant(currency[1].upper() if currency else None),
        },
    )
