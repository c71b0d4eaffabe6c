"""The lake: files of landing as Parquet, one schema per raw table, append-only.

What belongs here: reading files in landing (`landing.py`), the raw tables (`schemas.py`) and which
rows are right (`quarantine.py`), loading (`loading.py`, `batch.py`) with its records
(`records.py`), what is out of the book (`withdrawals.py`) or was lost (`holdings.py`), writing
files (`files.py`), and telemetry as intervals (`rollup.py`). What does not:
what a format means (`pipelines/connectors`), and anything that joins two tables (dbt).
"""

from pipelines.lake.batch import DAILY_TABLES, JOB_NODES_SCHEMA
from pipelines.lake.files import LakeError, listing, lock, write_parquet, write_reference_tables
from pipelines.lake.holdings import damage
from pipelines.lake.landing import is_as_seen
from pipelines.lake.loading import LoadSummary, load
from pipelines.lake.quarantine import UNDECLARED_SCHEMA
from pipelines.lake.records import (
    IN_BOOK,
    LOAD_RECORD_SCHEMA,
    read_load_records,
    withdrawn_loads,
)
from pipelines.lake.withdrawals import withdraw

__all__ = [
    "DAILY_TABLES",
    "IN_BOOK",
    "JOB_NODES_SCHEMA",
    "LOAD_RECORD_SCHEMA",
    "UNDECLARED_SCHEMA",
    "LakeError",
    "LoadSummary",
    "damage",
    "is_as_seen",
    "listing",
    "load",
    "lock",
    "read_load_records",
    "withdraw",
    "withdrawn_loads",
    "write_parquet",
    "write_reference_tables",
]
