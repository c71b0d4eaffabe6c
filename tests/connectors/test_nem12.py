from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemreader import NEMFile
from polars.testing import assert_frame_equal

from pipelines.connectors import nem12
from pipelines.connectors.common import UnreadableFile
from pipelines.simulator.writers.nem12 import write_nem12
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)
from tests.real_files import real_file

UPDATED = datetime(2026, 4, 7, 3, tzinfo=UTC)
DAY = datetime(2026, 4, 4, 14, tzinfo=UTC)  # midnight of 5 April in market time


def read(content):
    frame = nem12.read(content, file_name="x.csv", context=CONTEXT)["meter_readings"]
    assert_fits_raw_table(frame, "meter_readings")
    return frame


def file(*records):
    return "\n".join(["100,NEM12,202604061200,M,R", *records, "900", ""]).encode()


def day(values, quality="A", updated="20260406130000"):
    return f"300,20260405,{','.join(map(str, values))},{quality},,,{updated},"


def test_a_day_starts_at_midnight_of_market_time_and_knows_its_update():
    frame = read(file("200,NMI1,E1B1,E1,E1,,,KWH,30,", day(range(48))))

    assert frame.height == 48
    assert accepted(frame).row(1) == (
        "NMI1",
        "import",
        DAY + timedelta(minutes=30),
        DAY + timedelta(minutes=60),
        1.0,
        "kWh",
        "measured",
        datetime(2026, 4, 6, 3, tzinfo=UTC),
    )


def test_without_an_update_time_the_time_of_the_file_counts():
    frame = read(file("200,NMI1,E1,E1,E1,,,Wh,30,", day(range(48), updated="")))

    assert frame["known_at"].unique().to_list() == [datetime(2026, 4, 6, 2, tzinfo=UTC)]


@pytest.mark.parametrize("updated", ["20261306130000", "202604061300000", "soon"])
def test_an_update_time_that_is_none_leaves_when_the_row_was_known_to_landing(updated):
    frame = read(file("200,NMI1,E1,E1,E1,,,Wh,30,", day(range(48), updated=updated)))

    assert frame["known_at"].unique().to_list() == [None]


def test_b1_is_export_and_a_second_register_is_a_meter_of_its_own():
    channels = [f"200,NMI1,E1E2B1,{s},{s},,,kWh,30," for s in ("E1", "E2", "B1")]
    frame = read(file(*(part for channel in channels for part in (channel, day([1] * 48)))))

    assert frame.select("meter_id", "flow").unique(maintain_order=True).rows() == [
        ("NMI1", "import"),
        ("NMI1-E2", "import"),
        ("NMI1", "export"),
    ]


def test_event_records_give_the_quality_of_their_intervals():
    frame = read(
        file(
            "200,NMI1,E1,E1,E1,,,kWh,30,",
            day([2] * 48, "V"),
            "400,1,2,F14,76,",
            "400,3,3,A,,",
            "400,4,4,E52,,",
            "400,5,5,N,,",
            "400,6,47,S14,,",
        )
    )

    assert frame.select("quality", "quantity").rows() == (
        [("substituted", 2.0)] * 2
        + [("measured", 2.0), ("estimated", 2.0), ("missing", None)]
        + [("substituted", 2.0)] * 42
        + [(None, 2.0)]
    )
    assert reasons(frame) == [
        "quality 'V without a 400 record' of interval 48: expected A, E, F, S or N"
    ]


def test_a_day_with_a_wrong_count_of_values_is_rejected_and_the_rest_loads():
    frame = read(file("200,NMI1,E1,E1,E1,,,kWh,30,", day([1] * 47), day([2] * 48), day([3] * 49)))

    assert reasons(frame) == [
        "300 record of 20260405 has 47 values: expected 48 and then the quality",
        "300 record of 20260405 has 49 values: expected 48 and then the quality",
    ]
    assert accepted(frame)["quantity"].to_list() == [2.0] * 48


