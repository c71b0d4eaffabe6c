"""The warehouse: which days have to be built, and the dbt run that builds them.

What belongs here: planning (`planning.py`), building (`building.py`) and calling dbt (`dbt.py`),
which is the only writer of the warehouse. What does not: any formula (`dbt_project/`), loading
files (`pipelines/lake`), handing tables to teams (`pipelines/published`).
"""

from pipelines.warehouse.building import BuildResult, build, build_lock, roll_up, whole_lake
from pipelines.warehouse.dbt import (
    MEMORY_VARIABLE,
    PROJECT_DIR,
    WarehouseError,
    close_connections,
    dbt_dir,
    digest_of,
    invoke_dbt,
    keep_manifest,
    manifest_path,
    parse,
    project_digest,
    variable,
    warehouse_variable,
)
from pipelines.warehouse.planning import (
    Plan,
    built_from,
    built_loads,
    changed_from,
    first_date,
    plan,
    touched_dates,
)

__all__ = [
    "MEMORY_VARIABLE",
    "PROJECT_DIR",
    "BuildResult",
    "Plan",
    "WarehouseError",
    "build",
    "build_lock",
    "built_from",
    "built_loads",
    "changed_from",
    "close_connections",
    "dbt_dir",
    "digest_of",
    "first_date",
    "invoke_dbt",
    "keep_manifest",
    "manifest_path",
    "parse",
    "plan",
    "project_digest",
    "roll_up",
    "touched_dates",
    "variable",
    "warehouse_variable",
    "whole_lake",
]
