"""What Dagster shows of a table's columns: types, constraints, and what each is made of.

What belongs here: saying in words what a model's `.yml` says of its rows, and keeping what was
found out of the columns of a dbt project, since following them takes longer than building a day.
What does not: following them, which dagster-dbt does, and the descriptions of columns, which stand
in the models' `.yml`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from pydantic import BaseModel, ValidationError

SCHEMA, LINEAGE = "dagster/column_schema", "dagster/column_lineage"
UNIQUE_ID = "unique_id"

Types = dict[str, str]
"""Type of each column of a table, by its name, in the order of the columns."""


class Columns(BaseModel):
    """Per model, by its dbt id, of the dbt project of a digest; values as Dagster serializes them.

    A model that changed is followed anew with all others: the project has another digest then.
    """

    project: str
    types: dict[str, Types] = {}
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

    def keep(self, events: Iterable[Any], models: Mapping[str, Any]) -> Iterator[Any]:
        """The events of a run, those of a model with all that is known of its columns.

        What they tell themselves is kept. `models` is by dbt id, as in the manifest.
        """
        for event in events:
            told = event.metadata or {}
            model = told[UNIQUE_ID].text if UNIQUE_ID in told else ""
            if {SCHEMA, LINEAGE} <= set(told):
                columns = told[SCHEMA].value.columns
                self.types[model] = {column.name: _short(column.type) for column in columns}
                self.lineage[model] = dg.serialize_value(told[LINEAGE].value)
            if model in self.types:
                yield event.with_metadata({**told, **self.metadata(models[model])})
            else:
                yield event

    def metadata(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a model of the manifest, and what they are made of where that is known."""
        unique_id = model["unique_id"]
        shown: dict[str, Any] = {SCHEMA: table_schema(model, self.types.get(unique_id, {}))}
        if unique_id in self.lineage:
            kept = self.lineage[unique_id]
            shown[LINEAGE] = dg.deserialize_value(kept, dg.TableColumnLineage)
        return shown


def types_in(warehouse: Path) -> dict[tuple[str, str], Types]:
    """The types of the columns of each table and view of a warehouse, by its schema and name."""
    with duckdb.connect(str(warehouse.resolve()), read_only=True) as connection:
        rows = connection.execute(
            "select schema_name, table_name, column_name, data_type"
            " from duckdb_columns() where not internal order by column_index"
        ).fetchall()
    types: dict[tuple[str, str], Types] = {}
    for schema, table, column, kind in rows:
        types.setdefault((schema, table), {})[column] = _short(kind)
    return types


def _short(kind: str) -> str:
    return kind.lower().replace("timestamp with time zone", "timestamptz")


def table_schema(model: Mapping[str, Any], types: Types) -> dg.TableSchema:
    """The columns of a model as its `.yml` declares them; a type that is not known is `?`."""
    keys = [(one["type"], one["columns"]) for one in model["constraints"]]
    filled = {name for kind, columns in keys if kind == "primary_key" for name in columns}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                types.get(name, "?"),
                description=column["description"],
                constraints=dg.TableColumnConstraints(
                    nullable=name not in filled
                    and not any(one["type"] == "not_null" for one in column["constraints"]),
                    unique=any(columns == [name] for _, columns in keys),
                    other=[
                        _in_words(one["expression"])
                        for one in column["constraints"]
                        if one["expression"]
                    ],
                ),
            )
            for name, column in model["columns"].items()
        ],
        constraints=dg.TableConstraints(other=[_key(*key) for key in keys]),
    )


def constraints(model: Mapping[str, Any]) -> list[str]:
    """What a model's `.yml` says of its rows, in words."""
    return [_key(one["type"], one["columns"]) for one in model["constraints"]] + [
        _in_words(one["expression"]) if one["expression"] else f"{column['name']} is never missing"
        for column in model["columns"].values()
        for one in column["constraints"]
    ]


def purpose(query: str) -> str:
    """What a data test of its own looks for: the words at its head, which say what it returns."""
    lines = takewhile(lambda line: line.startswith("--"), query.splitlines())
    words = [line.lstrip("- ") for line in lines if "noqa" not in line]
    return re.sub(r"^Returns (rows \(test failure\) for )?", "Fails on ", " ".join(words))


def _key(kind: str, columns: Sequence[str]) -> str:
    same = f"no two rows have the same {_listed(columns, 'and')}"
    filled = ", of which none is missing" if len(columns) > 1 else ", which is never missing"
    return same if kind == "unique" else same + filled


def _in_words(expression: str) -> str:
    """A list of what a column may be as such, other conditions as they are."""
    listed = re.fullmatch(r"(\w+) in \((.*)\)", expression.strip(), re.DOTALL)
    if listed is None:
        return " ".join(expression.split())
    values = re.findall(r"'([^']*)'", listed[2])
    return f"{listed[1]} is {_listed(values, 'or')}"


def _listed(names: Sequence[str], last: str) -> str:
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end
