"""The manual: its commands and queries run as they stand there, and its links lead somewhere.

How a block says what it is stands in CONTRIBUTING.md. The README's questions and reference data
have tests of their own (`test_readme.py`).
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic import TypeAdapter, ValidationError

from docs import generated
from pipelines import warehouse
from pipelines.book import Book
from pipelines.cli import app
from pipelines.published import query
from pipelines.reference.schemas import MODELS

ROOT = Path(__file__).parents[1]
MANUAL = sorted((ROOT / "docs").rglob("*.md"))
README = ROOT / "README.md"
PAGES = [*MANUAL, README, ROOT / "CONTRIBUTING.md"]

COMMANDS = ("console", "sh", "bash")
SHOWN = ("text", "ini", "nginx", "csv", "json", "xml")
OPTIONS = {
    "sql": {"team", "rows"},
    **{language: {"status"} for language in COMMANDS},
    "yaml": {"file"},
    **{language: {"file"} for language in SHOWN},
}
"""Kinds of block, and what each may say of itself."""
NOT_HERE = {
    "curl": "asks a server",
    "git": "fetches from elsewhere",
    "kubectl": "needs a cluster",
    "make": "sets up the whole project",
    "pip": "fetches from elsewhere",
    "podman": "needs containers",
    "psql": "needs a server",
    "sacct": "needs a cluster",
    "ssh": "needs another host",
    "systemctl": "needs systemd",
}
"""Commands for whose sake a block may be left out here, and why."""
MOST_NOT_RUN = 36
FILE_LINE = re.compile(r"# (in )?reference/(\S+)\n")


@dataclass(frozen=True, eq=False)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    options: dict[str, str]
    text: str
    not_run: str | None
    """Why it is not run, where it says so."""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """What is typed, one command each."""
        lines = iter(self.text.splitlines())
        commands = []
        for line in lines:
            if self.language == "console" and not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ")
            while command.endswith("\\"):
                command = f"{command}\n{next(lines)}"
            commands.append(command)
        return [command for command in commands if command and not command.startswith("#")]

    def output(self) -> list[str]:
        """What it shows of the answer, line by line."""
        if self.language != "console":
            return []
        told = re.sub(r"\\\n(?:.*\\\n)*.*", "", self.text)
        return [line for line in told.splitlines() if line.strip() and not line.startswith("$ ")]


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def blocks(page: Path) -> Iterator[Block]:
    before: Token | None = None
    for token in tokens(page):
        if token.type == "fence" and not token.info.startswith("{"):
            language, *options = token.info.split() or [""]
            note = before.content if before is not None and before.type == "html_block" else ""
            reason = re.match(r"<!-- not run: (.+?) -->", note)
            assert token.map is not None
            yield Block(
                page,
                token.map[0] + 1,
                language,
                dict(option.partition("=")[::2] for option in options),
                token.content,
                reason and reason[1],
            )
        before = token


BLOCKS = [block for page in MANUAL for block in blocks(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_every_block_says_what_it_is():
    assert [
        block.place
        for block in BLOCKS
        if block.language not in OPTIONS or set(block.options) - OPTIONS[block.language]
    ] == []


@pytest.mark.parametrize("block", of("sql"), ids=lambda block: block.place)
def test_a_query_is_answered(demo_book: Book, block: Block):
    answer = query.run_sql(demo_book, block.options.get("team", "energy"), block.text)
    assert (answer.height == 0) == (block.options.get("rows") == "0")


@pytest.mark.parametrize(
    "block",
    [block for block in of("yaml") if "file" not in block.options],
    ids=lambda block: block.place,
)
def test_an_example_of_a_reference_file_is_right(block: Block):
    named = FILE_LINE.match(block.text)
    assert named, "name the file in the first line: # reference/meters.yml, or # in reference/…"
    is_part, name = named.groups()
    model = TypeAdapter(MODELS[name.partition("/")[0].removesuffix(".yml")])
    try:
        model.validate_python(yaml.safe_load(block.text))
    except ValidationError as error:
        mistakes = [
            (problem["loc"], problem["msg"])
            for problem in error.errors()
            if not (is_part and problem["type"] == "missing" and len(problem["loc"]) <= 2)
        ]
        assert mistakes == []


def test_the_generated_pages_are_what_models_and_tables_say(demo_book: Book):
    manifest = json.loads(warehouse.manifest_path(demo_book).read_text())
    made = generated.pages(manifest, generated.column_types(demo_book))
    written = {
        path.relative_to(generated.DOCS).as_posix(): path.read_text()
        for path in MANUAL
        if path.read_text().startswith(generated.WRITTEN)
    }
    assert sorted(written) == sorted(made)
    assert [name for name in made if written[name] != made[name]] == [], "run `make docs`"


def test_the_picture_of_the_tables_shows_each_and_what_it_is_worked_out_from(demo_book: Book):
    manifest = json.loads(warehouse.manifest_path(demo_book).read_text())
    picture = (generated.DOCS / generated.PICTURE).read_text()
    tables = {name for edge in generated.edges(manifest) for name in edge}
    assert len(tables) > 25
    assert generated.shown_edges(picture) == generated.edges(manifest)
    assert [name for name in tables if f"<title>{name}</title>" not in picture] == []


def test_arrows_lead_past_steps_that_are_not_published_and_not_beside_others():
    def node(name: str, schema: str) -> dict[str, str]:
        return {
            "unique_id": f"model.{name}",
            "name": name,
            "schema": schema,
            "resource_type": "model",
        }

    manifest = {
        "nodes": {
            name: node(name, "intermediate" if name == "calc_step" else "marts")
            for name in ("fct_a", "calc_step", "fct_b", "fct_c")
        },
        "parent_map": {
            "model.fct_a": ["source.raw"],
            "model.calc_step": ["model.fct_a"],
            "model.fct_b": ["model.calc_step"],
            "model.fct_c": ["model.fct_a", "model.fct_b"],
        },
    }
    assert generated.edges(manifest) == {("fct_a", "fct_b"), ("fct_b", "fct_c")}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("energy_mwh", "MWh"),
        ("location_based_g_per_gpu_hour", "g per GPU-hour"),
        ("energy_kwh_per_gpu_hour", "kWh per GPU-hour"),
        ("lost_gpu_hours_tolerant", "GPU-hours"),
        ("coverage_ratio", "ratio"),
        ("site_id", ""),
        ("storage", ""),
    ],
)
def test_a_unit_is_what_a_name_ends_in(name: str, said: str):
    assert generated.unit(name) == said


def test_a_text_of_a_table_stays_in_its_cell():
    assert generated._plain("a | b\n<c> `d|e <f>` *g*") == ("a \\| b &lt;c> `d\\|e <f>` \\*g\\*")


def test_only_what_cannot_run_here_is_not_run():
    left_out = [block for block in BLOCKS if block.not_run is not None]
    assert len(left_out) <= MOST_NOT_RUN
    assert [
        block.place
        for block in left_out
        if not {word for command in block.commands() for word in command.split()} & set(NOT_HERE)
    ] == []


def script(page: Path) -> str:
    """All that is typed on a page, as one script, which ends at the first wrong status."""
    lines = [
        'told() { [ "$3" = "$2" ] || { echo "$1: status $3, expected $2" >&9; exit 1; }; }',
        'write() { mkdir -p "$(dirname "$1")" && cat > "$1"; }',
        'exec 9>"$OUT/failed"',
    ]
    for block in blocks(page):
        whole = FILE_LINE.match(block.text) if block.language == "yaml" else None
        name = block.options.get("file") or (
            f"reference/{whole[2]}" if whole and not whole[1] else None
        )
        if name is not None:
            lines += [
                f"write \"${{WATTBOOK_DATA_DIR:-data}}/\"{shlex.quote(name)} <<'END OF FILE'",
                f"{block.text}END OF FILE",
            ]
        if block.language in COMMANDS and block.not_run is None:
            commands = block.commands()
            lines.append(f'exec >"$OUT/{block.line}" 2>&1')
            for command in commands:
                status = block.options.get("status", "0") if command is commands[-1] else "0"
                place = shlex.quote(f"{block.place}: {command}")
                lines += [command, f"told {place} {status} $?"]
    return "\n".join(lines) + "\n"


def copied(demo: Path, folder: Path) -> None:
    """A book to write into; what is never written in place is shared with the demo's."""
    for name in ("landing", "lake", "published"):
        shutil.copytree(demo / name, folder / name, symlinks=True, copy_function=os.link)
    for name in ("reference", "dbt"):
        shutil.copytree(demo / name, folder / name)
    shutil.copyfile(demo / "warehouse.duckdb", folder / "warehouse.duckdb")


