import json
from datetime import UTC, datetime, timedelta
from io import BytesIO

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors import prometheus
from pipelines.connectors.common import LEFT_OUT_REASON, Context, UnreadableFile
from pipelines.lake.schemas import RAW_TABLES, payload_columns
from pipelines.simulator.writers import prometheus as writer

GPU_COLUMNS = payload_columns(RAW_TABLES["gpu_samples"])
MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
SECONDS = 1793491200  # MIDNIGHT since 1970


def read(content: bytes) -> dict[str, pl.DataFrame]:
    return prometheus.read(content, file_name="export", context=Context({}))


def answer(
    *series: tuple[dict[str, str], list[list[object]]], result_type: str = "matrix"
) -> bytes:
    key = "values" if result_type == "matrix" else "value"
    result = [
        {"metric": labels, key: points if result_type == "matrix" else points[0]}
        for labels, points in series
    ]
    data = {"resultType": result_type, "result": result}
    return json.dumps({"status": "success", "data": data}).encode()


def board(metric: str, **labels: str) -> dict[str, str]:
    return {"__name__": metric, "Hostname": "jwb0001", "gpu": "0", **labels}


def sample(**values: object) -> dict[str, object]:
    """A row of gpu_samples with nothing but the given values."""
    return {
        **dict.fromkeys(GPU_COLUMNS),
        "sampled_at": MIDNIGHT,
        "hostname": "jwb0001",
        "gpu_index": "0",
        "reject_reason": None,
        **values,
    }


def test_metrics_of_one_board_and_time_become_one_row_in_the_units_of_the_raw_table():
    content = answer(
        (board("DCGM_FI_DEV_POWER_USAGE"), [[SECONDS, "412.5"], [SECONDS + 60, "413"]]),
        (board("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"), [[SECONDS, "15152422938"]]),
        (board("DCGM_FI_DEV_GPU_UTIL"), [[SECONDS, "91"]]),
        (board("DCGM_FI_DEV_POWER_VIOLATION"), [[SECONDS, "1e9"]]),
        (board("DCGM_FI_DEV_THERMAL_VIOLATION"), [[SECONDS, "7"]]),
        (board("DCGM_FI_DEV_CLOCKS_EVENT_REASONS"), [[SECONDS, "4"]]),
        (board("DCGM_FI_DEV_GPU_TEMP"), [[SECONDS, "74"]]),
    )
    assert read(content)["gpu_samples"].to_dicts() == [
        sample(
            power_w=412.5,
            energy_counter_millijoules=15_152_422_938,
            utilization_ratio=0.91,
            power_violation_ns=1_000_000_000,
            thermal_violation_ns=7,
            clocks_event_reasons=4,
        ),
        sample(sampled_at=MIDNIGHT + timedelta(minutes=1), power_w=413.0),
    ]


def test_an_instant_query_reads_like_a_range_query():
    point = [[SECONDS + 0.25, "70"]]
    content = answer((board("DCGM_FI_DEV_POWER_USAGE"), point), result_type="vector")
    assert read(content)["gpu_samples"].to_dicts() == [
        sample(sampled_at=MIDNIGHT + timedelta(milliseconds=250), power_w=70.0)
    ]


def test_what_promtool_prints_reads_like_the_answer(monkeypatch):
    series = [
        (board("DCGM_FI_DEV_POWER_USAGE", gpu=gpu), [[SECONDS, "412.5"], [SECONDS + 60, "413"]])
        for gpu in "01"
    ]
    whole = answer(*series, (board("node_load1"), [[SECONDS, "7"]]))
    printed = json.dumps(json.loads(whole)["data"]["result"]).encode() + b"\n"
    for part_bytes in (len(whole), 1):
        monkeypatch.setattr(prometheus, "PART_BYTES", part_bytes)
        rows = read(printed)["gpu_samples"]
        assert_frame_equal(rows, read(whole)["gpu_samples"])
        assert rows["power_w"].drop_nulls().to_list() == [412.5, 413.0, 412.5, 413.0]
        assert rows[LEFT_OUT_REASON].drop_nulls().len() == 1


