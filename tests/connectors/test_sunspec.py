import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.connectors import sunspec
from pipelines.connectors.common import UnreadableFile
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)
from tests.real_files import real_file

AT = datetime(2026, 5, 4, tzinfo=UTC)
# A bank of 63 MWh at 57.5 %, which gives 12 MW at most.
BATTERY = {
    "ID": 802,
    "L": 62,
    "WHRtg": 6300,
    "WHRtg_SF": 4,
    "WChaRteMax": 1000,
    "WDisChaRteMax": 1200,
    "WChaDisChaMax_SF": 4,
    "SoC": 575,
    "SoC_SF": -1,
    "ChaSt": 3,
    "State": 3,
    "W": 1100,
    "W_SF": 3,
    "mid": "x",
    "error": "",
    "model_id": 802,
}
INVERTER = {"ID": 701, "W": -1050, "W_SF": 3, "InvSt": 3, "St": 1, "ConnSt": 1}
STORAGE = {"ID": 713, "WHRtg": 5000, "SoC": 500, "SoH": 900, "Sta": 0, "WH_SF": 4, "Pct_SF": -1}


def dump(*models, **told):
    return (
        {"name": "bess", "did": None, "timestamp": "2026-05-04T00:00:00Z"}
        | told
        | {"models": list(models)}
    )


def read(content, file_name="x.json"):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    frame = sunspec.read(content, file_name=file_name, context=CONTEXT)["battery_samples"]
    assert_fits_raw_table(frame, "battery_samples")
    return frame


def test_the_points_of_a_bank_are_scaled_into_a_sample():
    frame = read(dump({"ID": 1, "Mn": "Maker"}, BATTERY))

    assert accepted(frame).rows() == [
        ("bess", AT, 0.575, 1100.0, 10_000.0, 12_000.0, 63_000.0, "discharging")
    ]


def test_the_inverters_ac_power_stands_before_that_of_the_bank():
    frame = read(dump(BATTERY, INVERTER))

    assert frame["power_kw"].to_list() == [-1050.0]


def test_power_is_never_taken_from_another_model_where_the_inverter_does_not_tell_it():
    frame = read(dump(BATTERY, INVERTER | {"W": None}))

    assert frame["power_kw"].to_list() == [None]


def test_models_713_and_714_are_a_battery_whose_capacity_is_what_is_left_of_it():
    frame = read(dump(STORAGE, {"ID": 714, "DCW": 250, "DCW_SF": 3}, INVERTER | {"W": None}))
    alone = read(dump(STORAGE, {"ID": 714, "DCW": 250, "DCW_SF": 3}))

    # 50 MWh at a health of 90 % are 45 MWh.
    columns = ["state_of_charge_ratio", "power_kw", "energy_capacity_kwh"]
    assert frame.select(columns).rows() == [(0.5, None, 45_000.0)]
    assert alone.select(columns).rows() == [(0.5, 250.0, 45_000.0)]


@pytest.mark.parametrize(
    ("models", "state"),
    [
        ([BATTERY | {"ChaSt": 1}], "standby"),
        ([BATTERY | {"ChaSt": 2}], "holding"),
        ([BATTERY | {"ChaSt": 4}], "charging"),
        ([BATTERY | {"ChaSt": 5}], "holding"),
        ([BATTERY | {"ChaSt": 6}], "holding"),
        ([BATTERY | {"ChaSt": 7}], "standby"),
        ([BATTERY | {"State": 1}], "disconnected"),
        ([BATTERY | {"State": 99}], "fault"),
        ([BATTERY | {"ChaSt": None, "State": 4}], "standby"),
        ([BATTERY, INVERTER | {"InvSt": 6}], "fault"),
        ([BATTERY, INVERTER | {"InvSt": 0}], "disconnected"),
        ([BATTERY, INVERTER | {"St": 0}], "disconnected"),
        # Off the grid it may carry its site.
        ([BATTERY, INVERTER | {"ConnSt": 0}], "discharging"),
        ([STORAGE | {"Sta": 2}, INVERTER], "fault"),
        ([STORAGE, INVERTER | {"InvSt": 7}], "standby"),
        ([STORAGE, INVERTER], "charging"),
        ([STORAGE, INVERTER | {"W": 20}], "discharging"),
        ([STORAGE, INVERTER | {"W": 0}], "holding"),
    ],
)
def test_each_state_of_the_models_is_one_of_the_books(models, state):
    assert accepted(read(dump(*models)))["state"].to_list() == [state]


@pytest.mark.parametrize("nothing", [None, 0xFFFF])
def test_a_point_that_is_not_implemented_is_absent_and_never_zero(nothing):
    frame = read(dump(BATTERY | {"SoC": nothing, "WHRtg": nothing}))

    assert frame.select("state_of_charge_ratio", "energy_capacity_kwh").rows() == [(None, None)]


def test_a_scale_factor_that_is_not_implemented_is_one():
    assert read(dump(BATTERY | {"W_SF": -0x8000, "W": 1500}))["power_kw"].to_list() == [1.5]


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (
            dump(BATTERY | {"SoC": 57.5}),
            "SoC '57.5': expected the whole number of its register; dump the points as they are,"
            " not computed ones",
        ),
        (dump(BATTERY | {"SoC": 1010}), "SoC '101.0': expected 0 to 100 percent"),
        (dump(BATTERY | {"WHRtg": -1}), "WHRtg -1: expected 0 or more, its register has no sign"),
        (
            dump(BATTERY | {"SoC_SF": 11}),
            "SoC_SF 11: expected a scale factor from -10 to 10",
        ),
        (
            dump(BATTERY | {"ChaSt": None}),
            "the state is empty: expected ChaSt of model 802, or W of model 701",
        ),
        (
            dump(BATTERY, BATTERY),
            "two models 802 in one dump: expected one battery, dump each on its own",
        ),
        (dump(BATTERY, name=None), "name is empty: expected the battery's id"),
        (
            dump(BATTERY, timestamp=None),
            "timestamp is empty: expected a time with its zone",
        ),
    ],
)
def test_a_dump_that_cannot_be_told_is_rejected_and_the_others_load(one, reason):
    frame = read([one, dump(BATTERY)])

    assert reasons(frame) == [reason]
    assert accepted(frame).height == 1


def test_an_inverter_without_storage_is_left_out():
    assert left_out(read([dump(INVERTER), dump(BATTERY)])) == ["no storage model (802 or 713)"]


def test_the_file_name_tells_the_time_where_a_dump_does_not():
    content = dump(BATTERY, timestamp=None)

    assert read(content, "bess_20260504T000000Z.json")["sampled_at"].to_list() == [AT]
    # Of several dumps it cannot be the time of each.
    assert accepted(read([content], "bess_20260504T000000Z.json")).height == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"{", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[]", "no list of models"),
        (b'{"models": {}}', "no list of models"),
    ],
)
def test_what_is_no_dump_is_refused(content, reason):
    with pytest.raises(UnreadableFile, match=reason):
        read(content)


@pytest.mark.parametrize("number", [124, 701, 702, 704, 713, 714, 802])
def test_the_definition_of_a_model_is_refused_as_what_it_is(number):
    with pytest.raises(UnreadableFile, match=f"the definition of SunSpec model {number}, which"):
        read(real_file("sunspec", f"model_{number}.json"))


@given(
    st.dictionaries(
        st.sampled_from([name for name in (BATTERY | INVERTER | STORAGE) if name != "ID"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    ),
    st.sampled_from([701, 713, 802, "802", None, 1.5]),
)
def test_any_points_are_a_sample_or_a_reason(points, number):
    assert read(dump({"ID": number} | points)).height == 1
