from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from entsoe.parsers import parse_generation, parse_prices
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors import entsoe
from pipelines.connectors.common import UnreadableFile
from pipelines.simulator.writers.entsoe import write_generation_mix, write_prices
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)
from tests.real_files import real_file

# entsoe-py reads XML with an HTML parser and sorts in place, which bs4 and pandas warn of.
ENTSOE_PY_WARNS = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
DE_LU = "10Y1001A1001A82H"
CREATED = datetime(2026, 4, 4, 11, tzinfo=UTC)
START = datetime(2026, 4, 4, 22, tzinfo=UTC)


def read(content):
    tables = entsoe.read(content, file_name="x.xml", context=CONTEXT)
    for name, frame in tables.items():
        assert_fits_raw_table(frame, name)
    return tables


def prices(*series):
    body = "".join(
        f"<TimeSeries><in_Domain.mRID>{DE_LU}</in_Domain.mRID>"
        f"<out_Domain.mRID>{DE_LU}</out_Domain.mRID><currency_Unit.name>EUR</currency_Unit.name>"
        f"<price_Measure_Unit.name>MWH</price_Measure_Unit.name>{one}</TimeSeries>"
        for one in series
    )
    return read(
        "<Publication_MarketDocument xmlns='urn:x'><type>A44</type><createdDateTime>"
        f"2026-04-04T11:00:00Z</createdDateTime>{body}</Publication_MarketDocument>".encode()
    )["market_prices"]


def period(end, resolution, points):
    told = "".join(
        f"<Point><position>{position}</position><price.amount>{value}</price.amount></Point>"
        for position, value in points
    )
    return (
        f"<Period><timeInterval><start>2026-04-04T22:00Z</start><end>2026-04-{end}Z</end>"
        f"</timeInterval><resolution>{resolution}</resolution>{told}</Period>"
    )


A03 = "<curveType>A03</curveType>"
A01 = "<curveType>A01</curveType>"


def quarter_hours(frame):
    """Quarters of an hour after the start, and prices."""
    at = (pl.col("interval_started_at") - START).dt.total_minutes() // 15
    return frame.select(at, "price_per_mwh").rows()


def test_an_a03_curve_is_filled_within_its_period_and_after_its_last_point():
    frame = prices(A03 + period("04T23:30", "PT15M", [(1, 50), (3, -1.5)]))

    assert accepted(frame).rows()[0] == (
        "DE-LU",
        "day_ahead",
        1,
        START,
        START + timedelta(minutes=15),
        50.0,
        "EUR",
        CREATED,
    )
    assert quarter_hours(frame) == [(0, 50), (1, 50), (2, -1.5), (3, -1.5), (4, -1.5), (5, -1.5)]


def test_gaps_of_an_a01_curve_are_missing_and_never_filled():
    frame = prices(A01 + period("04T23:30", "PT15M", [(2, 50), (4, 60)]))

    assert quarter_hours(frame) == [(1, 50), (3, 60)]


def test_hours_and_quarter_hours_in_one_document_keep_their_lengths():
    frame = prices(
        A03
        + period("05T00:00", "PT60M", [(1, 50), (2, 51)])
        + period("04T23:00", "PT30M", [(1, 60), (2, 61)])
    )

    lengths = (pl.col("interval_ended_at") - pl.col("interval_started_at")).dt.total_minutes()
    assert frame.select(lengths, "price_per_mwh").rows() == [(60, 50), (60, 51), (30, 60), (30, 61)]


