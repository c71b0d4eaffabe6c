from datetime import UTC, datetime
from io import BytesIO

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.connectors import focus
from pipelines.connectors.common import Context, UnreadableFile
from pipelines.lake.schemas import RAW_TABLES, payload_columns
from pipelines.simulator.writers.focus import write_focus
from tests.real_files import real_file

COLUMNS = payload_columns(RAW_TABLES["cloud_charges"])
OCTOBER, NOVEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11))
CHARGE = {
    **dict.fromkeys(COLUMNS),
    "provider_name": "Example Cloud",
    "billing_account_id": "acct-1",
    "billing_period_started_at": OCTOBER,
    "billing_period_ended_at": NOVEMBER,
    "charge_period_started_at": datetime(2026, 10, 5, 13, tzinfo=UTC),
    "charge_period_ended_at": datetime(2026, 10, 5, 14, tzinfo=UTC),
    "charge_category": "Usage",
    "charge_description": 'GPU hours, "A3"',
    "sku_id": "SKU-A3-HIGH",
    "consumed_quantity": 2.5,
    "consumed_unit": "Hours",
    "billed_cost": 0.0,
    "effective_cost": 61.25,
    "currency_code": "USD",
    "tags": '{"workload": "assistant-inference"}',
}
HEADER = (
    "ProviderName,BillingAccountId,BillingCurrency,BillingPeriodStart,BillingPeriodEnd,"
    "ChargePeriodStart,ChargePeriodEnd,ChargeCategory,BilledCost,EffectiveCost,SkuId,Id\n"
)


def read(content: bytes) -> pl.DataFrame:
    return focus.read(content, file_name="bill", context=Context({}))["cloud_charges"]


def frame(*rows: dict) -> pl.DataFrame:
    columns = RAW_TABLES["cloud_charges"].schema.columns()
    return pl.DataFrame(list(rows), schema={name: columns[name].dtype for name in COLUMNS})


def test_a_bill_is_read_back_unchanged():
    charges = frame(CHARGE, {**CHARGE, "commitment_discount_status": "Unused", "tags": None})
    rows = read(write_focus(charges))
    assert rows["reject_reason"].to_list() == [None, None]
    assert_frame_equal(rows.drop("reject_reason"), charges, check_column_order=False)


def test_literal_null_is_null_and_times_without_offset_are_utc():
    line = (
        "AWS,1,USD,2024-09-01 00:00:00,2024-10-01 00:00:00,"
        "2024-09-18 22:00:00,2024-09-18T23:00:00Z,Usage,0.8,0.7,NULL,11472\n"
    )
    assert read((HEADER + line).encode()).to_dicts() == [
        {
            "provider_name": "AWS",
            "billing_account_id": "1",
            "charge_category": "Usage",
            "sku_id": None,
            "currency_code": "USD",
            "billing_period_started_at": datetime(2024, 9, 1, tzinfo=UTC),
            "billing_period_ended_at": datetime(2024, 10, 1, tzinfo=UTC),
            "charge_period_started_at": datetime(2024, 9, 18, 22, tzinfo=UTC),
            "charge_period_ended_at": datetime(2024, 9, 18, 23, tzinfo=UTC),
            "billed_cost": 0.8,
            "effective_cost": 0.7,
            "reject_reason": None,
        }
    ]


def test_a_value_that_cannot_be_read_is_rejected_with_field_found_and_expected():
    line = "AWS,NULL,USD,soon,2024-10-01,2024-09-18 22:00:00,2024-09-18 23:00:00,Usage,free,0,x,1\n"
    assert read((HEADER + line).encode())["reject_reason"].to_list() == [
        "BillingAccountId is empty: expected a value; "
        "BillingPeriodStart 'soon': expected a time such as 2026-04-05T12:00:00Z; "
        "BillingPeriodEnd '2024-10-01': expected a time such as 2026-04-05T12:00:00Z; "
        "BilledCost 'free': expected a number"
    ]


def test_a_parquet_bill_reads_like_the_csv():
    buffer = BytesIO()
    names = {
        column: name for name, column in (focus._TEXTS | focus._TIMES | focus._NUMBERS).items()
    }
    tags = [[{"key": "workload", "value": 'say "hi"'}]]
    frame(CHARGE).rename(names).with_columns(Tags=pl.Series(tags)).write_parquet(buffer)
    assert read(buffer.getvalue()).to_dicts() == [
        {**CHARGE, "tags": '{"workload":"say \\"hi\\""}', "reject_reason": None}
    ]


