"""What Dagster shows of a model's columns: their types, and what each is made of.

What belongs here: keeping what was found out of the columns of a dbt project, since following them
takes longer than building a day. What does not: finding it out, which dagster-dbt does, and the
descriptions of columns, which stand in the models' `.yml`.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ValidationError

SCHEMA, LINEAGE = "dagster/column_schema", "dagster/column_lineage"
UNIQUE_ID = "unique_id"


class Columns(BaseModel):
    """Per model, by its dbt id, of the dbt project of a digest; values as Dagster serializes them.

    A model that changed is followed anew with all others: the project has another digest then.
    """

    project: str
    types: dict[str, dict[str, str]] = {}
    lineage: dict[str, str] = {}

    @classmethod
    def read(cls, file: Path, project: str) -> "Columns":
        """What is kept in a file of this project; nothing where there is none of it."""
        try:
            kept = cls.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return cls(project=project)
        return kept if kept.project == project else cls(project=project)

    def write(self, file: Path) -> None:
        """Keep it in a file, whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        draft.write_text(self.model_dump_json())
        draft.replace(file)

    def keep(self, events: Iterable[Any]) -> Iterator[Any]:
        """The events of a run, of which those of a model tell of its columns."""
        for event in events:
            if {SCHEMA, LINEAGE} <= set(event.metadata or {}):
                model = event.metadata[UNIQUE_ID].text
                schema = event.metadata[SCHEMA].value
                self.types[model] = {column.name: column.type for column in schema.columns}
                self.lineage[model] = dg.serialize_value(event.metadata[LINEAGE].value)
            yield event

    def metadata(self, unique_id: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """What is told of a model, with the types of its columns and what they are made of."""
        types = self.types.get(unique_id)
        if types is None or SCHEMA not in told:
            return dict(told)
        described = {column.name: column.description for column in told[SCHEMA].columns}
        columns = [
            dg.TableColumn(name, kind, description=described.get(name))
            for name, kind in types.items()
        ]
        return {
            **told,
            SCHEMA: dg.TableSchema(columns=columns),
            LINEAGE: dg.deserialize_value(self.lineage[unique_id], dg.TableColumnLineage),
        }
