"""Fixtures that several tests share: the demo's book, made once for all of them, and a browser."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from dbt.cli.main import dbtRunner
from filelock import FileLock
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from pipelines import lake, warehouse
from pipelines.book import Book
from pipelines.connectors.common import Context
from pipelines.connectors.reading import Columns, Reader
from pipelines.lake import loading
from pipelines.orchestration.resources import parsed_book
from pipelines.published import publishing
from pipelines.simulator import landing

DEMO_UNTIL = datetime(2026, 11, 3, tzinfo=UTC)
CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Tests assert no times: a busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


# Before pytest-xdist looks for groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what reads the demo, and hand out the tests so that the longest work begins first.

    Tests of a module stay in one process, which makes its fixtures once; those that read the demo
    do so across modules.
    """

    def place(item: pytest.Item) -> int:
        needs_demo = "demo_book" in item.fixturenames  # type: ignore[attr-defined]
        group = item.get_closest_marker("xdist_group")
        if needs_demo:
            item.add_marker(pytest.mark.demo)
        if group is None:
            name = "demo" if needs_demo else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(name))
        if needs_demo:
            # One process makes the demo; the others come to it last.
            return 0 if group is None else 3
        return 2 if group is None else 1

    items.sort(key=place)


def of_all_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that the test processes of a run have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def _project_is_read_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What dbt keeps of reading the project, some seconds' work, serves every new book."""
    invoke = dbtRunner.invoke
    # Where tests of assets are collected, it has been read for Dagster.
    collected = warehouse.dbt_dir(parsed_book()) / "target" / "partial_parse.msgpack"

    def known(self: dbtRunner, args: list[str], **options: Any) -> Any:
        if args[0] != "parse":
            return invoke(self, args, **options)
        project, target = (
            args[args.index(name) + 1] for name in ("--project-dir", "--target-path")
        )
        own = Path(target) / "partial_parse.msgpack"
        name = sha256(f"{project} {os.environ['WATTBOOK_WAREHOUSE']}".encode()).hexdigest()
        shared = of_all_processes(tmp_path_factory) / f"{name}.msgpack"
        with FileLock(shared.with_suffix(".lock")):
            for before in (shared, collected):
                if before.exists() and not own.exists():
                    own.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(before, own)
        answer = invoke(self, args, **options)
        if answer.success and not shared.exists():
            with FileLock(shared.with_suffix(".lock")):
                shutil.copyfile(own, shared)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dbtRunner, "invoke", known)
        yield


@pytest.fixture(scope="session", autouse=True)
def _readers_are_started_once() -> Iterator[None]:
    """Processes that read files serve load after load: to start one takes longer than most do."""
    idle: list[tuple[Context, Reader]] = []

    @contextmanager
    def reader(context: Context, columns: Columns) -> Iterator[Reader]:
        known = [one for one in idle if one[0] == context]
        one = known[0] if known else (context, Reader(context, columns))
        if known:
            idle.remove(one)
        try:
            yield one[1]
        finally:
            idle.append(one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "Reader", reader)
        yield
    for _, one in idle:
        one.__exit__()


@pytest.fixture(scope="session")
def demo_book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """The whole demo, simulated, loaded, built and published; tests read it and leave it as it is.

    Several test processes share one: the first to come makes it, the others wait for it.
    """
    folder = of_all_processes(tmp_path_factory)
    book = Book(folder / "demo")
    done = folder / "demo.done"
    with FileLock(folder / "demo.lock"):
        if not done.exists():
            landing.simulate(book.data_dir, until=DEMO_UNTIL, progress=lambda _: None)
            lake.load(book)
            warehouse.build(book)
            publishing.publish(book)
            done.touch()
    return book


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """An empty book of the demo's organization."""
    book = Book(tmp_path / "data")
    landing.declare(book)
    return book


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that sees files and nothing else."""
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is not there: install it, on Debian by `apt-get install chromium`")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield opened
        opened.close()
