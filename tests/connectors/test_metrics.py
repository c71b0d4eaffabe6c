"""Metrics by other names than DCGM's, in answers, exports and scrapes."""

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO

import polars as pl
import pytest

from pipelines.connectors import kepler, prometheus
from pipelines.connectors.common import LEFT_OUT_REASON, REJECT_REASON, Context, joined
from pipelines.connectors.mappings import Mappings, MetricMapping, NameLabel
from pipelines.connectors.metrics import NOT_OF_THE_BOOK
from tests.connectors.grid_fixtures import accepted, assert_fits_raw_table, left_out, reasons

MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
SECONDS = 1793491200  # MIDNIGHT since 1970


def answer(*series: tuple[str, dict[str, str], str]) -> bytes:
    """Each series with one value, at midnight."""
    result = [
        {"metric": {"__name__": name, **labels}, "values": [[SECONDS, value]]}
        for name, labels, value in series
    ]
    return json.dumps(
        {"status": "success", "data": {"resultType": "matrix", "result": result}}
    ).encode()


def read(content: bytes, *metrics: MetricMapping) -> dict[str, pl.DataFrame]:
    context = Context({}, Mappings(metrics=metrics))
    tables = prometheus.read(content, file_name="answer", context=context)
    for table, rows in tables.items():
        assert_fits_raw_table(rows, table)
    return tables


def gpus(tables: dict[str, pl.DataFrame]) -> list[dict[str, object]]:
    rows = accepted(tables["gpu_samples"])
    assert set(rows["sampled_at"]) == {MIDNIGHT}
    return [
        {name: value for name, value in row.items() if value is not None and name != "sampled_at"}
        for row in rows.rows(named=True)
    ]


@pytest.mark.parametrize("prefix", ["", "amd_"])
def test_amd_boards_are_read_and_partitions_without_a_sensor_are_no_boards(prefix):
    board = {"hostname": "n1", "gpu_id": "0", "gpu_partition_id": "0"}
    other = {"hostname": "n1", "gpu_id": "1", "gpu_partition_id": "1"}
    tables = read(
        answer(
            (f"{prefix}gpu_package_power", board, "748"),
            (f"{prefix}gpu_energy_consumed", board, "15152422938000"),
            (f"{prefix}gpu_gfx_activity", board, "97"),
            (f"{prefix}gpu_package_power", other, "0"),
        )
    )
    assert gpus(tables) == [
        {
            "hostname": "n1",
            "gpu_index": "0",
            "power_w": 748.0,
            "energy_counter_millijoules": 15_152_422_938,
            "utilization_ratio": 0.97,
        }
    ]
    assert left_out(tables["gpu_samples"]) == [NOT_OF_THE_BOOK]


def test_gaudi_boards_are_read_in_milliwatts_and_their_energy_is_left_out():
    board = {"id": "3", "device": "AM5", "UUID": "01P", "instance": "n1:41611"}
    tables = read(
        answer(
            ("habanalabs_power_mW", board, "412500"),
            ("habanalabs_power_default_limit_mW", board, "600000"),
            ("habanalabs_utilization", board, "91"),
            ("habanalabs_clock_soc_mhz", board, "1650"),
            ("habanalabs_energy", board, "123"),
        )
    )
    assert gpus(tables) == [
        {
            "hostname": "n1",
            "gpu_index": "3",
            "power_w": 412.5,
            "utilization_ratio": 0.91,
            "sm_clock_mhz": 1650.0,
            "default_power_limit_w": 600.0,
        }
    ]
    assert left_out(tables["gpu_samples"]) == [NOT_OF_THE_BOOK]


def test_a_scrape_of_kepler_gives_boards_and_platform_and_never_adds_zones():
    text = (
        "# TYPE kepler_node_gpu_joules_total counter\n"
        'kepler_node_gpu_joules_total{gpu="0",gpu_uuid="G",node_name="n1"} 1500.5\n'
        "# TYPE kepler_node_gpu_watts gauge\n"
        'kepler_node_gpu_watts{gpu="0",gpu_uuid="G",node_name="n1"} 300\n'
        "# TYPE kepler_platform_watts gauge\n"
        'kepler_platform_watts{source="redfish",chassis_id="1"} 900\n'
        "# TYPE kepler_node_cpu_watts gauge\n"
        'kepler_node_cpu_watts{zone="package",node_name="n1"} 200\n'
        'kepler_node_cpu_watts{zone="core",node_name="n1"} 150\n'
    )
    known = {"file_name": "n1_20261101T000000Z.prom", "context": Context({})}
    tables = joined(kepler.read_parts(text.encode(), **known))
    assert gpus(tables) == [
        {
            "hostname": "n1",
            "gpu_index": "0",
            "power_w": 300.0,
            "energy_counter_millijoules": 1_500_500,
        }
    ]
    assert tables["node_power_samples"].rows() == [(MIDNIGHT, "n1", 900.0, None)]
    assert left_out(tables["gpu_samples"]) == [NOT_OF_THE_BOOK] * 2
    content = answer(("kepler_node_gpu_watts", {"gpu": "0", "node_name": "n1"}, "300"))
    [part] = kepler.read_parts(content, **known)
    assert gpus(part) == [{"hostname": "n1", "gpu_index": "0", "power_w": 300.0}]