def test_both_sequences_of_a_zone_are_kept():
    tag = "classificationSequence_AttributeInstanceComponent.position"
    series = [
        f"<{tag}>{n}</{tag}>{A03}{period('04T23:00', 'PT60M', [(1, 100 + n)])}" for n in (1, 2)
    ]

    assert prices(*series).select("sequence", "price_per_mwh").rows() == [(1, 101.0), (2, 102.0)]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            A03 + period("04T23:00", "PT15M", [(2, 50)]),
            "first position 2 on an A03 curve: nothing to carry before it",
        ),
        (
            A03 + period("04T23:00", "PT15M", [(1, 50), (5, 60)]),
            "positions 1 to 5: expected 1 to 4",
        ),
        (
            A03 + period("04T23:00", "P1M", [(1, 50)]),
            "resolution 'P1M': expected PT15M, PT30M, PT60M or P1D",
        ),
        (
            A03 + period("04T23:10", "PT15M", [(1, 50)]),
            "timeInterval '2026-04-04T22:00Z' to '2026-04-04T23:10Z': expected UTC times a whole "
            "number of PT15M apart",
        ),
        (
            A03 + period("04T23:00", "PT15M", [(1, 50), (1, 60)]),
            "a Period has no points, or one without a position or with another's",
        ),
        (A03 + period("04T23:00", "PT60M", [(1, "n/e")]), "value 'n/e': expected a number"),
        (
            A03 + period("04T23:00", "PT60M", [(1, "")]),
            "price.amount is empty: expected a price per MWh",
        ),
    ],
)
def test_what_cannot_be_laid_out_is_rejected_with_the_reason(told, reason):
    frame = prices(told, A03 + period("04T23:00", "PT60M", [(1, 7)]))

    assert reasons(frame) == [reason]
    assert accepted(frame)["price_per_mwh"].to_list() == [7.0]


def test_prices_of_other_auctions_are_left_out():
    intraday = "<contract_MarketAgreement.type>A07</contract_MarketAgreement.type>" + A03
    day_ahead = A03 + period("04T23:00", "PT60M", [(1, 7)])

    frame = prices(intraday + period("04T23:00", "PT60M", [(1, 50)]), day_ahead)

    assert left_out(frame) == ["contract_MarketAgreement.type A07: not day-ahead"]
    assert reasons(frame) == []
    assert accepted(frame)["price_per_mwh"].to_list() == [7.0]


def test_generation_and_consumption_of_a_type_stand_apart():
    series = "".join(
        f"<TimeSeries><{side}BiddingZone_Domain.mRID>{DE_LU}</{side}BiddingZone_Domain.mRID>"
        "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A03</curveType>"
        "<MktPSRType><psrType>B10</psrType></MktPSRType>"
        + period("04T23:00", "PT60M", [(1, megawatts)]).replace("price.amount", "quantity")
        + "</TimeSeries>"
        for side, megawatts in (("in", 300), ("out", 1200))
    )
    frame = read(
        "<GL_MarketDocument><type>A75</type><createdDateTime>2026-04-04T11:00:00Z"
        f"</createdDateTime>{series}</GL_MarketDocument>".encode()
    )["grid_generation_mix"]

    hour = (START, START + timedelta(hours=1))
    assert accepted(frame).rows() == [
        ("DE-LU", "B10", "generation", *hour, 300.0, CREATED),
        ("DE-LU", "B10", "consumption", *hour, 1200.0, CREATED),
    ]


def test_the_a03_document_from_the_field_is_filled():
    frame = read(real_file("entsoe", "publication.a03curvetype.xml"))["market_prices"]

    assert reasons(frame) == []
    assert frame["zone"].unique().to_list() == ["CZ>SK"]
    assert frame.select(pl.col("interval_started_at").dt.hour(), "price_per_mwh").rows() == [
        (0, 50.0),
        (1, 50.0),
        (2, 55.0),
        (3, 55.0),
        (4, 55.0),
        (5, 60.0),
    ]


def test_a_no_data_answer_is_empty_and_no_failure():
    assert read(real_file("entsoe", "acknowledgement.invalidrequest.xml")) == {}


@pytest.mark.parametrize(
    ("code", "told"), [("999", "The amount of requested data exceeds the limit"), ("B20", "Denied")]
)
def test_a_refused_request_is_told_with_the_platforms_words(code, told):
    content = (
        f"<Acknowledgement_MarketDocument><Reason><code>{code}</code><text>{told}</text></Reason>"
        "</Acknowledgement_MarketDocument>"
    )

    with pytest.raises(UnreadableFile, match=f"refused the request .reason {code}: {told}"):
        read(content.encode())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("balancing.xml", "Balancing_MarketDocument of type A86"),
        ("gl.load.singlepoint.xml", "GL_MarketDocument of type A65"),
        ("publication.explicitallocations.xml", "Publication_MarketDocument of type A25"),
        ("unavailability.consumption.xml", "Unavailability_MarketDocument of type A76"),
    ],
)
def test_other_documents_from_the_field_are_named_with_what_is_supported(name, found):
    with pytest.raises(UnreadableFile, match=f"{found}: expected .* A44 .* or A75"):
        read(real_file("entsoe", name))


