"""The pages of the manual that models and tables write of themselves.

What belongs here: `reference.md`, `tables.md`, the pages below `reference/` and `tables/`, and the
picture of the tables. What does not: what is said of a field, which stands in the Pydantic models,
and of a table, which stands in `dbt_project/`.

`python -m docs.generated` writes them, on a book without files, for the types of columns. The
picture is drawn by Graphviz, and only where the tables hang together otherwise than it shows.
"""

import html
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import yaml

from pipelines import lake, warehouse
from pipelines.book import Book
from pipelines.published import audience
from pipelines.published.query import TEAMS
from pipelines.reference import expectations
from pipelines.reference.schemas import schemas
from pipelines.simulator import landing

DOCS = Path(__file__).parent
PICTURE = "tables/tables.svg"

Schema = dict[str, Any]
Pages = dict[str, str]
"""Text of each page by its path below `docs/`."""

FILES = {
    "organization": ("organization.yml", "Who the book is of, its currency, week and zones"),
    "sites": ("sites/*.yml", "A venue each: connection, limits, nodes, batteries"),
    "meters": ("meters.yml", "Which meter counts what, at which site"),
    "gpu_models": ("gpu_models.yml", "Power and making of each GPU model"),
    "contracts": ("contracts/*.yml", "A contract each: supply, network, PPA, battery, cloud, HPC"),
    "workloads": ("workloads.yml", "What runs, how long it can wait, and which jobs are of it"),
    "capacity_plan": ("capacity_plan.yml", "IT power committed and planned, by site and month"),
    "targets": ("targets.yml", "What each KPI should reach"),
    "emission_factors": ("emission_factors.yml", "CO2e of residual mixes and ways of generating"),
    "site_costs": ("site_costs.yml", "What sites cost besides electricity"),
    "decisions": ("decisions/*.yml", "A decision of the weekly meeting each"),
    "mappings": ("mappings.yml", "How a site's own meter CSVs and metrics are to be read"),
    "sources": ("sources.yml", "Where files are pulled from"),
}
"""The YAML files of a reference folder in the order one meets them."""

NEEDED = ("organization", "sites")

SERIES = {
    "fx_rates.csv": {
        "rate_date": "Day of the rate.",
        "currency_code": "Currency, in three capital letters.",
        "rate_to_reporting": "What one unit of it is worth in the reporting currency.",
    },
    "price_indices.csv": {
        "index": "Name of the index, as the `escalation` of a contract has it.",
        "month": "Month, as 2026-04.",
        "value": "Value of the index in that month.",
    },
    "forward_prices.csv": {
        "zone": "Bidding zone, as declared in `organization.yml`.",
        "month": "Month of delivery, as 2026-04.",
        "price_per_mwh": "What the month trades at, per MWh.",
        "currency_code": "Currency of the price.",
    },
}
"""The CSV files of a reference folder, with their columns."""

SUBJECTS = {
    "energy": "Sites, meters, where energy came from and went, and what could have been had",
    "contracts": "Contracts, what they settle at, and what was invoiced",
    "carbon": "CO2e, certificates and the yearly report",
    "prices": "What one more GPU-hour costs",
    "incidents": "When energy held a site back",
    "workloads": "What each workload used, cost and gave off",
    "placement": "Where and when work could have run",
    "sourcing": "Whether compute is covered by electricity",
    "governance": "The KPIs, the scorecard and the agenda, findings and decisions",
    "records": "What was loaded",
}
UNITS = {
    "_per_gpu_hour": "per GPU-hour",
    "_per_node_hour": "per node-hour",
    "_per_tonne": "per tonne",
    "_per_mwh": "per MWh",
    "_per_kwh": "per kWh",
    "_per_kw_month": "per kW and month",
    "_per_mw_month": "per MW and month",
    "_gpu_hours": "GPU-hours",
    "_node_hours": "node-hours",
    "_mwh_per_year": "MWh a year",
    "_gb_per_s": "GB/s",
    "_minutes": "minutes",
    "_celsius": "°C",
    "_tonnes": "tonnes",
    "_hours": "hours",
    "_days": "days",
    "_ratio": "ratio",
    "_mwh": "MWh",
    "_kwh": "kWh",
    "_wh": "Wh",
    "_mw": "MW",
    "_kw": "kW",
    "_kg": "kg",
    "_ms": "ms",
    "_m2": "m²",
    "_m3": "m³",
    "_pb": "PB",
    "_eb": "EB",
    "_w": "W",
    "_g": "g",
}
"""What a name ends in, longest first, and the unit that it says."""
WRITTEN = "<!-- Written by `make docs`. -->"
LEFT_OUT = re.compile(r"(?:;|\.) [Ll]eft out(?: for [^:;]+)?(?::)? (.+?)\.?$")


