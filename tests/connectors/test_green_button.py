from datetime import UTC, datetime, timedelta
from io import BytesIO

import polars as pl
import pytest
from greenbutton_objects.enums import FlowDirectionType, QualityOfReading, UomType
from greenbutton_objects.parse import parse_feed
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors import green_button
from pipelines.connectors.common import UnreadableFile
from pipelines.simulator.writers.green_button import write_green_button
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)
from tests.real_files import real_file

PUBLISHED = datetime(2026, 4, 7, 3, tzinfo=UTC)
FEED = """<feed xmlns="http://www.w3.org/2005/Atom" xmlns:e="http://naesb.org/espi">
<entry><link rel="self" href="I/1"/><link rel="up" href="U/SPK-PCC/M/1/I"/><content>
<e:IntervalBlock><e:interval><e:duration>1800</e:duration><e:start>1775347200</e:start></e:interval>
{readings}</e:IntervalBlock></content><updated>2026-04-07T03:00:00Z</updated></entry>
<entry><link rel="self" href="R/1"/><content><e:ReadingType>{type}</e:ReadingType></content></entry>
<entry><link rel="self" href="R/2"/><content><e:ReadingType><e:flowDirection>19</e:flowDirection>
<e:uom>38</e:uom></e:ReadingType></content></entry>
<entry><link rel="self" href="U/SPK-PCC/M/1"/><link rel="up" href="U/SPK-PCC/M"/>
<link rel="related" href="U/SPK-PCC/M/1/I"/><link rel="related" href="R/1"/>
<content><e:MeterReading/></content></entry>
<entry><link rel="self" href="U/SPK-PCC"/><link rel="related" href="U/SPK-PCC/M"/>
<content><e:UsagePoint/></content></entry></feed>"""
TYPE = {
    "commodity": "1",
    "flowDirection": "1",
    "intervalLength": "900",
    "powerOfTenMultiplier": "0",
    "uom": "72",
}


def read(content):
    frame = green_button.read(content, file_name="x.xml", context=CONTEXT)["meter_readings"]
    assert_fits_raw_table(frame, "meter_readings")
    return frame


def feed(readings="<e:IntervalReading><e:value>5</e:value></e:IntervalReading>", **told):
    told = "".join(f"<e:{name}>{value}</e:{name}>" for name, value in (TYPE | told).items())
    return read(FEED.format(readings=readings, type=told).encode())


def reading(value, quality=None, start=None):
    period = f"<e:timePeriod><e:duration>900</e:duration><e:start>{start}</e:start></e:timePeriod>"
    code = f"<e:ReadingQuality><e:quality>{quality}</e:quality></e:ReadingQuality>"
    return (
        f"<e:IntervalReading>{code if quality is not None else ''}{period if start else ''}"
        f"<e:value>{value}</e:value></e:IntervalReading>"
    )


def test_readings_take_meter_unit_and_direction_by_link_and_not_by_order():
    frame = feed(reading(5) + reading(7))

    assert accepted(frame).rows() == [
        (
            "SPK-PCC",
            "import",
            datetime(2026, 4, 5, 0, 0, tzinfo=UTC),
            datetime(2026, 4, 5, 0, 15, tzinfo=UTC),
            5.0,
            "Wh",
            "measured",
            PUBLISHED,
        ),
        (
            "SPK-PCC",
            "import",
            datetime(2026, 4, 5, 0, 15, tzinfo=UTC),
            datetime(2026, 4, 5, 0, 30, tzinfo=UTC),
            7.0,
            "Wh",
            "measured",
            PUBLISHED,
        ),
    ]


@pytest.mark.parametrize(
    ("exponent", "quantity", "unit"),
    [
        ("0", 1500.0, "Wh"),
        ("3", 1500.0, "kWh"),
        ("6", 1500.0, "MWh"),
        ("-3", 1.5, "Wh"),
        ("2", 150_000.0, "Wh"),
    ],
)
def test_the_power_of_ten_gives_the_unit(exponent, quantity, unit):
    frame = feed(reading(1500), powerOfTenMultiplier=exponent)

    assert frame.select("quantity", "unit").rows() == [(quantity, unit)]