HWMON = MetricMapping(
    "node_hwmon_power_average_watt",
    "node_power",
    "W",
    host=NameLabel("instance"),
    where={"sensor": "power1"},
)


def test_a_declared_metric_is_the_nodes_power_where_its_labels_are_those_declared():
    name = HWMON.metric
    tables = read(
        answer(
            (name, {"instance": "n1:9100", "sensor": "power1"}, "812.5"),
            (name, {"instance": "n1:9100", "sensor": "power2"}, "90"),
            ("ipmi_dcmi_power_consumption_watts", {"instance": "n1:9290"}, "999"),
        ),
        HWMON,
    )
    assert tables["node_power_samples"].rows() == [(MIDNIGHT, "n1", 812.5, None)]
    assert left_out(tables["gpu_samples"]) == [NOT_OF_THE_BOOK]


def test_two_series_that_name_one_node_are_rejected_and_not_added_or_chosen_from():
    series = [
        (HWMON.metric, {"instance": "n1", "chip": chip, "sensor": "power1"}, "400") for chip in "ab"
    ]
    rows = read(answer(*series), HWMON)["node_power_samples"]
    assert reasons(rows) == [
        "several series of one metric name this node: expected one; tell them apart by where in"
        " mappings.yml"
    ]


def test_outlets_are_hosts_by_the_names_declared_and_no_others():
    outlet = MetricMapping(
        "pdu_outlet_power",
        "node_power",
        "mW",
        host=NameLabel("outlet", strip_prefix="out-", names={"3": "n1"}),
        where={"pdu": "a"},
    )
    tables = read(
        answer(
            ("pdu_outlet_power", {"pdu": "a", "outlet": "out-3"}, "812500"),
            ("pdu_outlet_power", {"pdu": "a", "outlet": "out-4"}, "1"),
            ("pdu_outlet_power", {"pdu": "b", "outlet": "out-3"}, "1"),
        ),
        outlet,
    )
    assert tables["node_power_samples"].rows() == [(MIDNIGHT, "n1", 812.5, None)]
    assert left_out(tables["gpu_samples"]) == [NOT_OF_THE_BOOK] * 2


def test_declared_gpu_metrics_come_to_the_units_of_the_raw_table():
    labels = {"host": NameLabel("node"), "gpu": NameLabel("card")}
    of = {"node": "n1", "card": "7"}
    tables = read(
        answer(("my_power", of, "0.4125"), ("my_energy", of, "0.5"), ("my_use", of, "0.25")),
        MetricMapping("my_power", "gpu_power", "kW", **labels),
        MetricMapping("my_energy", "gpu_energy", "Wh", **labels),
        MetricMapping("my_use", "gpu_utilization", "ratio", **labels),
    )
    assert gpus(tables) == [
        {
            "hostname": "n1",
            "gpu_index": "7",
            "power_w": 412.5,
            "energy_counter_millijoules": 1_800_000,
            "utilization_ratio": 0.25,
        }
    ]


def test_a_meters_register_gives_the_energy_of_quarter_hours_and_of_no_other_time():
    metric = MetricMapping(
        "energy_wh", "meter_energy", "Wh", meter=NameLabel("meter"), flow="export"
    )
    values = [(0, "100"), (10, "150"), (15, "180"), (30, "170"), (60, "300"), (75, "x")]
    points = [[SECONDS + 60 * minute, value] for minute, value in values]
    result = [{"metric": {"__name__": "energy_wh", "meter": "M"}, "values": points}]
    content = json.dumps({"data": {"resultType": "matrix", "result": result}}).encode()
    rows = read(content, metric)["meter_readings"]
    assert accepted(rows).rows() == [
        ("M", "export", MIDNIGHT, MIDNIGHT + timedelta(minutes=15), 80.0, "Wh", "measured")
    ]
    assert reasons(rows) == [
        "the register went back, from 180.0 to 170.0: expected it to go on",
        "value 'x': expected a number",
    ]
    assert len(left_out(rows)) == 3


@pytest.mark.parametrize("part_bytes", [8_000_000, 1])
def test_a_file_of_other_metrics_alone_is_in_order_and_counted(monkeypatch, part_bytes):
    monkeypatch.setattr(prometheus, "PART_BYTES", part_bytes)
    tables = read(answer(("up", {"instance": "n1"}, "1"), ("node_load1", {}, "2")))
    assert {table: left_out(rows) for table, rows in tables.items()} == {
        "gpu_samples": [NOT_OF_THE_BOOK] * 2
    }


@pytest.mark.parametrize("part_rows", [250_000, 1])
def test_a_long_export_with_other_metrics_counts_them(monkeypatch, part_rows):
    monkeypatch.setattr(prometheus, "PART_ROWS", part_rows)
    rows = pl.DataFrame(
        {
            "timestamp": [SECONDS] * 3,
            "__name__": [HWMON.metric, "up", "node_load1"],
            "instance": ["n1:9100"] * 3,
            "sensor": ["power1", "", ""],
            "value": [812.5, 1.0, 2.0],
        }
    )
    file = BytesIO()
    rows.write_parquet(file)
    tables = read(file.getvalue(), HWMON)
    assert tables["node_power_samples"].drop(REJECT_REASON).rows() == [(MIDNIGHT, "n1", 812.5)]
    assert tables["gpu_samples"][LEFT_OUT_REASON].to_list() == [NOT_OF_THE_BOOK] * 2
