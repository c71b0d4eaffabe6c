"""Times what one contract of five years at 15 minutes takes to settle and to state.

    python -m benchmarks.settlement [--years 5] [--repeats 3]

What belongs here: the time of the settlement models, each contract kind by itself, on made-up
readings and prices in memory. What does not: compiling the models and filling their inputs, which
are not counted.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from tests.dbt_project.settlement_models import CONTRACT, MODELS, SettlementModels, quarters

KINDS: dict[str, dict[str, Any]] = {
    "ppa_pay_as_produced": {
        "price_per_mwh": 40.0,
        "negative_price_clause": "no_volume",
        "negative_price_hours": 4,
        "annual_volume_mwh": 90_000.0,
        "tolerance_ratio": 0.1,
        "shortfall_price_per_mwh": 20.0,
        "excess_price_per_mwh": 15.0,
    },
    "ppa_baseload": {"price_per_mwh": 70.0, "baseload_mw": 8.0, "shape_risk": "buyer"},
    "vppa_cfd": {"price_per_mwh": 40.0, "negative_price_clause": "zero_floor"},
    "collar": {"floor_price_per_mwh": 30.0, "cap_price_per_mwh": 60.0},
}


def main() -> None:
    """Settle each kind and print its fastest time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    start, end = (
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020 + arguments.years, 1, 1, tzinfo=UTC),
    )
    intervals = quarters(start, (end - start).days * 96)
    index = pl.int_range(pl.len())
    values = intervals.with_columns(
        minutes=pl.lit(15),
        energy_kwh=((index * 7919) % 5_000).cast(pl.Float64),
        price_per_mwh=((index // 4 * 104_729) % 16_000) / 100 - 20,
    )
    shown = Table("kind", "intervals", "lines", "seconds")
    with tempfile.TemporaryDirectory() as folder:
        models = SettlementModels(Path(folder))
        for kind, terms in KINDS.items():
            contract = {**CONTRACT, "kind": kind, "valid_from_at": start, **terms}
            book = models.run(
                [contract],
                intervals,
                values.select("interval_started_at", "minutes", "energy_kwh"),
                values.select("interval_started_at", "minutes", "price_per_mwh"),
            )
            times = []
            for _ in range(arguments.repeats):
                started_at = time.perf_counter()
                for name in MODELS[MODELS.index("int_contract_prices") :]:
                    node = models.nodes[name]
                    book.execute(
                        f"create or replace table warehouse.{node.schema}.{name} as"
                        f" {node.compiled_code}"
                    )
                times.append(time.perf_counter() - started_at)
            [(lines,)] = book.execute(
                "select count(*) from warehouse.marts.fct_contract_statements"
            ).fetchall()
            shown.add_row(kind, f"{len(intervals):,}", f"{lines:,}", f"{min(times):.2f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
