from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connectors import llview
from pipelines.connectors.common import Context, UnreadableFile

# The layout of GPU_9438058_node.dat of FZJ-JSC/LLview, with other figures.
TABLE = """\
jobid              ts       nodeid  gpu_usage gpu_memu     gpu_pu gpu_temp gpu_sclk gpu_clk gpu_clkr
9000001    1709302348   jwb0263_00     71.000   0.008    215.469   44.000     1410    1215        4
9000001    1709302392   jwb0263_03      0.000   0.008     56.397   44.000      210    1215        1
"""


def read(content: str | bytes) -> pl.DataFrame:
    data = content if isinstance(content, bytes) else content.encode()
    return llview.read(data, file_name="GPU.dat", context=Context({}))["gpu_samples"]


def test_a_line_is_a_sample_of_a_board_in_watts_and_shares():
    assert read(TABLE).to_dicts() == [
        {
            "sampled_at": datetime(2024, 3, 1, 14, 12, 28, tzinfo=UTC),
            "hostname": "jwb0263",
            "gpu_index": "0",
            "power_w": 215.469,
            "utilization_ratio": 0.71,
            "sm_clock_mhz": 1410,
            "power_limit_w": None,
            "default_power_limit_w": None,
            "clocks_event_reasons": 4,
            "energy_counter_millijoules": None,
            "power_violation_ns": None,
            "power_brake_ns": None,
            "thermal_violation_ns": None,
            "mig_busy_ratio": None,
            "mig_told_ratio": None,
            "reject_reason": None,
        },
        {
            "sampled_at": datetime(2024, 3, 1, 14, 13, 12, tzinfo=UTC),
            "hostname": "jwb0263",
            "gpu_index": "3",
            "power_w": 56.397,
            "utilization_ratio": 0,
            "sm_clock_mhz": 210,
            "power_limit_w": None,
            "default_power_limit_w": None,
            "clocks_event_reasons": 1,
            "energy_counter_millijoules": None,
            "power_violation_ns": None,
            "power_brake_ns": None,
            "thermal_violation_ns": None,
            "mig_busy_ratio": None,
            "mig_told_ratio": None,
            "reject_reason": None,
        },
    ]


def test_only_time_board_and_power_have_to_be_told_in_any_order():
    (row,) = read("#gpu_pu nodeid ts\n400.5 a_b_12 1709302348\n").to_dicts()
    assert (row["hostname"], row["gpu_index"], row["power_w"]) == ("a_b", "12", 400.5)
    assert (row["utilization_ratio"], row["clocks_event_reasons"]) == (None, None)


def test_what_a_board_does_not_tell_is_null():
    (row,) = read(
        "ts nodeid gpu_pu gpu_usage gpu_clkr\n1709302348 jwb1_00 nan - 2147483632\n"
    ).to_dicts()
    columns = ("power_w", "utilization_ratio", "clocks_event_reasons", "reject_reason")
    assert [row[name] for name in columns] == [None, None, None, None]


def test_lines_that_cannot_be_read_are_rejected_with_what_was_found():
    rows = read(
        "ts nodeid gpu_pu gpu_usage\n"
        "soon jwb1_00 1 1\n"
        "1709302348 jwb1 1 1\n"
        "1709302348 jwb1_00 much 101\n"
        "1709302348 jwb1_00 1\n"
        "1709302348 jwb1_00 1 5"
    )
    assert rows["reject_reason"].to_list() == [
        "ts 'soon': expected seconds since 1970",
        "nodeid 'jwb1': expected a host and its board such as jwb0263_00",
        "gpu_pu 'much': expected a number, at least 0;"
        " gpu_usage '101': expected a number, at least 0, at most 100",
        "line '3 fields': expected 4 as in the header",
        "the file ends within this row: expected a line end after it; send the whole file again,"
        " or end the line if the row is whole",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty|found the header \\[\\]"),
        (b"\n \n", "the file is empty|found the header \\[\\]"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"jobid": 1, "gpu_pu_max": 311920}', "report of a whole job"),
        (b"jobid ts nodeid load\n1 2 a_0 0.5\n", "among them ts, nodeid, gpu_pu"),
        (b"ts ts nodeid gpu_pu\n", "distinct names"),
    ],
)
def test_what_is_no_table_of_gpus_is_refused_in_words(content: bytes, message: str):
    with pytest.raises(UnreadableFile, match=message):
        read(content)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1_600_000_000, 1_800_000_000),
            st.integers(0, 15),
            st.integers(0, 1_000_000).map(lambda milliwatts: milliwatts / 1000),
            st.integers(0, 100),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_written_is_read_back(samples):
    lines = [
        f"{9000001:<10} {ts:10d} {f'jwb0001_{board:02d}':>12s} {percent:10.3f} {power_w:10.3f}"
        for ts, board, power_w, percent in samples
    ]
    rows = read("\n".join(["jobid ts nodeid gpu_usage gpu_pu", *lines, ""]))
    assert rows["reject_reason"].null_count() == len(samples)
    assert rows.select(
        pl.col("sampled_at").dt.epoch("s"),
        pl.col("gpu_index").cast(pl.Int64),
        "power_w",
        (pl.col("utilization_ratio") * 100).round().cast(pl.Int64),
    ).rows() == [(ts, board, power_w, percent) for ts, board, power_w, percent in samples]
