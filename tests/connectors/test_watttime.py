import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.connectors import watttime
from pipelines.connectors.common import UnreadableFile
from tests.connectors.grid_fixtures import (
    CONTEXT,
    accepted,
    assert_fits_raw_table,
    left_out,
    reasons,
)

START = datetime(2026, 5, 4, tzinfo=UTC)
FIVE_MINUTES = timedelta(minutes=5)
POINTS = [
    {"point_time": "2026-05-04T00:00:00+00:00", "value": 800.0},
    {"point_time": "2026-05-04T00:05:00+00:00", "value": 0.0},
]


def answer(points=POINTS, **meta):
    told = {
        "data_point_period_seconds": 300,
        "region": "CAISO_NORTH",
        "warnings": [],
        "signal_type": "co2_aoer",
        "model": {"date": "2026-03-01"},
        "units": "lbs_co2_per_mwh",
    }
    return json.dumps({"data": points, "meta": told | meta}).encode()


def read(content):
    frame = watttime.read(content, file_name="x.json", context=CONTEXT)["grid_carbon"]
    assert_fits_raw_table(frame, "grid_carbon")
    return frame


def test_an_average_rate_in_pounds_per_mwh_is_a_direct_factor_in_grams_per_kwh():
    frame = read(answer())

    columns = ["zone", "interval_started_at", "interval_ended_at", "direct_g_per_kwh"]
    told = ["life_cycle_g_per_kwh", "is_estimated", "data_source", "known_at"]
    assert accepted(frame).select(columns + told).rows() == [
        (
            "CAISO_NORTH",
            START + place * FIVE_MINUTES,
            START + (place + 1) * FIVE_MINUTES,
            grams,
            None,
            False,
            "WattTime co2_aoer, model 2026-03-01",
            None,
        )
        # 800 lb are 362.873896 kg.
        for place, grams in enumerate((362.873896, 0.0))
    ]


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        ("co2_moer", "co2_moer: a marginal rate, which no figure of the book is of"),
        ("health_damage", "health_damage: damage to health, no emissions"),
    ],
)
def test_what_is_no_average_is_left_out_and_never_an_intensity_of_the_zone(signal, reason):
    frame = read(answer(signal_type=signal, units="other"))

    assert left_out(frame) == [reason] * 2
    assert accepted(frame).height == 0


def test_a_forecast_is_estimated_and_known_since_it_was_made():
    frame = read(answer(generated_at="2026-05-03T23:50:00+00:00"))

    assert frame["is_estimated"].to_list() == [True, True]
    assert frame["known_at"].to_list() == [START - 2 * FIVE_MINUTES] * 2


def test_a_point_that_was_filled_in_is_estimated():
    filled = [POINTS[0] | {"imputed_data_used": True}, POINTS[1] | {"imputed_data_used": False}]

    assert read(answer(filled))["is_estimated"].to_list() == [True, False]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"value": None}, "value is empty: expected lbs_co2_per_mwh"),
        ({"value": -1}, "value '-1': expected a number, at least 0"),
        ({"value": "NaN"}, "value 'NaN': expected a number, at least 0"),
        (
            {"point_time": "2026-05-04T00:00:00"},
            "point_time '2026-05-04T00:00:00' has no time zone: expected Z or an offset such as"
            " +02:00",
        ),
    ],
)
def test_a_point_that_cannot_be_told_is_rejected_and_the_others_load(wrong, reason):
    frame = read(answer([POINTS[0] | wrong, POINTS[1]]))

    assert reasons(frame) == [reason]
    assert accepted(frame)["direct_g_per_kwh"].to_list() == [0.0]


def test_points_of_no_region_are_rejected():
    frame = read(answer(POINTS[:1], region=""))

    assert reasons(frame) == ["region is empty: expected the region, such as CAISO_NORTH"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (answer()[:-1], "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[1]", "no data and meta"),
        (answer(signal_type="co3"), "signal_type 'co3': expected one of co2_aoer"),
        (answer(units="kg_co2_per_mwh"), "units 'kg_co2_per_mwh': expected lbs_co2_per_mwh"),
        (answer(data_point_period_seconds=0), "data_point_period_seconds '0'"),
        (answer([{"generated_at": "x", "forecast": []}]), "not a list of forecasts"),
    ],
)
def test_what_is_no_answer_is_refused(content, reason):
    with pytest.raises(UnreadableFile, match=reason):
        read(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.lists(st.fixed_dictionaries({"point_time": JSON, "value": JSON})), JSON, JSON)
def test_any_json_is_read_or_refused(points, region, generated):
    try:
        frame = read(answer(points, region=region, generated_at=generated))
    except UnreadableFile:
        return
    assert frame.height == len(points)