@pytest.mark.parametrize(
    ("metric", "column", "value"),
    [
        ("DCGM_FI_DEV_BOARD_POWER_WATTS", "power_w", 50.0),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", "utilization_ratio", 0.5),
        ("DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS", "power_violation_ns", 50),
        ("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "clocks_event_reasons", 50),
    ],
)
def test_other_names_of_a_metric_are_known(metric: str, column: str, value: object):
    rows = read(answer((board(metric), [[SECONDS, "50"]])))["gpu_samples"]
    assert rows.to_dicts() == [sample(**{column: value})]


def test_the_averaged_power_is_preferred_to_the_instantaneous():
    content = answer(
        (board("DCGM_FI_DEV_POWER_USAGE_INSTANT"), [[SECONDS, "99"]]),
        (board("DCGM_FI_DEV_POWER_USAGE"), [[SECONDS, "50"]]),
    )
    assert read(content)["gpu_samples"].to_dicts() == [sample(power_w=50.0)]


@pytest.mark.parametrize(
    "labels",
    [
        {"hostname": "jwb0001", "gpu": "0"},
        {"Hostname": "jwb0001", "gpu": "0"},
        {"exported_Hostname": "jwb0001", "Hostname": "monitor", "gpu": "0"},
        {"exported_hostname": "jwb0001", "hostname": "monitor", "exported_gpu": "0", "gpu": "9"},
    ],
)
def test_every_spelling_of_the_host_label_is_read(labels: dict[str, str]):
    series = ({"__name__": "DCGM_FI_DEV_POWER_USAGE", **labels}, [[SECONDS, "50"]])
    assert read(answer(series))["gpu_samples"].to_dicts() == [sample(power_w=50.0)]


@pytest.mark.parametrize(
    ("metric", "blank"),
    [
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "9223372036854775792"),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "9223372036854775794"),
        ("DCGM_FI_DEV_GPU_UTIL", "9.223372036854775794e+18"),
        ("DCGM_FI_DEV_POWER_USAGE", "140737488355328"),
        ("DCGM_FI_DEV_POWER_USAGE", "140737488355330.0"),
    ],
)
def test_what_dcgm_calls_blank_is_null_and_not_a_reading(metric: str, blank: str):
    rows = read(answer((board(metric), [[SECONDS, blank]])))["gpu_samples"]
    assert rows.to_dicts() == [sample()]


def test_mig_instances_repeat_their_board_and_make_one_row():
    content = answer(
        (
            board("DCGM_FI_DEV_POWER_USAGE", GPU_I_ID="1", GPU_I_PROFILE="1g.10gb"),
            [[SECONDS, "300"]],
        ),
        (
            board("DCGM_FI_DEV_POWER_USAGE", GPU_I_ID="2", GPU_I_PROFILE="1g.10gb"),
            [[SECONDS, "300"]],
        ),
        (board("DCGM_FI_DEV_POWER_USAGE"), [[SECONDS, "301"]]),
    )
    assert read(content)["gpu_samples"].to_dicts() == [sample(power_w=301.0)]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "n/a"])
def test_a_value_that_is_no_number_is_rejected_with_field_found_and_expected(value: str):
    rows = read(answer((board("DCGM_FI_DEV_POWER_USAGE"), [[SECONDS, value]])))["gpu_samples"]
    reason = f"power_w (DCGM_FI_DEV_POWER_USAGE) '{value}': expected a number"
    assert rows.to_dicts() == [sample(reject_reason=reason)]


def test_a_series_without_a_host_is_rejected_and_says_which_labels_would_do():
    series = ({"__name__": "DCGM_FI_DEV_POWER_USAGE", "gpu": "0"}, [[SECONDS, "50"]])
    reason = (
        "hostname is empty: expected one of the labels "
        "exported_Hostname, exported_hostname, Hostname, hostname"
    )
    assert read(answer(series))["gpu_samples"].to_dicts() == [
        sample(hostname=None, power_w=50.0, reject_reason=reason)
    ]


