"""Writes cloud charges as a FOCUS 1.2 cost and usage file.

What belongs here: FOCUS's column names and text forms. What does not: the making of charges.
"""

import polars as pl

_COLUMNS = {
    "BilledCost": "billed_cost",
    "BillingAccountId": "billing_account_id",
    "BillingCurrency": "currency_code",
    "BillingPeriodEnd": "billing_period_ended_at",
    "BillingPeriodStart": "billing_period_started_at",
    "ChargeCategory": "charge_category",
    "ChargeClass": "charge_class",
    "ChargeDescription": "charge_description",
    "ChargePeriodEnd": "charge_period_ended_at",
    "ChargePeriodStart": "charge_period_started_at",
    "CommitmentDiscountCategory": "commitment_discount_category",
    "CommitmentDiscountId": "commitment_discount_id",
    "CommitmentDiscountStatus": "commitment_discount_status",
    "CommitmentDiscountType": "commitment_discount_type",
    "ConsumedQuantity": "consumed_quantity",
    "ConsumedUnit": "consumed_unit",
    "ContractedCost": "contracted_cost",
    "ContractedUnitPrice": "contracted_unit_price",
    "EffectiveCost": "effective_cost",
    "ListCost": "list_cost",
    "ListUnitPrice": "list_unit_price",
    "PricingCategory": "pricing_category",
    "PricingQuantity": "pricing_quantity",
    "PricingUnit": "pricing_unit",
    "ProviderName": "provider_name",
    "RegionId": "region_id",
    "ResourceId": "resource_id",
    "ServiceCategory": "service_category",
    "ServiceName": "service_name",
    "SkuId": "sku_id",
    "SubAccountId": "sub_account_id",
    "Tags": "tags",
}
# Columns that a bill must have though the book has no use for them, and what stands in each.
_ALSO = {
    "BillingAccountName": "BillingAccountId",
    "CommitmentDiscountName": "CommitmentDiscountId",
    "InvoiceIssuerName": "ProviderName",
    "PublisherName": "ProviderName",
    "RegionName": "RegionId",
    "ResourceName": "ResourceId",
    "SkuPriceId": "SkuId",
    "SubAccountName": "SubAccountId",
}


def write_focus(cloud_charges: pl.DataFrame) -> bytes:
    """A FOCUS 1.2 CSV: one line per charge, ISO 8601 times in UTC, null as an empty field."""
    times = [name for name in _COLUMNS.values() if name.endswith("_at")]
    text = (
        cloud_charges.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        .select(pl.col(column).alias(name) for name, column in _COLUMNS.items())
        .with_columns(
            *(pl.col(other).alias(name) for name, other in _ALSO.items()),
            # An id is its kind, a slash and a name.
            ResourceType=pl.col("ResourceId").str.extract("^([^/]+)/"),
        )
        .write_csv()
    )
    return text.encode()
