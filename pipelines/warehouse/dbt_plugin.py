"""What dbt's adapter does to its connection, as `profiles.yml` asks.

What belongs here: letting it read a lake in a bucket. What does not: how DuckDB reads one
(`pipelines/bucket.py`), and settings of DuckDB's own, which stand in `profiles.yml`.
"""

import os

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from pipelines.bucket import LAKE_VARIABLE, place, show


class Plugin(BasePlugin):
    """Found by its name."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Show it the lake."""
        if url := os.environ.get(LAKE_VARIABLE):
            show(conn, place(url))