def unit(name: str) -> str:
    """The unit that the name of a field or column ends in; none where it ends in none."""
    bare = f"_{name}".removesuffix("_sensitive").removesuffix("_tolerant")
    for ending, said in UNITS.items():
        if bare.endswith(ending):
            before = re.search(r"_(k?g|kwh)$", bare.removesuffix(ending))
            if before and said.startswith("per "):
                return f"{before[1].replace('wh', 'Wh')} {said}"
            return said
    return ""


def pages(manifest: dict[str, Any], types: Mapping[str, Mapping[str, str]]) -> Pages:
    """Every generated page, by dbt's manifest and the type of each column of each table."""
    return {**reference_pages(), **table_pages(manifest, types)}


# Reference files


def reference_pages() -> Pages:
    """A page of every kind of reference file, and the list of them."""
    rows = [
        [
            f"[`{file}`](reference/{name}.md)",
            said,
            "yes" if name in ("organization", "sites") else "",
        ]
        for name, (file, said) in FILES.items()
    ]
    rows += [
        [f"[`{name}`](#{_anchor(name)})", said, ""]
        for name, said in (
            ("fx_rates.csv", "Exchange rates into the reporting currency"),
            ("price_indices.csv", "Indices that contracts escalate by"),
            ("forward_prices.csv", "What coming months trade at"),
        )
    ]
    parts = [
        WRITTEN,
        "# Reference files",
        "What people declare lies in `reference/` of the book's folder. `wattbook validate` names"
        " every mistake with its file and line, and with `--schemas` writes what editors explain"
        " and complete the files by. All but two may be left out: a figure that needs what is not"
        " there is left out too. What holds for a time has `valid_from` and `valid_to`, the latter"
        " no longer part of it.",
        _table(["file", "what it declares", "needed"], rows),
    ]
    for name, columns in SERIES.items():
        first = (landing.DEMO_REFERENCE / name).read_text().splitlines()[1].split(",")
        told = [
            [f"`{column}`", said, f"`{value}`"]
            for (column, said), value in zip(columns.items(), first, strict=True)
        ]
        parts += [f"## {name}", _table(["column", "what it is", "example"], told)]
    listed = "\n\n".join(parts) + "\n"
    return {"reference.md": listed} | {
        f"reference/{name}.md": _reference_page(name) for name in FILES
    }


def _reference_page(name: str) -> str:
    file, said = FILES[name]
    schema = schemas()[name]
    demo = _demo(file)
    kinds = _kinds(schema, schema)
    parts = [WRITTEN, f"# {file}", f"{said}. [All reference files](../reference.md)."]
    if demo:
        links = ", ".join(f"[`{path}`](../../data/reference/{path})" for path in demo)
        parts.append(f"The demo has {links}.")
    values = list(demo.values())
    seen: dict[str, str] = {}
    if kinds:
        parts += _of_kinds(schema, kinds, values, seen)
    else:
        parts.append(_told(schema))
        parts.append(_fields(schema, schema, values))
        parts += _sections(schema, schema, values, seen)
    text = "\n\n".join(part for part in parts if part) + "\n"
    return re.sub(r"\[\[(.+?)\]\]", lambda at: f"[{seen[at[1]]}](#{_anchor(seen[at[1]])})", text)