def test_channels_that_hold_no_energy_of_their_own_are_left_out_and_the_others_load():
    frame = read(
        file(
            "200,NMI1,E1F1K1Q1,Q1,Q1,,,kVArh,30,",
            day([1] * 48),
            day([1] * 47),
            "200,NMI1,E1F1K1Q1,K1,K1,,,KVAR,30,",
            day([-1] * 48, "V"),
            "400,1,48,S14,,",
            "200,NMI1,E1F1K1Q1,F1,F1,,,kWh,30,",
            day([2] * 48),
            "200,NMI1,E1F1K1Q1,E1,E1,,,kWh,30,",
            day([3] * 48),
        )
    )

    assert Counter(left_out(frame)) == {
        "suffix Q1, kVArh: no active energy": 49,
        "suffix K1, KVAR: no active energy": 48,
        "suffix F1: a check meter": 48,
    }
    assert reasons(frame) == []
    assert (
        accepted(frame).select("meter_id", "flow", "quantity").rows()
        == [("NMI1", "import", 3.0)] * 48
    )


def test_what_contradicts_itself_and_values_that_are_no_numbers_are_rejected_in_words():
    frame = read(
        file(
            "200,NMI1,E1,E1,E1,,,kVArh,30,",
            day([1] * 48),
            "200,NMI1,E1,Q1,Q1,,,kWh,30,",
            day([1] * 48),
            "200,NMI1,E1,E1,E1,,,kWh,30,",
            day(["", "x", "-1", *[1] * 45]),
        )
    )

    assert reasons(frame) == [
        "UOM 'kVArh': expected Wh, kWh or MWh",
        "suffix 'Q1': expected E (import) or B (export)",
        "value is empty: expected the energy of the interval, or quality N",
        "value 'x': expected a number, at least 0",
        "value '-1': expected a number, at least 0",
    ]


def test_a_500_record_tells_what_the_register_of_its_channel_stood_at():
    tables = nem12.read(
        file(
            "200,NMI1,E1B1,E1,E1,N1,MS7,KWH,30,",
            "500,N,,20260405000000,1200",
            day([1] * 48),
            "500,S,ORDER1,20260406093000,001223.5",
            "200,NMI1,E1B1,B1,B1,N1,,Wh,30,",
            day([1] * 48, updated=""),
            "500,o,,202604060930,7",
        ),
        file_name="x.csv",
        context=CONTEXT,
    )

    frame = tables["register_reads"]
    assert_fits_raw_table(frame, "register_reads")
    header, updated = (datetime(2026, 4, 6, hour, tzinfo=UTC) for hour in (2, 3))
    read_at = datetime(2026, 4, 5, 23, 30, tzinfo=UTC)
    assert accepted(frame).rows() == [
        ("NMI1", "import", DAY, "MS7", 1200.0, "kWh", header),
        ("NMI1", "import", read_at, "MS7", 1223.5, "kWh", updated),
        ("NMI1", "export", read_at, None, 7.0, "Wh", header),
    ]
    assert len(accepted(tables["meter_readings"])) == 96


def test_a_register_that_was_not_read_is_left_out_and_one_that_cannot_be_read_is_rejected():
    frame = nem12.read(
        file(
            "500,N,,20260405093000,1",
            "200,NMI1,E1,E1,E1,,,kWh,30,",
            day([1] * 48),
            "500,S,ORDER1,20260405093000,",
            "500,S,ORDER1,20260405093000",
            "500,E,,20260405093000,12",
            "500,N,,20260405000001,12",
            "500,N,,20260405,12",
            "500,N,,,12",
            "500,N,,20260405093000,-12",
            "500,N,,20260405093000,full",
            "200,NMI1,E1,Q1,Q1,,,kVArh,30,",
            "500,N,,20260405093000,12",
            "200,NMI1,E1,F1,F1,,,kWh,30,",
            "500,N,,20260405093000,12",
        ),
        file_name="x.csv",
        context=CONTEXT,
    )["register_reads"]

    assert_fits_raw_table(frame, "register_reads")
    assert accepted(frame).is_empty()
    assert left_out(frame) == [
        "a register read without an index",
        "a register read without an index",
        "a register read that is estimated",
        "a register read without its time of day",
        "suffix Q1, kVArh: no active energy",
        "suffix F1: a check meter",
    ]
    assert reasons(frame) == [
        "a 500 record comes before any 200 record",
        "ReadDateTime '20260405': expected YYYYMMDDhhmmss",
        "ReadDateTime is empty: expected YYYYMMDDhhmmss",
        "index_read '-12': expected a number, at least 0",
        "index_read 'full': expected a number, at least 0",
    ]


