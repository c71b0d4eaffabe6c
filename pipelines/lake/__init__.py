"""The lake: files of landing as Parquet, one schema per raw table, append-only.

What belongs here: reading files in landing (`landing.py`), the raw tables (`schemas.py`) and which
rows are right (`quarantine.py`), loading (`loading.py`, `batch.py`) with its records
(`records.py`), writing files (`files.py`), and telemetry as intervals (`rollup.py`). What does not:
what a format means (`pipelines/connectors`), and anything that joins two tables (dbt).
"""

from pipelines.lake.batch import DAILY_TABLES, JOB_NODES_SCHEMA
from pipelines.lake.files import write_parquet, write_reference_tables
from pipelines.lake.loading import LoadSummary, load
from pipelines.lake.records import LOAD_RECORD_SCHEMA, read_load_records

__all__ = [
    "DAILY_TABLES",
    "JOB_NODES_SCHEMA",
    "LOAD_RECORD_SCHEMA",
    "LoadSummary",
    "load",
    "read_load_records",
    "write_parquet",
    "write_reference_tables",
]