def _of_kinds(
    root: Schema, kinds: dict[str, Schema], values: list[Any], seen: dict[str, str]
) -> list[str]:
    """What all kinds have in common, then each kind with what it alone holds."""
    first, *others = kinds.values()
    common = {
        field: said
        for field, said in first["properties"].items()
        if all(other["properties"].get(field) == said for other in others)
    }
    parts = [
        "`kind` says what it is: " + ", ".join(f"[`{kind}`](#{kind})" for kind in kinds) + ".",
        *(["What every kind has:"] if common else []),
        _fields({**first, "properties": common}, root, values) if common else "",
    ]
    for kind, one in kinds.items():
        own = {field: said for field, said in one["properties"].items() if field not in common}
        of_kind = [value for value in values if value.get("kind") == kind]
        parts += [f"## {kind}", _told(one), _fields({**one, "properties": own}, root, of_kind)]
        parts += _sections(root, one, of_kind, seen, f" of {kind}")
    return parts


def _kinds(schema: Schema, root: Schema) -> dict[str, Schema]:
    """The schema of each kind, where a file is of one of several."""
    return {
        part["if"]["properties"]["kind"]["const"]: _of(part["then"], root)[1]
        for part in schema.get("allOf", [])
    }


def _sections(
    root: Schema, schema: Schema, values: list[Any], seen: dict[str, str], of: str = ""
) -> list[str]:
    """A section of each mapping that fields hold, where `seen` does not say that it has one."""
    parts: list[str] = []
    for field, said in schema["properties"].items():
        inner = [value[field] for value in values if isinstance(value, dict) and field in value]
        for name, held in _held(said, root):
            entries = [entry for value in inner for entry in _entries(value, held)]
            kinds = _kinds(held, root)
            known = _known(name, held, root)
            if known in seen:
                continue
            seen[known] = field + of
            parts += [f"## {field}{of}", _told(held)]
            if kinds:
                parts += _of_kinds(root, kinds, entries, seen)
            else:
                parts += [_fields(held, root, entries), *_sections(root, held, entries, seen, of)]
    return parts


def _held(schema: Schema, root: Schema) -> Iterator[tuple[str, Schema]]:
    """The mappings with fields that a field holds: itself, its entries or its values."""
    name, here = _of(schema, root)
    if "properties" in here:
        yield name, here
    for part in (here.get("items"), here.get("additionalProperties")):
        if isinstance(part, dict):
            yield from _held(part, root)


def _of(schema: Schema, root: Schema) -> tuple[str, Schema]:
    """What a schema comes to without references and the possibility of nothing, with its name."""
    name = ""
    while True:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = root["$defs"][name]
        elif "anyOf" in schema:
            schema = next(part for part in schema["anyOf"] if part.get("type") != "null")
        else:
            return name, schema


def _entries(value: Any, held: Schema) -> list[Any]:
    """The mappings of a kind in a value of the demo."""
    if isinstance(value, list):
        return [entry for one in value for entry in _entries(one, held)]
    if isinstance(value, dict):
        if set(value) <= set(held.get("properties", {})):
            return [value]
        return [entry for one in value.values() for entry in _entries(one, held)]
    return []


def _fields(schema: Schema, root: Schema, values: list[Any]) -> str:
    rows = []
    for field, said in schema["properties"].items():
        description = said.get("description", "")
        left_out = LEFT_OUT.search(description)
        _, here = _of(said, root)
        needed = field in schema.get("required", ())
        rows.append(
            [
                f"`{field}`",
                _plain(description[: left_out.start()] + "." if left_out else description),
                _plain(_takes(field, said, root)),
                "needed" if needed else _plain(left_out[1]) if left_out else "may be",
                _example(field, here, values),
            ]
        )
    return _table(["field", "what it is", "takes", "left out", "example"], rows)


