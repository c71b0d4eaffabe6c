"""Sources as Dagster assets: each by itself, none where `sources.yml` names none."""

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg

from pipelines.definitions import defs
from pipelines.orchestration import assets, resources
from pipelines.simulator.landing import DEMO_REFERENCE
from tests.pulls.servers import Answer, declare, serving

TELL = """
import dagster as dg
from pipelines.definitions import defs, pulls_of_the_day, book_of_the_day
dg.Definitions.validate_loadable(defs)
graph = defs.resolve_asset_graph()
print(sorted(key.to_user_string() for key in pulls_of_the_day.selection.resolve(graph)))
print([key for key in book_of_the_day.selection.resolve(graph) if key.path[0] == "pulled"])
print(defs.resolve_schedule_def("before_the_build").cron_schedule)
print({defs.resolve_job_def(one.name).name for one in defs.jobs} >= {"pulls_of_the_day"})
"""


def metrics(name: str, url: str) -> dict[str, object]:
    return {
        "name": name,
        "kind": "prometheus",
        "url": url,
        "metrics": ["up"],
        "first_day": date.today(),  # noqa: DTZ011 - any day near now
        "token_variable": "TEST_TOKEN",
    }


def test_a_source_that_fails_is_an_asset_that_fails_and_stops_no_other(book, monkeypatch):
    monkeypatch.setenv("TEST_TOKEN", "s3cret")
    with serving(lambda asked: Answer(b"{}" if asked.path.startswith("/a") else b"no")) as server:
        declare(book, metrics("bad.one", f"{server.url}/b"), metrics("good-one", f"{server.url}/a"))
        result = dg.materialize(
            [assets.pulled("bad.one", 0), assets.pulled("good-one", 1)],
            resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
            raise_on_error=False,
        )
    [done] = result.get_asset_materialization_events()
    assert done.asset_key == dg.AssetKey(["pulled", "good-one"])
    told = {name: value.value for name, value in done.materialization.metadata.items()}
    assert told["landed_file_count"] >= 1
    [failed] = result.get_step_failure_events()
    assert "bad.one: localhost" in failed.event_specific_data.error.message
    assert "s3cret" not in str(result.all_events)


def test_without_sources_there_is_nothing_to_pull():
    assert resources.source_names() == []
    names = {one.name for one in (*defs.jobs, *defs.schedules)}
    assert names.isdisjoint({"pulls_of_the_day", "before_the_build"})


def test_declared_sources_are_pulled_each_day_an_hour_before_the_build(tmp_path):
    data_dir = tmp_path / "data"
    shutil.copytree(DEMO_REFERENCE, data_dir / "reference")
    book_of = assets.Book(data_dir)
    declare(book_of, metrics("one", "https://a"), metrics("two-2", "https://b"))
    told = subprocess.run(
        [sys.executable, "-c", TELL],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"WATTBOOK_DATA_DIR": str(data_dir), "PYTHONPATH": "."},
    ).stdout.splitlines()
    assert told[-4:] == ["['pulled/one', 'pulled/two-2']", "[]", "0 4 * * *", "True"]


def test_mistakes_in_the_sources_do_not_keep_the_ui_from_starting(book, monkeypatch):
    monkeypatch.setenv("WATTBOOK_DATA_DIR", str(book.data_dir))
    declare(book, {"name": "x"})
    assert resources.source_names() == []
