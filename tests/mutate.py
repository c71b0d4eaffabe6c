"""Applies single changes to Python and SQL and runs the tests of the place: do they notice?

What belongs here: finding the changes, applying one at a time to a copy of the project, and running
what should fail. What does not: the changes that alter nothing (`mutants.yml`, each with its
reason). It is run by hand, never by `make test`: `python -m tests.mutate --help`.

Tools such as mutmut and cosmic-ray know Python only, and every formula of the book is SQL.
"""

import argparse
import ast
import importlib.util
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path
from queue import SimpleQueue

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
EQUIVALENTS = Path(__file__).with_name("mutants.yml")
# It runs every unit test of the project; those of the place have run already.
NOT_OF_ONE_PLACE = "tests/dbt_project/test_dbt_project.py"
# What takes seconds to import is imported once, and each run of pytest is a fork of that process.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("pytest", "hypothesis", "polars", "duckdb", "pydantic", "dataframely", "typer", "ibis"),
        *("dagster_dbt", "altair", "playwright.sync_api", "jsonschema", "nemreader", "entsoe"),
    ]
)
NOT_EVEN_SQL = ("Binder Error", "Parser Error", "Catalog Error", "Compilation Error")


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    path: str
    """Relative to the project."""
    source: str
    start: int
    before: str
    after: str
    nth: int = 1
    """Which of those that read the same in their file."""

    @property
    def text(self) -> str:
        """The whole file, changed."""
        return self.source[: self.start] + self.after + self.source[self.start + len(self.before) :]

    @property
    def line_number(self) -> int:
        return self.source.count("\n", 0, self.start) + 1

    @property
    def line(self) -> str:
        """The line on which the change begins, as it was."""
        return self.source.splitlines()[self.line_number - 1].strip()

    @property
    def change(self) -> str:
        words = f"{' '.join(self.before.split())} -> {' '.join(self.after.split())}".strip()
        return words if self.nth == 1 else f"{words} #{self.nth}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same while the lines above move."""
        return self.path, self.line, self.change

    def __str__(self) -> str:
        return f"{self.path}:{self.line_number}: {self.change}"


def candidates(path: str, source: str) -> list[Mutant]:
    """Every change known for a file, in the order of its lines."""
    changes = sql_changes(source) if path.endswith(".sql") else python_changes(source)
    seen: Counter[tuple[str, str, str]] = Counter()
    mutants = []
    for change in sorted(set(changes)):
        mutant = Mutant(path, source, *change)
        seen[mutant.key] += 1
        mutants.append(replace(mutant, nth=seen[mutant.key]))
    return mutants


Change = tuple[int, str, str]
"""Where it starts, what stands there, and what shall."""

PYTHON_COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
PYTHON_OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def python_changes(source: str) -> Iterator[Change]:
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(line: int, column: int) -> int:
        # ast counts bytes within a line.
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def change(node: ast.expr | ast.stmt, after: str) -> Change:
        start = offset(node.lineno, node.col_offset)
        return start, source[start : offset(node.end_lineno, node.end_col_offset)], after

    for node in _code_of(ast.parse(source)):
        match node:
            case ast.Compare(left, operators, comparators):
                for index, operator in enumerate(operators):
                    flipped = list(operators)
                    flipped[index] = PYTHON_COMPARISONS[type(operator)]()
                    yield change(node, ast.unparse(ast.Compare(left, flipped, comparators)))
            case ast.BoolOp(operator, values):
                other = PYTHON_OPERATORS[type(operator)]()
                yield change(node, ast.unparse(ast.BoolOp(other, values)))
            case ast.BinOp(left, operator, right) if type(operator) in PYTHON_OPERATORS:
                other = PYTHON_OPERATORS[type(operator)]()
                yield change(node, ast.unparse(ast.BinOp(left, other, right)))
            case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
                yield change(node, ast.unparse(operand))
            case ast.Constant(bool() as value):
                yield change(node, repr(not value))
            case ast.Constant(int() | float() as value):
                yield change(node, repr(value + 1))
            case ast.Return(ast.expr() as value) if ast.unparse(value) != "None":
                yield change(value, "None")
            case ast.Expr(ast.Call()) | ast.Raise() | ast.AugAssign() | ast.Continue():
                yield change(node, "pass")
            case ast.With(items):
                for item in items:
                    if item.optional_vars is None and isinstance(item.context_expr, ast.Call):
                        yield change(item.context_expr, "__import__('contextlib').nullcontext()")
        if isinstance(node, ast.If | ast.IfExp) and isinstance(
            node.test, ast.Name | ast.Attribute | ast.Call
        ):
            yield change(node.test, f"(not {ast.unparse(node.test)})")