def _takes(field: str, said: Schema, root: Schema) -> str:
    _, here = _of(said, root)
    if "const" in here:
        return f"`{here['const']}`"
    if "enum" in here:
        return expectations.either([f"`{value}`" for value in here["enum"]])
    words = expectations.in_words(here)
    inner = here.get("items")
    if here.get("type") == "array" and isinstance(inner, dict):
        _, entry = _of(inner, root)
        if "enum" in entry:
            words += " of " + expectations.either([f"`{value}`" for value in entry["enum"]])
        elif "properties" in entry:
            words = f"a list, see {_place(inner, root)}"
        elif entry.get("type") == "string":
            words = "a list of texts"
    elif "properties" in here:
        words = f"fields, see {_place(said, root)}"
    elif here.get("type") == "object":
        held = [name for name, _ in _held(said, root)]
        words = "names with a value each" + "".join(f", see [[{name}]]" for name in held)
    named = unit(field)
    return (
        f"{words}, {named}"
        if named not in ("", "ratio") and here.get("type") in ("number", "integer")
        else words
    )


def _place(schema: Schema, root: Schema) -> str:
    """Stands for the section of a mapping until all of a page are known."""
    return f"[[{_known(*_of(schema, root), root)}]]"


def _known(name: str, schema: Schema, root: Schema) -> str:
    """What a mapping is known by: its model, or the kinds that it may be of."""
    return name or "/".join(_kinds(schema, root))


def _example(field: str, here: Schema, values: list[Any]) -> str:
    """What the demo has there first, else an example of the schema's own."""
    found = [
        value[field] for value in values if isinstance(value, dict) and value.get(field) is not None
    ]
    plain = [value for value in found if not isinstance(value, dict | list)]
    short = [value for value in found if isinstance(value, list) and value == _scalars(value)]
    if not plain and not short and "examples" in here:
        plain = here["examples"][:1]
    if not plain and not short:
        return ""
    text = yaml.safe_dump((plain or short)[0], default_flow_style=True, width=1000)
    return f"`{_plain(text.strip().removesuffix('...').strip())}`"


def _scalars(value: list[Any]) -> list[Any]:
    return [one for one in value if not isinstance(one, dict | list)][:6]


def _demo(file: str) -> dict[str, Any]:
    """The demo's files of a kind, with what they hold."""
    return {
        path.relative_to(landing.DEMO_REFERENCE).as_posix(): yaml.safe_load(path.read_text())
        for path in sorted(landing.DEMO_REFERENCE.glob(file))
    }


# Tables


def table_pages(manifest: dict[str, Any], types: Mapping[str, Mapping[str, str]]) -> Pages:
    """A page of each subject's tables, and the list of all with how they hang together."""
    seen = audience.team_tables(manifest, {name: list(of) for name, of in types.items()})
    by_team = {
        team: {table.name: table for table in [*tables, audience.raw_loads(team, manifest)]}
        for team, tables in seen.items()
    }
    nodes = _marts(manifest)
    nodes["raw_loads"] = {**manifest["sources"][audience.RAW_LOADS], "fqn": ["", "records", ""]}
    rows, made = [], {}
    for subject, said in SUBJECTS.items():
        tables = sorted(name for name, node in nodes.items() if node["fqn"][1] == subject)
        parts = [
            WRITTEN,
            f"# Tables: {subject}",
            f"{said}. [All tables](../tables.md).",
            *(_table_section(nodes[name], name, by_team, types) for name in tables),
        ]
        made[f"tables/{subject}.md"] = "\n\n".join(parts) + "\n"
        for name in tables:
            rows.append(
                [
                    f"[`{name}`](tables/{subject}.md#{name})",
                    _grain(nodes[name]),
                    _keys(nodes[name]),
                    _teams(name, by_team),
                ]
            )
    listed = [
        WRITTEN,
        "# Tables",
        "What teams may ask with `wattbook sql`, in their DuckDB file, in Parquet and in"
        " PostgreSQL: schema `marts`. Times are UTC, an interval is 15 minutes and its end is not"
        " part of it. What is not known is null, never 0. Money is in the reporting currency, and"
        " `currency_code` stands beside it. Rows of two tables belong together where the columns"
        " of the key that both have are the same.",
        _table(["table", "one row per", "key", "for"], rows),
        "## How they hang together",
        "An arrow leads from a table to one that is worked out from it; arrows that follow from"
        " others are left out.",
        f"[![Tables by subject, with arrows from each to those worked out from it]({PICTURE})]"
        f"({PICTURE})",
        "## By subject",
        "\n".join(
            f"- [{subject}](tables/{subject}.md): {said}" for subject, said in SUBJECTS.items()
        ),
    ]
    return {"tables.md": "\n\n".join(listed) + "\n", **made}