def test_the_month_from_the_field_adds_up():
    frame = read(real_file("nem12", "Example_NEM12_month_solar.csv"))

    totals = frame.group_by("meter_id", "flow", "unit").agg(
        pl.len(), pl.col("quantity").sum().round(3)
    )
    assert sorted(totals.rows()) == [
        ("NMI1234567", "export", "kWh", 8928, 589.172),
        ("NMI1234567", "import", "kWh", 8928, 270.738),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "Example_NEM12_actual_interval.csv",
        "Example_NEM12_month_solar.csv",
        "Example_NEM12_multiple_quality.csv",
        "Example_NEM12_substituted_interval.csv",
    ],
)
def test_energy_from_the_field_is_what_nemreader_reads(name):
    content = real_file("nem12", name)
    frame = accepted(read(content)).select("flow", "interval_started_at", "quantity")

    assert_frame_equal(frame, _nemreader(content), check_row_order=False)


def _nemreader(content):
    """Flow, UTC start and value of the E and B channels, as nemreader reads them."""
    (channels,) = NEMFile("x").parse_nem_file(content.decode().splitlines()).readings.values()
    flows = {"E": "import", "B": "export"}
    return pl.DataFrame(
        [
            (
                flows[suffix[0]],
                (row.t_start - timedelta(hours=10)).replace(tzinfo=UTC),
                row.read_value,
            )
            for suffix, rows in channels.items()
            if suffix[0] in flows
            for row in rows
        ],
        schema={
            "flow": pl.String,
            "interval_started_at": pl.Datetime("us", "UTC"),
            "quantity": pl.Float64,
        },
        orient="row",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("invalid_Example_NEM12_15min_200_30min_300.csv", "has 48 values: expected 96"),
        ("invalid_Example_NEM12_missing_header.csv", "and not with 100"),
        ("invalid_Example_empty_file.csv", "the file is empty"),
    ],
)
def test_invalid_files_from_the_field_say_what_is_wrong(name, message):
    with pytest.raises(UnreadableFile, match=message):
        read(real_file("nem12", name))


def test_a_file_that_is_cut_off_is_refused():
    content = file("200,NMI1,E1,E1,E1,,,kWh,30,", day([1] * 48)).replace(b"900\n", b"")

    with pytest.raises(UnreadableFile, match="cut off"):
        read(content)


