import dagster as dg
import duckdb
import pytest

from pipelines.orchestration.columns import (
    Columns,
    constraints,
    purpose,
    table_schema,
    types_in,
)

MODEL = {
    "unique_id": "model.wattbook.dim_sites",
    "constraints": [{"type": "primary_key", "columns": ["site_id", "valid_from_at"]}],
    "columns": {
        "site_id": {"name": "site_id", "description": "The site.", "constraints": []},
        "valid_from_at": {
            "name": "valid_from_at",
            "description": "Since when.",
            "constraints": [],
        },
        "venue_kind": {
            "name": "venue_kind",
            "description": "Its kind.",
            "constraints": [
                {"type": "not_null", "expression": None},
                {"type": "check", "expression": "venue_kind in (\n'own_site', 'public_cloud'\n)"},
                {"type": "check", "expression": "length(venue_kind) > 2"},
            ],
        },
    },
}
OTHER = {"unique_id": "model.wattbook.dim_meters", "constraints": [], "columns": {}}
MODELS = {one["unique_id"]: one for one in (MODEL, OTHER)}
LINEAGE = dg.TableColumnLineage(
    {"site_id": [dg.TableColumnDep(dg.AssetKey(["raw", "sites"]), "site_id")]}
)
FOUND = {
    "unique_id": MODEL["unique_id"],
    "dagster/column_schema": dg.TableSchema([dg.TableColumn("site_id", "VARCHAR")]),
    "dagster/column_lineage": LINEAGE,
}
KEY = dg.AssetKey(["marts", "dim_sites"])
SHOWN = {
    "dagster/column_schema": dg.TableSchema(
        columns=[
            dg.TableColumn(
                "site_id",
                "varchar",
                description="The site.",
                constraints=dg.TableColumnConstraints(nullable=False),
            ),
            dg.TableColumn(
                "valid_from_at",
                "?",
                description="Since when.",
                constraints=dg.TableColumnConstraints(nullable=False),
            ),
            dg.TableColumn(
                "venue_kind",
                "?",
                description="Its kind.",
                constraints=dg.TableColumnConstraints(
                    nullable=False,
                    other=["venue_kind is own_site or public_cloud", "length(venue_kind) > 2"],
                ),
            ),
        ],
        constraints=dg.TableConstraints(
            ["no two rows have the same site_id and valid_from_at, of which none is missing"]
        ),
    ),
    "dagster/column_lineage": LINEAGE,
}
BUILT = dg.AssetMaterialization(KEY, metadata=FOUND)
TESTED = dg.AssetCheckEvaluation(asset_key=KEY, check_name="unique", passed=True)


@pytest.fixture
def file(tmp_path):
    kept = Columns.read(tmp_path / "dagster" / "columns.json", "one")
    told = dg.AssetMaterialization(KEY, metadata={**FOUND, **SHOWN})
    assert [*kept.keep([BUILT, TESTED], MODELS)] == [told, TESTED]
    kept.write(tmp_path / "dagster" / "columns.json")
    return tmp_path / "dagster" / "columns.json"


def test_types_and_origins_of_columns_are_kept_and_told_beside_what_is_declared(file):
    assert Columns.read(file, "one").metadata(MODEL) == SHOWN


def test_a_later_run_that_follows_no_column_tells_what_is_kept(file):
    run = [dg.Output(None, metadata={"unique_id": MODEL["unique_id"]}), TESTED]
    [built, tested] = Columns.read(file, "one").keep(run, MODELS)
    assert built.metadata["dagster/column_schema"].value == SHOWN["dagster/column_schema"]
    assert tested == TESTED


def test_of_another_project_or_model_no_type_is_told(file):
    [first, *_] = Columns.read(file, "two").metadata(MODEL)["dagster/column_schema"].columns
    assert (first.name, first.type) == ("site_id", "?")
    assert Columns.read(file, "one").metadata(OTHER) == {
        "dagster/column_schema": dg.TableSchema(columns=[])
    }


def test_a_damaged_file_is_as_good_as_none(file):
    file.write_bytes(file.read_bytes()[:20])
    assert Columns.read(file, "one") == Columns(project="one")


def test_types_are_those_of_the_tables_and_views_of_the_warehouse(tmp_path):
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("create schema marts")
        connection.execute("create table marts.a (b double, t timestamptz, n varchar[])")
        connection.execute("create view v as select t from marts.a")
    assert types_in(tmp_path / "w.duckdb") == {
        ("marts", "a"): {"b": "double", "t": "timestamptz", "n": "varchar[]"},
        ("main", "v"): {"t": "timestamptz"},
    }


def test_what_a_model_says_of_its_rows_is_told_in_words():
    assert constraints(MODEL) == [
        "no two rows have the same site_id and valid_from_at, of which none is missing",
        "venue_kind is never missing",
        "venue_kind is own_site or public_cloud",
        "length(venue_kind) > 2",
    ]
    keys = [{"type": kind, "columns": ["week"]} for kind in ("primary_key", "unique")]
    assert constraints({"constraints": keys, "columns": {}}) == [
        "no two rows have the same week, which is never missing",
        "no two rows have the same week",
    ]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (
            "-- Returns rows (test failure) for days that do not add up.\n-- noqa: disable=RF06\n",
            "Fails on days that do not add up.",
        ),
        (
            "-- Returns the days of\n-- which none is known.\n",
            "Fails on the days of which none is known.",
        ),
        ("-- Costs stand once.\n{% set a = 1 %}\n-- not this\n", "Costs stand once."),
    ],
)
def test_a_data_test_is_described_by_the_words_at_its_head(head, words):
    assert purpose(f"{head}select 1\n-- nor this\n") == words


def test_a_type_that_is_known_is_that_of_its_column():
    [site, *_] = table_schema(MODEL, {"site_id": "varchar"}).columns
    assert site.type == "varchar"
