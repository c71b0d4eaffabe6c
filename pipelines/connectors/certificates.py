"""Energy attribute certificates in the columns of EnergyTag's granular certificate registry.

What belongs here: that CSV and reading it; guarantees of origin of a month or a year are written in
the same columns. What does not: which certificates count, and for which consumption (dbt).

Columns, in any order, others ignored:

| column | what |
|---|---|
| `issuance_id` | the issuance; the children of a split bundle keep it |
| `bundle_quantity` | number of certificates: last less first number, plus 1 |
| `certificate_bundle_id_range_start`, `certificate_bundle_id_range_end` | first and last number |
| `energy_carrier` | electricity; certificates of hydrogen, gas and others are left out |
| `energy_source` | solar_pv, wind, hydro, ... |
| `face_value` | Wh of each certificate |
| `production_starting_interval`, `production_ending_interval` | production, UTC, end exclusive |
| `expiry_datestamp` | when it becomes invalid unless cancelled; may be empty |
| `is_storage` | whether a storage device gave off the energy |
| `issuing_body`, `issue_market_zone` | who issued it, for which zone |
| `device_id` | production device; optional |
| `certificate_bundle_status` | Active, Cancelled, Claimed, ...; optional, else Active |

Times are DD/MM/YYYY HH:MM or ISO 8601, in UTC unless they carry an offset: the standard has them in
UTC. `local_timezone` only says where the device is: the registry's own example is a Texan solar
bundle of 15:00, by its id, whose production starts at 21:00, which is 15:00 in UTC-6.
"""

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    code,
    constant,
    csv_rows,
    parsed_instant,
    problem,
    require_columns,
    text,
)

_REQUIRED = [
    *("issuance_id", "bundle_quantity"),
    *("certificate_bundle_id_range_start", "certificate_bundle_id_range_end"),
    *("energy_carrier", "energy_source", "face_value"),
    *("production_starting_interval", "production_ending_interval", "expiry_datestamp"),
    *("is_storage", "issuing_body", "issue_market_zone"),
]
_MOST_CERTIFICATES = 10**12
_LARGEST_FACE_VALUE = 10**6
"""Wh: the megawatt-hour of a guarantee of origin."""
_LARGEST_NUMBER = 10**18
_EXPECTED = f"an EnergyTag certificate CSV with the columns {', '.join(_REQUIRED)}"
_OTHER_CARRIERS = {
    name: name for name in ("natural_gas", "natural gas", "hydrogen", "ammonia", "heat", "other")
}
_ENERGY_SOURCES = {
    **dict.fromkeys(("solar", "solar_pv", "solar_thermal"), "solar"),
    **dict.fromkeys(("wind", "wind_onshore", "wind_offshore"), "wind"),
    **{name: name for name in ("hydro", "biomass", "nuclear", "geothermal", "coal", "gas", "oil")},
    **dict.fromkeys(("battery_storage", "electrolysis", "chp", "other"), "unknown"),
}
"""Names of the registry and, where they have one, of the emission factors."""
_STATUSES = {
    **{name: name for name in ("active", "cancelled", "claimed", "expired")},
    **{name: name for name in ("withdrawn", "locked", "reserved")},
    **dict.fromkeys(("bundle split", "bundle_split"), "bundle_split"),
}


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read certificate bundles, one per line.

    Raises:
        UnreadableFile: when it is not such a CSV.
    """
    del file_name, context
    rows = csv_rows(content, expected=_EXPECTED)
    require_columns(rows, _REQUIRED, expected=_EXPECTED)
    count = _whole("bundle_quantity", at_least=1, at_most=_MOST_CERTIFICATES)
    first = _whole("certificate_bundle_id_range_start", at_least=0, at_most=_LARGEST_NUMBER)
    last = _whole("certificate_bundle_id_range_end", at_least=0, at_most=_LARGEST_NUMBER)
    face_value = _whole("face_value", at_least=1, at_most=_LARGEST_FACE_VALUE)
    carrier = code("energy_carrier", {"electricity": "electricity"} | _OTHER_CARRIERS).required(
        "energy_carrier", "electricity"
    )
    is_other = carrier.value.is_in(list(_OTHER_CARRIERS.values()))
    if rows.select(is_other.any()).item():
        no_electricity = pl.format("energy_carrier {}: no electricity", "energy_carrier")
        own = [LEFT_OUT_REASON] if LEFT_OUT_REASON in rows.columns else []
        left_out = pl.coalesce(*own, pl.when(is_other).then(no_electricity))
        rows = rows.with_columns(left_out.alias(LEFT_OUT_REASON))
    started = _instant("production_starting_interval").required(
        "production_starting_interval", "a time in UTC"
    )
    ended = _instant("production_ending_interval").required(
        "production_ending_interval", "a time in UTC"
    )
    status = constant("active")
    if "certificate_bundle_status" in rows.columns:
        told = code("certificate_bundle_status", _STATUSES)
        status = Field(
            pl.when(~told.has_problem()).then(told.value.fill_null("active")), told.problems
        )
    problems = (
        *carrier.problems,
        *count.problems,
        *face_value.problems,
        Problem(
            last.value - first.value + 1 != count.value,
            pl.format(
                "bundle_quantity {}: expected {}, the numbers from {} to {}",
                count.value,
                last.value - first.value + 1,
                first.value,
                last.value,
            ),
        ),
        Problem(
            ended.value <= started.value,
            pl.format(
                "production_ending_interval {} is not after production_starting_interval {}",
                "production_ending_interval",
                "production_starting_interval",
            ),
        ),
    )
    fields = {
        "issuing_body": text("issuing_body").required("issuing_body", "who issued the bundle"),
        "issuance_id": text("issuance_id").required("issuance_id", "the id of the issuance"),
        "device_id": text("device_id") if "device_id" in rows.columns else constant(None),
        "first_certificate": first,
        "last_certificate": last,
        "quantity_wh": Field(count.value * face_value.value),
        "energy_source": code("energy_source", _ENERGY_SOURCES).required(
            "energy_source", "a source such as wind"
        ),
        "production_started_at": started,
        "production_ended_at": ended,
        "expires_at": _instant("expiry_datestamp"),
        "is_storage": _is_storage(),
        "market_zone": text("issue_market_zone").required("issue_market_zone", "a market zone"),
        "status": status,
    }
    return {"certificates": assemble(rows, fields, problems=problems)}


def _whole(column: str, *, at_least: int, at_most: int) -> Field:
    value = pl.col(column).cast(pl.Int64, strict=False)
    is_fine = value.is_between(at_least, at_most).fill_null(value=False)
    expected = f"a whole number from {at_least} to {at_most}"
    return Field(
        pl.when(is_fine).then(value),
        (problem(~is_fine, field=column, found=pl.col(column), expected=expected),),
    )


def _is_storage() -> Field:
    told = code("is_storage", {"true": "true", "false": "false"}).required(
        "is_storage", "true or false"
    )
    return Field(told.value == "true", told.problems)


def _instant(column: str) -> Field:
    """A time in UTC, or with an offset, day first or ISO 8601; of a bare day its midnight."""
    raw = pl.col(column)
    iso = raw.str.replace(r"^(\d{2})/(\d{2})/(\d{4})", "${3}-${2}-${1}").str.replace(
        r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00"
    )
    value = parsed_instant(iso, is_utc=True)
    expected = "a time such as 31/12/2026 23:00 or 2026-12-31T23:00:00Z"
    is_wrong = raw.is_not_null() & value.is_null()
    return Field(value, (problem(is_wrong, field=column, found=raw, expected=expected),))
