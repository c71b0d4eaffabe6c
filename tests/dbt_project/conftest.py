"""Fixtures that tests of the dbt project share: a book built before any file came."""

import json
from typing import Any

import pytest

from pipelines import lake, warehouse
from pipelines.book import Book
from pipelines.simulator.landing import declare


def lake_vars(book: Book) -> str:
    """What dbt is told of a book."""
    return json.dumps({"lake_dir": str(book.lake.resolve())})


@pytest.fixture(scope="session")
def empty_book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A book that was built before any file came, with every unit test of the models."""
    book = Book(tmp_path_factory.mktemp("empty") / "data")
    declare(book)
    lake.write_reference_tables(book)
    answer = warehouse.invoke_dbt(
        book,
        book.warehouse,
        # Unit tests are mostly Python's work, of which several threads only make more.
        ["build", "--threads", "1", "--exclude-resource-type", "test", "--vars", lake_vars(book)],
    )
    assert answer.success, [
        f"{result.node.name}: {result.message}"
        for result in answer.result.results
        if result.status not in ("success", "pass")
    ]
    return book


@pytest.fixture(scope="session")
def manifest(empty_book: Book) -> dict[str, Any]:
    """What dbt reads in the project."""
    found: dict[str, Any] = json.loads(warehouse.manifest_path(empty_book).read_text())
    return found
