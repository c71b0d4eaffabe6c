"""ENTSO-E Transparency Platform: day-ahead prices (A44) and generation by type (A75).

What belongs here: the XML answers of both, and the no-data acknowledgement. What does not: other
document types, and which price series counts for a site (`price_market` and `price_sequence` in
reference).

A curve A03 leaves out points that repeat the one before; they are filled up to the end of the
Period, never beyond it. In a curve A01 a point that is not there is missing. A Period that starts
after position 1 on an A03 curve has nothing to carry and is rejected. All sequences of a zone are
kept; none is chosen or averaged here. Prices of other auctions than the day-ahead one, which some
zones' documents hold too, are left out. `createdDateTime` is `known_at`.

A zone is named as in `ZONES`, else by its EIC. A price between two zones is named `from>to`, so
that it never counts as the price of either.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    child_text,
    constant,
    number,
    parse_xml,
    parsed_instant,
    problem_in,
    shown,
    text,
)

ZONES = {
    "10YAL-KESH-----5": "AL",
    "10YAT-APG------L": "AT",
    "10YBA-JPCC-----D": "BA",
    "10YBE----------2": "BE",
    "10YCA-BULGARIA-R": "BG",
    "10YCH-SWISSGRIDZ": "CH",
    "10YCZ-CEPS-----N": "CZ",
    "10Y1001A1001A82H": "DE-LU",
    "10YDK-1--------W": "DK1",
    "10YDK-2--------M": "DK2",
    "10Y1001A1001A39I": "EE",
    "10YES-REE------0": "ES",
    "10YFI-1--------U": "FI",
    "10YFR-RTE------C": "FR",
    "10YGB----------A": "GB",
    "10YGR-HTSO-----Y": "GR",
    "10YHR-HEP------M": "HR",
    "10YHU-MAVIR----U": "HU",
    "10Y1001A1001A59C": "IE-SEM",
    "10Y1001A1001A73I": "IT-NORD",
    "10YLT-1001A0008Q": "LT",
    "10YLV-1001A00074": "LV",
    "10YCS-CG-TSO---S": "ME",
    "10YMK-MEPSO----8": "MK",
    "10YNL----------L": "NL",
    "10YNO-1--------2": "NO1",
    "10YNO-2--------T": "NO2",
    "10YNO-3--------J": "NO3",
    "10YNO-4--------9": "NO4",
    "10Y1001A1001A48H": "NO5",
    "10YPL-AREA-----S": "PL",
    "10YPT-REN------W": "PT",
    "10YRO-TEL------P": "RO",
    "10YCS-SERBIATSOV": "RS",
    "10Y1001A1001A44P": "SE1",
    "10Y1001A1001A45N": "SE2",
    "10Y1001A1001A46L": "SE3",
    "10Y1001A1001A47J": "SE4",
    "10YSI-ELES-----O": "SI",
    "10YSK-SEPS-----K": "SK",
}
"""EIC of a bidding zone -> its name in the book."""

_EXPECTED = "an ENTSO-E document of type A44 (day-ahead prices) or A75 (generation by type)"
_NO_DATA = "999"
_DAY_AHEAD = "A01"
_FORWARD_FILLED = "A03"
_RESOLUTION = re.compile(r"PT(\d{1,4})([MH])\Z|P(1)D\Z")
# A year of quarter hours; a Period beyond it is refused before it is expanded.
_LARGEST_PERIOD = 366 * 96
_MOST_ROWS = 2_000_000

_PERIOD = {
    "series": pl.Int64,
    "period": pl.Int64,
    "start": pl.String,
    "end": pl.String,
    "resolution": pl.String,
    "minutes": pl.Int64,
    "curve": pl.String,
    "problem": pl.String,
}
_POINT = {"period": pl.Int64, "position": pl.String, "value": pl.String}


@dataclass(frozen=True)
class _Series:
    """What a TimeSeries says of its points; the columns that stay empty are null."""

    zone: str
    problem: str | None
    left_out: str | None = None
    sequence: str | None = None
    currency_code: str | None = None
    production_type: str | None = None
    direction: str | None = None


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read prices or generation, one row per series and interval; nothing for a no-data answer.

    A Period that cannot be laid out stands as one rejected row.

    Raises:
        UnreadableFile: for other documents and for an acknowledgement that tells of an error.
    """
    del file_name, context
    document = parse_xml(content, expected=_EXPECTED)
    kind = document.tag
    if kind == "Acknowledgement_MarketDocument":
        return _acknowledged(document)
    document_type = child_text(document, "type") or "none"
    if kind == "Publication_MarketDocument" and document_type == "A44":
        rows = _rows(
            document, [_price_series(series) for series in _series(document)], "price.amount"
        )
        return {"market_prices": _market_prices(rows)}
    if kind == "GL_MarketDocument" and document_type == "A75":
        rows = _rows(
            document, [_generation_series(series) for series in _series(document)], "quantity"
        )
        return {"grid_generation_mix": _generation_mix(rows)}
    raise UnreadableFile(f"{kind} of type {document_type}: expected {_EXPECTED}")


