"""Broken telemetry, accounting and bills are refused in words or read with reasons, never crash."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connectors import (
    dcgm_scrape,
    focus,
    llview,
    opencost,
    prometheus,
    redfish,
    sacct,
)
from pipelines.connectors.common import Context, UnreadableFile
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.writers import dcgm_scrape as scrape_writer
from pipelines.simulator.writers import prometheus as prometheus_writer

MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
SAMPLES = pl.DataFrame(
    {
        "sampled_at": [MIDNIGHT],
        "hostname": ["jwb0001"],
        "gpu_index": ["0"],
        "power_w": [412.25],
        "energy_counter_millijoules": [15_152_422_938],
        "utilization_ratio": [0.91],
        "sm_clock_mhz": [1980.0],
        "power_limit_w": [400.0],
        "default_power_limit_w": [700.0],
        "power_violation_ns": [0],
        "power_brake_ns": [7],
        "thermal_violation_ns": [0],
        "clocks_event_reasons": [4],
        "mig_busy_ratio": [None],
        "mig_told_ratio": [None],
    },
    schema_overrides={"sampled_at": pl.Datetime("us", "UTC")},
)
ACCOUNTING = (
    b"JobID|Cluster|State|Submit|Start|End|ElapsedRaw|NNodes|AllocTRES|ConsumedEnergyRaw\n"
    b"1|juelich|COMPLETED|Unknown|2026-10-25T02:30:00|2026-10-25T02:10:00|2400|1|gres/gpu=4|7\n"
)
ANSWER = json.dumps(
    {
        "jobs": [
            {
                "job_id": 1,
                "cluster": "juelich",
                "job_state": ["RUNNING"],
                "start_time": {"set": True, "infinite": False, "number": 1747754466},
                "node_count": {"set": True, "infinite": False, "number": 1},
                "tres_alloc_str": "cpu=1,gres/gpu:h100=4",
            }
        ],
        "last_update": {"set": True, "infinite": False, "number": 1747754466},
    }
).encode()
BILL = (
    b"ProviderName,BillingAccountId,BillingCurrency,BillingPeriodStart,BillingPeriodEnd,"
    b"ChargePeriodStart,ChargePeriodEnd,ChargeCategory,BilledCost,EffectiveCost\n"
    b"AWS,1,USD,2024-09-01 00:00:00,2024-10-01 00:00:00,"
    b"2024-09-18 22:00:00,2024-09-18T23:00:00Z,Usage,0.8,0.7\n"
)
STORED = json.dumps(
    {
        "jobs": [
            {
                "job_id": 1,
                "cluster": "juelich",
                "state": {"current": ["COMPLETED"]},
                "time": {"start": 1747754466, "end": 1747758066, "elapsed": 3600},
                "allocation_nodes": 1,
                "tres": {"allocated": [{"type": "gres", "name": "gpu:h100", "count": 4}]},
            }
        ]
    }
).encode()
ALLOCATIONS = json.dumps(
    {
        "code": 200,
        "data": [
            {
                "train-0": {
                    "properties": {"cluster": "juelich", "namespace": "research", "node": "n1"},
                    "window": {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"},
                    "start": "2026-11-01T06:00:00Z",
                    "end": "2026-11-01T18:00:00Z",
                    "gpuHours": 24,
                }
            }
        ],
    }
).encode()
REDFISH = (
    b'{"@odata.type":"#EnvironmentMetrics.v1_3_0.EnvironmentMetrics",'
    b'"PowerWatts":{"Reading":374.5,"ReadingTime":"2026-11-01T00:00:00Z"}}'
)
FILES = [
    (prometheus, prometheus_writer.write_query_range(SAMPLES, step_s=60)),
    (prometheus, b"timestamp,Hostname,gpu,DCGM_FI_DEV_POWER_USAGE\n1793491200,jwb0001,0,50.5\n"),
    (prometheus, prometheus_writer.write_export(SAMPLES)),
    (dcgm_scrape, scrape_writer.write_scrape(SAMPLES, scraped_at=MIDNIGHT)),
    (redfish, REDFISH),
    (sacct, ACCOUNTING),
    (sacct, ACCOUNTING.replace(b"|", b",").replace(b"gres/gpu=4", b'"cpu=1,gres/gpu=4"')),
    (sacct, ANSWER),
    (sacct, STORED),
    (opencost, ALLOCATIONS),
    (llview, b"ts nodeid gpu_pu gpu_usage gpu_clkr\n1709302348 jwb0263_00 215.4 71.0 4\n"),
    (focus, BILL),
]
CONTEXT = Context({"juelich": "Europe/Berlin"})
NAME = "jwb0001_20261101T000000Z.prom"


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file cut off, with bytes replaced, or with a piece put in twice."""
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    replacement = draw(
        st.sampled_from([b"", b"\n", b"|", b",", b'"', b"null", b"{}", b"[]", b"1e999", b"\x00"])
        | st.just(content[start:end] * 2)
        | st.binary(max_size=4)
    )
    return content[:start] + replacement + content[min(end, start + 8) :]


@pytest.mark.parametrize(
    "number", range(len(FILES)), ids=lambda number: FILES[number][0].__name__.split(".")[-1]
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_in_words_or_read_into_the_raw_columns(
    number: int, data: st.DataObject
):
    connector, content = FILES[number]
    file = data.draw(damaged(content) | st.binary(max_size=50))
    try:
        tables = connector.read(file, file_name=NAME, context=CONTEXT)
    except UnreadableFile as error:
        tables, refusal = {}, str(error)
    else:
        refusal = f"{NAME}: none"
    assert refusal.startswith(f"{NAME}: ")
    for name, rows in tables.items():
        columns = RAW_TABLES[name].schema.columns()
        reasons = {"reject_reason", "left_out_reason"}
        extra = set(rows.columns) - set(columns) - reasons
        assert extra == set()
        assert {
            column: dtype
            for column, dtype in rows.schema.items()
            if column not in reasons and dtype != columns[column].dtype
        } == {}


def test_parquet_whose_lengths_do_not_fit_is_refused_and_does_not_stop_the_program() -> None:
    content = prometheus_writer.write_export(SAMPLES)
    # Eight bytes of the first column's pages are missing.
    with pytest.raises(UnreadableFile, match="Parquet that cannot be read"):
        prometheus.read(content[:88] + content[96:], file_name=NAME, context=CONTEXT)