def test_node_power_is_one_row_per_node_from_the_preferred_metric():
    content = answer(
        (
            {"__name__": "kepler_platform_watts", "node_name": "jwb0001", "chassis_id": "a"},
            [[SECONDS, "900"]],
        ),
        (
            {"__name__": "ipmi_dcmi_power_consumption_watts", "instance": "jwb0001:9290"},
            [[SECONDS, "910"]],
        ),
        (
            {"__name__": "kepler_platform_watts", "node_name": "jwb0002", "power_control_id": "1"},
            [[SECONDS, "800"]],
        ),
        (
            {"__name__": "kepler_platform_watts", "node_name": "jwb0002", "power_control_id": "2"},
            [[SECONDS, "200"]],
        ),
    )
    assert read(content)["node_power_samples"].to_dicts() == [
        {"sampled_at": MIDNIGHT, "hostname": host, "power_w": power, "reject_reason": None}
        for host, power in (("jwb0001", 910.0), ("jwb0002", 800.0))
    ]


def test_a_wide_csv_export_reads_like_the_parquet_export():
    text = (
        "timestamp,Hostname,gpu,DCGM_FI_DEV_POWER_USAGE,DCGM_FI_DEV_GPU_UTIL\n"
        "2026-11-01T00:00:00Z,jwb0001,0,50.5,91\n"
        f"{SECONDS + 60},jwb0001,0,,NaN\n"
        "2026-11-01 01:02:00+01:00,jwb0001,0,52,\n"
        "yesterday,jwb0001,0,53,\n"
    )
    assert read(text.encode())["gpu_samples"].to_dicts() == [
        sample(power_w=50.5, utilization_ratio=0.91),
        sample(
            sampled_at=MIDNIGHT + timedelta(minutes=1),
            reject_reason="utilization_ratio (DCGM_FI_DEV_GPU_UTIL) 'NaN': expected a number",
        ),
        sample(sampled_at=MIDNIGHT + timedelta(minutes=2), power_w=52.0),
        sample(
            sampled_at=None,
            power_w=53.0,
            reject_reason="sampled_at 'yesterday': expected a time: seconds since 1970 or ISO 8601",
        ),
    ]


@pytest.mark.parametrize("unit", ["", "000", "000000", "000000000"])
def test_epochs_are_seconds_or_finer_by_their_size(unit: str):
    text = f"time,hostname,gpu,DCGM_FI_DEV_POWER_USAGE\n{SECONDS}{unit},jwb0001,0,50\n"
    assert read(text.encode())["gpu_samples"].to_dicts() == [sample(power_w=50.0)]


def test_a_long_csv_export_is_pivoted_like_an_answer():
    text = (
        "timestamp,__name__,hostname,gpu,value\n"
        f"{SECONDS}000,DCGM_FI_DEV_POWER_USAGE,jwb0001,0,50\n"
        f"{SECONDS}000,DCGM_FI_DEV_GPU_UTIL,jwb0001,0,91\n"
    )
    assert read(text.encode())["gpu_samples"].to_dicts() == [
        sample(power_w=50.0, utilization_ratio=0.91)
    ]


def test_a_wide_export_of_mig_instances_has_one_row_per_board():
    buffer = BytesIO()
    pl.DataFrame(
        {
            "timestamp": [MIDNIGHT, MIDNIGHT],
            "Hostname": ["jwb0001", "jwb0001"],
            "gpu": [0, 0],
            "GPU_I_ID": ["1", "2"],
            "DCGM_FI_DEV_POWER_USAGE": [None, 300.0],
        }
    ).write_parquet(buffer)
    assert read(buffer.getvalue())["gpu_samples"].to_dicts() == [sample(power_w=300.0)]