def test_a_large_parquet_bill_is_read_in_parts(monkeypatch):
    buffer = BytesIO()
    names = {
        column: name for name, column in (focus._TEXTS | focus._TIMES | focus._NUMBERS).items()
    }
    charges = [{**CHARGE, "sku_id": f"SKU-{number}"} for number in range(5)]
    frame(*charges).rename(names).write_parquet(buffer)
    whole = read(buffer.getvalue())
    monkeypatch.setattr(focus, "PART_ROWS", 2)
    known = {"file_name": "bill", "context": Context({})}
    parts = [part["cloud_charges"] for part in focus.read_parts(buffer.getvalue(), **known)]
    assert [len(part) for part in parts] == [2, 2, 1]
    assert_frame_equal(read(buffer.getvalue()), whole)


def test_a_real_bill_of_three_clouds_is_read_whole():
    rows = read(real_file("focus", "focus_sample.csv"))
    assert rows["reject_reason"].drop_nulls().to_list() == []
    assert rows.group_by("provider_name").len().sort("provider_name").rows() == [
        ("AWS", 942),
        ("Microsoft", 51),
        ("Oracle", 7),
    ]
    assert rows["billed_cost"].is_finite().all()
    first = rows.row(0, named=True)
    assert (first["billed_cost"], first["charge_period_started_at"], first["tags"]) == (
        8e-07,
        datetime(2024, 9, 18, 22, tzinfo=UTC),
        None,
    )
    assert RAW_TABLES["cloud_charges"].schema.columns().keys() >= set(rows.columns) - {
        "reject_reason"
    }


@pytest.mark.parametrize("file_name", ["manifest.json", "gpu-export-Manifest.json"])
def test_the_manifest_of_an_export_charges_nothing(file_name: str):
    assert focus.read(b'{"dataFiles": []}', file_name=file_name, context=Context({})) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER.replace("EffectiveCost,", "").encode(), "missing: EffectiveCost"),
        (b"ProviderName\n", r"found the columns \['ProviderName'\], expected"),
        # What is wrong with all of it is said before what is wrong with its last line.
        (b"a,b\n1,2", r"found the columns \['a', 'b'\], expected those of FOCUS"),
        (b"", "the file is empty: expected a FOCUS bill"),
        (b"PAR1", "Parquet that cannot be read"),
        (HEADER.encode() + b"AWS", "the file ends within this row"),
        (HEADER.encode() + b'AWS,"1,USD\n', "line 2 is no CSV"),
    ],
)
def test_what_is_no_bill_is_refused_in_words(content: bytes, message: str):
    with pytest.raises(UnreadableFile, match=message):
        read(content)


def written(rows: list[list[str]], end: str) -> bytes:
    """The rows as CSV, each field quoted where it has to be."""
    return "".join(
        ",".join(
            f'"{field.replace(chr(34), chr(34) * 2)}"' if set(field) & set('",\r\n') else field
            for field in row
        )
        + end
        for row in rows
    ).encode()


BILL = [
    [*HEADER.strip().split(",")[:-1], "Tags"],
    *(
        ["AWS", "1", "USD", "2024-09-01T00:00:00Z", "2024-10-01T00:00:00Z", *charged]
        for charged in (
            ["2024-09-18T22:00:00Z", "2024-09-18T23:00:00Z", "Usage", "0.8", "0.7", "A3", ""],
            ["2024-09-18T22:00:00Z", "2024-09-18T23:00:00Z", "Usage", "12", "10.25", "A3", "{}"],
            ["2024-09-01T00:00:00Z", "2024-10-01T00:00:00Z", "Tax", "5", "5", "", '{"a": "b, c"}'],
        )
    ),
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_bill_cut_at_any_byte_is_refused_or_has_no_wrong_line(end: str):
    content = written(BILL, end)
    whole = read(content)
    assert whole["reject_reason"].to_list() == [None] * 3
    refused = 0
    for length in range(len(content)):
        try:
            rows = read(content[:length])
        except UnreadableFile:
            refused += 1
        else:
            assert rows.equals(whole.head(len(rows)))
    # All but those at or within the end of a line, and the whole.
    assert refused == len(content) - (4 * len(end) - 1)


FIELD = st.text(st.sampled_from('ab1," €'), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.lists(FIELD, min_size=1, max_size=14), max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_every_line_of_a_bill_is_loaded_or_refused_with_a_reason(lines, end):
    lines = [line for line in lines if any(map(str.strip, line))]
    rows = read(written([BILL[0], *lines], end))
    assert len(rows) == len(lines)
    assert rows["reject_reason"].null_count() == 0
