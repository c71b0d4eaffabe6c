"""Outage and curtailment CSV from grid events.

What belongs here: the text of the canonical CSV described in `connectors/outages_csv.py`. What does
not: when events happen (the simulator).
"""

import polars as pl

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def write_outages(grid_events: pl.DataFrame) -> bytes:
    """Write one line per event; `published_at` is filled when the frame has `known_at`."""
    known = pl.col("known_at") if "known_at" in grid_events.columns else None
    text = grid_events.select(
        "event_id",
        "target",
        "event_type",
        pl.col("started_at").dt.strftime(_TIME),
        pl.col("ended_at").dt.strftime(_TIME),
        "import_limit_kw",
        pl.when("is_cancelled")
        .then(pl.lit("cancelled"))
        .otherwise(pl.lit("active"))
        .alias("status"),
        (pl.lit(None, pl.String) if known is None else known.dt.strftime(_TIME)).alias(
            "published_at"
        ),
    )
    return text.write_csv().encode()