def test_an_answer_without_series_is_empty_and_no_error():
    assert read(answer()) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"status":"error","errorType":"bad_data","error":"x"}', "bad_data: x; expected status"),
        (b'{"status":"success","data":{"resultType":"scalar","result":[]}}', "found 'scalar'"),
        (b'{"jobs": []}', r"found JSON with \['jobs'\]"),
        (b'{"status":', "not valid JSON"),
        (
            answer(({"__name__": "DCGM_FI_DEV_FB_USED"}, [[1, "1"]])),
            r"found the metrics \['DCGM_FI_DEV_FB_USED'\]",
        ),
        (answer(({"gpu": "0"}, [[1, "1"]])), "no __name__"),
        (answer((board("DCGM_FI_DEV_GPU_UTIL"), [[1]])), r'shape .*"value"\], \.\.\.\]}; land'),
        (answer((board("DCGM_FI_DEV_GPU_UTIL"), [["soon", "1"]])), r"\]}; land the answer un"),
        (b"[1]", "is not of the shape"),
        (b"PAR1 and no more", "Parquet that cannot be read"),
        (b"DCGM_FI_DEV_GPU_UTIL,b\n1,2\n", r"expected one of \['timestamp'"),
        (b"time,b\n1,2\n", "expected either one column per metric"),
        (b"", "the file is empty"),
    ],
)
def test_what_is_no_telemetry_is_refused_in_words(content: bytes, message: str):
    with pytest.raises(UnreadableFile, match=message):
        read(content)


@st.composite
def gpu_samples(draw: st.DrawFn) -> pl.DataFrame:
    """Samples as DCGM can show them: whole percent, counters within a double's exact integers."""
    counter = st.none() | st.integers(0, 2**53)
    keys = draw(
        st.lists(
            st.tuples(st.integers(0, 2000), st.sampled_from(["n1", "n2"]), st.integers(0, 3)),
            min_size=1,
            max_size=20,
            unique=True,
        )
    )
    rows = [
        {
            "sampled_at": MIDNIGHT + timedelta(minutes=minute),
            "hostname": host,
            "gpu_index": str(gpu),
            "power_w": draw(st.floats(0, 5000)),
            "energy_counter_millijoules": draw(counter),
            "utilization_ratio": draw(st.integers(0, 100).map(lambda percent: percent / 100)),
            "sm_clock_mhz": draw(st.none() | st.integers(0, 3000).map(float)),
            "power_limit_w": draw(st.none() | st.floats(0, 2000)),
            "default_power_limit_w": draw(st.none() | st.floats(0, 2000)),
            "power_violation_ns": draw(counter),
            "power_brake_ns": draw(counter),
            "thermal_violation_ns": draw(counter),
            "clocks_event_reasons": draw(st.none() | st.integers(0, 511)),
        }
        for minute, host, gpu in keys
    ]
    schema = {name: RAW_TABLES["gpu_samples"].schema.columns()[name].dtype for name in GPU_COLUMNS}
    return pl.DataFrame(rows, schema=schema).sort("hostname", "gpu_index", "sampled_at")


@settings(max_examples=50, deadline=None)
@given(gpu_samples())
def test_what_the_writers_write_is_read_back_unchanged(samples: pl.DataFrame):
    for content in (
        writer.write_export(samples),
        writer.write_query_range(samples, step_s=60),
    ):
        rows = read(content)["gpu_samples"].sort("hostname", "gpu_index", "sampled_at")
        assert rows["reject_reason"].to_list() == [None] * samples.height
        assert_frame_equal(rows.drop("reject_reason"), samples)


def test_a_board_in_mig_mode_is_read_back_with_its_instances():
    rows = pl.DataFrame(
        [
            sample(power_w=412.25, mig_busy_ratio=3 / 7, mig_told_ratio=1.0),
            sample(gpu_index="1", power_w=60.0, utilization_ratio=0.0),
        ],
        schema={
            name: RAW_TABLES["gpu_samples"].schema.columns()[name].dtype for name in GPU_COLUMNS
        },
    )
    read_back = read(writer.write_export(rows))["gpu_samples"].drop("reject_reason")
    assert_frame_equal(read_back.sort("gpu_index"), rows, rel_tol=1e-12)


def instance(metric: str, number: int, profile: str = "3g.40gb") -> dict[str, str]:
    return board(metric) | {"GPU_I_ID": str(number), "GPU_I_PROFILE": profile}


