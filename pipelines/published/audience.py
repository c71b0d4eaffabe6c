"""Which team sees which table and column, and how, as the dbt models declare it.

What belongs here: reading `config.meta` of models and columns in dbt's manifest. What does not:
writing what a team sees (`publishing.py`), the SQL that hides prices (`confidential.py`), and who
may read the files (`access.py`).

A model says in `config.meta.audience` which teams see it; a column's own `meta.audience` narrows
that. A mart without audience is published to nobody. The load record `raw_loads` goes to every
team. A column that rests on contract prices says in `config.meta.confidential` how a team without
contract prices gets it. A mart that is built by the day says so in `config.meta.day`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from pipelines.errors import BookError
from pipelines.published import confidential
from pipelines.published.query import TEAMS, WITH_CONTRACT_PRICES
from pipelines.published.sql import sql_name

RAW_LOADS = "source.wattbook.raw.raw_loads"


class AudienceError(BookError):
    """A model says of its audience what cannot be; `causes` has one sentence per cause."""


@dataclass(frozen=True)
class PublishedTable:
    """One table as one team sees it."""

    name: str
    comment: str
    columns: dict[str, str]
    """Column -> comment, in the order of the model; what the team may not see is not in it."""
    key: tuple[str, ...]
    """Columns that its rows are sorted by, within each month where it has a file per month."""
    masks: dict[str, confidential.Mask] = field(default_factory=dict)
    """Column -> how it is shown, where it is not as it is."""
    day: str | None = None
    """The column by whose days the model is built; its rows are published by the month of it."""
    days_before: int = 0
    """How many days earlier than other models it is rebuilt from."""

    def kept_before(self, changed_from: date) -> date:
        """The first month of which rows may differ where models are rebuilt from a date on."""
        return (changed_from - timedelta(days=self.days_before)).replace(day=1)

    def query(self, source: str, since: date | None = None) -> str:
        """Its rows of a table in their order, all or those of the months from `since` on."""
        columns = ", ".join(
            f"{self.masks[name].sql(sql_name(name))} as {sql_name(name)}"
            if name in self.masks
            else sql_name(name)
            for name in self.columns
        )
        order = [sql_name(name) for name in self.key]
        if self.day is not None:
            order.insert(0, f"date_trunc('month', {sql_name(self.day)})")
        return f"select {columns} from {source} as seen{self.condition(since)}" + (
            f" order by {', '.join(order)}" if order else ""
        )

    def condition(self, since: date | None) -> str:
        """SQL of whether a row is of the months from `since` on; empty for all rows."""
        return f" where {sql_name(self.day)} >= date '{since}'" if self.day and since else ""


def check_audiences(manifest: dict[str, Any]) -> None:
    """Refuse a model or column whose audience names a team there is not.

    Raises:
        AudienceError: names the model's file, what was found and what is expected.
    """
    causes = [
        f"{node['original_file_path']}: {name}: audience names {team!r},"
        f" expected some of {', '.join(TEAMS)}"
        for node in _marts(manifest)
        for name, part in {node["name"]: node, **node["columns"]}.items()
        for team in _audience(part) or ()
        if team not in TEAMS
    ]
    if causes:
        raise AudienceError(causes)


def team_tables(
    manifest: dict[str, Any], warehouse_columns: dict[str, list[str]]
) -> dict[str, list[PublishedTable]]:
    """Team -> what it sees, from the models' `meta.audience`.

    Raises:
        AudienceError: an audience names a team there is not, or a mart was not built.
    """
    check_audiences(manifest)
    seen = [node for node in _marts(manifest) if _audience(node)]
    if missing := [node for node in seen if node["name"] not in warehouse_columns]:
        raise AudienceError(
            [
                f"{node['original_file_path']}: marts.{node['name']} is not in the warehouse:"
                " run `wattbook build` first"
                for node in missing
            ]
        )
    return {
        team: [
            _as_seen_by(team, node, warehouse_columns[node["name"]])
            for node in seen
            if team in (_audience(node) or ())
        ]
        for team in TEAMS
    }


def raw_loads(team: str, manifest: dict[str, Any]) -> PublishedTable:
    """The load record as the dbt source describes it, in the columns that the team may see."""
    source = manifest["sources"][RAW_LOADS]
    columns, masks = _columns_seen_by(team, source, tuple(source["columns"]))
    return PublishedTable("raw_loads", source["description"], columns, ("source_file",), masks)


def _marts(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(
        (
            node
            for node in manifest["nodes"].values()
            if node["resource_type"] == "model" and node["schema"] == "marts"
        ),
        key=lambda node: node["name"],
    )


def _as_seen_by(team: str, node: dict[str, Any], column_names: list[str]) -> PublishedTable:
    columns, masks = _columns_seen_by(team, node, column_names)
    day = _meta(node, "day")
    return PublishedTable(
        node["name"],
        node["description"].strip(),
        columns,
        _sort_key(columns),
        masks,
        day if day in columns and day not in masks else None,
        _meta(node, "days_before") or 0,
    )


def _columns_seen_by(
    team: str, node: dict[str, Any], column_names: Sequence[str]
) -> tuple[dict[str, str], dict[str, confidential.Mask]]:
    """Comments of the columns that a team sees, and how it sees those that are confidential."""
    declared = {name.lower(): column for name, column in node["columns"].items()}
    seen = {
        name: declared.get(name.lower(), {})
        for name in column_names
        if team in _or_all(_audience(declared.get(name.lower(), {})))
    }
    scope = _meta(node, "confidential_scope")
    masks = {
        name: confidential.mask(name, how, scope, node["original_file_path"])
        for name, column in seen.items()
        if team not in WITH_CONTRACT_PRICES and (how := _meta(column, "confidential"))
    }
    comments = {
        name: " ".join(
            filter(None, [column.get("description", "").strip(), masks[name].comment])
            if name in masks
            else [column.get("description", "").strip()]
        )
        for name, column in seen.items()
    }
    return comments, masks


def _audience(node: dict[str, Any]) -> list[str] | None:
    """The teams named on a model or column; None where it names none."""
    audience = _meta(node, "audience")
    return None if audience is None else list(audience)


def _meta(node: dict[str, Any], name: str) -> Any:
    """What a model, source or column says of itself under a name; None where it says nothing."""
    for meta in (node.get("config", {}).get("meta", {}), node.get("meta", {})):
        if name in meta:
            return meta[name]
    return None


def _or_all(audience: list[str] | None) -> Sequence[str]:
    return TEAMS if audience is None else audience


def _sort_key(columns: dict[str, str]) -> tuple[str, ...]:
    """Time last, so that the rows of one site, contract or battery lie together."""
    times = ("week", "local_month", "local_date", "utc_date", "started_at", "interval_started_at")
    names = [name for name in columns if name.endswith("_id")]
    return (*names, *(name for name in times if name in columns))
