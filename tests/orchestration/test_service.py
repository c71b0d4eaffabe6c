"""Dagster as a service: what is forgotten and kept, runs cut off, alerts, late files, the units."""

import configparser
import json
import re
import runpy
import shutil
import subprocess
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
from dagster import DagsterRunStatus as Status
from dagster._core.workspace.load import location_origins_from_yaml_paths

from pipelines import warehouse
from pipelines.definitions import CATCH_UP_INTERVAL, defs, failed_runs, late_files
from pipelines.orchestration import resources, service
from pipelines.pack.delivery import DeliveryError
from tests.postgres_server import Server, started

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started() as server:
        yield server


@pytest.fixture(params=["PostgreSQL", "SQLite"])
def instance(request, tmp_path, server, monkeypatch) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance as the service has it, and as `make ui` has it."""
    if request.param == "SQLite":
        settings = service.__file__.replace("service.py", "instance.yaml")
    else:
        settings = DEPLOY / "dagster.yaml"
        server.run("postgres", "drop database if exists dagster", "create database dagster")
        url = server.dsn("dagster").replace("postgresql://", "postgresql+psycopg2://")
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    shutil.copyfile(settings, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def probe() -> None:
    print("done")


@dg.asset_check(asset=probe)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def run(instance: dg.DagsterInstance, partition: str) -> str:
    return dg.materialize([probe, sound], instance=instance, partition_key=partition).run_id


def test_what_is_old_is_forgotten_and_the_state_of_assets_and_checks_kept(instance):
    old = [run(instance, "a"), run(instance, "b"), run(instance, "a")]
    instance.report_runless_asset_event(dg.AssetMaterialization("told"))
    instance.report_runless_asset_event(dg.AssetMaterialization("told"))
    between = datetime.now(UTC)
    new = run(instance, "a")

    deleted = service.forget(instance, between)

    assert deleted["run_count"] == 3
    assert deleted["event_count"] > 10
    assert [one.run_id for one in instance.get_runs()] == [new]
    with dg.DagsterInstance.from_config(instance.root_directory) as again:
        # Of an old run at most that is left which was the last of its day.
        known = [len(again.all_logs(run_id)) > 1 for run_id in (*old, new)]
    assert known == [False, False, False, True]
    assert instance.get_materialized_partitions(probe.key) == {"a", "b"}
    assert instance.get_latest_materialization_event(dg.AssetKey("told")) is not None
    events = {
        key: instance.fetch_materializations(dg.AssetKey(key), limit=10).records
        for key in ("probe", "told")
    }
    assert {key: len(records) for key, records in events.items()} == {"probe": 2, "told": 1}
    checks = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(probe.key, "sound"), limit=10
    )
    assert [one.run_id for one in checks] == [new]
    logs = [
        path.relative_to(Path(instance.root_directory) / "storage").parts[0]
        for path in Path(instance.root_directory).rglob("*.out")
    ]
    assert logs == [new]
    assert service.forget(instance, between) == {"run_count": 0, "event_count": 0}


def test_the_state_of_an_asset_outlives_all_its_runs(instance):
    run(instance, "a")
    service.forget(instance, datetime.now(UTC) + timedelta(seconds=1))
    assert instance.get_runs() == []
    assert instance.get_materialized_partitions(probe.key) == {"a"}
    [last] = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(probe.key, "sound"), limit=10
    )
    assert last.status.value == "SUCCEEDED"


def test_runs_that_were_cut_off_have_failed_and_no_longer_keep_others_waiting(instance):
    job = dg.define_asset_job("all", [probe]).resolve(asset_graph=defs_of_probe())
    ids = {
        status: instance.create_run_for_job(job, status=status).run_id
        for status in (Status.NOT_STARTED, Status.STARTED, Status.CANCELING, Status.SUCCESS)
    }
    under_way = dg.RunsFilter(statuses=service.UNDER_WAY)
    waited = []
    for cut_off in (2, 0):
        # Once it is marked, a run is tried again, for which somebody has to be there.
        ended = service.end_cut_off_runs(
            instance, lambda: waited.append(instance.get_runs_count(under_way))
        )
        assert (ended, waited) == (cut_off, [2])
    found = {before: instance.get_run_by_id(run_id).status for before, run_id in ids.items()}
    assert found == {
        Status.NOT_STARTED: Status.NOT_STARTED,
        Status.STARTED: Status.FAILURE,
        Status.CANCELING: Status.CANCELED,
        Status.SUCCESS: Status.SUCCESS,
    }


def defs_of_probe():
    return dg.Definitions([probe]).resolve_asset_graph()


def test_the_nightly_job_forgets(instance):
    result = defs.resolve_job_def("housekeeping").execute_in_process(instance=instance)
    [output] = [event for event in result.all_events if event.is_successful_output]
    metadata = output.step_output_data.metadata
    assert {name: value.value for name, value in metadata.items()} == {
        "run_count": 0,
        "event_count": 0,
    }


class Receiver(HTTPServer):
    """A webhook on this machine that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret-path"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body)["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    Thread(target=receiver.serve_forever, daemon=True).start()
    yield receiver
    receiver.shutdown()
    receiver.server_close()