def _marts(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] == "marts"
    }


def _table_section(
    node: dict[str, Any],
    name: str,
    by_team: Mapping[str, Mapping[str, audience.PublishedTable]],
    types: Mapping[str, Mapping[str, str]],
) -> str:
    seen = {team: tables[name] for team, tables in by_team.items() if name in tables}
    fullest = max(seen.values(), key=lambda table: (len(table.columns), -len(table.masks)))
    rows = []
    for column, comment in fullest.columns.items():
        without = [team for team, table in seen.items() if column not in table.columns]
        masked = [
            f"For {team}: {table.columns[column].removeprefix(comment).strip()}"
            for team, table in seen.items()
            if column in table.masks
        ]
        note = [f"Not for {expectations.either(without)}."] if without else []
        said = _plain(" ".join([comment, *_values(node, column), *masked, *note]))
        kind = types[name][column].lower().replace("timestamp with time zone", "timestamptz")
        rows.append([f"`{column}`", kind, unit(column), said])
    keys = _keys(node)
    who = f"For {_teams(name, by_team)}." + (f" Key: {keys}." if keys else "")
    told = _table(["column", "type", "unit", "what it is"], rows)
    return "\n\n".join([f"## {name}", _plain(node["description"]), who, told])


def _values(node: dict[str, Any], column: str) -> list[str]:
    """The values that a column may have, where its model lists them."""
    for constraint in node["columns"].get(column, {}).get("constraints", []):
        listed = re.fullmatch(
            rf"{column} in \((.+)\)", " ".join((constraint["expression"] or "").split())
        )
        if listed:
            names = re.findall(r"'([^']+)'", listed[1])
            return [f"One of {', '.join(f'`{name}`' for name in names)}."]
    return []


def _grain(node: dict[str, Any]) -> str:
    text = _plain(node["description"])
    found = re.search(r"One row per (.+?)\.(?= |$)", text)
    return found[1] if found else ""


def _keys(node: dict[str, Any]) -> str:
    columns = [
        column
        for constraint in node.get("constraints", [])[:1]
        for column in constraint["columns"]
        if constraint["type"] in ("primary_key", "unique")
    ]
    return ", ".join(f"`{column}`" for column in columns)


def _teams(name: str, by_team: Mapping[str, Mapping[str, Any]]) -> str:
    teams = [team for team in TEAMS if name in by_team[team]]
    return "all" if len(teams) == len(TEAMS) else " and ".join(teams)


# The picture


def edges(manifest: dict[str, Any]) -> set[tuple[str, str]]:
    """From each published table to those worked out from it, past steps that are not published.

    What follows from other arrows is left out.
    """
    marts = {node["unique_id"]: name for name, node in _marts(manifest).items()}
    parents = {
        name: {
            marts[mart]
            for mart in _read(manifest, unique_id, lambda one: one in marts)
            if marts[mart] != name
        }
        for unique_id, name in marts.items()
    }
    found = {(parent, name) for name, some in parents.items() for parent in some}
    return {
        (parent, name)
        for parent, name in found
        if not any(
            parent in _all_before(other, parents) for other in parents[name] if other != parent
        )
    }


