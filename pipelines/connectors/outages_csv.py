"""Outage and curtailment CSV: the one contract for grid events told in a table.

What belongs here: that contract and reading it. What does not: OpenADR (`openadr.py`), and which
site a target is (`grid_event_target` in reference).

Columns, in any order, others ignored:

| column | what |
|---|---|
| `event_id` | the sender's id; a later line or file with the same id and target replaces it |
| `target` | as a site's `grid_event_target` |
| `event_type` | grid_outage, curtailment_order or alert |
| `started_at`, `ended_at` | ISO 8601 with Z or an offset; `ended_at` empty while it lasts |
| `import_limit_kw` | for a curtailment_order the kW still allowed; else empty |
| `status` | active or cancelled; optional, empty is active |
| `published_at` | since when this line is known; optional |
"""

import polars as pl

from pipelines.connectors.common import Context, Tables
from pipelines.connectors.parsing import (
    Field,
    Problem,
    assemble,
    code,
    constant,
    csv_rows,
    instant,
    number,
    require_columns,
    text,
)

_REQUIRED = ["event_id", "target", "event_type", "started_at", "ended_at", "import_limit_kw"]
_EXPECTED = f"an outage CSV with the columns {', '.join(_REQUIRED)}"
_EVENT_TYPES = ["grid_outage", "curtailment_order", "alert"]


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Read grid events, one per line.

    Raises:
        UnreadableFile: when it is not such a CSV.
    """
    del file_name, context
    rows = csv_rows(content, expected=_EXPECTED)
    require_columns(rows, _REQUIRED, expected=_EXPECTED)
    fields = {
        "event_id": text("event_id").required("event_id", "the sender's id of the event"),
        "target": text("target").required("target", "the grid_event_target of a site"),
        "event_type": code("event_type", {name: name for name in _EVENT_TYPES}).required(
            "event_type", f"one of {', '.join(_EVENT_TYPES)}"
        ),
        "started_at": instant("started_at").required("started_at", "a time with its zone"),
        "ended_at": instant("ended_at"),
        "import_limit_kw": number("import_limit_kw", at_least=0),
        "is_cancelled": _is_cancelled(rows),
    }
    if "published_at" in rows.columns:
        fields["known_at"] = instant("published_at")
    started, ended = fields["started_at"].value, fields["ended_at"].value
    limit = fields["import_limit_kw"]
    is_unlimited = (fields["event_type"].value == "curtailment_order") & limit.value.is_null()
    problems = (
        Problem(
            ended <= started,
            pl.format("ended_at {} is not after started_at {}", "ended_at", "started_at"),
        ),
        Problem(
            is_unlimited & ~limit.has_problem(),
            pl.lit("import_limit_kw is empty: expected the kW that the curtailment_order allows"),
        ),
    )
    return {"grid_events": assemble(rows, fields, problems=problems)}


def _is_cancelled(rows: pl.DataFrame) -> Field:
    if "status" not in rows.columns:
        return constant(value=False, dtype=pl.Boolean)
    status = code("status", {"active": "active", "cancelled": "cancelled"})
    return Field(status.value.fill_null("active") == "cancelled", status.problems)
