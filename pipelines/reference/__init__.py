"""Reference data: what people declare and review, validated and flattened for the warehouse.

What belongs here: the models of the YAML and CSV files below `reference`, the checks across
files, and the flat tables they make. What does not: anything measured, writing the tables
(`pipelines/lake/files.py`), and any computation with the values (dbt).

A reference folder is right as a whole or not loaded at all: `load` raises one error that lists
every mistake with its file, line where there is one, field, what was found and how to mend it.
"""

from pipelines.reference.calendar import Calendar, load_calendar
from pipelines.reference.documents import ReferenceErrors
from pipelines.reference.loading import load, load_organization, load_sources
from pipelines.reference.model import Reference
from pipelines.reference.schemas import write_schemas
from pipelines.reference.tables import TABLES, flatten

__all__ = [
    "TABLES",
    "Calendar",
    "Reference",
    "ReferenceErrors",
    "flatten",
    "load",
    "load_calendar",
    "load_organization",
    "load_sources",
    "write_schemas",
]