def _acknowledged(document: Element) -> Tables:
    code = child_text(document, "Reason", "code") or "none"
    told = child_text(document, "Reason", "text") or ""
    # The platform uses 999 for refused requests too; only the text tells them apart.
    if code == _NO_DATA and (not told or "no matching data" in told.lower()):
        return {}
    raise UnreadableFile(
        f"the platform refused the request (reason {code}: {told[:200]}): mend and ask again"
    )


def _series(document: Element) -> list[Element]:
    return document.findall("TimeSeries")


def _price_series(series: Element) -> _Series:
    inward = child_text(series, "in_Domain.mRID")
    outward = child_text(series, "out_Domain.mRID") or inward
    contract = child_text(series, "contract_MarketAgreement.type") or _DAY_AHEAD
    currency = child_text(series, "currency_Unit.name")
    unit = child_text(series, "price_Measure_Unit.name") or "MWH"
    problems = []
    if inward is None:
        problems.append("in_Domain.mRID is empty: expected the EIC of a bidding zone")
    if currency is None:
        problems.append("currency_Unit.name is empty: expected a currency such as EUR")
    if unit not in ("MWH", currency):
        problems.append(f"price_Measure_Unit.name {unit}: expected MWH")
    name = _zone(inward)
    return _Series(
        zone=name if inward == outward else f"{_zone(outward)}>{name}",
        problem="; ".join(problems) or None,
        left_out=None
        if contract == _DAY_AHEAD
        else f"contract_MarketAgreement.type {contract}: not day-ahead",
        sequence=child_text(series, "classificationSequence_AttributeInstanceComponent.position"),
        currency_code=currency,
    )


def _generation_series(series: Element) -> _Series:
    generating = child_text(series, "inBiddingZone_Domain.mRID")
    consuming = child_text(series, "outBiddingZone_Domain.mRID")
    unit = child_text(series, "quantity_Measure_Unit.name") or "MAW"
    production_type = child_text(series, "MktPSRType", "psrType")
    problems = []
    if (generating is None) == (consuming is None):
        problems.append("expected one of inBiddingZone_Domain and outBiddingZone_Domain")
    if unit != "MAW":
        problems.append(f"quantity_Measure_Unit.name {unit}: expected MAW (MW)")
    if production_type is None:
        problems.append("psrType is empty: expected a production type such as B16")
    return _Series(
        zone=_zone(generating or consuming),
        problem="; ".join(problems) or None,
        production_type=production_type,
        direction="consumption" if generating is None else "generation",
    )


def _zone(code: str | None) -> str:
    return ZONES.get(code or "", code or "")