def _code_of(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below that decide something: no types, no wording, no decorators."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "__all__"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            yield child
            yield from _code_of(child)


SQL_WORDS = {
    r" < ": " <= ", r" <= ": " < ", r" > ": " >= ", r" >= ": " > ",
    r" = ": " != ", r" != ": " = ",
    r" and ": " or ", r" or ": " and ",
    r" \+ ": " - ", r" - ": " + ", r" \* ": " / ", r" / ": " * ",
    r"\bmin\(": "max(", r"\bmax\(": "min(", r"\bsum\(": "avg(",
    r"\bleast\(": "greatest(", r"\bgreatest\(": "least(",
    r"\barg_min\(": "arg_max(", r"\barg_max\(": "arg_min(",
    r"\bbool_or\(": "bool_and(", r"\bbool_and\(": "bool_or(",
    r"\binner join\b": "left join", r"\bleft join\b": "inner join",
    r"\bis not null\b": "is null", r"\bis null\b": "is not null",
    r" desc\b": "", r"\bnot (?!null)": "", r"\bdistinct ": "",
}  # fmt: skip
SQL_UNSEEN = re.compile(r"\{#.*?#\}|--[^\n]*|'(?:[^']|'')*'|\{\{ config\(.*?\}\}", re.DOTALL)


def sql_changes(source: str) -> Iterator[Change]:
    # Comments and literals as blanks, so that every place stays where it is.
    code = SQL_UNSEEN.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), source)
    for pattern, after in SQL_WORDS.items():
        for found in re.finditer(pattern, code):
            line = code[code.rfind("\n", 0, found.start()) + 1 : found.start()]
            is_jinja_set = after == " != " and re.search(r"\{%-? set \w+$|\w\($|, \w+$", line)
            is_range = after == " or " and re.search(r"between [^()]*$", line)
            if not is_jinja_set and not is_range:
                yield found.start(), found[0], after
    for found in re.finditer(r"(?<![\w.\"])\d+(\.\d+)?(?![\w.\"])", code):
        yield found.start(), found[0], repr(json.loads(found[0]) + 1)
    for found in re.finditer(r"\b(coalesce|nullif)\(", code):
        inside = _inside(code, found.end())
        yield (
            found.start(),
            source[found.start() : found.end() + len(inside) + 1],
            source[found.end() : found.end() + len(_first_argument(inside))],
        )
    for found in re.finditer(r" filter \(", code):
        end = found.end() + len(_inside(code, found.end())) + 1
        yield found.start(), source[found.start() : end], ""
    for found in re.finditer(r"\bpartition by ([^()\n]+?)(?=\)| order by|\n)", code):
        *kept, _ = found[1].split(", ")
        yield found.start(), found[0], f"partition by {', '.join(kept)}" if kept else ""
    for found in re.finditer(r"^ *(and|where) (.+)$", code, re.MULTILINE):
        start = found.start(1)
        condition = source[start : found.end()].rstrip()
        if condition.count("(") == condition.count(")"):
            yield start, condition, "where true" if found[1] == "where" else ""


def _inside(code: str, start: int) -> str:
    """The text from `start`, just behind a bracket, to the one that closes it."""
    depth = 1
    for end in range(start, len(code)):
        depth += {"(": 1, ")": -1}.get(code[end], 0)
        if depth == 0:
            return code[start:end]
    return code[start:]


def _first_argument(arguments: str) -> str:
    depth = 0
    for end, character in enumerate(arguments):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            return arguments[:end]
    return arguments


def python_tests(project: Path, path: str) -> list[str]:
    """The test module that mirrors a module, then the others of its folder and who imports it."""
    module = Path(path).with_suffix("")
    mirror = project / "tests" / module.relative_to("pipelines").parent
    own = mirror / f"test_{module.name}.py"
    found = sorted(mirror.glob("test_*.py"), key=lambda test: (test != own, test))
    dotted = ".".join(module.parts).removesuffix(".__init__")
    for test in sorted((project / "tests").rglob("test_*.py")):
        if test not in found and dotted in _imports(test):
            found.append(test)
    return [test.relative_to(project).as_posix() for test in found]