def test_flow_direction_19_is_export_and_stays_positive():
    assert feed(flowDirection="19").select("flow", "quantity").rows() == [("export", 5.0)]


@pytest.mark.parametrize(
    ("code", "quality", "quantity"),
    [
        ("0", "measured", 5.0),
        ("17", "measured", 5.0),
        ("19", "measured", 5.0),
        ("7", "substituted", 5.0),
        ("8", "estimated", 5.0),
        ("12", "estimated", 5.0),
        ("10", "missing", None),
    ],
)
def test_quality_codes_become_the_books_qualities(code, quality, quantity):
    frame = feed(reading(5, code))

    assert frame.select("quality", "quantity").rows() == [(quality, quantity)]


def test_energy_that_is_not_of_an_interval_or_a_direction_is_rejected_with_the_reason():
    assert reasons(feed(flowDirection="4", accumulationBehaviour="3")) == [
        "flowDirection '4': expected 1 (import) or 19 (export); "
        "accumulationBehaviour 3: expected 4 (energy per interval)"
    ]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"uom": "38", "accumulationBehaviour": "12"}, "uom 38: no active energy"),
        ({"uom": "61", "flowDirection": "4"}, "uom 61: no active energy"),
        ({"uom": "119", "commodity": "7"}, "commodity 7: no electricity"),
        ({"uom": "0", "kind": "3", "currency": "840"}, "kind 3: money"),
    ],
)
def test_a_series_that_is_no_active_energy_is_left_out(told, reason):
    frame = feed(reading(5) + reading("x"), **told)

    assert left_out(frame) == [reason] * 2
    assert reasons(frame) == []


SECOND_TYPE = "<e:flowDirection>19</e:flowDirection>\n<e:uom>38</e:uom>"
SECOND_SERIES = """<entry><link rel="self" href="U/SPK-PCC/M/2"/><link rel="up" href="U/SPK-PCC/M"/>
<link rel="related" href="U/SPK-PCC/M/2/I"/><link rel="related" href="R/2"/>
<content><e:MeterReading/></content></entry>
<entry><link rel="self" href="U/SPK-PCC/M/2/I/1"/><link rel="up" href="U/SPK-PCC/M/2/I"/><content>
<e:IntervalBlock><e:interval><e:duration>1800</e:duration><e:start>1775347200</e:start></e:interval>
{readings}</e:IntervalBlock></content></entry></feed>"""
ONE_TYPE = "".join(f"<e:{name}>{value}</e:{name}>" for name, value in TYPE.items())


def two_series(first, second, second_type=SECOND_TYPE):
    content = FEED.format(readings=first, type=ONE_TYPE).replace(SECOND_TYPE, second_type)
    return read(content.replace("</feed>", SECOND_SERIES.format(readings=second)).encode())


def test_power_beside_the_energy_of_a_usage_point_is_left_out():
    frame = two_series(reading(5) + reading(7), reading(20) + reading(28))

    assert accepted(frame)["quantity"].to_list() == [5.0, 7.0]
    assert left_out(frame) == ["uom 38: no active energy"] * 2
    assert reasons(frame) == []


def test_a_net_series_beside_import_and_export_is_left_out():
    export = ONE_TYPE.replace("<e:flowDirection>1<", "<e:flowDirection>19<")
    net = SECOND_SERIES.format(readings=reading(-2)).replace("M/2", "M/3").replace("R/2", "R/3")
    of_net = ONE_TYPE.replace("<e:flowDirection>1<", "<e:flowDirection>4<")
    its_type = (
        f'<entry><link rel="self" href="R/3"/><content><e:ReadingType>{of_net}</e:ReadingType>'
        "</content></entry></feed>"
    )
    both = FEED.format(readings=reading(5), type=ONE_TYPE).replace(SECOND_TYPE, export)
    both = both.replace("</feed>", SECOND_SERIES.format(readings=reading(7)))

    frame = read(both.replace("</feed>", net).replace("</feed>", its_type).encode())

    assert accepted(frame).select("flow", "quantity").rows() == [("import", 5), ("export", 7)]
    assert left_out(frame) == ["flowDirection 4: import and export stand beside it"]


