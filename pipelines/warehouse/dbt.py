"""Running dbt on a book: where it writes, what it is told, and what it says.

What belongs here: the calls of dbt and the files it leaves. What does not: which days a run builds
(`planning.py`), and any formula (`dbt_project/`).
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from filelock import FileLock

from pipelines.book import Book
from pipelines.bucket import Place, show
from pipelines.errors import BookError

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult

Progress = Callable[[str], None]

PROJECT_DIR = Path(__file__).resolve().parents[2] / "dbt_project"
WAREHOUSE_VARIABLE = "WATTBOOK_WAREHOUSE"
MEMORY_VARIABLE = "WATTBOOK_MEMORY_LIMIT"


class WarehouseError(BookError):
    """The warehouse could not be built; `causes` has one sentence per cause."""


def dbt_dir(book: Book) -> Path:
    """Where dbt keeps its manifest and logs, so that nothing is written in the project."""
    return book.data_dir.resolve() / "dbt"


def manifest_path(book: Book) -> Path:
    """The manifest of the last build."""
    return dbt_dir(book) / "target" / "manifest.json"


def keep_manifest(book: Book, manifest: Path) -> None:
    """Make `manifest` the manifest of the last build, by which `publish` goes."""
    manifest_path(book).parent.mkdir(parents=True, exist_ok=True)
    draft = manifest_path(book).with_suffix(".draft")
    shutil.copyfile(manifest, draft)
    draft.replace(manifest_path(book))


@contextmanager
def variable(name: str, value: Path) -> Iterator[None]:
    """Set a variable of the environment, by which what reads it at its start is told of a path."""
    before = os.environ.get(name)
    os.environ[name] = str(value)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def warehouse_variable(path: Path) -> AbstractContextManager[None]:
    """Tell dbt's profile which file to write."""
    return variable(WAREHOUSE_VARIABLE, path)


def invoke_dbt(
    book: Book, warehouse: Path, arguments: Sequence[str], progress: Progress | None = None
) -> "dbtRunnerResult":
    """Run a dbt command in this process, writing nothing but the warehouse and `dbt_dir`."""
    # dbt takes two seconds to import, and a build with nothing to do does not need it.
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    def report(event: Any) -> None:
        if progress is not None and event.info.name == "LogStartLine":
            progress(event.data.description)

    folder = dbt_dir(book)
    common = [
        *("--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)),
        *("--target-path", str(folder / "target"), "--log-path", str(folder / "logs")),
        *("--log-level", "none", "--log-level-file", "info", "--no-use-colors"),
    ]
    # Other vars or another folder make dbt read the whole project again; what it reads does not
    # depend on them, but on the name of the file, which is that of the database.
    is_all = list(arguments) == ["parse"]
    # Any other command writes what it was given.
    parsing = ["parse", *common] if is_all else ["parse", "--no-write-json", *common]
    with warehouse_variable(Path(warehouse.name)), _silent_logging():
        answer = dbtRunner().invoke(parsing)
    if not is_all and isinstance(answer.result, Manifest):
        with warehouse_variable(warehouse), _silent_logging():
            runner = dbtRunner(manifest=answer.result, callbacks=[report])
            answer = runner.invoke([*arguments, *common])
    close_connections()
    return answer


@contextmanager
def _silent_logging() -> Iterator[None]:
    """Print no trace where the log file cannot be written: the run itself tells what is wrong."""
    before = logging.raiseExceptions
    logging.raiseExceptions = False
    try:
        yield
    finally:
        logging.raiseExceptions = before


def close_connections() -> None:
    """Close what dbt's adapter would keep open, for writing, until the process ends."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()


def parse(book: Book) -> dict[str, Any]:
    """The manifest of the dbt project as it stands now, also written to `manifest_path`.

    Raises:
        WarehouseError: the project cannot be read.
    """
    # Each run of Dagster is a process of its own, which asks, and several may ask at once.
    dbt_dir(book).mkdir(parents=True, exist_ok=True)
    parsed = manifest_path(book).with_suffix(".parsed")
    now = f"{project_digest()} {version('dbt-core')} {version('dbt-duckdb')}"
    with FileLock(dbt_dir(book) / "parse.lock"):
        if not manifest_path(book).exists() or not parsed.exists() or parsed.read_text() != now:
            answer = invoke_dbt(book, book.warehouse.resolve(), ["parse"])
            if not answer.success:
                raise WarehouseError(causes_of(book, answer, [], book.warehouse))
            parsed.write_text(now)
        manifest: dict[str, Any] = json.loads(manifest_path(book).read_text())
    return manifest


def project_digest() -> str:
    """Digest of the dbt project as it stands."""
    return digest_of_folder(PROJECT_DIR)


def digest_of_folder(folder: Path) -> str:
    """Digest of the settings and models below a folder."""
    kinds = (".csv", ".sql", ".yml")
    return digest_of([file for file in folder.rglob("*") if file.suffix in kinds])


def digest_of(files: Sequence[Place]) -> str:
    """Digest of the names and contents of files."""
    digest = hashlib.sha256()
    for file in sorted(files, key=str):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def causes_of(
    book: Book, answer: "dbtRunnerResult", results: list[Any], warehouse: Path
) -> list[str]:
    """Why a dbt run failed, one sentence per cause; of a test with the first rows that fail it."""
    failed = ("error", "fail", "runtime error")
    causes = [
        cause_of(result)
        + (_failing_rows(book, result, warehouse) if result.status == "fail" else "")
        for result in results
        if result.status in failed
    ]
    if answer.exception is not None:
        causes.append(f"dbt: {_one_line(str(answer.exception))}{_mend(answer.exception)}")
    return causes or [
        "dbt stopped without naming a cause: see dbt/logs/dbt.log in the data directory"
    ]


def _failing_rows(book: Book, result: Any, warehouse: Path) -> str:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        show(connection, book.lake)
        rows = connection.sql(result.node.compiled_code).limit(5).pl()
    shown = (
        ", ".join(f"{column} {value}" for column, value in row.items())
        for row in rows.iter_rows(named=True)
    )
    return f": {'; '.join(shown)}"


def _mend(error: BaseException) -> str:
    """What to do where the disk is to blame, whatever it is wrapped in."""
    if isinstance(error, OSError) or "No space left on device" in str(error):
        return ": make room or give leave to write, and build again; what was published is kept"
    return ""


def cause_of(result: Any) -> str:
    """What dbt says of one model or test, with its file."""
    name = f"{result.node.resource_type} {result.node.name}"
    return (
        f"{name} ({result.node.original_file_path}): {_one_line(result.message or result.status)}"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
