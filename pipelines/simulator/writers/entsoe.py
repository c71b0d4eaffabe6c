"""ENTSO-E documents from market prices and generation.

What belongs here: the XML of A44 (prices) and A75 (generation by type) documents as the platform
answers. What does not: the values and when they are asked for (the simulator), reading
(`connectors/entsoe.py`).
"""

from datetime import UTC, datetime

import polars as pl

_PRICES = "urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3"
_GENERATION = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
_RESOLUTION = {15: "PT15M", 30: "PT30M", 60: "PT60M"}
_TIME = "%Y-%m-%dT%H:%MZ"


def write_prices(market_prices: pl.DataFrame, *, domain_code: str, created_at: datetime) -> bytes:
    """Write day-ahead prices of one zone as an A44 document, a TimeSeries per sequence.

    Args:
        market_prices: one row per sequence and interval of one zone and currency.
        domain_code: the zone's 16-character EIC.
        created_at: createdDateTime of the document, with a time zone.
    """
    series: list[str] = []
    for (sequence, currency), periods in _periods(
        market_prices, ["sequence", "currency_code"], "price_per_mwh", "price.amount"
    ):
        series.append(
            f"<TimeSeries><mRID>{len(series) + 1}</mRID><auction.type>A01</auction.type>"
            "<businessType>A62</businessType>"
            f'<in_Domain.mRID codingScheme="A01">{domain_code}</in_Domain.mRID>'
            f'<out_Domain.mRID codingScheme="A01">{domain_code}</out_Domain.mRID>'
            "<contract_MarketAgreement.type>A01</contract_MarketAgreement.type>"
            f"<currency_Unit.name>{currency}</currency_Unit.name>"
            "<price_Measure_Unit.name>MWH</price_Measure_Unit.name>"
            "<classificationSequence_AttributeInstanceComponent.position>"
            f"{sequence}</classificationSequence_AttributeInstanceComponent.position>"
            f"<curveType>A03</curveType>{periods}</TimeSeries>\n"
        )
    head = _head(market_prices, created_at, document_type="A44", process_type="")
    span = _span(market_prices, "period.timeInterval")
    return _document("Publication_MarketDocument", _PRICES, head + span, series)


def write_generation_mix(
    grid_generation_mix: pl.DataFrame, *, domain_code: str, created_at: datetime
) -> bytes:
    """Write generation of one zone as an A75 document, a TimeSeries per type and direction.

    Args:
        grid_generation_mix: one row per production type, direction and interval of one zone.
        domain_code: the zone's 16-character EIC.
        created_at: createdDateTime of the document, with a time zone.
    """
    series: list[str] = []
    for (production_type, direction), periods in _periods(
        grid_generation_mix, ["production_type", "direction"], "power_mw", "quantity"
    ):
        side = "inBiddingZone" if direction == "generation" else "outBiddingZone"
        series.append(
            f"<TimeSeries><mRID>{len(series) + 1}</mRID><businessType>A01</businessType>"
            "<objectAggregation>A08</objectAggregation>"
            f'<{side}_Domain.mRID codingScheme="A01">{domain_code}</{side}_Domain.mRID>'
            "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name>"
            f"<curveType>A03</curveType><MktPSRType><psrType>{production_type}</psrType>"
            f"</MktPSRType>{periods}</TimeSeries>\n"
        )
    head = _head(
        grid_generation_mix,
        created_at,
        document_type="A75",
        process_type="<process.processType>A16</process.processType>",
    )
    span = _span(grid_generation_mix, "time_Period.timeInterval")
    return _document("GL_MarketDocument", _GENERATION, head + span, series)


def _periods(
    rows: pl.DataFrame, series: list[str], value: str, element: str
) -> list[tuple[tuple[object, ...], str]]:
    """Periods of each series as A03 text: a new Period after a gap or a change of resolution."""
    start, end = pl.col("interval_started_at"), pl.col("interval_ended_at")
    minutes = (end - start).dt.total_minutes()
    breaks = (start != end.shift(1)) | (minutes != minutes.shift(1))
    position = pl.int_range(1, pl.len() + 1)
    # An A03 curve leaves out a point that repeats the value before it.
    is_told = (position == 1) | (pl.col(value) != pl.col(value).shift(1))
    point = f"<Point><position>{{}}</position><{element}>{{}}</{element}></Point>"
    periods = (
        rows.sort(*series, "interval_started_at")
        .with_columns(
            minutes.replace_strict(_RESOLUTION, return_dtype=pl.String).alias("resolution"),
            breaks.over(series).fill_null(value=True).cum_sum().alias("period"),
        )
        .group_by(*series, "period", "resolution", maintain_order=True)
        .agg(
            start.min().dt.strftime(_TIME),
            end.max().dt.strftime(_TIME),
            pl.format(point, position, pl.col(value))
            .filter(is_told)
            .str.join("\n")
            .alias("points"),
        )
        .select(
            *series,
            pl.format(
                "<Period><timeInterval><start>{}</start><end>{}</end></timeInterval>"
                "<resolution>{}</resolution>\n{}</Period>",
                "interval_started_at",
                "interval_ended_at",
                "resolution",
                "points",
            ).alias("text"),
        )
        .group_by(series, maintain_order=True)
        .agg(pl.col("text").str.join("\n"))
    )
    return [(tuple(row[:-1]), row[-1]) for row in periods.iter_rows()]


def _head(
    rows: pl.DataFrame, created_at: datetime, *, document_type: str, process_type: str
) -> str:
    created = f"{created_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    first = rows.select(pl.col("interval_started_at").min().dt.strftime("%Y%m%d%H%M")).item()
    return (
        f"<mRID>{document_type}{first}</mRID><revisionNumber>1</revisionNumber>"
        f"<type>{document_type}</type>{process_type}"
        '<sender_MarketParticipant.mRID codingScheme="A01">10X1001A1001A450'
        "</sender_MarketParticipant.mRID>"
        "<sender_MarketParticipant.marketRole.type>A32</sender_MarketParticipant.marketRole.type>"
        '<receiver_MarketParticipant.mRID codingScheme="A01">10X1001A1001A450'
        "</receiver_MarketParticipant.mRID><receiver_MarketParticipant.marketRole.type>A33"
        f"</receiver_MarketParticipant.marketRole.type><createdDateTime>{created}</createdDateTime>\n"
    )


def _span(rows: pl.DataFrame, element: str) -> str:
    start, end = rows.select(
        pl.col("interval_started_at").min().dt.strftime(_TIME),
        pl.col("interval_ended_at").max().dt.strftime(_TIME),
    ).row(0)
    return f"<{element}><start>{start}</start><end>{end}</end></{element}>\n"


def _document(root: str, namespace: str, head: str, series: list[str]) -> bytes:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{namespace}">\n{head}'
    return f"{text}{''.join(series)}</{root}>\n".encode()