def test_a_series_whose_links_lead_nowhere_is_rejected_and_the_others_load():
    content = FEED.format(readings=reading(5), type=ONE_TYPE)
    lost = SECOND_SERIES.format(readings=reading(9)).replace('href="R/2"', 'href="R/9"')

    frame = read(content.replace("</feed>", lost).encode())

    assert accepted(frame)["quantity"].to_list() == [5.0]
    assert reasons(frame) == [
        "no ReadingType in the feed for MeterReading 'U/SPK-PCC/M/2', so its unit and direction "
        "are not known: ask for the whole subscription (Batch) in one feed"
    ]


def test_of_two_series_that_tell_different_energy_of_an_interval_neither_is_taken():
    in_kwh = ONE_TYPE.replace(
        "<e:powerOfTenMultiplier>0</e:powerOfTenMultiplier>",
        "<e:powerOfTenMultiplier>3</e:powerOfTenMultiplier>",
    )

    frame = two_series(reading(5000) + reading(7000), reading(5) + reading(8), in_kwh)

    assert accepted(frame).select("quantity", "unit").rows() == [(5000, "Wh"), (5, "kWh")]
    assert reasons(frame) == [
        f"value '{value}': another MeterReading of the UsagePoint tells other energy of the "
        "interval: expected one; ask for the total alone"
        for value in (7000, 8)
    ]


def with_tou(tou):
    return f"{ONE_TYPE}<e:tou>{tou}</e:tou>"


def test_a_tariffs_series_beside_the_total_is_left_out():
    frame = two_series(reading(5) + reading(7), reading(5) + reading(0), with_tou(1))

    assert accepted(frame)["quantity"].to_list() == [5.0, 7.0]
    assert left_out(frame) == ["tou 1: the total stands beside it"] * 2


def test_tariffs_of_which_no_total_is_told_are_meters_of_their_own():
    content = FEED.format(readings=reading(5) + reading(0), type=with_tou(1))
    content = content.replace(SECOND_TYPE, with_tou(2))
    off_peak = SECOND_SERIES.format(readings=reading(0) + reading(7))

    frame = read(content.replace("</feed>", off_peak).encode())

    assert accepted(frame).select("meter_id", "quantity").rows() == [
        ("SPK-PCC-tou1", 5),
        ("SPK-PCC-tou1", 0),
        ("SPK-PCC-tou2", 0),
        ("SPK-PCC-tou2", 7),
    ]


def test_the_only_tariffs_series_is_the_meters():
    assert accepted(feed(tou="1"))["meter_id"].to_list() == ["SPK-PCC"]


def test_a_point_of_gas_in_the_same_feed_is_left_out_whatever_its_unit():
    gas = FEED.replace("SPK-PCC", "GAS-1").replace("I/1", "I/9").partition("<feed")[2]
    gas = gas.partition(">")[2].replace("R/", "G/").replace("</feed>", "")
    gas = gas.replace(
        "<e:UsagePoint/>",
        "<e:UsagePoint><e:ServiceCategory><e:kind>1</e:kind></e:ServiceCategory></e:UsagePoint>",
    ).format(readings=reading(9), type=ONE_TYPE)
    content = FEED.format(readings=reading(5), type=ONE_TYPE).replace("</feed>", f"{gas}</feed>")

    frame = read(content.encode())

    assert accepted(frame).select("meter_id", "quantity").rows() == [("SPK-PCC", 5)]
    assert left_out(frame) == ["ServiceCategory 1: no electricity"]


def test_quarters_beside_the_hour_are_two_accounts_that_the_book_compares():
    quarters = "".join(reading(5, start=1775347200 + 900 * place) for place in range(4))
    hour = reading(20, start=1775347200).replace(">900<", ">3600<")

    frame = two_series(quarters, hour, ONE_TYPE)

    lengths = pl.col("interval_ended_at") - pl.col("interval_started_at")
    assert accepted(frame).select(lengths.dt.total_minutes(), "quantity").rows() == [
        *[(15, 5.0)] * 4,
        (60, 20.0),
    ]


