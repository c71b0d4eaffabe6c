"""Reads cloud bills in FOCUS 1.0 to 1.2, the FinOps Open Cost and Usage Specification.

What belongs here: FOCUS's columns, CSV and Parquet, and its text forms (literal NULL, times in
UTC). What does not: what a charge means for a GPU-hour (dbt).
"""

from collections.abc import Iterator

import polars as pl

from pipelines.connectors.common import (
    LEFT_OUT_REASON,
    PART_ROWS,
    REJECT_REASON,
    Context,
    Tables,
    UnreadableFile,
    joined,
)
from pipelines.connectors.parsing import (
    CUT_OFF,
    DAMAGED_TABLE,
    assemble,
    csv_rows,
    instant,
    is_whole_text,
    number,
    text,
)

_TEXTS = {
    "ProviderName": "provider_name",
    "BillingAccountId": "billing_account_id",
    "SubAccountId": "sub_account_id",
    "ChargeCategory": "charge_category",
    "ChargeClass": "charge_class",
    "ChargeDescription": "charge_description",
    "ServiceCategory": "service_category",
    "ServiceName": "service_name",
    "SkuId": "sku_id",
    "RegionId": "region_id",
    "ResourceId": "resource_id",
    "PricingCategory": "pricing_category",
    "PricingUnit": "pricing_unit",
    "ConsumedUnit": "consumed_unit",
    "BillingCurrency": "currency_code",
    "CommitmentDiscountId": "commitment_discount_id",
    "CommitmentDiscountCategory": "commitment_discount_category",
    "CommitmentDiscountType": "commitment_discount_type",
    "CommitmentDiscountStatus": "commitment_discount_status",
    "Tags": "tags",
}
_TIMES = {
    "BillingPeriodStart": "billing_period_started_at",
    "BillingPeriodEnd": "billing_period_ended_at",
    "ChargePeriodStart": "charge_period_started_at",
    "ChargePeriodEnd": "charge_period_ended_at",
}
_NUMBERS = {
    "PricingQuantity": "pricing_quantity",
    "ConsumedQuantity": "consumed_quantity",
    "ListUnitPrice": "list_unit_price",
    "ContractedUnitPrice": "contracted_unit_price",
    "BilledCost": "billed_cost",
    "EffectiveCost": "effective_cost",
    "ListCost": "list_cost",
    "ContractedCost": "contracted_cost",
}
# Those without which a charge cannot be placed in time, account and money.
_MANDATORY = (
    "ProviderName",
    "BillingAccountId",
    "BillingCurrency",
    *_TIMES,
    "ChargeCategory",
    "BilledCost",
    "EffectiveCost",
)
_NOTHING = ("", "NULL", "null")
_EXPECTED = "a FOCUS bill, CSV or Parquet"


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `cloud_charges`: one per charge line; columns beyond FOCUS's are ignored.

    A manifest, which clouds put beside an export's files, charges nothing.

    Raises:
        UnreadableFile: neither CSV nor Parquet, or a mandatory column is missing.
    """
    return joined(read_parts(content, file_name=file_name, context=context))


def read_parts(content: bytes, *, file_name: str, context: Context) -> Iterator[Tables]:
    """The same of a large bill in Parquet part by part.

    Raises:
        UnreadableFile: as `read` does, and with any part.
    """
    del context
    if file_name.lower().endswith("manifest.json"):
        yield {}
        return
    for charges in _charges(content, file_name):
        yield _rows(charges)


def _rows(charges: pl.DataFrame) -> Tables:
    kept = (name for name in (REJECT_REASON, LEFT_OUT_REASON) if name in charges.columns)
    rows = charges.select(
        *(
            _as_text(name, charges.schema[name])
            for name in (*_TEXTS, *_TIMES, *_NUMBERS)
            if name in charges.columns
        ),
        *kept,
    )
    fields = {name: text(name) for name in _TEXTS}
    fields |= {name: instant(name, is_utc=True) for name in _TIMES}
    fields |= {name: number(name) for name in _NUMBERS}
    fields |= {name: fields[name].required(name, "a value") for name in _MANDATORY}
    columns = _TEXTS | _TIMES | _NUMBERS
    present = {columns[name]: fields[name] for name in columns if name in rows.columns}
    return {"cloud_charges": assemble(rows, present)}


def _require_columns(columns: list[str], file_name: str) -> None:
    missing = [name for name in _MANDATORY if name not in columns]
    if missing:
        found = [name for name in columns if name not in (REJECT_REASON, LEFT_OUT_REASON)]
        raise UnreadableFile(
            f"{file_name}: found the columns {found[:8]}, expected those of FOCUS 1.0 "
            f"to 1.2 (missing: {', '.join(missing)}); export the bill as FOCUS with all columns"
        )


def _charges(content: bytes, file_name: str) -> Iterator[pl.DataFrame]:
    if not content.startswith(b"PAR1"):
        try:
            charges = csv_rows(content, expected=_EXPECTED)
        except UnreadableFile as error:
            raise UnreadableFile(f"{file_name}: {error}") from error
        _require_columns(charges.columns, file_name)
        # A bill stands for its whole period, so one that is cut off is none.
        if not is_whole_text(content[-1:].decode("latin-1")):
            raise UnreadableFile(f"{file_name}: {CUT_OFF}")
        yield charges
        return
    try:
        bill = pl.scan_parquet(content)
        _require_columns(bill.collect_schema().names(), file_name)
        row_count = bill.select(pl.len()).collect().item()
        for first in range(0, max(row_count, 1), PART_ROWS):
            yield bill.slice(first, PART_ROWS).collect()
    except DAMAGED_TABLE as error:
        raise UnreadableFile(
            f"{file_name}: Parquet that cannot be read ({error}): expected {_EXPECTED}; export it"
            " again"
        ) from error


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as FOCUS writes it in CSV: null where nothing, times in UTC, tags as JSON."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        zoned = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
        return zoned.dt.strftime("%Y-%m-%dT%H:%M:%S%.f").alias(name)
    if isinstance(dtype, pl.Struct):
        return column.struct.json_encode().alias(name)
    if isinstance(dtype, pl.List):
        # Parquet keeps Tags as a map, which arrives as a list of key and value.
        key, value = (_json_text(pl.element().struct.field(part)) for part in ("key", "value"))
        pairs = column.list.eval(pl.concat_str(key, pl.lit(":"), value))
        return pl.format("{{{}}}", pairs.list.join(",")).alias(name)
    text = column.cast(pl.String).str.strip_chars()
    return pl.when(~text.is_in(_NOTHING)).then(text).alias(name)


def _json_text(text: pl.Expr) -> pl.Expr:
    escaped = text.str.replace_all("\\", "\\\\", literal=True).str.replace_all(
        '"', '\\"', literal=True
    )
    return pl.format('"{}"', escaped).fill_null("null")
