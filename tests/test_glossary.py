"""What `docs/glossary.md` names is there, and nothing published uses a word it tells to avoid."""

import re
from pathlib import Path

import pytest
import yaml

from pipelines import warehouse

GLOSSARY = Path(__file__).parents[1] / "docs/glossary.md"
MARTS = ("dim_", "fct_", "kpi_", "governance_", "focus_")
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("event", "fct_supply_capacity"): "a grid operator's event, not an incident of the site",
    ("region", "focus_charges"): "FOCUS's word for a bill's place",
    ("average cost", "fct_battery_ledger"): "a battery's stock is valued at its average",
}
"""A word to avoid, a table that uses it, and why it may."""


def terms() -> list[list[str]]:
    """The rows of the glossary's tables: term, what it is, columns, words to avoid."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in GLOSSARY.read_text().splitlines()
        if line.startswith("|")
    ]
    return [row for row in rows if row[0] != "term" and not row[0].startswith("---")]


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, str]]:
    """What each mart, and under its name each of its columns, says of itself."""
    models = warehouse.PROJECT_DIR / "models"
    docs = dict(
        re.findall(
            r"\{% docs (\w+) %\}(.*?)\{% enddocs %\}", (models / "docs.md").read_text(), re.DOTALL
        )
    )

    def told(description: str) -> str:
        return re.sub(r"\{\{ doc\('(\w+)'\) \}\}", lambda name: docs[name[1]], description)

    declared = [
        model
        for file in sorted(models.glob("*/*.yml"))
        for model in yaml.safe_load(file.read_text()).get("models", [])
        if model["name"].startswith(MARTS)
    ]
    return {
        model["name"]: {"": told(model["description"])}
        | {column["name"]: told(column["description"]) for column in model["columns"]}
        for model in declared
    }


def test_every_column_of_the_glossary_is_published(published):
    named = re.findall(r"`(\w+)\.(\w+)`", GLOSSARY.read_text())
    assert len(named) > 50
    assert [f"{table}.{column}" for table, column in named if column not in published[table]] == []


def test_every_term_is_defined_once_and_says_what_to_avoid():
    names = [term for term, *_ in terms()]
    assert len(names) == len(set(names)) > 30
    assert [row for row in terms() if len(row) != 4 or not all(row)] == []


def test_no_published_column_or_description_uses_a_word_to_avoid(published):
    avoided = {word for *_, words in terms() for word in words.split(", ")}
    used = {
        (word, table): f"{table}.{column}"
        for word in avoided
        for table, columns in published.items()
        for column, description in columns.items()
        if re.search(rf"\b{word}\b", f"{column.replace('_', ' ')}: {description}", re.IGNORECASE)
    }
    assert {key: where for key, where in used.items() if key not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(used)