def _imports(test: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(test.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return names


def tests_that_name(project: Path, names: Sequence[str]) -> list[str]:
    """The test modules that build a model, or call a macro, by its name."""
    word = re.compile(rf"\b({'|'.join(names)})\b")
    tests = (
        test.relative_to(project).as_posix()
        for test in sorted((project / "tests").rglob("test_*.py"))
        if word.search(test.read_text())
    )
    return [test for test in tests if test not in (NOT_OF_ONE_PLACE, "tests/test_mutate.py")]


def macro_at(mutant: Mutant) -> str:
    """The name of the macro in which a change lies."""
    return re.findall(r"macro (\w+)\(", mutant.source[: mutant.start])[-1]


def models_with_macro(manifest: dict, name: str) -> list[str]:
    """The models that a macro is part of, also by way of other macros."""
    wanted = {f"macro.wattbook.{name}"}
    while True:
        callers = {
            macro_id
            for macro_id, macro in manifest["macros"].items()
            if wanted & set(macro["depends_on"]["macros"])
        }
        if callers <= wanted:
            break
        wanted |= callers
    return sorted(
        node["name"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and wanted & set(node["depends_on"]["macros"])
    )


@dataclass(frozen=True)
class Verdict:
    """What the tests said of a mutant: killed, survived, timeout, invalid or equivalent."""

    status: str
    reason: str = ""


class Copy:
    """A copy of the project in which one mutant at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)
        (folder / ".venv").symlink_to(PROJECT / ".venv")
        self._dbt: Pool | None = None
        self._seconds: dict[str, float] = {}

    def try_out(self, mutant: Mutant) -> Verdict:
        if mutant.path.endswith(".sql"):
            return self._try_sql(mutant)
        return self._try_pytest(mutant, python_tests(self.root, mutant.path))

    def close(self) -> None:
        if self._dbt is not None:
            self._dbt.terminate()
            self._dbt.join()
            self._dbt = None

    def _write(self, path: str, text: str) -> None:
        file = self.root / path
        file.write_text(text)
        # Of the same size and the same second, it would pass for what it was.
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)

    def _try_pytest(self, mutant: Mutant, tests: Sequence[str]) -> Verdict:
        for test in tests:
            if test not in self._seconds:
                started = time.monotonic()
                if failed := self._pytest(test, timeout=None):
                    raise SystemExit(f"without any change a test fails: {failed}")
                self._seconds[test] = time.monotonic() - started
            self._write(mutant.path, mutant.text)
            try:
                failed = self._pytest(test, timeout=30 + 3 * self._seconds[test])
            except TimeoutError:
                return Verdict("timeout", test)
            finally:
                self._write(mutant.path, mutant.source)
            if failed:
                return Verdict("killed", failed)
        return Verdict("survived", " ".join(tests) or "it has no test")

    def _pytest(self, test: str, timeout: float | None) -> str:
        """What failed first, or nothing."""
        said = self.root / "pytest.txt"
        process = _FORKS.Process(target=run_pytest, args=(self.root, test, said))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError
        if process.exitcode in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            return ""
        text = said.read_text()
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        return found[1] if found else text.strip()[-300:]

    def _try_sql(self, mutant: Mutant) -> Verdict:
        names = [Path(mutant.path).stem]
        manifest = json.loads(self._manifest().read_text())
        if "macros" in Path(mutant.path).parts:
            names = [macro_at(mutant)]
            models = models_with_macro(manifest, *names)
        else:
            models = names
        has_unit_tests = {
            model for test in manifest["unit_tests"].values() if (model := test["model"]) in models
        }
        if has_unit_tests:
            select = [f"{model},test_type:unit" for model in sorted(has_unit_tests)]
            self._write(mutant.path, mutant.text)
            try:
                failed = self._pool().apply_async(dbt_test, (self.root, select)).get(timeout=180)
            except multiprocessing.TimeoutError:
                self.close()
                return Verdict("timeout")
            finally:
                self._write(mutant.path, mutant.source)
            if failed:
                status = "invalid" if any(kind in failed for kind in NOT_EVEN_SQL) else "killed"
                return Verdict(status, failed)
        tests = tests_that_name(self.root, names)
        if not has_unit_tests or tests:
            return self._try_pytest(mutant, tests)
        return Verdict("survived", f"unit tests of {', '.join(sorted(has_unit_tests))}")

    def _manifest(self) -> Path:
        manifest = self.root / "data/dbt/target/manifest.json"
        if not manifest.exists():
            progress("building an empty book")
            failed = self._pool().apply(dbt_empty, (self.root,))
            if failed:
                raise SystemExit(f"the empty book cannot be built: {failed}")
            shutil.copy2(manifest, manifest.with_name("kept.json"))
        return manifest.with_name("kept.json")

    def _pool(self) -> Pool:
        # dbt takes seconds to import: one process stays for all mutants, and goes where one hangs.
        if self._dbt is None:
            self._dbt = multiprocessing.get_context("spawn").Pool(1)
        return self._dbt


def run_pytest(root: Path, test: str, said: Path) -> None:
    """In a process of its own: run a test module of a copy, and end as pytest ends."""
    with said.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)
    sys.path.insert(0, str(root))
    for name in [name for name in sys.modules if name.split(".")[0] in ("pipelines", "tests")]:
        del sys.modules[name]
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "tests.mutate"]
    sys.exit(pytest.main([*options, test]))


def dbt_empty(root: Path) -> str:
    """Build a book without any row; what failed first, or nothing."""
    from pipelines import lake
    from pipelines.book import Book

    lake.write_reference_tables(Book(root / "data"))
    return _dbt(root, ["run", "--empty"])


def dbt_test(root: Path, select: Sequence[str]) -> str:
    """Run unit tests; what failed first, or nothing."""
    return _dbt(root, ["test", "--select", *select])


def _dbt(root: Path, arguments: Sequence[str]) -> str:
    from dbt.cli.main import dbtRunner

    from pipelines.warehouse import close_connections, warehouse_variable

    with warehouse_variable(root / "data/warehouse.duckdb"):
        answer = dbtRunner().invoke(
            [
                *arguments,
                *("--project-dir", str(root / "dbt_project")),
                *("--profiles-dir", str(root / "dbt_project")),
                *("--target-path", str(root / "data/dbt/target")),
                *(
                    "--log-path",
                    str(root / "data/dbt/logs"),
                    "--log-level",
                    "none",
                    "--no-use-colors",
                ),
                *("--vars", json.dumps({"lake_dir": str(root / "data/lake")})),
            ]
        )
    close_connections()
    if answer.exception is not None:
        return f"Compilation Error: {' '.join(str(answer.exception).split())[:200]}"
    bad = [result for result in answer.result.results if result.status in ("fail", "error")]
    bad.sort(key=lambda result: result.status != "fail")
    return f"{bad[0].node.name}: {' '.join(str(bad[0].message).split())[:200]}" if bad else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As a plugin of the runs above: without the tests that need the whole demo."""
    items[:] = [item for item in items if "demo_book" not in item.fixturenames]  # type: ignore[attr-defined]


def equivalents() -> dict[tuple[str, str, str], str]:
    """Why a mutant changes nothing that a test could see, by its key."""
    return {
        (path, entry["line"], entry["change"]): entry["reason"]
        for path, entries in (yaml.safe_load(EQUIVALENTS.read_text()) or {}).items()
        for entry in entries
    }


def mutants_of(paths: Sequence[str]) -> list[Mutant]:
    """The candidates of files and folders; `file:line` names one line."""
    found = []
    for named in paths:
        name, _, line = named.partition(":")
        place = (PROJECT / name).resolve()
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if file.suffix in (".py", ".sql"):
                mutants = candidates(file.relative_to(PROJECT).as_posix(), file.read_text())
                found += [one for one in mutants if not line or one.line_number == int(line)]
    return found


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutate",
        description=__doc__.splitlines()[0],
        epilog="Exit status 1 where a mutant survived. One that alters nothing goes to "
        f"tests/{EQUIVALENTS.name} with the line, the change and the reason.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders or file:line")
    parser.add_argument("--limit", type=int, help="try so many, drawn by chance")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (default: 0)")
    parser.add_argument("--list", action="store_true", help="print the changes, try none")
    parser.add_argument("--jobs", type=int, default=1, help="copies at work (default: 1)")
    options = parser.parse_args()
    mutants = mutants_of(options.paths)
    if options.limit is not None and options.limit < len(mutants):
        drawn = random.Random(options.seed).sample(range(len(mutants)), options.limit)
        mutants = [mutants[index] for index in sorted(drawn)]
    if options.list:
        print(*mutants, sep="\n")
        return
    known = equivalents()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(options.jobs):
            copies.put(Copy(Path(folder) / str(number)))

        def verdict_of(mutant: Mutant) -> Verdict:
            if mutant.key in known:
                return Verdict("equivalent", known[mutant.key])
            copy = copies.get()
            try:
                return copy.try_out(mutant)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, verdict in zip(mutants, pool.map(verdict_of, mutants), strict=True):
                counts[verdict.status] += 1
                print(
                    f"{verdict.status:10} {mutant}\n{'':11}{mutant.line}\n{'':11}{verdict.reason}"
                )
                sys.stdout.flush()
                progress(f"{counts.total()} of {len(mutants)}, {counts['survived']} survived")
        while not copies.empty():
            copies.get().close()
    print(", ".join(f"{count} {status}" for status, count in counts.most_common()))
    sys.exit(1 if counts["survived"] else 0)


if __name__ == "__main__":
    main()
