"""Battery telemetry CSV: the one contract that a battery's data export is mapped to.

What belongs here: that contract and reading it. What does not: vendors' own layouts, and the sign
of `power_kw` (pinned per battery in reference data).

Columns, in any order, others ignored:

| column | what |
|---|---|
| `timestamp` | time of the sample, ISO 8601 with Z or an offset |
| `battery_id` | as in `reference/` |
| `state_of_charge_pct` | stored energy in percent of capacity, 0 to 100; may be empty |
| `power_kw` | AC power at the sample; may be empty |
| `available_charge_kw`, `available_discharge_kw` | what it could take and give; optional |
| `energy_capacity_kwh` | usable capacity; optional |
| `state` | charging, discharging, holding, standby, disconnected or fault |
"""

import polars as pl

from pipelines.connectors.common import Context, Tables
from pipelines.connectors.parsing import (
    Field,
    assemble,
    code,
    constant,
    csv_rows,
    instant,
    number,
    require_columns,
    text,
)

_EXPECTED = (
    "a battery CSV with the columns timestamp, battery_id, state_of_charge_pct, power_kw, state"
)
_REQUIRED = ["timestamp", "battery_id", "state_of_charge_pct", "power_kw", "state"]
_OPTIONAL = ["available_charge_kw", "available_discharge_kw", "energy_capacity_kwh"]
_STATES = ["charging", "discharging", "holding", "standby", "disconnected", "fault"]


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read battery samples, one per line.

    Raises:
        UnreadableFile: when it is not such a CSV.
    """
    del file_name, context
    rows = csv_rows(content, expected=_EXPECTED)
    require_columns(rows, _REQUIRED, expected=_EXPECTED)
    state_of_charge = number("state_of_charge_pct", at_least=0, at_most=100)
    optional = {
        name: number(name, at_least=0) if name in rows.columns else constant(None, pl.Float64)
        for name in _OPTIONAL
    }
    samples = assemble(
        rows,
        {
            "battery_id": text("battery_id").required("battery_id", "the battery's id"),
            "sampled_at": instant("timestamp").required("timestamp", "a time with its zone"),
            "state_of_charge_ratio": Field(state_of_charge.value / 100, state_of_charge.problems),
            "power_kw": number("power_kw"),
            **optional,
            "state": code("state", {state: state for state in _STATES}).required(
                "state", f"one of {', '.join(_STATES)}"
            ),
        },
    )
    return {"battery_samples": samples}
