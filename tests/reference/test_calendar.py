"""The first day of a book: declared, else of its data, else of the terms of its sites."""

from datetime import date
from pathlib import Path

import pytest

from pipelines import reference
from tests.reference.test_reference import FILES, replace_once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("organization.yml", "sites/plain.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(FILES[name])
    return tmp_path


def declare(folder: Path, first_day: str) -> None:
    replace_once(
        folder / "organization.yml",
        "reporting_currency",
        f"first_day: {first_day}\nreporting_currency",
    )


@pytest.mark.parametrize(
    ("first_day", "first_monday"),
    [("2026-10-04", date(2026, 10, 5)), ("2026-10-05", date(2026, 10, 5))],
)
def test_weeks_begin_on_the_first_monday_of_the_declared_days(folder, first_day, first_monday):
    declare(folder, first_day)
    calendar = reference.load_calendar(folder)
    assert calendar == reference.Calendar("Europe/Berlin", date.fromisoformat(first_day))
    assert calendar.first_monday == first_monday


@pytest.mark.parametrize(
    ("data_from", "first_day"),
    [(None, date(2026, 1, 1)), (date(2026, 3, 9), date(2026, 3, 9))],
    ids=["without data", "with data"],
)
def test_a_book_that_declares_none_begins_with_its_data_or_the_terms_of_its_sites(
    folder, data_from, first_day
):
    assert reference.load_calendar(folder, data_from) == reference.Calendar(
        "Europe/Berlin", first_day
    )


def test_a_declared_day_goes_before_that_of_the_data(folder):
    declare(folder, "2026-10-04")
    assert reference.load_calendar(folder, date(2026, 3, 9)).first_day == date(2026, 10, 4)


def test_mistakes_in_files_that_do_not_say_when_the_book_begins_do_not_matter(folder):
    declare(folder, "2026-10-04")
    (folder / "sites" / "plain.yml").write_text("site_id: [")
    assert reference.load_calendar(folder).first_day == date(2026, 10, 4)


def test_a_first_day_that_is_none_is_named_with_file_line_and_field(folder):
    declare(folder, "soon")
    with pytest.raises(reference.ReferenceErrors) as raised:
        reference.load_calendar(folder)
    assert raised.value.causes == [
        "organization.yml:4: first_day: found 'soon', expected a date as 2026-04-01: correct it"
    ]


def test_a_book_without_sites_has_to_say_when_it_begins(folder):
    (folder / "sites" / "plain.yml").unlink()
    with pytest.raises(reference.ReferenceErrors, match=r"first_day: not found, .*: add the field"):
        reference.load_calendar(folder)
