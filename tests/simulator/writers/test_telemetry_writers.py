"""What the writers of telemetry, accounting and bills write, as readers not ours see it."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.lake.schemas import RAW_TABLES, payload_columns
from pipelines.simulator.writers import dcgm_scrape, focus, prometheus, sacct

MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
SECONDS = 1793491200  # MIDNIGHT since 1970
SAMPLES = pl.DataFrame(
    {
        "sampled_at": [MIDNIGHT, MIDNIGHT + timedelta(seconds=60)],
        "hostname": ["jwb0001", "jwb0001"],
        "gpu_index": ["0", "0"],
        "power_w": [412.25, 60.0],
        "energy_counter_millijoules": [15_152_422_938, 15_152_423_000],
        "utilization_ratio": [0.913, 0.0],
        "sm_clock_mhz": [1200.0, 345.0],
        "power_limit_w": [412.5, 700.0],
        "default_power_limit_w": [700.0, 700.0],
        "power_violation_ns": [None, 5],
        "power_brake_ns": [None, None],
        "thermal_violation_ns": [None, None],
        "clocks_event_reasons": [4, 1],
        "mig_busy_ratio": [None, None],
        "mig_told_ratio": [None, None],
    },
    schema_overrides={
        "sampled_at": pl.Datetime("us", "UTC"),
        "power_violation_ns": pl.Int64,
        "power_brake_ns": pl.Int64,
        "thermal_violation_ns": pl.Int64,
        "mig_busy_ratio": pl.Float64,
        "mig_told_ratio": pl.Float64,
    },
)


def test_a_scrape_is_what_the_prometheus_client_reads():
    text = dcgm_scrape.write_scrape(SAMPLES[:1], scraped_at=MIDNIGHT).decode()
    families = list(text_string_to_metric_families(text))
    assert [(family.name, family.type, family.samples[0].value) for family in families] == [
        ("DCGM_FI_DEV_POWER_USAGE", "gauge", 412.25),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", 15_152_422_938),
        ("DCGM_FI_DEV_GPU_UTIL", "gauge", 91),
        ("DCGM_FI_DEV_SM_CLOCK", "gauge", 1200),
        ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "gauge", 412.5),
        ("DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF", "gauge", 700),
        ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "gauge", 4),
    ]
    assert families[0].samples[0].labels == {
        "gpu": "0",
        "UUID": "GPU-00000000-0000-006a-7762-303030312f30",
        "pci_bus_id": "00000000:00:00.0",
        "device": "nvidia0",
        "modelName": "NVIDIA H100 80GB HBM3",
        "Hostname": "jwb0001",
    }


def test_a_scrape_holds_one_moment_of_one_node():
    with pytest.raises(ValueError, match="one moment"):
        dcgm_scrape.write_scrape(SAMPLES, scraped_at=MIDNIGHT)
    two = pl.concat([SAMPLES[:1], SAMPLES[:1].with_columns(hostname=pl.lit("jwb0002"))])
    with pytest.raises(ValueError, match="one node"):
        dcgm_scrape.write_scrape(two, scraped_at=MIDNIGHT)


def test_a_range_query_has_a_series_per_board_and_metric_with_values_as_text():
    answer = json.loads(prometheus.write_query_range(SAMPLES, step_s=60))
    assert (answer["status"], answer["data"]["resultType"]) == ("success", "matrix")
    series = {one["metric"]["__name__"]: one for one in answer["data"]["result"]}
    assert series["DCGM_FI_DEV_GPU_UTIL"] == {
        "metric": {
            "__name__": "DCGM_FI_DEV_GPU_UTIL",
            "Hostname": "jwb0001",
            "UUID": "GPU-00000000-0000-006a-7762-303030312f30",
            "gpu": "0",
            "modelName": "NVIDIA H100 80GB HBM3",
        },
        "values": [[SECONDS, "91"], [SECONDS + 60, "0"]],
    }
    assert series["DCGM_FI_DEV_POWER_VIOLATION"]["values"] == [[SECONDS + 60, "5"]]
    assert "DCGM_FI_DEV_THERMAL_VIOLATION" not in series


def test_a_range_query_shows_at_each_step_the_latest_sample_before_it():
    answer = json.loads(prometheus.write_query_range(SAMPLES, step_s=300))
    first = answer["data"]["result"][0]
    assert first["values"] == [[SECONDS, "412.25"], [SECONDS + 300, "60.0"]]


def test_the_wide_export_is_parquet_of_doubles():
    table = pq.read_table(io.BytesIO(prometheus.write_export(SAMPLES)))
    assert table.slice(0, 1).to_pylist() == [
        {
            "timestamp": MIDNIGHT,
            "Hostname": "jwb0001",
            "gpu": "0",
            "DCGM_FI_DEV_POWER_USAGE": 412.25,
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 15_152_422_938.0,
            "DCGM_FI_DEV_GPU_UTIL": 91.0,
            "DCGM_FI_DEV_SM_CLOCK": 1200.0,
            "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": 412.5,
            "DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF": 700.0,
            "DCGM_FI_DEV_POWER_VIOLATION": None,
            "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS": None,
            "DCGM_FI_DEV_THERMAL_VIOLATION": None,
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 4.0,
        }
    ]


def test_a_board_in_mig_mode_has_a_row_per_instance_that_repeats_its_power():
    in_mig_mode = SAMPLES.with_columns(
        mig_busy_ratio=pl.Series([3 / 7, None]), mig_told_ratio=pl.Series([1.0, None])
    )
    rows = pl.read_parquet(prometheus.write_export(in_mig_mode))
    assert rows.select(
        "GPU_I_ID",
        "GPU_I_PROFILE",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    ).rows() == [
        (None, None, 60.0, 0.0, None),
        *(
            (str(number), "1g.10gb", 412.25, 0.0, 0.62 if number <= 3 else 0.0)
            for number in range(1, 8)
        ),
    ]


def test_the_node_export_is_one_series_per_node():
    samples = SAMPLES.select("sampled_at", "hostname", "power_w")
    table = pq.read_table(io.BytesIO(prometheus.write_node_export(samples)))
    assert table.slice(1).to_pylist() == [
        {
            "timestamp": MIDNIGHT + timedelta(seconds=60),
            "__name__": "ipmi_dcmi_power_consumption_watts",
            "instance": "jwb0001:9290",
            "value": 60.0,
        }
    ]


def test_accounting_has_a_header_local_times_and_the_steps_of_started_jobs():
    columns = RAW_TABLES["jobs"].schema.columns()
    names = payload_columns(RAW_TABLES["jobs"])
    rows = [
        {
            **dict.fromkeys(names),
            "cluster": "juelich",
            "job_id": "7",
            "partition": "batch",
            "account": "climate",
            "user_name": "u1",
            "job_name": "a|b",
            "state": "CANCELLED",
            "submitted_at": datetime(2026, 10, 24, 22, tzinfo=UTC),
            "started_at": datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
            "ended_at": datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
            "elapsed_s": 3600,
            "suspended_s": 0,
            "node_count": 2,
            "gpu_count": 8,
            "node_list": "jwb[0001-0002]",
            "comment": "energy:price_stop",
        },
        {
            **dict.fromkeys(names),
            "cluster": "juelich",
            "job_id": "8",
            "state": "PENDING",
            "submitted_at": datetime(2026, 10, 24, 22, tzinfo=UTC),
            "elapsed_s": 0,
            "node_count": 0,
        },
    ]
    jobs = pl.DataFrame(rows, schema={name: columns[name].dtype for name in names})
    assert sacct.write_sacct(jobs, time_zone="Europe/Berlin").decode().splitlines() == [
        "JobID|JobIDRaw|Cluster|Partition|QOS|Account|User|JobName|State|Submit|Start|End|"
        "ElapsedRaw|Suspended|NNodes|AllocTRES|NodeList|ConsumedEnergyRaw|Comment",
        "7|7|juelich|batch||climate|u1|a/b|CANCELLED by 1000|2026-10-25T00:00:00|"
        "2026-10-25T02:30:00|2026-10-25T02:30:00|3600|00:00:00|2|"
        "billing=192,cpu=192,gres/gpu=8,node=2|jwb[0001-0002]||energy:price_stop",
        "7.batch|7.batch|juelich|||climate||batch|CANCELLED|2026-10-25T02:30:00|"
        "2026-10-25T02:30:00|2026-10-25T02:30:00|3600|00:00:00|1|"
        "billing=96,cpu=96,gres/gpu=8,node=1|jwb[0001-0002]||",
        "7.extern|7.extern|juelich|||climate||extern|CANCELLED|2026-10-25T02:30:00|"
        "2026-10-25T02:30:00|2026-10-25T02:30:00|3600|00:00:00|2|"
        "billing=192,cpu=192,gres/gpu=8,node=2|jwb[0001-0002]||",
        "8|8|juelich||||||PENDING|2026-10-25T00:00:00|Unknown|Unknown|0||0||None assigned||",
    ]


def test_a_bill_has_the_mandatory_columns_of_focus_and_times_in_utc():
    names = payload_columns(RAW_TABLES["cloud_charges"])
    columns = RAW_TABLES["cloud_charges"].schema.columns()
    charge = {
        **dict.fromkeys(names),
        "provider_name": "Example Cloud",
        "billing_account_id": "acct-1",
        "billing_period_started_at": datetime(2026, 10, 1, tzinfo=UTC),
        "billing_period_ended_at": datetime(2026, 11, 1, tzinfo=UTC),
        "charge_period_started_at": datetime(2026, 10, 5, 13, tzinfo=UTC),
        "charge_period_ended_at": datetime(2026, 10, 5, 14, tzinfo=UTC),
        "charge_category": "Usage",
        "billed_cost": 0.0,
        "effective_cost": 61.25,
        "currency_code": "USD",
        "resource_id": "instance-group/assistant-inference",
        "tags": '{"workload": "assistant-inference"}',
    }
    bill = pl.DataFrame([charge], schema={name: columns[name].dtype for name in names})
    rows = list(csv.DictReader(io.StringIO(focus.write_focus(bill).decode())))
    assert len(rows) == 1
    assert rows[0].keys() >= {
        "BilledCost",
        "BillingAccountId",
        "BillingAccountName",
        "BillingCurrency",
        "BillingPeriodEnd",
        "BillingPeriodStart",
        "ChargeCategory",
        "ChargeClass",
        "ChargeDescription",
        "ChargePeriodEnd",
        "ChargePeriodStart",
        "CommitmentDiscountName",
        "ContractedCost",
        "EffectiveCost",
        "InvoiceIssuerName",
        "ListCost",
        "PricingQuantity",
        "PricingUnit",
        "ProviderName",
        "PublisherName",
        "RegionName",
        "ResourceName",
        "ServiceCategory",
        "ServiceName",
        "SkuPriceId",
        "SubAccountName",
    }
    assert rows[0]["ResourceType"] == "instance-group"
    assert (rows[0]["ChargePeriodStart"], rows[0]["EffectiveCost"], rows[0]["Tags"]) == (
        "2026-10-05T13:00:00Z",
        "61.25",
        '{"workload": "assistant-inference"}',
    )
