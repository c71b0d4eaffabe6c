"""The project as a folder: what it declares, what it holds, and what it must never hold."""

import ast
import re
import tomllib
from pathlib import Path

from setuptools import find_packages

PROJECT = Path(__file__).parents[1]
TESTS = PROJECT / "tests"
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())


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