def frame_of(meters, values, minutes):
    step = timedelta(minutes=minutes)
    return pl.DataFrame(
        [
            (
                meter,
                flow,
                DAY + i * step,
                DAY + (i + 1) * step,
                None if quality == "missing" else wh / 1000,
                "kWh",
                quality,
                UPDATED,
            )
            for meter, flow in meters
            for i, (wh, quality) in enumerate(values)
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


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    minutes=st.sampled_from([5, 15, 30]),
    meters=st.lists(
        st.tuples(
            st.sampled_from(["JLGRID0001", "JLIT000001"]), st.sampled_from(["import", "export"])
        ),
        min_size=1,
        max_size=3,
        unique=True,
    ),
)
def test_what_the_writer_writes_is_read_back(data, minutes, meters):
    slots = 24 * 60 // minutes * data.draw(st.integers(1, 2))
    runs = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, 10**8),
                st.sampled_from(["measured", "estimated", "substituted", "missing"]),
            ),
            min_size=1,
            max_size=5,
        )
    )
    rows = frame_of(meters, [runs[i * len(runs) // slots] for i in range(slots)], minutes)

    back = read(write_nem12(rows, updated_at=UPDATED))

    assert reasons(back) == []
    key = ["meter_id", "flow", "interval_started_at"]
    assert_frame_equal(accepted(back).sort(key), rows.sort(key))


def test_what_the_writer_writes_is_read_by_nemreader():
    values = [(1000 + i, "estimated" if i > 50 else "measured") for i in range(96)]
    rows = frame_of([("JLGRID0001", "import")], values, 15)

    back = _nemreader(write_nem12(rows, updated_at=UPDATED))

    assert_frame_equal(back, rows.select(back.columns))


def test_the_writer_refuses_a_market_day_that_is_not_whole():
    rows = frame_of([("JLGRID0001", "import")], [(1, "measured")] * 95, 15)

    with pytest.raises(ValueError, match="market day 20260405 of JLGRID0001 is not whole"):
        write_nem12(rows, updated_at=UPDATED)


def accumulated(
    suffix="11",
    direction="E",
    previous=("000021.2", "20031001103230", "A"),
    current=("000534.5", "20040201100030", "A"),
    unit="kWh",
):
    """A 250 record as AEMO's specification has it; its quantity is not read."""
    head = ("250,NMI1,1141,01", suffix, suffix, "METSER66", direction)
    tail = ("77", "", "343.5", unit, "20040509", "20040202125010", "20040203000130")
    return ",".join([*head, *previous, "", "", *current, *tail])


def read_accumulated(*records):
    content = "\n".join(["100,NEM13,200402061200,M,R", *records, "900", ""]).encode()
    tables = nem12.read(content, file_name="x.csv", context=CONTEXT)
    assert_fits_raw_table(tables["register_reads"], "register_reads")
    assert list(tables) == ["register_reads"]
    return tables["register_reads"]


def test_an_accumulated_reading_is_two_reads_of_its_register():
    frame = read_accumulated(accumulated(), accumulated("12", "I"), "550,N,,A,")
    known = datetime(2004, 2, 2, 2, 50, 10, tzinfo=UTC)
    previous = datetime(2003, 10, 1, 0, 32, 30, tzinfo=UTC)
    current = datetime(2004, 2, 1, 0, 0, 30, tzinfo=UTC)

    assert accepted(frame).rows() == [
        (meter, flow, at, "METSER66", index, "kWh", known)
        for meter, flow in (("NMI1", "import"), ("NMI1-12", "export"))
        for at, index in ((previous, 21.2), (current, 534.5))
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"current": ("000534.5", "20040201100030", "E64")},
            "a register read that is estimated",
        ),
        (
            {"previous": ("000021.2", "20031001000001", "A")},
            "a register read without its time of day",
        ),
        ({"previous": ("", "20031001103230", "A")}, "a register read without an index"),
    ],
)
def test_an_accumulated_read_that_nobody_took_is_left_out(changes, reason):
    frame = read_accumulated(accumulated(**changes))

    assert left_out(frame) == [reason]
    assert accepted(frame).height == 1


def test_an_accumulated_reading_of_no_active_energy_is_left_out():
    assert (
        left_out(read_accumulated(accumulated("41", unit="kVArh")))
        == ["suffix 41, kVArh: no active energy"] * 2
    )


def test_an_accumulated_reading_of_no_direction_is_rejected():
    assert (
        reasons(read_accumulated(accumulated(direction="X")))
        == ["direction 'X': expected E (import) or I (export)"] * 2
    )


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (["550,N,,A,"], "no 250 record"),
        (["200,NMI1,E1,E1,E1,,,kWh,30,"], "record '200': expected 100, 250, 550 or 900"),
        ([accumulated(), "100,NEM12,200402061200,M,R"], "NEM12 and NEM13 in one file"),
    ],
)
def test_a_file_of_accumulated_readings_holds_nothing_else(records, reason):
    with pytest.raises(UnreadableFile, match=reason):
        read_accumulated(*records)