WORKLOAD = {"exported_namespace": "research", "exported_pod": "train-0"}
EXPORTER = {"namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-x7k2p"}


def holders(*labels: dict[str, str]) -> list[tuple[str | None, str | None, bool | None]]:
    """Namespace, pod and whether it is shared, of boards whose power has these labels."""
    series = (
        (board("DCGM_FI_DEV_POWER_USAGE", gpu=str(index), **of_board), [[SECONDS, "70"]])
        for index, of_board in enumerate(labels)
    )
    rows = read(answer(*series))["gpu_samples"]
    return rows.select("namespace", "pod", "is_shared").rows()


def test_the_pod_that_holds_a_board_is_the_one_that_prometheus_calls_exported():
    assert holders({**WORKLOAD, **EXPORTER}, EXPORTER, {**EXPORTER, "pod": "any"}) == [
        ("research", "train-0", False),
        (None, None, None),
        # Where any board's pod is exported, the others are the exporter's, whatever its name.
        (None, None, None),
    ]


def test_where_labels_are_honoured_the_pod_is_the_workloads_but_for_the_exporters_own():
    training = {"namespace": "research", "pod": "train-0", "container": "main"}
    assert holders(
        training,
        {"namespace": "", "pod": ""},
        EXPORTER,
        {"namespace": "monitoring", "pod": "gpus-1", "container": "nvidia-dcgm-exporter"},
        {"namespace": "monitoring", "pod": "gpus-1", "container": "exporter"},
    ) == [("research", "train-0", False), *[(None, None, None)] * 4]


def test_pods_that_share_a_board_are_none_of_them_its_holder_but_their_one_namespace_is():
    def shared(*pods: tuple[str, str], **labels: str) -> list[tuple[object, ...]]:
        series = [
            (
                board(metric, exported_namespace=namespace, exported_pod=pod, vgpu=str(number)),
                [[SECONDS, "70"]],
            )
            for metric in ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_UTIL")
            for number, (namespace, pod) in enumerate(pods)
        ]
        rows = read(answer(*(({**of, **labels}, points) for of, points in series)))["gpu_samples"]
        return rows.select("power_w", "namespace", "pod", "is_shared").rows()

    assert shared(("research", "a"), ("research", "b")) == [(70.0, "research", None, True)]
    assert shared(("research", "a"), ("serving", "a")) == [(70.0, None, None, True)]
    assert shared(("research", "a"), ("research", "a")) == [(70.0, "research", "a", False)]
    # Of a board in MIG mode a pod holds its instance alone.
    assert shared(("research", "a"), GPU_I_ID="1", GPU_I_PROFILE="3g.40gb") == [
        (70.0, None, None, True)
    ]


def test_an_export_with_a_row_for_each_pod_has_one_row_per_board():
    rows = pl.DataFrame(
        {
            "timestamp": [MIDNIGHT] * 3,
            "Hostname": ["jwb0001"] * 3,
            "gpu": ["0", "1", "1"],
            "DCGM_FI_DEV_POWER_USAGE": [412.5, 70.0, 70.0],
            "namespace": ["research", "serving", "serving"],
            "pod": ["train-0", "chat-0", "chat-1"],
            "vgpu": [None, "0", "1"],
        }
    )
    expected = [
        sample(power_w=412.5, namespace="research", pod="train-0", is_shared=False),
        sample(gpu_index="1", power_w=70.0, namespace="serving", is_shared=True),
    ]
    assert read(parquet(rows))["gpu_samples"].to_dicts() == expected
    assert read(parquet(rows[:1]))["gpu_samples"].to_dicts() == expected[:1]
    assert read(rows.write_csv().encode())["gpu_samples"].drop("sampled_at").to_dicts() == [
        {name: value for name, value in row.items() if name != "sampled_at"} for row in expected
    ]


