"""The settlement models on given frames, without a book: dbt's SQL, compiled once, in memory.

What belongs here: the small world the tests settle in. What does not: any expected figure.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from pipelines import reference, warehouse
from pipelines.book import Book
from pipelines.lake.schemas import RAW_TABLES
from pipelines.simulator.landing import DEMO_REFERENCE

MODELS = (
    "stg_fx_rates",
    "stg_meter_readings",
    "int_meter_readings",
    "stg_market_prices",
    "int_market_prices",
    "int_contract_prices",
    "int_contract_volumes",
    "int_ppa_settlements",
    "fct_contract_settlements",
    "fct_contract_statements",
)
REFERENCE_TABLES = (
    "organization",
    "meters",
    "contracts",
    "contract_kinds",
    "contract_lines",
    "contract_shapes",
    "price_indices",
    "fx_rates",
)
QUARTER = timedelta(minutes=15)
KNOWN_AT = datetime(2020, 1, 1, tzinfo=UTC)
CONTRACT = {
    "contract_id": "contract",
    "kind": "ppa_pay_as_produced",
    "site_id": "campus",
    "time_zone": "UTC",
    "currency_code": "EUR",
    "tax_treatment": "standard",
    "tax_ratio": 0.0,
    "rounding": "half_even",
    "plant_meter_id": "PLANT",
    "share_of_plant": 1.0,
    "settlement_zone": "HUB",
    "market": "day_ahead",
    "settlement_period_minutes": 15,
    "energy_source": "wind_onshore",
    "certificates": "bundled",
    "are_certificates_bundled": True,
    "negative_price_clause": "none",
    "negative_price_hours": 1,
    "negative_price_scope": "whole_run",
    "valid_from_at": datetime(2024, 1, 1, tzinfo=UTC),
}
"""A contract on the whole plant without any clause; its price is for the test to say."""


class SettlementModels:
    """The compiled models, to be run on any frames."""

    def __init__(self, folder: Path) -> None:
        book = Book(folder / "data")
        arguments = ["compile", "--full-refresh", "--select", *MODELS]
        lake = json.dumps({"lake_dir": str(book.lake.resolve())})
        answer = warehouse.invoke_dbt(
            book, (folder / "warehouse.duckdb").resolve(), [*arguments, "--vars", lake]
        )
        assert answer.success, answer.exception
        nodes = {result.node.name: result.node for result in answer.result.results}
        self.nodes = {name: nodes[name] for name in MODELS}
        self.declared = reference.flatten(reference.load(DEMO_REFERENCE))

    def run(
        self,
        contracts: Sequence[dict[str, Any]],
        intervals: pl.DataFrame,
        readings: pl.DataFrame,
        prices: pl.DataFrame,
        **tables: pl.DataFrame,
    ) -> duckdb.DuckDBPyConnection:
        """Settle contracts; tables named `warehouse.<schema>.<model>` hold the outcome.

        Args:
            contracts: Rows of raw.contracts.
            intervals: interval_started_at, of the site all contracts serve.
            readings: interval_started_at, minutes and energy_kwh of the plant.
            prices: interval_started_at, minutes and price_per_mwh of the market.
            tables: Further reference tables by name; without fx_rates one US dollar is 0.9 euro.
        """
        schemas = {
            **{name: reference.TABLES[name] for name in REFERENCE_TABLES},
            **{
                name: {
                    column: kind.dtype for column, kind in RAW_TABLES[name].schema.columns().items()
                }
                for name in ("meter_readings", "market_prices", "exchange_rates")
            },
        }
        meter = {
            "meter_id": "PLANT",
            "flow": "export",
            "site_id": "campus",
            "role": "ppa_generation",
            "multiplier": 1.0,
        }
        days = intervals["interval_started_at"].dt.date().unique()
        revision = {
            "interval_ended_at": pl.col("interval_started_at") + pl.duration(minutes="minutes"),
            "known_at": pl.lit(KNOWN_AT),
            "load_id": pl.lit("load"),
            "source_file": pl.lit("file"),
            "source_row": pl.lit(1),
        }
        given = {
            "contract_kinds": self.declared["contract_kinds"],
            "contract_lines": self.declared["contract_lines"],
            "contracts": pl.DataFrame(list(contracts), schema=schemas["contracts"]),
            "organization": pl.DataFrame(
                [{"reporting_currency": "EUR", "fx_rate_holds_days": 0}],
                schema=schemas["organization"],
            ),
            "meters": pl.DataFrame([meter], schema=schemas["meters"]),
            "fx_rates": pl.DataFrame(
                {"rate_date": days, "currency_code": "USD", "rate_to_reporting": 0.9}
            ),
            "meter_readings": readings.with_columns(
                **revision,
                meter_id=pl.lit("PLANT"),
                flow=pl.lit("export"),
                quantity=pl.col("energy_kwh"),
                unit=pl.lit("kWh"),
                quality=pl.lit("measured"),
            ),
            "market_prices": prices.with_columns(
                **revision,
                zone=pl.lit("HUB"),
                market=pl.lit("day_ahead"),
                sequence=pl.lit(1),
                currency_code=pl.lit("EUR")
                if "currency_code" not in prices.columns
                else pl.col("currency_code"),
            ),
            **tables,
        }
        connection = duckdb.connect()
        connection.execute("set timezone = 'UTC'")
        connection.execute("attach ':memory:' as warehouse")
        for schema in ("raw", "staging", "intermediate", "calculations", "marts"):
            connection.execute(f"create schema warehouse.{schema}")
        for name, schema in schemas.items():
            frame = given.get(name, pl.DataFrame(schema=schema))
            missing = [pl.lit(None).alias(column) for column in schema if column not in frame]
            frame = frame.with_columns(missing).select(list(schema)).cast(dict(schema))
            _create(connection, f"raw.{name}", frame)
        _create(
            connection,
            "intermediate.int_site_intervals",
            intervals.with_columns(
                site_id=pl.lit("campus"),
                time_zone=pl.lit("UTC"),
                interval_ended_at=pl.col("interval_started_at") + QUARTER,
                utc_date=pl.col("interval_started_at").dt.date(),
                currency_code=pl.lit("EUR"),
            ),
        )
        # What breaks a rule is not for these tests: the readings they give are the truth.
        for name in ("int_meter_findings", "int_register_findings"):
            connection.execute(
                f"create table warehouse.intermediate.{name} as"
                " select '' as meter_id, '' as flow, now() as interval_started_at,"
                " now() as interval_ended_at, current_date as utc_date, '' as rule_id"
                " limit 0"
            )
        connection.execute(
            "create table warehouse.intermediate.int_price_findings as"
            " select '' as rule_id, '' as zone, '' as market, 1 as sequence,"
            " now() as interval_started_at limit 0"
        )
        for name, node in self.nodes.items():
            if name == "fct_contract_settlements":
                self._without_other_settlements(connection, node)
            connection.execute(
                f"create table warehouse.{node.schema}.{name} as {node.compiled_code}"
            )
        return connection

    def _without_other_settlements(self, connection: Any, node: Any) -> None:
        """Of the contracts of other kinds there are none here; all settlements look alike."""
        for unique_id in node.depends_on.nodes:
            name = unique_id.rsplit(".", 1)[-1]
            if name.startswith("int_") and name not in self.nodes:
                connection.execute(
                    f"create table warehouse.intermediate.{name} as"
                    " from warehouse.intermediate.int_ppa_settlements limit 0"
                )


def quarters(start: datetime, count: int) -> pl.DataFrame:
    """So many intervals of 15 minutes from an instant on."""
    end = start + count * QUARTER
    started_at = pl.datetime_range(start, end, "15m", closed="left", eager=True)
    return pl.DataFrame({"interval_started_at": started_at.dt.cast_time_unit("us")})


def series(start: datetime, values: Sequence[float | None], minutes: int, name: str) -> Any:
    """A value for each of the intervals of so many minutes from an instant on."""
    starts = [start + index * timedelta(minutes=minutes) for index in range(len(values))]
    return pl.DataFrame(
        {"interval_started_at": starts, "minutes": minutes, name: values},
        schema={
            "interval_started_at": pl.Datetime("us", "UTC"),
            "minutes": pl.Int64,
            name: pl.Float64,
        },
    )


def _create(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    connection.register("given", frame.to_arrow())
    connection.execute(f"create table warehouse.{name} as from given")
    connection.unregister("given")