def _read(manifest: dict[str, Any], unique_id: str, is_end: Callable[[str], bool]) -> Iterator[str]:
    for parent in manifest["parent_map"][unique_id]:
        if is_end(parent):
            yield parent
        elif parent.startswith("model."):
            yield from _read(manifest, parent, is_end)


def _all_before(name: str, parents: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for parent in parents[waiting.pop()] - seen:
            seen.add(parent)
            waiting.append(parent)
    return seen


def shown_edges(picture: str) -> set[tuple[str, str]]:
    """The arrows of a picture that Graphviz drew."""
    titles = re.findall(r"<title>([^<]+)</title>", html.unescape(picture))
    return {(one, other) for one, _, other in (t.partition("->") for t in titles) if other}


def draw(manifest: dict[str, Any]) -> str:
    """The picture, by Graphviz.

    Raises:
        FileNotFoundError: Graphviz is not installed.
    """
    nodes = _marts(manifest)
    lines = [
        "digraph tables {",
        'rankdir=LR; nodesep=0.12; ranksep=0.5; bgcolor="transparent"; fontname="sans-serif";',
        'node [shape=box, style="rounded,filled", fillcolor="#ffffff", color="#8a94a6",'
        ' fontname="sans-serif", fontsize=11, height=0.3, margin="0.1,0.04"];',
        'edge [color="#8a94a6", arrowsize=0.6];',
    ]
    for subject in SUBJECTS:
        names = sorted(name for name, node in nodes.items() if node["fqn"][1] == subject)
        if names:
            lines += [
                f'subgraph "cluster_{subject}" {{ label="{subject}"; fontsize=12; style=rounded;'
                ' color="#c5ccd8"; bgcolor="#eef1f6";',
                *(f'"{name}";' for name in names),
                "}",
            ]
    lines += [f'"{one}" -> "{other}";' for one, other in sorted(edges(manifest))] + ["}"]
    drawn = subprocess.run(
        ["dot", "-Tsvg"], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    return drawn.stdout


# Writing


def _table(head: list[str], rows: list[list[str]]) -> str:
    filled = [index for index in range(len(head)) if any(row[index] for row in rows)]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line[index] for index in filled) + " |" for line in lines)


def _plain(text: str) -> str:
    """One line that a cell of a table may hold."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        part.replace("|", "\\|")
        if part.startswith("`")
        else part.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
        for part in parts
    )


def _told(schema: Schema) -> str:
    return _plain(schema.get("description", ""))


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def column_types(book: Book) -> dict[str, dict[str, str]]:
    """Table → column → type, of all that is published of a built book."""
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        rows = connection.execute(
            "select table_name, column_name, data_type from duckdb_columns()"
            " where schema_name = 'marts' or (schema_name, table_name) = ('raw', 'raw_loads')"
            " order by table_name, column_index"
        ).fetchall()
    types: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        types.setdefault(table, {})[column] = kind
    return types


def write() -> None:
    """Write all generated pages, on a book that is built without files."""
    with tempfile.TemporaryDirectory() as folder:
        book = Book(Path(folder) / "data")
        landing.declare(book)
        lake.load(book)
        warehouse.build(book)
        manifest = warehouse.parse(book)
        made = pages(manifest, column_types(book))
    for folder_of in ("reference", "tables"):
        for file in (DOCS / folder_of).glob("*.md"):
            if file.relative_to(DOCS).as_posix() not in made:
                file.unlink()
    for name, text in made.items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
    picture = DOCS / PICTURE
    if not picture.exists() or shown_edges(picture.read_text()) != edges(manifest):
        picture.write_text(draw(manifest), encoding="utf-8")


if __name__ == "__main__":
    write()