def test_use_0_of_a_board_in_mig_mode_says_nothing():
    content = answer(
        (instance("DCGM_FI_DEV_POWER_USAGE", 1), [[SECONDS, "450"]]),
        (instance("DCGM_FI_DEV_POWER_USAGE", 2), [[SECONDS, "450"]]),
        (instance("DCGM_FI_DEV_GPU_UTIL", 1), [[SECONDS, "0"]]),
    )
    assert read(content)["gpu_samples"].to_dicts() == [sample(power_w=450.0)]


@pytest.mark.parametrize(
    ("activities", "busy", "told"),
    [
        ({1: "0.93", 2: "0.02"}, 3 / 7, 6 / 7),
        ({1: "0.93"}, 3 / 7, 3 / 7),
        ({1: "0.05", 2: "0.05"}, 0, 6 / 7),
        ({1: "9223372036854775794", 2: "0.5"}, 3 / 7, 3 / 7),
    ],
)
def test_the_instances_of_a_board_tell_which_share_of_it_is_busy(
    activities: dict[int, str], busy: float, told: float
):
    content = answer(
        (instance("DCGM_FI_DEV_POWER_USAGE", 1), [[SECONDS, "450"]]),
        *(
            (instance("DCGM_FI_PROF_GR_ENGINE_ACTIVE", number), [[SECONDS, activity]])
            for number, activity in activities.items()
        ),
    )
    [row] = read(content)["gpu_samples"].to_dicts()
    assert (row["power_w"], row["utilization_ratio"]) == (450.0, None)
    assert row["mig_busy_ratio"] == pytest.approx(busy)
    assert row["mig_told_ratio"] == pytest.approx(told)


def test_the_activity_of_a_whole_board_is_its_use_where_dcgm_shows_no_other():
    activity = (board("DCGM_FI_PROF_GR_ENGINE_ACTIVE"), [[SECONDS, "0.4"]])
    use = (board("DCGM_FI_DEV_GPU_UTIL"), [[SECONDS, "91"]])
    assert read(answer(activity))["gpu_samples"]["utilization_ratio"].to_list() == [0.4]
    assert read(answer(activity, use))["gpu_samples"]["utilization_ratio"].to_list() == [0.91]


def test_node_power_is_read_back_unchanged():
    samples = pl.DataFrame(
        {"sampled_at": [MIDNIGHT], "hostname": ["spk0001"], "power_w": [5210.0]},
        schema_overrides={"sampled_at": pl.Datetime("us", "UTC")},
    )
    rows = read(writer.write_node_export(samples))["node_power_samples"]
    assert_frame_equal(rows.drop("reject_reason"), samples)


def exports() -> dict[str, bytes]:
    """Of two nodes, two boards each, an export in every form, with some lines that are wrong."""
    samples = [
        {"timestamp": at, "Hostname": host, "gpu": gpu, "__name__": metric, "value": value}
        for metric, value in (("DCGM_FI_DEV_POWER_USAGE", "50"), ("DCGM_FI_DEV_GPU_UTIL", "91"))
        for host in ("jwb0001", "jwb0002")
        for gpu in ("0", "1")
        for at in (*(str(SECONDS + 60 * minute) for minute in range(5)), "yesterday")
    ]
    long = pl.DataFrame([*samples, {**samples[0], "__name__": "DCGM_FI_DEV_FB_USED"}])
    wide = long.filter(pl.col("__name__") != "DCGM_FI_DEV_FB_USED").pivot(
        "__name__", index=["timestamp", "Hostname", "gpu"], values="value"
    )
    instances = pl.concat(
        wide.with_columns(GPU_I_ID=pl.lit(number), DCGM_FI_PROF_GR_ENGINE_ACTIVE=pl.lit(active))
        for number, active in (("1", 0.9), ("2", 0.0))
    ).with_columns(GPU_I_PROFILE=pl.lit("3g.40gb"))
    return {
        "wide": parquet(wide),
        "wide with whole boards alone": parquet(wide.with_columns(GPU_I_ID=pl.lit(""))),
        "long": parquet(long),
        "instances": parquet(instances),
    }


