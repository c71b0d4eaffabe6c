"""Electricity Maps carbon intensity: portal CSV of both header vintages, and API JSON.

What belongs here: reading both. What does not: WattTime (`watttime.py`), and which zone a site lies
in (`carbon_zone` in reference).

The zone keeps Electricity Maps' own name (`DE`, `US-TEX-ERCO`). CSV times are UTC, as their header
says. An interval is as long as the file name says (`_hourly`, `_daily`, `_15_minutes`,
`_5_minutes`), else as the shortest step between the times of a zone, at most an hour. An API answer
tells one kind of factor, direct or life cycle, and leaves the other null.
"""

import json
import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from pipelines.connectors.common import REJECT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import (
    Field,
    assemble,
    code,
    constant,
    csv_rows,
    decode,
    instant,
    number,
    require_columns,
    text,
)

_EXPECTED = "an Electricity Maps CSV download or carbon-intensity API answer (JSON)"
_TIME = "datetime (utc)"
# Header, in lower case and with a plain 2, of the vintages until 2024 and since 2025.
_COLUMNS = {
    "zone id": "zone",
    "carbon intensity gco2eq/kwh (direct)": "direct",
    "carbon intensity gco2eq/kwh (lca)": "life_cycle",
    "carbon intensity gco2eq/kwh (life cycle)": "life_cycle",
    "low carbon percentage": "carbon_free_pct",
    "carbon-free energy percentage (cfe%)": "carbon_free_pct",
    "renewable percentage": "renewable_pct",
    "renewable energy percentage (re%)": "renewable_pct",
    "data source": "data_source",
    "data estimated": "is_estimated",
}
_BOOLEAN = {"true": "true", "false": "false"}
_LENGTH = {
    "5_minutes": timedelta(minutes=5),
    "15_minutes": timedelta(minutes=15),
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
}
_HOUR = timedelta(hours=1)


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read carbon intensities, one row per zone and interval.

    Raises:
        UnreadableFile: when it is neither form, or of a granularity above a day.
    """
    del context
    if content.lstrip()[:1] in (b"{", b"["):
        return {"grid_carbon": _read_api(content, file_name)}
    return {"grid_carbon": _read_portal(content, file_name)}


def _read_portal(content: bytes, file_name: str) -> pl.DataFrame:
    rows = csv_rows(content, expected=_EXPECTED)
    names = {
        name: _COLUMNS.get(name.lower().replace("₂", "2"), name.lower()) for name in rows.columns
    }
    if len(set(names.values())) != len(names):
        raise UnreadableFile(f"the header holds a column of both vintages: expected {_EXPECTED}")
    # What is missing is told as downloads call it now.
    headers = {column: header for header, column in _COLUMNS.items()}
    required = [_TIME, "zone", "direct", "life_cycle", "is_estimated"]
    require_columns(
        rows.rename({name: headers.get(column, column) for name, column in names.items()}),
        [headers.get(column, column) for column in required],
        expected=_EXPECTED,
    )
    rows = rows.rename(names)
    return _carbon(rows, _TIME, _interval_length(file_name))


def _read_api(content: bytes, file_name: str) -> pl.DataFrame:
    entries, common = _api_entries(content)
    names = (
        "zone",
        "datetime",
        "updatedAt",
        "carbonIntensity",
        "emissionFactorType",
        "isEstimated",
    )
    told = [{**common, **entry} for entry in entries]
    rows = pl.DataFrame(
        {name: [_as_text(entry.get(name)) for entry in told] for name in names},
        schema=dict.fromkeys(names, pl.String),
    )
    kind = pl.col("emissionFactorType").fill_null("lifecycle").str.to_lowercase()
    intensity = pl.col("carbonIntensity")
    rows = rows.with_columns(
        pl.when(kind == "direct").then(intensity).alias("direct"),
        pl.when(kind == "lifecycle").then(intensity).alias("life_cycle"),
        pl.col("isEstimated").fill_null("false").str.to_lowercase().alias("is_estimated"),
        pl.when(intensity.is_null())
        .then(pl.lit("carbonIntensity is empty: expected gCO2eq/kWh"))
        .when(~kind.is_in(["direct", "lifecycle"]))
        .then(pl.format("emissionFactorType '{}': expected direct or lifecycle", kind))
        .alias(REJECT_REASON),
    )
    granularity = str(common.get("temporalGranularity") or "")
    return _carbon(rows, "datetime", _interval_length(granularity or file_name))


def _api_entries(content: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Entries of an API answer, and what the answer says of all of them."""
    try:
        answer = json.loads(decode(content, expected=_EXPECTED))
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise UnreadableFile(f"not JSON ({error}): expected {_EXPECTED}") from error
    if isinstance(answer, dict):
        entries = answer.get("history", answer.get("data", [answer]))
        common = {key: value for key, value in answer.items() if key not in ("history", "data")}
    else:
        entries, common = answer, {}
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnreadableFile(f"the JSON has no list of intensities: expected {_EXPECTED}")
    if not all("carbonIntensity" in entry and "datetime" in entry for entry in entries):
        raise UnreadableFile(f"an entry lacks carbonIntensity or datetime: expected {_EXPECTED}")
    return entries, common


def _as_text(value: object) -> str | None:
    return None if value in (None, "") else str(value)


def _carbon(rows: pl.DataFrame, time: str, length: timedelta | None) -> pl.DataFrame:
    started = instant(time, is_utc=time == _TIME).required(time, "the start of the interval")
    estimated = code("is_estimated", _BOOLEAN).required("data estimated", "true or false")
    step = started.value.sort().diff()
    shortest = pl.min_horizontal(step.filter(step > timedelta(0)).min().over("zone"), pl.lit(_HOUR))
    ended = started.value + (shortest.fill_null(_HOUR) if length is None else pl.lit(length))
    fields = {
        "zone": text("zone").required("zone id", "the zone, such as DE"),
        "interval_started_at": started,
        "interval_ended_at": Field(ended),
        "direct_g_per_kwh": number("direct", at_least=0),
        "life_cycle_g_per_kwh": number("life_cycle", at_least=0),
        "carbon_free_ratio": _ratio(rows, "carbon_free_pct"),
        "renewable_ratio": _ratio(rows, "renewable_pct"),
        "is_estimated": Field(estimated.value == "true", estimated.problems),
        "data_source": text("data_source") if "data_source" in rows.columns else constant(None),
    }
    if "updatedAt" in rows.columns:
        fields["known_at"] = instant("updatedAt")
    return assemble(rows, fields)


def _ratio(rows: pl.DataFrame, column: str) -> Field:
    if column not in rows.columns:
        return constant(None, pl.Float64)
    percent = number(column, at_least=0, at_most=100)
    return Field(percent.value / 100, percent.problems)


def _interval_length(told: str) -> timedelta | None:
    """Length that a file name or granularity names; null where it names none.

    Raises:
        UnreadableFile: for weekly, monthly, quarterly and yearly means.
    """
    name = PurePosixPath(told).name.lower()
    coarse = re.search(r"(?:^|[_-])(weekly|monthly|quarterly|yearly)(?:[_.-]|$)", name)
    if coarse:
        raise UnreadableFile(
            f"'{told}' says {coarse[1]}: expected hourly means or finer, at most daily"
        )
    found = re.search(r"(?:^|[_-])(5_minutes|15_minutes|hourly|daily)(?:[_.-]|$)", name)
    return _LENGTH[found[1]] if found else None
