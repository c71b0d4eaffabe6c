"""The project as a folder: what it declares is what it holds, and which room may use which."""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path
from sys import stdlib_module_names

import pytest
from setuptools import find_packages

PROJECT = Path(__file__).parents[1]
PIPELINES = PROJECT / "pipelines"
TESTS = PROJECT / "tests"
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())

MAY_IMPORT = {
    "book": {"bucket"},
    "bucket": {"errors"},
    "cli": {
        *("book", "bucket", "errors", "lake", "onboarding", "orchestration", "pack"),
        *("published", "pulls", "reference", "simulator", "warehouse"),
    },
    "connectors": set(),
    "definitions": {"lake", "orchestration", "warehouse"},
    "errors": set(),
    "lake": {"book", "bucket", "connectors", "errors", "reference"},
    "onboarding": {"connectors", "errors", "reference"},
    "orchestration": {
        *("book", "bucket", "connectors", "errors", "lake", "pack", "published", "pulls"),
        *("reference", "warehouse"),
    },
    "pack": {"book", "errors", "published", "reference"},
    "published": {"book", "bucket", "errors", "reference", "warehouse"},
    "pulls": {"book", "connectors", "errors", "reference"},
    "reference": {"errors"},
    "simulator": {"book", "reference"},
    "warehouse": {"book", "bucket", "errors", "lake"},
}
"""Rooms of `pipelines/`, and those that each imports from."""


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Every module below a folder, with the full name of each thing it imports."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((module, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((module, f"{node.module}.{name.name}") for name in node.names)


def imported_distributions(*folders: Path) -> dict[str, set[str]]:
    """Packages of others that modules below the folders import, by what they are installed as."""
    installed = packages_distributions()
    return {
        package: {re.sub("[-_.]+", "-", name).lower() for name in installed[package]}
        for folder in folders
        for _, name in imports(folder)
        if (package := name.partition(".")[0]) not in stdlib_module_names
        and package not in ("benchmarks", "docs", "pipelines", "tests")
    }


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


@pytest.fixture(scope="module")
def dependencies() -> set[str]:
    optional = SETTINGS["project"]["optional-dependencies"]
    extras = [one for name, some in optional.items() if name != "dev" for one in some]
    return declared([*SETTINGS["project"]["dependencies"], *extras])


@pytest.fixture(scope="module")
def dev() -> set[str]:
    return declared(SETTINGS["project"]["optional-dependencies"]["dev"])


def test_what_is_imported_is_declared(dependencies, dev):
    at_run_time = imported_distributions(PIPELINES)
    assert [name for name, found in at_run_time.items() if not found & dependencies] == []
    by_tests = imported_distributions(TESTS, PROJECT / "benchmarks", PROJECT / "docs")
    assert [name for name, found in by_tests.items() if not found & (dependencies | dev)] == []


def test_what_is_declared_is_imported_or_says_why_it_has_to_be_there(dependencies, dev):
    with_reason = set(
        re.findall(r'^    "([\w-]+)[^"]*", # \S', (PROJECT / "pyproject.toml").read_text(), re.M)
    )
    at_run_time = set().union(*imported_distributions(PIPELINES).values())
    assert dependencies - at_run_time - with_reason == set()
    by_tests = set().union(
        *imported_distributions(TESTS, PROJECT / "benchmarks", PROJECT / "docs").values()
    )
    assert dev - by_tests - {name.lower() for name in with_reason} == set()


def test_rooms_import_from_the_rooms_they_may():
    found: dict[str, set[str]] = {
        path.stem: set()
        for path in PIPELINES.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    for module, name in imports(PIPELINES):
        if name.startswith("pipelines."):
            room, used = module.split(".")[1], name.split(".")[1]
            found[room] |= {used} - {room}
    assert found == MAY_IMPORT


def test_no_modules_import_each_other_in_a_circle():
    modules = {module for module, _ in imports(PIPELINES)}
    graph = defaultdict(set)
    for module, name in imports(PIPELINES):
        used = name if name in modules else name.rpartition(".")[0]
        if used in modules:
            graph[module].add(used)
    assert len(graph) > 50
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_every_room_and_module_says_what_belongs_there_and_what_does_not():
    without = [
        path.relative_to(PROJECT).as_posix()
        for path in sorted(PIPELINES.rglob("*.py"))
        if not re.search(
            r"What\s+belongs\s+here:.*What\s+does\s+not:",
            ast.get_docstring(ast.parse(path.read_text())) or "",
            re.DOTALL,
        )
    ]
    assert without == []


def test_no_test_is_skipped():
    found = [
        f"{path.relative_to(PROJECT)}:{node.lineno}"
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("skip", "skipif", "skipTest", "importorskip")
    ]
    assert found == []


def test_every_real_file_has_its_origin_and_licence():
    rows = re.findall(
        r"^\| `(\S+)` \| `\S+/\S+` @ `\w+` \| `\S+` \| (\S+) \|$",
        (TESTS / "data" / "LICENCES.md").read_text(),
        flags=re.MULTILINE,
    )
    files = {
        path.relative_to(TESTS / "data").as_posix()
        for path in (TESTS / "data").rglob("*")
        if path.is_file() and path.name not in ("LICENCES.md", ".gitattributes")
    }
    assert {name for name, _ in rows} == files
    assert {licence for _, licence in rows} == {
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC-BY-4.0",
        "MIT",
    }


def test_the_package_holds_the_pipelines_alone():
    include = SETTINGS["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = find_packages(str(PROJECT), include=include)
    assert {name.partition(".")[0] for name in packages} == {"pipelines"}