def test_all_blocks_of_all_contents_of_an_entry_are_read():
    block = """<e:IntervalBlock><e:interval><e:start>{start}</e:start></e:interval>
        <e:IntervalReading><e:value>{value}</e:value></e:IntervalReading></e:IntervalBlock>"""
    more = "".join(
        f"<content>{first}{second}</content>"
        for first, second in [
            (block.format(start=1775348100, value=6), block.format(start=1775349000, value=7)),
            (block.format(start=1775349900, value=8), ""),
        ]
    )
    content = FEED.format(readings=reading(5), type=ONE_TYPE).replace(
        "</content><updated>2026", f"</content>{more}<updated>2026"
    )

    frame = read(content.encode())

    assert accepted(frame)["quantity"].to_list() == [5, 6, 7, 8]
    assert accepted(frame)["interval_started_at"].is_unique().all()


def test_a_reading_that_cannot_be_understood_is_rejected_and_the_rest_loads():
    frame = feed(
        reading("x")
        + reading(-5)
        + reading(5, "99")
        + reading(5, start=1775347200000)
        + reading(8, start=1775347200)
    )

    assert reasons(frame) == [
        "value 'x': expected a number, at least 0",
        "value '-5': expected a number, at least 0",
        "quality '99': expected an ESPI code, 0 or 7 to 19",
        "start '1775347200000': expected seconds since 1970 (UTC)",
    ]
    assert accepted(frame)["quantity"].to_list() == [8.0]


@pytest.mark.parametrize(
    ("name", "rows", "first", "wh"),
    [
        (
            "TestGBDataHourlyNineDaysBinnedDaily.xml",
            216,
            ("2", "import", datetime(2014, 1, 1, 5, tzinfo=UTC), 273.0, "Wh", "measured"),
            199_563.0,
        ),
        (
            "TestGBDataOneYearDailyBinnedMonthly.xml",
            444,
            ("1", "import", datetime(2013, 1, 1, 5, tzinfo=UTC), 21021.0, "Wh", "measured"),
            9_917_817.0,
        ),
        (
            "sample_greenbutton_data.xml",
            362,
            ("01", "import", datetime(2011, 1, 1, 8, tzinfo=UTC), 703.0, "Wh", "measured"),
            291_018.0,
        ),
    ],
)
def test_files_from_the_field_are_read(name, rows, first, wh):
    frame = read(real_file("green_button", name))

    assert accepted(frame).height == frame.height == rows
    columns = ["meter_id", "flow", "interval_started_at", "quantity", "unit", "quality"]
    assert frame.select(columns).row(0) == first
    assert frame["quantity"].sum() == wh


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ESPIIntervalBlock.xml", "no MeterReading in the feed leads to IntervalBlock"),
        ("ESPIReadingTypes.xml", "the feed has ReadingType but no IntervalBlock"),
        ("ESPIUsagePoints.xml", "the feed has UsagePoint but no IntervalBlock"),
        ("PGEUsageSummary.xml", "not well-formed XML .unbound prefix"),
    ],
)
def test_files_from_the_field_without_all_parts_say_what_is_missing(name, message):
    with pytest.raises(UnreadableFile, match=message):
        read(real_file("green_button", name))


def test_a_feed_without_an_entry_says_so():
    with pytest.raises(UnreadableFile, match="the feed has no entry: ask for the whole"):
        read(b'<feed xmlns="http://www.w3.org/2005/Atom"/>')


def test_two_usage_points_of_one_name_are_refused():
    start = FEED.index('<entry><link rel="self" href="U/SPK-PCC/M/1"/>')
    one_customer = FEED[start:].replace("</feed>", "")
    content = FEED.replace("</feed>", one_customer.replace("U/", "V/") + "</feed>")

    with pytest.raises(UnreadableFile, match="two UsagePoints end in 'SPK-PCC'"):
        read(content.format(readings="", type="<e:uom>72</e:uom>").encode())