def plain(text: str) -> str:
    return " ".join(text.split())


def is_told(line: str, by: list[str]) -> Callable[[int], int | None]:
    """Where after a place a line stands in what was printed."""
    pattern = re.compile(".*".join(re.escape(part) for part in plain(line).split("…")))
    return lambda start: next(
        (place + 1 for place in range(start, len(by)) if pattern.search(plain(by[place]))), None
    )


@pytest.mark.parametrize(
    "page",
    [page for page in MANUAL if any(block.language in COMMANDS for block in blocks(page))],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_the_commands_of_a_page_run_in_their_order(demo_book: Book, page: Path, tmp_path: Path):
    run = [b for b in blocks(page) if b.language in COMMANDS and b.not_run is None]
    place, out = tmp_path / "here", tmp_path / "out"
    place.mkdir()
    out.mkdir()
    if run:
        copied(demo_book.data_dir, place / "data")
    settings = {name: value for name, value in os.environ.items() if "WATTBOOK" not in name}

    answer = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=place,
        env=settings
        | {
            "HOME": str(tmp_path),
            "OUT": str(out),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        stdin=subprocess.DEVNULL,
        check=False,
    )

    shutil.rmtree(place)
    printed = {block: out / str(block.line) for block in run}
    failed = (out / "failed").read_text()
    last = [file.read_text() for file in printed.values() if file.exists()][-1:]
    assert (answer.returncode, failed) == (0, ""), last
    for block, file in printed.items():
        lines, seen = file.read_text().splitlines(), 0
        for line in block.output():
            found = is_told(line, lines)(seen)
            assert found is not None, f"{block.place}: not printed: {line}\n{file.read_text()}"
            seen = found


def test_what_is_typed_and_what_is_printed_are_told_apart():
    text = "$ one \\\n    more \\\n    still\nsaid\n\n$ two\nsaid too\n"
    block = Block(README, 1, "console", {}, text, None)
    assert block.commands() == ["one \\\n    more \\\n    still", "two"]
    assert block.output() == ["said", "said too"]


def test_a_line_is_told_where_it_stands_after_the_one_before():
    printed = ["wrote   /tmp/book/a.yml", "done", "done"]
    assert is_told("wrote …/book/a.yml", printed)(0) == 1
    assert is_told("done", printed)(2) == 3
    assert is_told("done", printed)(3) is None
    assert is_told("wrote b.yml", printed)(0) is None


def written_in_a_line(page: Path) -> Iterator[str]:
    for token in tokens(page):
        yield from (one.content for one in token.children or [] if one.type == "code_inline")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_option_it_names_is_there(page: Path):
    group: Any = typer.main.get_command(app)
    typed = [
        one for block in blocks(page) if block.language in COMMANDS for one in block.commands()
    ]
    wrong = []
    for text in [*written_in_a_line(page), *typed]:
        if not text.startswith("wattbook ") or "[" in text:
            continue
        words = shlex.split(text, comments=True)[1:]
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        commands = [group.commands[word] for word in words if word in group.commands][:1]
        known = {option for part in (group, *commands) for p in part.params for option in p.opts}
        if (not commands and "--help" not in options) or options - known - {"--help"}:
            wrong.append(text)
    assert wrong == []


def anchors(page: Path) -> set[str]:
    """The names under which forges and the site find its headings."""
    found: Counter[str] = Counter()
    names = set()
    for token, inline in zip(tokens(page), tokens(page)[1:], strict=False):
        if token.type == "heading_open":
            text = "".join(
                part.content
                for part in inline.children or []
                if part.type in ("text", "code_inline")
            )
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            names.add(f"{name}-{found[name]}" if found[name] else name)
            found[name] += 1
    return names


def targets(page: Path) -> Iterator[str]:
    for token in tokens(page):
        for part in token.children or []:
            name = {"link_open": "href", "image": "src"}.get(part.type)
            if name is not None:
                yield str(part.attrs[name])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_page_or_heading(page: Path):
    dead = []
    for target in targets(page):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        to = (page.parent / name).resolve() if name else page
        if not to.exists() or (anchor and anchor not in anchors(to)):
            dead.append(target)
    assert dead == []


def test_every_page_is_named_in_the_index_or_by_a_page_that_is():
    index = ROOT / "docs/index.md"
    reached, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for target in targets(page):
            to = (page.parent / target.partition("#")[0]).resolve()
            if to in MANUAL and to not in reached:
                reached.add(to)
                waiting.append(to)
    assert [page.name for page in MANUAL if page not in reached] == []


@pytest.mark.slow
def test_the_site_is_made_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path):
    made = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"),
            *("--conf-dir", str(ROOT / "docs"), str(ROOT), str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stderr) == (0, "")
    loaded = {
        (page.name, at)
        for page in tmp_path.rglob("*.html")
        for at in re.findall(
            r"<(?:link|script|img|iframe)\b[^>]*?(?:href|src)=\"([^\"]+)", page.read_text()
        )
    }
    assert len(loaded) > len(MANUAL)
    assert [one for one in loaded if re.match(r"(https?:)?//", one[1])] == []
    styles = "".join(file.read_text() for file in (tmp_path / "_static").rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", styles) == []
    assert "effective_it_mw" in (tmp_path / "searchindex.js").read_text()
