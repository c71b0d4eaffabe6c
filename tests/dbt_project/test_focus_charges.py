"""What FOCUS 1.2 demands of a cost and usage table, tried on the demo's `focus_charges`.

The rules are those of the specification's columns, in its own words where they are short:
https://focus.finops.org/focus-specification/v1-2/. Names that a bill may leave out and the book
does not keep (of a cloud's SKU prices and resource types) are asked of own sites alone.
"""

import json
from datetime import timedelta

import duckdb
import polars as pl
import pytest
from polars import col

from pipelines.book import Book

STRING, DECIMAL, TIME = "VARCHAR", "DOUBLE", "TIMESTAMP WITH TIME ZONE"

# Feature level mandatory, and whether nulls are allowed.
MANDATORY = {
    "BilledCost": (DECIMAL, False),
    "BillingAccountId": (STRING, False),
    "BillingAccountName": (STRING, True),
    "BillingCurrency": (STRING, False),
    "BillingPeriodEnd": (TIME, False),
    "BillingPeriodStart": (TIME, False),
    "ChargeCategory": (STRING, False),
    "ChargeClass": (STRING, True),
    "ChargeDescription": (STRING, True),
    "ChargePeriodEnd": (TIME, False),
    "ChargePeriodStart": (TIME, False),
    "ContractedCost": (DECIMAL, False),
    "EffectiveCost": (DECIMAL, False),
    "InvoiceIssuerName": (STRING, False),
    "ListCost": (DECIMAL, False),
    "PricingQuantity": (DECIMAL, True),
    "PricingUnit": (STRING, True),
    "ProviderName": (STRING, False),
    "PublisherName": (STRING, False),
    "ServiceCategory": (STRING, False),
    "ServiceName": (STRING, False),
}
# Feature level conditional or recommended: all of them allow nulls.
OTHERS = {
    "AvailabilityZone": STRING,
    "BillingAccountType": STRING,
    "CapacityReservationId": STRING,
    "CapacityReservationStatus": STRING,
    "ChargeFrequency": STRING,
    "CommitmentDiscountCategory": STRING,
    "CommitmentDiscountId": STRING,
    "CommitmentDiscountName": STRING,
    "CommitmentDiscountQuantity": DECIMAL,
    "CommitmentDiscountStatus": STRING,
    "CommitmentDiscountType": STRING,
    "CommitmentDiscountUnit": STRING,
    "ConsumedQuantity": DECIMAL,
    "ConsumedUnit": STRING,
    "ContractedUnitPrice": DECIMAL,
    "InvoiceId": STRING,
    "ListUnitPrice": DECIMAL,
    "PricingCategory": STRING,
    "PricingCurrency": STRING,
    "PricingCurrencyContractedUnitPrice": DECIMAL,
    "PricingCurrencyEffectiveCost": DECIMAL,
    "PricingCurrencyListUnitPrice": DECIMAL,
    "RegionId": STRING,
    "RegionName": STRING,
    "ResourceId": STRING,
    "ResourceName": STRING,
    "ResourceType": STRING,
    "ServiceSubcategory": STRING,
    "SkuId": STRING,
    "SkuMeter": STRING,
    "SkuPriceDetails": STRING,
    "SkuPriceId": STRING,
    "SubAccountId": STRING,
    "SubAccountName": STRING,
    "SubAccountType": STRING,
    "Tags": STRING,
}
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"Correction"},
    "CommitmentDiscountCategory": {"Spend", "Usage"},
    "CommitmentDiscountStatus": {"Used", "Unused"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {
        *("AI and Machine Learning", "Analytics", "Business Applications", "Compute"),
        *("Databases", "Developer Tools", "Multicloud", "Identity", "Integration"),
        *("Internet of Things", "Management and Governance", "Media", "Migration", "Mobile"),
        *("Networking", "Security", "Storage", "Web", "Other"),
    },
}
_CURRENCIES = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN
    BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS
    GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW
    KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD
    NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD
    SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES
    VND VUV WST XAF XCD XOF XPF YER ZAR ZMW"""
ISO_4217 = set(_CURRENCIES.split())
OWN = col("x_CostComponent") != "cloud"
PRICED = col("ChargeCategory").is_in(["Usage", "Purchase"]) & col("ChargeClass").is_null()
USED = (col("ChargeCategory") == "Usage") & (
    col("CommitmentDiscountStatus").fill_null("Used") != "Unused"
)


def differs(cost: str, unit_price: str) -> pl.Expr:
    product = col("PricingQuantity") * col(unit_price)
    is_off = (product - col(cost)).abs() > 1e-9 * pl.max_horizontal(col(cost).abs(), 1.0)
    return is_off & col("ChargeClass").is_null()


# What must not be, and an own charge that would be it.
VIOLATIONS: dict[str, tuple[pl.Expr, dict]] = {
    "a currency that ISO 4217 does not have": (
        ~col("BillingCurrency").is_in(ISO_4217),
        {"BillingCurrency": "Euro"},
    ),
    "a charge period that does not end after it starts": (
        col("ChargePeriodEnd") <= col("ChargePeriodStart"),
        {"ChargePeriodEnd": pl.col("ChargePeriodStart")},
    ),
    "a billing period that does not end after it starts": (
        col("BillingPeriodEnd") <= col("BillingPeriodStart"),
        {"BillingPeriodEnd": pl.col("BillingPeriodStart")},
    ),
    "a charge of another billing period": (
        (col("ChargePeriodStart") < col("BillingPeriodStart"))
        | (col("ChargePeriodEnd") > col("BillingPeriodEnd")),
        {"BillingPeriodStart": pl.col("ChargePeriodEnd")},
    ),
    "usage or a purchase without quantity, unit, category or SKU": (
        PRICED
        & pl.any_horizontal(
            col("PricingQuantity", "PricingUnit", "PricingCategory", "SkuId").is_null()
        ),
        {"PricingUnit": None},
    ),
    "tax with quantity, unit, price or category": (
        (col("ChargeCategory") == "Tax")
        & pl.any_horizontal(
            col("PricingQuantity", "PricingUnit", "PricingCategory", "ListUnitPrice").is_not_null()
        ),
        {"ChargeCategory": "Tax"},
    ),
    "usage or a purchase without list price": (
        PRICED & col("ListUnitPrice").is_null(),
        {"ListUnitPrice": None},
    ),
    "a unit price below 0": (
        (col("ListUnitPrice") < 0) | (col("ContractedUnitPrice") < 0),
        {"ListUnitPrice": -1.0},
    ),
    "a list cost that is not price times quantity": (
        differs("ListCost", "ListUnitPrice"),
        {"ListUnitPrice": pl.col("ListUnitPrice") * 2},
    ),
    "a contracted cost that is not price times quantity": (
        differs("ContractedCost", "ContractedUnitPrice"),
        {"PricingQuantity": pl.col("PricingQuantity") * 2},
    ),
    "usage without consumption, unless a commitment was not used or nobody knows by what work": (
        USED
        & col("ChargeClass").is_null()
        & ~col("ChargeDescription").str.ends_with("held by work that is not known")
        & (col("ConsumedQuantity").is_null() | col("ConsumedUnit").is_null()),
        {"ConsumedQuantity": None},
    ),
    "consumption where nothing was used": (
        ~USED & (col("ConsumedQuantity").is_not_null() | col("ConsumedUnit").is_not_null()),
        {"ChargeCategory": "Credit"},
    ),
    "a negative consumption": (col("ConsumedQuantity") < 0, {"ConsumedQuantity": -1.0}),
    "a unit that is no hyphenated plural": (
        ~col("PricingUnit").str.contains(r"^[A-Z][A-Za-z]*(-[A-Z][a-z]*)?s$")
        | ~col("ConsumedUnit").str.contains(r"^[A-Z][A-Za-z]*(-[A-Z][a-z]*)?s$"),
        {"PricingUnit": "GPU hour"},
    ),
    "a purchase that covers later charges and has effective cost": (
        (col("ChargeCategory") == "Purchase")
        & col("CommitmentDiscountId").is_not_null()
        & (col("EffectiveCost") != 0),
        {"ChargeCategory": "Purchase", "CommitmentDiscountId": "c"},
    ),
    "the purchase of a commitment at the price of what it covers": (
        (col("ChargeCategory") == "Purchase") & (col("PricingCategory") == "Committed"),
        {"ChargeCategory": "Purchase", "PricingCategory": "Committed"},
    ),
    "a credit whose effective cost is not what is billed": (
        (col("ChargeCategory") == "Credit") & (col("EffectiveCost") != col("BilledCost")),
        {"ChargeCategory": "Credit", "BilledCost": 0.0, "EffectiveCost": -1.0},
    ),
    "a commitment's category or status without commitment, or its category missing": (
        (col("CommitmentDiscountId").is_null() & col("CommitmentDiscountStatus").is_not_null())
        | (col("CommitmentDiscountId").is_null() != col("CommitmentDiscountCategory").is_null()),
        {"CommitmentDiscountStatus": "Used"},
    ),
    "a name without id, or a resource of our own without name or type": (
        (col("ResourceId").is_null() & col("ResourceName").is_not_null())
        | (col("SubAccountId").is_null() & col("SubAccountName").is_not_null())
        | (OWN & (col("ResourceName").is_null() | col("ResourceType").is_null())),
        {"ResourceType": None},
    ),
    "a charge of our own without SKU price": (
        OWN & col("SkuPriceId").is_null(),
        {"SkuPriceId": None},
    ),
    "depreciation that is billed, or costs nothing": (
        (col("x_CostComponent") == "depreciation")
        & ((col("BilledCost") != 0) | (col("EffectiveCost") <= 0)),
        {"x_CostComponent": "depreciation"},
    ),
    "depreciation outside its time": (
        (col("x_CostComponent") == "depreciation")
        & (
            (col("ChargePeriodStart") < col("x_AmortizationPeriodStart")).fill_null(value=True)
            | (col("ChargePeriodEnd") > col("x_AmortizationPeriodEnd")).fill_null(value=True)
        ),
        {"x_CostComponent": "depreciation"},
    ),
    "usage of our own that is not billed as it costs": (
        OWN
        & (col("x_CostComponent") != "depreciation")
        & (col("BilledCost") != col("EffectiveCost")),
        {"BilledCost": 0.0},
    ),
    "consumption of our own in another unit than GPU-hours": (
        OWN & (col("ConsumedUnit") != "GPU-Hours"),
        {"ConsumedUnit": "Hours"},
    ),
    "a day of our own that is none": (
        OWN
        & ~(col("ChargePeriodEnd") - col("ChargePeriodStart")).is_between(
            timedelta(hours=23), timedelta(hours=25)
        ),
        {"ChargePeriodEnd": pl.col("ChargePeriodStart") + timedelta(hours=1)},
    ),
}


@pytest.fixture(scope="module")
def published(demo_book: Book) -> tuple[dict[str, str], pl.DataFrame]:
    """Type by column, and the rows, as finance gets them."""
    with duckdb.connect(str(demo_book.published / "finance.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        charges = connection.table("marts.focus_charges")
        types = {name: str(kind) for name, kind in zip(charges.columns, charges.types, strict=True)}
        rows = pl.from_arrow(charges.to_arrow_table())
    assert isinstance(rows, pl.DataFrame)
    return types, rows


@pytest.fixture(scope="module")
def charges(published) -> pl.DataFrame:
    return published[1]


def test_every_mandatory_column_is_there_under_its_name_and_with_its_type(published):
    types, _ = published
    known = {name: kind for name, (kind, _) in MANDATORY.items()} | OTHERS
    assert MANDATORY.keys() <= types.keys()
    assert {name: kind for name, kind in types.items() if not name.startswith("x_")} == {
        name: known.get(name) for name in types if not name.startswith("x_")
    }


def test_columns_that_are_not_focus_s_have_its_prefix_and_case(published):
    types, _ = published
    own = [name for name in types if name not in MANDATORY and name not in OTHERS]
    assert own
    assert pl.Series(own).str.contains(r"^x_([A-Z][a-z]+)+$").all()


def test_what_must_not_be_null_is_not_and_no_text_is_empty(charges):
    nulls = {
        name: charges[name].null_count()
        for name, (_, allows_nulls) in MANDATORY.items()
        if not allows_nulls
    }
    assert nulls == dict.fromkeys(nulls, 0)
    assert charges.select(pl.col(pl.String) == "").sum().row(0) == (0,) * len(
        charges.select(pl.col(pl.String)).columns
    )


@pytest.mark.parametrize("name", ALLOWED)
def test_only_allowed_values_stand_in_a_column_that_lists_them(charges, name):
    assert set(charges[name].drop_nulls()) <= ALLOWED[name]


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_no_charge_is(charges, violation):
    found = charges.filter(VIOLATIONS[violation][0])
    assert found.head(3).to_dicts() == []


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_the_rules_would_find(charges, violation):
    charge = charges.filter(
        OWN & (col("ChargeCategory") == "Usage") & (col("x_CostComponent") == "tariff_energy")
    ).head(1)
    rule, changes = VIOLATIONS[violation]
    assert charge.filter(rule).is_empty()
    broken = charge.with_columns(
        **{
            name: value if isinstance(value, pl.Expr) else pl.lit(value)
            for name, value in changes.items()
        }
    )
    assert len(broken.filter(rule)) == 1


def test_tags_are_json_objects_that_name_site_and_workload(charges):
    tags = charges.filter(OWN).select("Tags", "x_SiteId", "x_WorkloadId").unique()
    assert len(tags) > 5
    assert [json.loads(text) for text in tags["Tags"]] == [
        {"site": site, "workload": workload} for _, site, workload in tags.rows()
    ]
    assert all(isinstance(json.loads(text), dict) for text in charges["Tags"].drop_nulls().unique())


def test_own_sites_allocations_and_the_cloud_stand_in_one_table(charges):
    services = charges.group_by("x_SiteId").agg(col("ServiceName").unique()).sort("x_SiteId")
    assert services.rows() == [
        ("cloud-us-south", ["Virtual machines"]),
        ("franklin", ["Own site GPU"]),
        ("juelich", ["HPC allocation GPU"]),
        ("sparks", ["Own site GPU"]),
    ]
    kinds = set(charges.filter(col("x_SiteId") == "sparks")["x_CostComponent"])
    energy = {"tariff_energy", "network", "demand", "battery"}
    assert energy | {"depreciation", "operations"} <= kinds


def test_a_gpu_hour_counts_once_whatever_the_number_of_its_charges(charges, demo_book):
    counted = charges.group_by("x_SiteId").agg(col("x_GpuHours").sum())
    with duckdb.connect(str(demo_book.published / "finance.duckdb"), read_only=True) as connection:
        held = connection.execute(
            "select site_id, sum(allocated_gpu_hours) from marts.fct_all_in_costs group by site_id"
        ).fetchall()
    assert len(held) == 4
    assert dict(counted.rows()) == pytest.approx(dict(held))
