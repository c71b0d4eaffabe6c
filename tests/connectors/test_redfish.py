import json
from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.connectors import redfish
from pipelines.connectors.common import Context, UnreadableFile
from tests.connectors.grid_fixtures import accepted, assert_fits_raw_table, left_out, reasons
from tests.real_files import real_file

MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
NAME = "node0001_20261101T000000Z.json"


def read(content: bytes, name: str = NAME) -> pl.DataFrame:
    rows = redfish.read(content, file_name=name, context=Context({}))["node_power_samples"]
    assert_fits_raw_table(rows, "node_power_samples")
    return rows


def environment(**power: object) -> bytes:
    kind = "#EnvironmentMetrics.v1_3_0.EnvironmentMetrics"
    return json.dumps({"@odata.type": kind, **({"PowerWatts": power} if power else {})}).encode()


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (NAME, "node0001"),
        ("site/node0001_20261101T000000Z.json", "node0001"),
        ("node0001/Power_20261101T000000Z.json", "node0001"),
        ("a/gpu-7.example.org_20261101T000000Z.json", "gpu-7.example.org"),
        ("day.zip/node0001/_20261101T000000Z.json", "node0001"),
    ],
)
def test_the_power_of_a_real_server_is_a_sample_of_the_host_and_time_in_its_name(name, host):
    content = real_file("redfish", "Chassis_1U_Power_index.json")
    assert accepted(read(content, name)).rows() == [(MIDNIGHT, host, 344.0)]


def test_the_time_at_which_a_sensor_was_read_is_preferred_to_that_of_the_name():
    content = environment(Reading=374.5, ReadingTime="2026-10-31T23:59:30+00:00")
    assert accepted(read(content)).rows() == [
        (datetime(2026, 10, 31, 23, 59, 30, tzinfo=UTC), "node0001", 374.5)
    ]
    assert accepted(read(environment(Reading=374.5))).rows() == [(MIDNIGHT, "node0001", 374.5)]


def test_the_total_stands_beside_its_parts_which_are_not_added():
    controls = [{"PowerConsumedWatts": 200}, {"PowerConsumedWatts": 812.5}, {"Name": "fans"}]
    content = json.dumps({"@odata.type": "#Power.v1_7_1.Power", "PowerControl": controls}).encode()
    assert accepted(read(content)).rows() == [(MIDNIGHT, "node0001", 812.5)]


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (environment(Reading=None), NAME, "power_w is empty: expected PowerControl[].PowerC"),
        (environment(Reading="x"), NAME, "watts 'x': expected a number, at least 0"),
        (
            environment(Reading=1),
            "node0001.json",
            "sampled_at is empty: expected ReadingTime, or a",
        ),
        (environment(Reading=1), "_20261101T000000Z.json", "hostname is empty: expected a file n"),
    ],
)
def test_what_a_sample_lacks_is_said(content, name, reason):
    [told] = reasons(read(content, name))
    assert told.startswith(reason)


def test_resources_that_tell_no_power_are_left_out():
    content = real_file("redfish", "Chassis_1U_Sensors_index.json")
    assert left_out(read(content)) == ["a Redfish SensorCollection, which tells no power"]
    assert left_out(read(environment())) == ["a Redfish EnvironmentMetrics, which tells no power"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not valid JSON"), (b"[1]", "without @odata.type"), (b'{"a": 1}', "without @odata")],
)
def test_what_is_no_resource_is_refused_in_words(content, message):
    with pytest.raises(UnreadableFile, match=f"{NAME}: .*{message}"):
        read(content)