def _rows(document: Element, series: list[_Series], value: str) -> pl.DataFrame:
    """One row per interval with the columns of its series, the value still text."""
    elements = _series(document)
    periods: list[tuple[object, ...]] = []
    points: list[tuple[object, ...]] = []
    for index, element in enumerate(elements):
        curve = child_text(element, "curveType") or "A01"
        for period in element.findall("Period"):
            points.extend((len(periods), *point) for point in _points(period, value))
            periods.append((index, len(periods), *_layout(period), curve, None))
    known_at = child_text(document, "createdDateTime")
    described = pl.DataFrame(
        [
            (
                index,
                one.zone,
                one.sequence,
                one.currency_code,
                one.production_type,
                one.direction,
                one.problem,
                one.left_out,
                known_at,
            )
            for index, one in enumerate(series)
        ],
        schema={
            "series": pl.Int64,
            "zone": pl.String,
            "sequence": pl.String,
            "currency_code": pl.String,
            "production_type": pl.String,
            "direction": pl.String,
            "series_problem": pl.String,
            LEFT_OUT_REASON: pl.String,
            "created": pl.String,
        },
        orient="row",
    )
    laid_out = _lay_out(
        pl.DataFrame(periods, schema=_PERIOD, orient="row"),
        pl.DataFrame(points, schema=_POINT, orient="row"),
    )
    return laid_out.join(described, on="series", how="left", maintain_order="left")


def _layout(period: Element) -> tuple[str | None, str | None, str | None, int | None]:
    resolution = child_text(period, "resolution")
    found = _RESOLUTION.match(resolution or "")
    minutes = None
    if found:
        minutes = 24 * 60 if found[3] else int(found[1]) * (60 if found[2] == "H" else 1)
    start = child_text(period, "timeInterval", "start")
    return start, child_text(period, "timeInterval", "end"), resolution, minutes or None


def _points(period: Element, value: str) -> Iterator[tuple[str | None, str]]:
    for point in period.findall("Point"):
        # Of elements of one name the first counts.
        texts = {child.tag: (child.text or "").strip() for child in reversed(point)}
        # An empty value is told as such: only a point that is not there is filled.
        yield texts.get("position") or None, texts.get(value, "")


