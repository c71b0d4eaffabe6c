import dagster as dg
import pytest

from pipelines.orchestration.columns import Columns

MODEL = "model.wattbook.dim_sites"
LINEAGE = dg.TableColumnLineage(
    {"site_id": [dg.TableColumnDep(dg.AssetKey(["raw", "sites"]), "site_id")]}
)
BUILT = dg.AssetMaterialization(
    ["marts", "dim_sites"],
    metadata={
        "unique_id": MODEL,
        "dagster/column_schema": dg.TableSchema([dg.TableColumn("site_id", "VARCHAR")]),
        "dagster/column_lineage": LINEAGE,
    },
)
TESTED = dg.AssetCheckEvaluation(
    asset_key=dg.AssetKey(["marts", "dim_sites"]), check_name="unique", passed=True
)
TOLD = {
    "dagster/column_schema": dg.TableSchema(
        [dg.TableColumn("site_id", "?", description="The site.")]
    )
}


@pytest.fixture
def file(tmp_path):
    kept = Columns.read(tmp_path / "dagster" / "columns.json", "one")
    assert [*kept.keep([BUILT, TESTED])] == [BUILT, TESTED]
    kept.write(tmp_path / "dagster" / "columns.json")
    return tmp_path / "dagster" / "columns.json"


def test_types_and_origins_of_columns_are_kept_beside_their_descriptions(file):
    assert Columns.read(file, "one").metadata(MODEL, TOLD) == {
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn("site_id", "VARCHAR", description="The site.")]
        ),
        "dagster/column_lineage": LINEAGE,
    }


def test_of_another_project_or_model_nothing_is_told(file):
    assert Columns.read(file, "two").metadata(MODEL, TOLD) == TOLD
    assert Columns.read(file, "one").metadata("model.wattbook.dim_meters", TOLD) == TOLD


def test_a_damaged_file_is_as_good_as_none(file):
    file.write_bytes(file.read_bytes()[:20])
    assert Columns.read(file, "one") == Columns(project="one")
