"""Battery, outage, price and carbon CSV."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors import battery_csv, electricity_maps, outages_csv, prices_csv
from pipelines.connectors.common import UnreadableFile
from pipelines.simulator.writers.battery_csv import write_battery_csv
from pipelines.simulator.writers.electricity_maps import write_carbon
from pipelines.simulator.writers.outages_csv import write_outages
from pipelines.simulator.writers.prices_csv import write_ercot
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)
from tests.real_files import real_file

START = datetime(2026, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
UTC_TIME = pl.Datetime("us", "UTC")


def read(module, table, content, file_name="x.csv"):
    content = content.encode() if isinstance(content, str) else content
    frame = module.read(content, file_name=file_name, context=CONTEXT)[table]
    assert_fits_raw_table(frame, table)
    return frame


BATTERY_HEADER = "timestamp,battery_id,state_of_charge_pct,power_kw,available_discharge_kw,state\n"


def battery(lines):
    return read(battery_csv, "battery_samples", BATTERY_HEADER + lines)


def test_a_battery_sample_is_read_with_what_its_line_leaves_empty():
    frame = battery("2026-04-05T02:00:00+02:00,sparks-iron-air,57.5,-1200,,CHARGING\n")

    assert frame.to_dicts() == [
        {
            "battery_id": "sparks-iron-air",
            "sampled_at": START,
            "state_of_charge_ratio": 0.575,
            "power_kw": -1200.0,
            "available_charge_kw": None,
            "available_discharge_kw": None,
            "energy_capacity_kwh": None,
            "state": "charging",
            "reject_reason": None,
        }
    ]


def test_battery_lines_that_cannot_be_understood_are_rejected_in_words():
    frame = battery(
        "2026-04-05 02:00,b,50,1,1,holding\n"
        "5 April,b,50,1,1,holding\n"
        "2026-04-05T02:00Z,b,101,nan,-1,asleep\n"
        "2026-04-05T02:00Z,,50,1,1,\n"
        "2026-04-05T02:00Z,b,50\n"
        "2026-04-05T02:00Z,b,50,1,1,holding\n"
    )

    assert reasons(frame) == [
        "timestamp '2026-04-05 02:00' has no time zone: expected Z or an offset such as +02:00",
        "timestamp '5 April': expected a time such as 2026-04-05T12:00:00Z",
        "state_of_charge_pct '101': expected a number, at least 0, at most 100; "
        "power_kw 'nan': expected a number; available_discharge_kw '-1': expected a number, "
        "at least 0; state 'asleep': expected one of charging, discharging, holding, standby, "
        "disconnected, fault",
        "battery_id is empty: expected the battery's id; state is empty: expected one of "
        "charging, discharging, holding, standby, disconnected, fault",
        "the row has 3 fields: expected 6 as in the header",
    ]
    assert accepted(frame).height == 1


def test_a_missing_column_is_named():
    with pytest.raises(UnreadableFile, match="column power_kw, state not in the header"):
        battery_csv.read(
            b"timestamp,battery_id,state_of_charge_pct\n", file_name="x", context=CONTEXT
        )


@settings(max_examples=30, deadline=None)
@given(
    samples=st.lists(
        st.tuples(
            st.none() | st.integers(0, 10_000).map(lambda n: n / 10_000),
            st.none() | st.floats(-1e5, 1e5),
            st.none() | st.floats(0, 1e5),
            st.sampled_from(
                ["charging", "discharging", "holding", "standby", "disconnected", "fault"]
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_battery_samples_the_writer_writes_are_read_back(samples):
    rows = pl.DataFrame(
        [
            ("b,1", START + i * HOUR, soc, power, available, available, None, state)
            for i, (soc, power, available, state) in enumerate(samples)
        ],
        schema={
            "battery_id": pl.String,
            "sampled_at": UTC_TIME,
            "state_of_charge_ratio": pl.Float64,
            "power_kw": pl.Float64,
            "available_charge_kw": pl.Float64,
            "available_discharge_kw": pl.Float64,
            "energy_capacity_kwh": pl.Float64,
            "state": pl.String,
        },
        orient="row",
    )

    back = read(battery_csv, "battery_samples", write_battery_csv(rows))

    assert reasons(back) == []
    assert_frame_equal(accepted(back), rows)


OUTAGE_HEADER = (
    "event_id,target,event_type,started_at,ended_at,import_limit_kw,status,published_at\n"
)


def test_grid_events_are_read_and_open_ones_have_no_end():
    frame = read(
        outages_csv,
        "grid_events",
        OUTAGE_HEADER + "o-1,SPK,grid_outage,2026-04-05T00:00Z,,,,\n"
        "c-1,FRK,curtailment_order,2026-04-05T00:00Z,2026-04-05T01:00Z,22000,cancelled,"
        "2026-04-05T02:00+02:00\n",
    )

    assert frame.rows() == [
        ("o-1", "SPK", "grid_outage", START, None, None, False, None, None),
        ("c-1", "FRK", "curtailment_order", START, START + HOUR, 22000.0, True, START, None),
    ]


def test_grid_events_that_contradict_themselves_are_rejected_in_words():
    frame = read(
        outages_csv,
        "grid_events",
        OUTAGE_HEADER + "c,FRK,curtailment_order,2026-04-05T00:00Z,,,,\n"
        "o,FRK,grid_outage,2026-04-05T01:00Z,2026-04-05T01:00Z,,,\n"
        "o,FRK,blackout,2026-04-05T01:00,2026-04-05T02:00Z,,maybe,\n",
    )

    assert reasons(frame) == [
        "import_limit_kw is empty: expected the kW that the curtailment_order allows",
        "ended_at 2026-04-05T01:00Z is not after started_at 2026-04-05T01:00Z",
        "event_type 'blackout': expected one of grid_outage, curtailment_order, alert; "
        "started_at '2026-04-05T01:00' has no time zone: expected Z or an offset such as +02:00; "
        "status 'maybe': expected one of active, cancelled",
    ]


@settings(max_examples=30, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["grid_outage", "curtailment_order", "alert"]),
            st.none() | st.integers(1, 10**6),
            st.floats(0, 1e6),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_grid_events_the_writer_writes_are_read_back(events):
    rows = pl.DataFrame(
        [
            (
                f"e-{i}",
                "SPK",
                event_type,
                START,
                None if length_s is None else START + timedelta(seconds=length_s),
                limit if event_type == "curtailment_order" else None,
                is_cancelled,
                START + i * HOUR,
            )
            for i, (event_type, length_s, limit, is_cancelled) in enumerate(events)
        ],
        schema={
            "event_id": pl.String,
            "target": pl.String,
            "event_type": pl.String,
            "started_at": UTC_TIME,
            "ended_at": UTC_TIME,
            "import_limit_kw": pl.Float64,
            "is_cancelled": pl.Boolean,
            "known_at": UTC_TIME,
        },
        orient="row",
    )

    back = read(outages_csv, "grid_events", write_outages(rows))

    assert reasons(back) == []
    assert_frame_equal(accepted(back), rows)


def prices(content, file_name="DE-LU_prices_2026.csv"):
    return read(prices_csv, "market_prices", content, file_name)


REAL_TIME = (
    "DeliveryDate,DeliveryHour,DeliveryInterval,SettlementPointName,SettlementPointType,"
    "SettlementPointPrice,DSTFlag\n"
)


def test_the_repeated_hour_of_autumn_is_told_apart_by_its_flag():
    frame = prices(
        REAL_TIME + "11/01/2026,2,1,HB_NORTH,HU,21.5,N\n"
        "11/01/2026,2,1,HB_NORTH,HU,-19.25,Y\n"
        "11/01/2026,24,4,HB_NORTH,HU,3,N\n"
    )

    quarter = timedelta(minutes=15)
    starts = [datetime(2026, 11, 1, 6, tzinfo=UTC), datetime(2026, 11, 1, 7, tzinfo=UTC)]
    starts += [datetime(2026, 11, 2, 5, 45, tzinfo=UTC)]
    assert frame.rows() == [
        ("HB_NORTH", "real_time", 1, at, at + quarter, price, "USD", None)
        for at, price in zip(starts, [21.5, -19.25, 3.0], strict=True)
    ]


def test_an_energy_weighted_price_is_no_price_of_the_load_zone():
    frame = prices(
        REAL_TIME + "05/06/2026,1,1,LZ_WEST,LZ,50,N\n"
        "05/06/2026,1,1,LZ_WEST,LZEW,65,N\n"
        "05/06/2026,1,1,DC_E,LZ_DCEW,66,N\n"
        "05/06/2026,1,1,HB_NORTH,,51,N\n"
    )

    assert frame.select("zone", "price_per_mwh").rows() == [
        ("LZ_WEST", 50),
        ("LZ_WEST:LZEW", 65),
        ("DC_E:LZ_DCEW", 66),
        ("HB_NORTH", 51),
    ]


def test_hours_that_do_not_exist_or_exist_twice_without_a_flag_are_rejected():
    frame = prices(
        REAL_TIME + "03/08/2026,3,1,HB_NORTH,HU,1,N\n"
        "11/01/2026,2,1,HB_NORTH,HU,1,\n"
        "11/31/2026,2,1,HB_NORTH,HU,1,N\n"
        "11/01/2026,25,5,HB_NORTH,HU,x,N\n"
    )

    assert reasons(frame) == [
        "2026-03-08 02:00 in America/Chicago does not exist, or twice without DSTFlag N or Y",
        "2026-11-01 01:00 in America/Chicago does not exist, or twice without DSTFlag N or Y",
        "DeliveryDate '11/31/2026': expected MM/DD/YYYY",
        "settlementpointprice 'x': expected a number; deliveryhour '25': expected 1 to 24; "
        "deliveryinterval '5': expected 1 to 4",
    ]


def test_day_ahead_hours_and_the_archives_headers_are_understood():
    report = (
        "DeliveryDate,HourEnding,SettlementPoint,SettlementPointPrice,DSTFlag\n"
        "04/05/2026,24:00,HB_NORTH,5,N\n"
    )
    archive = (
        "Delivery Date,Hour Ending,Repeated Hour Flag,Settlement Point,Settlement Point Price\n"
        "04/05/2026,24:00,N,HB_NORTH,5\n"
    )

    at = datetime(2026, 4, 6, 4, tzinfo=UTC)
    expected = [("HB_NORTH", "day_ahead", 1, at, at + HOUR, 5.0, "USD", None)]
    assert prices(report).rows() == expected
    assert prices(archive).rows() == expected


@settings(max_examples=25, deadline=None)
@given(
    market=st.sampled_from(["real_time", "day_ahead"]),
    first_h=st.integers(0, 24 * 365),
    values=st.lists(st.floats(-250, 5000), min_size=1, max_size=30),
)
def test_ercot_prices_the_writer_writes_are_read_back_in_every_hour_of_the_year(
    market, first_h, values
):
    step = timedelta(minutes=15) if market == "real_time" else HOUR
    first = datetime(2026, 1, 1, tzinfo=UTC) + first_h * HOUR
    rows = ercot_rows(market, first, step, values)

    back = prices(write_ercot(rows))

    assert reasons(back) == []
    assert_frame_equal(accepted(back), rows)


@pytest.mark.parametrize(
    "first", [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)]
)
def test_ercot_days_of_the_clock_changes_are_read_back(first):
    rows = ercot_rows("real_time", first, timedelta(minutes=15), list(range(192)))

    assert_frame_equal(accepted(prices(write_ercot(rows))), rows)


def ercot_rows(market, first, step, values):
    return pl.DataFrame(
        [
            ("HB_NORTH", market, 1, first + i * step, first + (i + 1) * step, float(value), "USD")
            for i, value in enumerate(values)
        ],
        schema={
            "zone": pl.String,
            "market": pl.String,
            "sequence": pl.Int64,
            "interval_started_at": UTC_TIME,
            "interval_ended_at": UTC_TIME,
            "price_per_mwh": pl.Float64,
            "currency_code": pl.String,
        },
        orient="row",
    )


def test_a_price_list_from_the_field_is_read():
    content = real_file("prices_csv", "DE-LU_electricity_prices_2024.csv")

    frame = prices(content, "2024.zip!DE-LU_electricity_prices_2024.csv")

    assert frame.height == accepted(frame).height == 8784
    at = datetime(2024, 1, 1, tzinfo=UTC)
    assert frame.row(0) == ("DE-LU", "day_ahead", 1, at, at + HOUR, 0.0592702, "USD", None)


@pytest.mark.parametrize(
    ("file_name", "zone", "market"),
    [
        ("LZ_WEST_prices_2026.csv", "LZ_WEST", "day_ahead"),
        ("LZ_WEST_Real_Time_20260506.csv", "LZ_WEST", "real_time"),
        ("HB_BUSAVG.csv", "HB_BUSAVG", "day_ahead"),
        ("DE-LU_2026-05.csv", "DE-LU", "day_ahead"),
        ("NO_2_day_ahead_hourly.csv", "NO_2", "day_ahead"),
        ("2026.zip!lists/LZ_SOUTH_EAST_spot.csv", "LZ_SOUTH_EAST", "day_ahead"),
    ],
)
def test_the_zone_of_a_list_is_what_its_name_begins_with_underscores_and_all(
    file_name, zone, market
):
    frame = prices("Datetime (UTC),Price (EUR/MWh)\n2026-05-06 00:00:00,1\n", file_name)

    assert frame.select("zone", "market").rows() == [(zone, market)]


def test_a_price_list_in_local_time_without_a_zone_is_never_guessed():
    content = real_file("prices_csv", "DE-LU_processed_eur_2024.csv")

    frame = prices(content, "DE-LU_processed_eur_2024.csv")

    assert frame.height == 8760
    assert accepted(frame).height == 0
    assert frame["currency_code"].unique().to_list() == ["EUR"]
    assert reasons(frame)[0] == (
        "datetime '2024-01-01 00:00:00' has no time zone: expected Z or an offset such as +02:00"
    )


DAM = (
    "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,OPR_INTERVAL,NODE_ID_XML,NODE_ID,NODE,"
    "MARKET_RUN_ID,LMP_TYPE,XML_DATA_ITEM,PNODE_RESMRID,GRP_TYPE,POS,MW,GROUP\n"
)
HUB = "TH_NP15_GEN-APND"


def oasis(kind, price, market="DAM", end="01:00"):
    """A line of the layout in `DAM`."""
    return (
        f"2026-04-05T00:00:00-00:00,2026-04-05T{end}:00-00:00,2026-04-04,17,0,{HUB},{HUB},{HUB},"
        f"{market},{kind},LMP_PRC,{HUB},ALL,0,{price},1\n"
    )


def test_of_caisos_rows_the_lmp_is_the_price_and_its_components_are_left_out():
    kinds = {"LMP": 31.5, "MCE": 30, "MCC": 2, "MCL": -0.5, "MGHG": 0}
    frame = prices(DAM + "".join(oasis(kind, price) for kind, price in kinds.items()))

    assert accepted(frame).rows() == [
        (HUB, "day_ahead", 1, START, START + HOUR, 31.5, "USD"),
    ]
    assert left_out(frame) == [
        f"LMP_TYPE {kind}: a component of the price" for kind in ("MCE", "MCC", "MCL", "MGHG")
    ]


@pytest.mark.parametrize(
    ("market", "column", "end", "expected"),
    [
        ("RTM", "VALUE", "00:05", ("real_time", 1, timedelta(minutes=5))),
        ("RTPD", "PRC", "00:15", ("real_time", 2, timedelta(minutes=15))),
        ("HASP", "MW", "01:00", ("real_time", 3, HOUR)),
    ],
)
def test_caisos_real_time_markets_are_sequences_of_their_own(market, column, end, expected):
    frame = prices(DAM.replace(",MW,", f",{column},") + oasis("LMP", -4.25, market, end))

    length = pl.col("interval_ended_at") - pl.col("interval_started_at")
    assert accepted(frame).select("market", "sequence", length).rows() == [expected]
    assert frame["price_per_mwh"].to_list() == [-4.25]


def test_a_caiso_row_of_another_type_or_market_or_without_length_is_rejected():
    told = oasis("X", 1) + oasis("LMP", 2, market="RUC") + oasis("LMP", 4, end="00:00")
    frame = prices(DAM + told + oasis("LMP", 3))

    assert reasons(frame) == [
        "LMP_TYPE 'X': expected one of LMP, MCE, MCC, MCL, MGHG",
        "marketrunid 'RUC': expected one of DAM, RTM, RTPD, HASP",
        "INTERVALENDTIME_GMT '2026-04-05T00:00:00-00:00': expected a time after the start",
    ]
    assert accepted(frame)["price_per_mwh"].to_list() == [3.0]


def test_a_row_without_any_value_is_no_fault():
    frame = prices(DAM + oasis("LMP", 3) + "," * DAM.count(",") + "\n")

    assert left_out(frame) == ["a row without any value"]
    assert reasons(frame) == []


def test_a_header_of_no_known_layout_is_unreadable():
    with pytest.raises(UnreadableFile, match="the header is 'when, price'"):
        prices("when,price\n1,2\n")


@pytest.mark.parametrize(
    ("zone", "name", "direct", "life_cycle"),
    [
        ("DE", "DE-LU_2024_hourly.csv", 273.935, 332.074),
        ("US-TEX-ERCO", "US-TEX-ERCO_2024_hourly.csv", 303.374, 367.411),
    ],
)
def test_carbon_of_2024_from_the_field_is_read(zone, name, direct, life_cycle):
    frame = read(electricity_maps, "grid_carbon", real_file("electricity_maps", name), name)

    assert frame.height == accepted(frame).height == 8784
    assert frame["zone"].unique().to_list() == [zone]
    assert round(frame["direct_g_per_kwh"].mean(), 3) == direct
    assert round(frame["life_cycle_g_per_kwh"].mean(), 3) == life_cycle


OLD = (
    "Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),"
    "Carbon Intensity gCO₂eq/kWh (LCA),Low Carbon Percentage,Renewable Percentage,Data Source,"
    "Data Estimated,Data Estimation Method\n"
)
NEW = (
    "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Carbon-free energy percentage (CFE%),"
    "Renewable energy percentage (RE%),Data source,Data estimated,Data estimation method\n"
)


@pytest.mark.parametrize("header", [OLD, NEW])
def test_both_header_vintages_of_the_carbon_portal_are_read(header):
    line = "2026-04-05 00:00:00,Germany,Germany,DE,133.1,177.74,83.26,81.53,entsoe.eu,true,x\n"

    frame = read(electricity_maps, "grid_carbon", header + line, "DE_2026_hourly.csv")

    assert frame.rows() == [
        ("DE", START, START + HOUR, 133.1, 177.74, 0.8326, 0.8153, True, "entsoe.eu", None)
    ]


@pytest.mark.parametrize(
    ("name", "minutes"),
    [("DE_2026_daily.csv", 1440), ("DE_15_minutes.csv", 15), ("DE.csv", 30)],
)
def test_the_file_name_or_the_step_gives_the_length_of_carbon_intervals(name, minutes):
    lines = [f"2026-04-05 {t}:00,,,DE,1,2,3,4,x,false,\n" for t in ("00:00", "00:30", "02:00")]

    frame = read(electricity_maps, "grid_carbon", NEW + "".join(lines), name)

    length = (pl.col("interval_ended_at") - pl.col("interval_started_at")).dt.total_minutes()
    assert frame.select(length.unique()).to_series().to_list() == [minutes]


def test_yearly_carbon_means_are_refused():
    with pytest.raises(UnreadableFile, match="says yearly"):
        read(
            electricity_maps,
            "grid_carbon",
            NEW + "2026-01-01,,,DE,1,2,3,4,x,false,\n",
            "DE_yearly.csv",
        )


def test_an_api_answer_tells_one_kind_of_factor_and_since_when_it_is_known():
    answer = """{"zone": "DE", "history": [{"zone": "DE", "carbonIntensity": 302,
    "datetime": "2026-04-05T00:00:00.000Z", "updatedAt": "2026-04-05T01:00:00.000Z",
    "emissionFactorType": "direct", "isEstimated": true}]}"""

    frame = read(electricity_maps, "grid_carbon", answer)

    told = ["zone", "interval_started_at", "direct_g_per_kwh", "life_cycle_g_per_kwh"]
    assert frame.select(*told, "is_estimated", "known_at").rows() == [
        ("DE", START, 302.0, None, True, START + HOUR)
    ]


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(
        st.tuples(
            st.none() | st.floats(0, 1500),
            st.none() | st.integers(0, 10_000).map(lambda n: n / 10_000),
            st.booleans(),
            st.sampled_from(["entsoe.eu", 'a "b", c', None]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_carbon_the_writer_writes_is_read_back(values):
    rows = pl.DataFrame(
        [
            (
                "DE",
                START + i * HOUR,
                START + (i + 1) * HOUR,
                grams,
                grams,
                share,
                share,
                told,
                source,
            )
            for i, (grams, share, told, source) in enumerate(values)
        ],
        schema={
            "zone": pl.String,
            "interval_started_at": UTC_TIME,
            "interval_ended_at": UTC_TIME,
            "direct_g_per_kwh": pl.Float64,
            "life_cycle_g_per_kwh": pl.Float64,
            "carbon_free_ratio": pl.Float64,
            "renewable_ratio": pl.Float64,
            "is_estimated": pl.Boolean,
            "data_source": pl.String,
        },
        orient="row",
    )

    back = read(electricity_maps, "grid_carbon", write_carbon(rows), "DE_2026_hourly.csv")

    assert reasons(back) == []
    assert_frame_equal(accepted(back), rows)