def parquet(rows: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    rows.write_parquet(buffer, row_group_size=3)
    return buffer.getvalue()


@pytest.mark.parametrize("form", exports())
def test_a_large_export_is_read_in_parts_each_with_all_of_its_boards_and_times(monkeypatch, form):
    content = exports()[form]
    whole = read(content)["gpu_samples"]
    assert len(whole) == 2 * 2 * 6
    monkeypatch.setattr(prometheus, "PART_ROWS", 5)
    monkeypatch.setattr(prometheus, "PART_SAMPLES", 5)
    known = {"file_name": "export", "context": Context({})}
    parts = [part["gpu_samples"] for part in prometheus.read_parts(content, **known)]
    assert len(parts) > 4
    assert max(map(len, parts)) <= 5
    assert_frame_equal(pl.concat(parts), whole, check_row_order=form == "wide")


def test_a_large_answer_is_read_in_parts_each_with_all_of_its_hosts(monkeypatch):
    points = [[SECONDS + 60 * minute, str(minute)] for minute in range(5)]
    odd = r'n1 {"metric":{"gpu":"\\'  # looks like a series, and is a name
    series = [
        ({**board(metric, Hostname=host, gpu=gpu), "instance": f"{host}:9400"}, points)
        for metric in ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_UTIL")
        for host in ("jwb0001", "jwb0002", odd)
        for gpu in ("0", "1")
    ]
    nodes = [({"__name__": "kepler_platform_watts", "node": "jwb0001"}, points)]
    # Spaces stand where a library put them, and more than the result may be told.
    content = answer(*series, *nodes).replace(b"]}]}}", b'] } ] , "stats": [{}]}, "infos":[]}')
    known = {"file_name": "answer", "context": Context({})}
    whole = read(content)
    assert {table: len(rows) for table, rows in whole.items()} == {
        "gpu_samples": 3 * 2 * 5,
        "node_power_samples": 5,
    }
    monkeypatch.setattr(prometheus, "PART_BYTES", 1)
    parts = [*prometheus.read_parts(content, **known)]
    assert [len(part["gpu_samples"]) for part in parts] == [10, 10, 10]
    for table, rows in read(content).items():
        assert_frame_equal(rows, whole[table], check_row_order=False)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda text: text[:-1], "not valid JSON"),
        (lambda text: text[:-5], "not valid JSON"),
        (lambda text: text.replace(b"]}, {", b"]} {"), "not valid JSON"),
        (lambda text: text.replace(b"]}, {", b"]},, {"), "not valid JSON"),
        (lambda text: text.replace(b"matrix", b"scalar"), "expected matrix or vector"),
        (lambda text: text.replace(b"success", b"error"), "answered with an error"),
        (
            lambda text: text.replace(b"DCGM_FI_DEV_POWER_USAGE", b"DCGM_FI_DEV_FB_USED"),
            "found the metrics",
        ),
        (lambda text: text.replace(b"__name__", b"name"), "no __name__"),
        (lambda text: text.replace(b'"values"', b'"histograms"'), "is not of the shape"),
        (lambda text: text.replace(b'"50"', b"[" * 5000 + b"]" * 5000), "not valid JSON"),
    ],
)
def test_a_large_answer_that_is_broken_is_refused_as_a_small_one(monkeypatch, broken, message):
    series = [(board("DCGM_FI_DEV_POWER_USAGE", gpu=gpu), [[SECONDS, "50"]]) for gpu in "012"]
    content = broken(answer(*series))
    for part_bytes in (len(content), 1):
        monkeypatch.setattr(prometheus, "PART_BYTES", part_bytes)
        with pytest.raises(UnreadableFile, match=message):
            read(content)


def test_a_large_export_without_a_known_metric_is_refused(monkeypatch):
    monkeypatch.setattr(prometheus, "PART_ROWS", 1)
    rows = {
        "timestamp": [SECONDS] * 2,
        "__name__": ["DCGM_FI_DEV_FB_USED"] * 2,
        "value": [1.0, 0.0],
    }
    with pytest.raises(
        UnreadableFile, match=r"export: found the metrics \['DCGM_FI_DEV_FB_USED'\]"
    ):
        read(parquet(pl.DataFrame(rows)))