def _lay_out(periods: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """One row per interval of each sound Period, one row with its problem for each other."""
    points = points.with_columns(pl.col("position").cast(pl.Int64, strict=False))
    found = points.group_by("period").agg(
        pl.col("position").min().alias("first"),
        pl.col("position").max().alias("last"),
        (pl.col("position").is_null().any() | pl.col("position").is_duplicated().any()).alias(
            "is_odd"
        ),
    )
    start, end = parsed_instant(pl.col("start")), parsed_instant(pl.col("end"))
    span = (end - start).dt.total_seconds()
    periods = periods.with_columns(
        start.alias("start_at"),
        (span // (pl.col("minutes") * 60)).alias("count"),
        (span % (pl.col("minutes") * 60)).alias("rest"),
    ).join(found, on="period", how="left", maintain_order="left")
    count = pl.col("count")
    is_filled = pl.col("curve") == _FORWARD_FILLED
    problem = (
        pl.when(pl.col("minutes").is_null())
        .then(
            pl.format(
                "resolution '{}': expected PT15M, PT30M, PT60M or P1D",
                shown(pl.col("resolution").fill_null("")),
            )
        )
        .when(count.is_null() | (count < 1) | (pl.col("rest") != 0))
        .then(
            pl.format(
                "timeInterval '{}' to '{}': expected UTC times a whole number of {} apart",
                shown(pl.col("start").fill_null("")),
                shown(pl.col("end").fill_null("")),
                "resolution",
            )
        )
        .when(count > _LARGEST_PERIOD)
        .then(pl.format(f"a Period of {{}} intervals: expected at most {_LARGEST_PERIOD}", count))
        .when(pl.col("first").is_null() | pl.col("is_odd"))
        .then(pl.lit("a Period has no points, or one without a position or with another's"))
        .when((pl.col("first") < 1) | (pl.col("last") > count))
        .then(pl.format("positions {} to {}: expected 1 to {}", "first", "last", count))
        .when(is_filled & (pl.col("first") > 1))
        .then(pl.format("first position {} on an A03 curve: nothing to carry before it", "first"))
        .when(~pl.col("curve").is_in(["A01", _FORWARD_FILLED]))
        .then(pl.format("curveType '{}': expected A01 or A03", shown(pl.col("curve"))))
    )
    periods = periods.with_columns(problem.alias("problem"))
    sound = periods.filter(pl.col("problem").is_null())
    total = sound["count"].sum()
    if total > _MOST_ROWS:
        raise UnreadableFile(f"the document tells {total} intervals: expected at most {_MOST_ROWS}")
    laid_out = (
        sound.with_columns(pl.int_ranges(1, count + 1).alias("position"))
        .explode("position")
        .join(points, on=["period", "position"], how="left", maintain_order="left")
        .with_columns(
            pl.when(is_filled)
            .then(pl.col("value").forward_fill().over("period"))
            .otherwise(pl.col("value")),
            (
                pl.col("start_at")
                + pl.duration(minutes=(pl.col("position") - 1) * pl.col("minutes"))
            ).alias("interval_started_at"),
        )
        .filter(pl.col("value").is_not_null())
    )
    broken = periods.filter(pl.col("problem").is_not_null()).with_columns(
        pl.lit(0, pl.Int64).alias("position"),
        pl.lit(None, pl.String).alias("value"),
        pl.col("start_at").alias("interval_started_at"),
    )
    return pl.concat([laid_out, broken], how="diagonal").sort("period", "position")


def _market_prices(rows: pl.DataFrame) -> pl.DataFrame:
    sequence = pl.col("sequence").fill_null("1").cast(pl.Int64, strict=False)
    no_sequence = Problem(
        ~(sequence >= 1).fill_null(value=False),
        pl.format("sequence '{}': expected 1, 2, ...", shown(pl.col("sequence"))),
    )
    no_currency = Problem(
        ~pl.col("currency_code").str.contains("^[A-Z]{3}$"),
        pl.format("currency '{}': expected EUR or alike", shown(pl.col("currency_code"))),
    )
    return assemble(
        rows,
        {
            "zone": text("zone"),
            "market": constant("day_ahead"),
            "sequence": Field(sequence, (no_sequence,)),
            **_interval(),
            "price_per_mwh": _value("price.amount", "a price per MWh"),
            "currency_code": Field(pl.col("currency_code"), (no_currency,)),
            "known_at": Field(parsed_instant(pl.col("created"))),
        },
        problems=_OF_SERIES_AND_PERIOD,
    )


def _generation_mix(rows: pl.DataFrame) -> pl.DataFrame:
    no_type = Problem(
        ~pl.col("production_type").str.contains("^B[0-9]{2}$"),
        pl.format("psrType '{}': expected B01 to B25", shown(pl.col("production_type"))),
    )
    return assemble(
        rows,
        {
            "zone": text("zone"),
            "production_type": Field(pl.col("production_type"), (no_type,)),
            "direction": text("direction"),
            **_interval(),
            "power_mw": _value("quantity", "MW"),
            "known_at": Field(parsed_instant(pl.col("created"))),
        },
        problems=_OF_SERIES_AND_PERIOD,
    )


_OF_SERIES_AND_PERIOD = (problem_in("series_problem"), problem_in("problem"))


def _interval() -> dict[str, Field]:
    started = pl.col("interval_started_at")
    ended = started + pl.duration(minutes=pl.col("minutes"))
    return {"interval_started_at": Field(started), "interval_ended_at": Field(ended)}


def _value(name: str, expected: str) -> Field:
    """The value of a point; the row of a broken Period has none and needs no reason here."""
    value = number("value")
    is_empty = pl.col("value") == ""
    return Field(
        value.value,
        (
            Problem(is_empty, pl.lit(f"{name} is empty: expected {expected}")),
            *(Problem(one.is_there & ~is_empty, one.told) for one in value.problems),
        ),
    )
