"""The README: its commands and paths exist, and its eight questions have the answers it shows.

`python -m tests.test_readme <data dir>` writes the answers of a book into it.
"""

import re
import shutil
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from pipelines import reference
from pipelines.book import Book
from pipelines.onboarding import beginning, needs
from pipelines.published import query
from pipelines.simulator.landing import DEMO_REFERENCE

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEAM = "energy"
# A question is a heading, its SQL, and its answer as a Markdown table.
QUESTION = re.compile(r"^### (.+)\n\n```sql\n([^`]+)```\n\n((?:\|.*\n)*)", re.MULTILINE)
QUESTIONS = [match.groups() for match in QUESTION.finditer(README.read_text())]


def answer(book: Book, sql: str) -> str:
    """The answer to a question as a Markdown table."""
    rows = query.run_sql(book, TEAM, sql)
    shown = rows.select(
        pl.col(name).map_elements(_show, return_dtype=pl.String, skip_nulls=False)
        for name in rows.columns
    )
    lines = [rows.columns, ["---"] * rows.width, *shown.rows()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _show(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def test_the_readme_asks_eight_questions():
    assert len(QUESTIONS) == 8


@pytest.mark.parametrize(("question", "sql", "expected"), QUESTIONS)
def test_the_answer_of_the_demo_is_the_one_shown(demo_book, question, sql, expected):
    assert answer(demo_book, sql) == expected, question


def test_every_make_target_named_in_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make (\w+)`|^make (\w+)", README.read_text(), re.MULTILINE))
    targets = {target for pair in named for target in pair if target}
    assert targets >= {"demo", "test", "ui"}
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_every_path_of_the_project_named_in_the_readme_exists():
    named = re.findall(
        r"`((?:pipelines|dbt_project|tests|data/reference)/[\w./]*)`", README.read_text()
    )
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_answers_it_begins_with_come_to_a_book_whose_kpis_lack_nothing_but_files(tmp_path):
    [shown] = re.findall(
        r"^   ```yaml\n   # answers.yml\n(.+?)^   ```$", README.read_text(), re.M | re.S
    )
    file = tmp_path / "answers.yml"
    file.write_text(textwrap.dedent(shown))
    answers = beginning.read_answers(file)
    written = beginning.begin(tmp_path / "reference", answers)
    assert [path.name for path in written[:2]] == ["organization.yml", "hall.yml"]
    declared = reference.load(tmp_path / "reference")
    landed = {folder.partition("/")[0] for folder, *_ in beginning.landing(answers)}
    assert landed == {
        "green_button",
        "dcgm_scrape",
        "sacct",
        "prices_csv",
        "electricity_maps",
    }
    [ready] = needs.kpis_of_sites(declared, landed).values()
    assert [kpi.lacks for kpi in ready] == [(), (), (), ()]
    [unpriced] = needs.kpis_of_sites(declared, landed - {"prices_csv"}).values()
    assert [lack.name for lack in unpriced[1].lacks if lack.without is None] == [
        "market prices of the site's bidding zone"
    ]


def test_the_mappings_it_shows_are_right(tmp_path):
    [shown] = re.findall(r"^```yaml\n(readings_csv:\n[^`]+)```$", README.read_text(), re.MULTILINE)
    shutil.copytree(DEMO_REFERENCE, tmp_path / "reference")
    (tmp_path / "reference" / "mappings.yml").write_text(shown)
    mappings = reference.load(tmp_path / "reference").mappings
    assert [one.folder for one in mappings.readings_csv] == ["stadtwerke"]
    assert [one.quantity for one in mappings.metrics] == ["node_power", "node_power"]


if __name__ == "__main__":
    demo = Book(Path(sys.argv[1]))
    README.write_text(
        QUESTION.sub(
            lambda match: f"### {match[1]}\n\n```sql\n{match[2]}```\n\n{answer(demo, match[2])}",
            README.read_text(),
        )
    )