def price_rows(minutes, values, sequences=(1,)):
    step = timedelta(minutes=minutes)
    return pl.DataFrame(
        [
            (
                "DE-LU",
                "day_ahead",
                n,
                START + i * step,
                START + (i + 1) * step,
                value,
                "EUR",
                CREATED,
            )
            for n in sequences
            for i, value in enumerate(values)
            if value is not None
        ],
        schema={
            "zone": pl.String,
            "market": pl.String,
            "sequence": pl.Int64,
            "interval_started_at": pl.Datetime("us", "UTC"),
            "interval_ended_at": pl.Datetime("us", "UTC"),
            "price_per_mwh": pl.Float64,
            "currency_code": pl.String,
            "known_at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )


@settings(max_examples=40, deadline=None)
@given(
    minutes=st.sampled_from([15, 30, 60]),
    values=st.lists(
        st.none() | st.integers(-3, 3) | st.floats(-500, 4000, allow_nan=False),
        min_size=1,
        max_size=30,
    ).filter(lambda values: any(value is not None for value in values)),
    sequences=st.sampled_from([(1,), (2,), (1, 2)]),
)
def test_prices_the_writer_writes_are_read_back(minutes, values, sequences):
    values = [None if value is None else float(value) for value in values]
    rows = price_rows(minutes, values, sequences)

    back = read(write_prices(rows, domain_code=DE_LU, created_at=CREATED))["market_prices"]

    assert reasons(back) == []
    assert_frame_equal(accepted(back), rows)


@ENTSOE_PY_WARNS
def test_prices_the_writer_writes_are_read_by_entsoe_py():
    rows = price_rows(15, [50.5, 50.5, -3.25, None, 7.0])

    back = parse_prices(write_prices(rows, domain_code=DE_LU, created_at=CREATED).decode())["15min"]

    assert [at.to_pydatetime() for at in back.index] == rows["interval_started_at"].to_list()
    assert back.to_list() == [50.5, 50.5, -3.25, 7.0]


def generation_rows(megawatts):
    hour = timedelta(hours=1)
    return pl.DataFrame(
        [
            (
                "DE-LU",
                kind,
                direction,
                START + i * hour,
                START + (i + 1) * hour,
                float(value),
                CREATED,
            )
            for (kind, direction), values in megawatts.items()
            for i, value in enumerate(values)
        ],
        schema={
            "zone": pl.String,
            "production_type": pl.String,
            "direction": pl.String,
            "interval_started_at": pl.Datetime("us", "UTC"),
            "interval_ended_at": pl.Datetime("us", "UTC"),
            "power_mw": pl.Float64,
            "known_at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )


@settings(max_examples=30, deadline=None)
@given(
    megawatts=st.dictionaries(
        st.tuples(
            st.sampled_from(["B10", "B16", "B19"]), st.sampled_from(["generation", "consumption"])
        ),
        st.lists(st.integers(0, 4), min_size=1, max_size=24),
        min_size=1,
    )
)
def test_generation_the_writer_writes_is_read_back(megawatts):
    rows = generation_rows(megawatts)

    back = read(write_generation_mix(rows, domain_code=DE_LU, created_at=CREATED))

    key = ["production_type", "direction", "interval_started_at"]
    assert reasons(back["grid_generation_mix"]) == []
    assert_frame_equal(accepted(back["grid_generation_mix"]).sort(key), rows.sort(key))


@ENTSOE_PY_WARNS
def test_generation_the_writer_writes_is_read_by_entsoe_py():
    rows = generation_rows({("B10", "generation"): [5, 5, 6], ("B10", "consumption"): [1, 2, 2]})

    back = parse_generation(
        write_generation_mix(rows, domain_code=DE_LU, created_at=CREATED).decode()
    )

    name = "Hydro Pumped Storage"
    assert back[name, "Actual Aggregated"].to_list() == [5.0, 5.0, 6.0]
    assert back[name, "Actual Consumption"].to_list() == [1.0, 2.0, 2.0]