@settings(max_examples=40, deadline=None)
@given(
    meters=st.lists(
        st.tuples(
            st.text("ABC-%/ &<é1", min_size=1, max_size=8), st.sampled_from(["import", "export"])
        ),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    readings=st.lists(
        st.tuples(
            st.integers(0, 10**9),
            st.sampled_from(["measured", "estimated", "substituted", "missing"]),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_what_the_writer_writes_is_read_back(meters, readings):
    start = datetime(2026, 4, 5, tzinfo=UTC)
    quarter = timedelta(minutes=15)
    rows = pl.DataFrame(
        [
            (
                meter,
                flow,
                start + i * quarter,
                start + (i + 1) * quarter,
                None if quality == "missing" else float(wh),
                "Wh",
                quality,
                PUBLISHED,
            )
            for meter, flow in meters
            for i, (wh, quality) in enumerate(readings)
        ],
        schema={
            "meter_id": pl.String,
            "flow": pl.String,
            "interval_started_at": pl.Datetime("us", "UTC"),
            "interval_ended_at": pl.Datetime("us", "UTC"),
            "quantity": pl.Float64,
            "unit": pl.String,
            "quality": pl.String,
            "known_at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )

    back = read(write_green_button(rows, published_at=PUBLISHED))

    assert reasons(back) == []
    key = ["meter_id", "flow", "interval_started_at"]
    assert_frame_equal(accepted(back).sort(key), rows.sort(key))


def test_what_the_writer_writes_is_read_by_greenbutton_objects():
    start, quarter = datetime(2026, 4, 5, tzinfo=UTC), timedelta(minutes=15)
    told = [
        ("SPK-PCC", "import", 0, 9_000_000.0, "measured"),
        ("SPK-PCC", "import", 1, 9_000_001.0, "estimated"),
        ("SPK-PCC", "export", 0, 0.0, "measured"),
        ("SPK-PV", "export", 1, 250.0, "substituted"),
    ]
    rows = pl.DataFrame(
        [
            (meter, flow, start + i * quarter, start + (i + 1) * quarter, quantity, "Wh", quality)
            for meter, flow, i, quantity, quality in told
        ],
        schema=[
            "meter_id",
            "flow",
            "interval_started_at",
            "interval_ended_at",
            "quantity",
            "unit",
            "quality",
        ],
        orient="row",
    )

    points = parse_feed(BytesIO(write_green_button(rows, published_at=PUBLISHED)))

    import_, export = FlowDirectionType.forward, FlowDirectionType.reverse
    back = {
        (
            point.title,
            meter.readingType.flowDirection,
            reading.timePeriod.start,
            reading.timePeriod.duration,
            reading.value,
            reading.value_units,
            *(quality.quality for quality in reading.readingQualities),
        )
        for point in points
        for meter in point.meterReadings
        for reading in meter.intervalReadings
    }
    wh, valid = UomType.wattHours, QualityOfReading.validated
    assert back == {
        ("SPK-PCC", import_, start, quarter, 9_000_000, wh, valid),
        (
            "SPK-PCC",
            import_,
            start + quarter,
            quarter,
            9_000_001,
            wh,
            QualityOfReading.estimatedUsingReferenceDay,
        ),
        ("SPK-PCC", export, start, quarter, 0, wh, valid),
        ("SPK-PV", export, start + quarter, quarter, 250, wh, QualityOfReading.manuallyEdited),
    }


def test_kwh_and_mwh_are_written_in_whole_wh():
    start = datetime(2026, 4, 5, tzinfo=UTC)
    rows = pl.DataFrame(
        {
            "meter_id": ["A", "B"],
            "flow": "import",
            "interval_started_at": start,
            "interval_ended_at": start + timedelta(minutes=15),
            "quantity": [1.2345, 2.5],
            "unit": ["kWh", "MWh"],
            "quality": "measured",
        }
    )

    back = read(write_green_button(rows, published_at=PUBLISHED))

    assert sorted(back.select("meter_id", "quantity", "unit").rows()) == [
        ("A", 1234.0, "Wh"),
        ("B", 2_500_000.0, "Wh"),
    ]