@dg.op
def broken() -> None:
    raise ValueError("31.50 EUR")


@dg.job(tags={"dagster/partition": "2026-09-10"})
def failing() -> None:
    broken()


def tell(book, tags=None) -> str:
    """Let a job fail and the sensor see it; the run."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = failing.execute_in_process(instance=instance, raise_on_error=False)
        if tags:
            instance.add_run_tags(result.run_id, tags)
        context = dg.build_run_status_sensor_context(
            sensor_name="failed_runs",
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            dagster_event=result.get_run_failure_event(),
            resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
        ).for_run_failure()
        failed_runs(context)
        return result.run_id


def test_a_run_that_failed_is_told_of_without_what_went_wrong(book, receiver, monkeypatch):
    monkeypatch.setenv("WATTBOOK_ALERT_WEBHOOK_URL", receiver.url)
    run_id = tell(book)
    assert receiver.told == [
        "Wattbook: failing of 2026-09-10 failed\nFailed: broken\n"
        f"Run {run_id} in the Dagster UI says why; from there it goes on where it failed."
    ]


def test_a_run_that_is_tried_again_by_itself_is_not_told_of(book, receiver, monkeypatch):
    monkeypatch.setenv("WATTBOOK_ALERT_WEBHOOK_URL", receiver.url)
    tell(book, {"dagster/will_retry": "true"})
    assert receiver.told == []


def test_without_a_webhook_nobody_is_told(book, monkeypatch):
    monkeypatch.delenv("WATTBOOK_ALERT_WEBHOOK_URL", raising=False)
    tell(book)


def test_a_webhook_that_does_not_answer_is_named_without_its_path(book, receiver, monkeypatch):
    monkeypatch.setenv("WATTBOOK_ALERT_WEBHOOK_URL", receiver.url)
    receiver.shutdown()
    receiver.server_close()
    with pytest.raises(DeliveryError) as error:
        tell(book)
    assert error.value.causes == [
        "webhook at 127.0.0.1: cannot be reached: check WATTBOOK_ALERT_WEBHOOK_URL"
    ]
    assert "secret-path" not in "".join(traceback.format_exception(error.value))


@pytest.fixture
def late(book, monkeypatch):
    """What the sensor of late files says at some time, when files for a day were loaded."""
    plan = warehouse.Plan(book, book.warehouse, (date(2026, 9, 10),), ("0123456789abcdef",))
    monkeypatch.setattr(warehouse, "plan", lambda _: plan)

    def ask(instance, cursor=None):
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
        )
        return late_files(context), context.cursor

    return ask


def test_late_files_that_keep_coming_are_built_a_few_times_a_day(late):
    with dg.DagsterInstance.ephemeral() as instance:
        before = datetime.now(UTC)
        first, cursor = late(instance)
        assert isinstance(first, dg.RunRequest)
        assert datetime.fromisoformat(cursor) >= before + CATCH_UP_INTERVAL
        second, same = late(instance, cursor)
        assert second.skip_message == "Late files are built again in 239 min."
        assert same == cursor
        past = (before - timedelta(seconds=1)).isoformat()
        third, _ = late(instance, past)
        # A build that failed is asked for again, though the files are the same.
        assert isinstance(third, dg.RunRequest)
        assert third.run_key is None


def test_late_files_wait_for_a_build_that_is_under_way(late):
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("book_of_the_day")
        instance.create_run_for_job(job, status=Status.NOT_STARTED)
        answer, cursor = late(instance)
        assert answer.skip_message == "A build is under way, or waits to be."
        assert cursor is None


@pytest.mark.parametrize(("setting", "status"), [("on", "RUNNING"), ("", "STOPPED")])
def test_schedules_and_sensors_are_on_where_a_setting_says_so(monkeypatch, setting, status):
    monkeypatch.setenv("WATTBOOK_SCHEDULES", setting)
    found = runpy.run_module("pipelines.definitions")["defs"]
    assert {one.default_status.name for one in (*found.schedules, *found.sensors)} == {status}


def test_the_units_are_in_order(tmp_path):
    units = sorted(DEPLOY.glob("*.service"))
    names = ["wattbook-code.service", "wattbook-daemon.service", "wattbook-web.service"]
    assert [unit.name for unit in units] == names
    for unit in units:
        settings = configparser.ConfigParser(strict=False, interpolation=None)
        settings.optionxform = str
        settings.read(unit)
        assert settings["Service"]["User"] == "wattbook"
        assert settings["Service"]["EnvironmentFile"] == "/etc/wattbook/wattbook.env"
        assert settings["Service"]["Restart"] == "always"
    if systemd := shutil.which("systemd-analyze"):
        # What a unit starts has to be there: another stands in for it.
        copies = []
        for unit in units:
            text = re.sub(r"/opt/wattbook/\.venv/bin/\S+", "/bin/true", unit.read_text())
            copies.append(tmp_path / unit.name)
            copies[-1].write_text(text)
        answer = subprocess.run(
            [systemd, "verify", "--man=no", *copies], capture_output=True, text=True, check=False
        )
        assert [line for line in answer.stderr.splitlines() if "wattbook" in line] == []
        assert answer.returncode == 0


def test_the_manual_tells_of_every_schedule_and_sensor():
    manual = (DEPLOY.parent / "docs" / "service.md").read_text()
    told = re.findall(r"^\| .* \| `(\w+)` \|$", manual, re.MULTILINE)
    there = [one.name for one in (*defs.schedules, *defs.sensors)]
    assert sorted(told) == sorted(there)


def test_nothing_listens_beyond_the_machine():
    started_with = [unit.read_text() for unit in sorted(DEPLOY.glob("*.service"))]
    assert "--host 127.0.0.1" in started_with[2]
    assert "0.0.0.0" not in "".join(started_with)
    # Who reaches the process of runs may start some: a socket in a closed folder leads there alone.
    [socket] = re.findall(r"--socket (\S+)", started_with[0])
    assert "--port" not in started_with[0]
    assert [text.count(f"WATTBOOK_CODE_SOCKET={socket}\n") for text in started_with] == [1, 1, 1]


def test_daemon_and_ui_ask_the_process_of_runs_and_read_nothing_anew(tmp_path, monkeypatch):
    """With a module they would start a process of their own, the daemon one a minute."""
    units = [(DEPLOY / f"wattbook-{name}.service").read_text() for name in ("daemon", "web")]
    workspace = "--workspace /opt/wattbook/deploy/workspace.yaml"
    assert [workspace in unit and "--module-name" not in unit for unit in units] == [True, True]
    monkeypatch.setenv("WATTBOOK_CODE_SOCKET", "/nowhere/code.sock")
    [origin] = location_origins_from_yaml_paths([str(DEPLOY / "workspace.yaml")])
    assert (origin.location_name, origin.socket, origin.port) == (
        "wattbook",
        "/nowhere/code.sock",
        None,
    )
