"""Packs are published once; what the book says otherwise later is a revision that lists it."""

import json
from datetime import date

import jsonschema
import pytest
from typer.testing import CliRunner

from pipelines import pack
from pipelines.book import Book
from pipelines.cli import app
from pipelines.pack import document
from pipelines.published import query
from pipelines.published.week import last_weeks
from tests.pack.published_books import WEEK, incident, usual_week, write

# They draw whole packs.
pytestmark = pytest.mark.slow


def files(book: Book) -> dict[str, bytes]:
    folder = book.published / "packs"
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*.*"))
        if file.is_file() and file.name != ".lock"
    }


def pack_json(folder) -> dict:
    return json.loads((folder / "pack.json").read_text())


def test_every_team_gets_its_pack_and_operations_that_for_everyone(book):
    done = pack.publish(write(book, usual_week()))

    assert [(one.team, one.week, one.revision, one.is_new) for one in done] == [
        (team, WEEK, 1, True) for team in ("energy", "finance", "operations")
    ]
    assert [*files(book)] == [
        f"{WEEK}/{folder}{name}"
        for folder in ("energy/", "finance/", "")
        for name in ("index.html", "pack.json", "pack.schema.json")
    ]


def test_the_last_weeks_are_those_up_to_the_latest_full_one_in_order(book):
    rows = usual_week()
    [usual] = rows["kpi_organization_weekly"]
    weeks = ["2026-W42", WEEK, "2026-W43", "2026-W45"]
    rows["kpi_organization_weekly"] = [usual | {"week": week} for week in weeks]
    write(book, rows)

    assert last_weeks(book, 2) == ["2026-W43", WEEK]
    assert last_weeks(book, 9) == ["2026-W42", "2026-W43", WEEK]


def test_a_pack_of_a_team_is_for_its_group_and_that_of_operations_for_everyone(book):
    pack.publish(write(book, usual_week()))
    week = book.published / "packs" / WEEK
    rights = {
        path.relative_to(week).as_posix(): oct(path.stat().st_mode & 0o777)
        for path in (*week.rglob("*"),)
    }
    names = ("index.html", "pack.json", "pack.schema.json")
    assert rights == {
        **dict.fromkeys(("energy", "finance"), "0o750"),
        **{f"{folder}/{name}": "0o640" for folder in ("energy", "finance") for name in names},
        **dict.fromkeys(names, "0o644"),
    }


def test_the_same_again_writes_nothing(book):
    write(book, usual_week())
    pack.publish(book)
    before = files(book)

    done = pack.publish(book)

    assert [(one.revision, one.is_new) for one in done] == [(1, False)] * 3
    assert files(book) == before


def test_a_restatement_is_a_revision_beside_that_says_what_changed(book):
    rows = usual_week()
    pack.publish(write(book, rows))
    before = files(book)
    rows["kpi_site_weekly"][0]["mean_marginal_cost_per_gpu_hour"] = 0.25
    rows["fct_energy_constraint_incidents"].append(incident(2, 40))
    write(book, rows)

    (again,) = pack.publish(book, WEEK, ["operations"])

    assert (again.revision, again.folder) == (2, book.published / "packs" / WEEK / "revision-2")
    assert pack_json(again.folder)["changes"] == [
        {
            "section": "incidents",
            "row": "incident-002",
            "kind": "added",
            "column": None,
            "before": None,
            "after": None,
        },
        {
            "section": "marginal_cost_week",
            "row": "site|alpha",
            "kind": "changed",
            "column": "mean_marginal_cost_per_gpu_hour",
            "before": 0.21,
            "after": 0.25,
        },
    ]
    assert "against revision 1" in (again.folder / "index.html").read_text()
    assert {name: files(book)[name] for name in before} == before
    (third,) = pack.publish(book, WEEK, ["operations"])
    assert (third.revision, third.is_new) == (2, False)


def test_every_further_restatement_is_one_more_revision_and_leaves_those_before(book):
    rows = usual_week()
    pack.publish(write(book, rows), WEEK, ["operations"])
    shown, kept = [], {}
    for cost in (0.25, 0.26):
        rows["kpi_site_weekly"][0]["mean_marginal_cost_per_gpu_hour"] = cost
        before = files(book)
        (again,) = pack.publish(write(book, rows), WEEK, ["operations"])
        kept |= {name: files(book)[name] == content for name, content in before.items()}
        changes = pack_json(again.folder)["changes"]
        shown.append((again.revision, [(one["before"], one["after"]) for one in changes]))
        # Nothing of the week itself is among the weeks before it.
        assert pack_json(again.folder)["compared_weeks"] == []
    assert shown == [(2, [(0.21, 0.25)]), (3, [(0.25, 0.26)])]
    assert set(kept.values()) == {True}
    assert [name for name in files(book) if name.endswith("pack.json")] == [
        f"{WEEK}/{folder}pack.json" for folder in ("", "revision-2/", "revision-3/")
    ]


def test_a_change_of_a_millionth_is_a_restatement(book):
    rows = usual_week()
    pack.publish(write(book, rows), WEEK, ["operations"])
    rows["kpi_site_weekly"][0]["mean_marginal_cost_per_gpu_hour"] = 0.21 * (1 + 1e-6)
    (again,) = pack.publish(write(book, rows), WEEK, ["operations"])
    assert (again.revision, again.change_count) == (2, 1)


def test_months_ahead_seen_otherwise_and_another_order_of_summing_are_no_restatement(book):
    rows = usual_week()
    pack.publish(write(book, rows))
    rows["fct_sourcing_coverage"][13]["energy_debt_mw"] = 3.0
    rows["kpi_site_weekly"][0]["location_based_kg"] *= 1 + 1e-15

    done = pack.publish(write(book, rows))

    assert [one.is_new for one in done] == [False] * 3


def test_a_later_pack_says_what_of_an_earlier_scorecard_has_changed(book):
    rows = usual_week()
    pack.publish(write(book, rows))
    rows["governance_scorecard"][0]["kpi_value"] = 0.9
    rows["kpi_organization_weekly"].append({"week": "2026-W45", "coverage_ratio": 1.0})
    rows["kpi_site_daily"].append(
        {"site_id": "alpha", "local_date": date(2026, 11, 8), "coverage_ratio": 1.0}
    )

    (later,) = pack.publish(write(book, rows), "2026-W45", ["finance"])

    assert pack_json(later.folder)["compared_weeks"] == [WEEK]
    assert pack_json(later.folder)["earlier_weeks"] == [
        {
            "week": WEEK,
            "revision": 1,
            "section": "scorecard",
            "row": "organization||effective_availability_ratio",
            "kind": "changed",
            "column": "kpi_value",
            "before": 0.994,
            "after": 0.9,
        }
    ]
    assert "effective_availability_ratio" in (later.folder / "index.html").read_text()


def test_a_pack_that_was_not_finished_is_drawn_again(book):
    (first,) = pack.publish(write(book, usual_week()), WEEK, ["operations"])
    (first.folder / "pack.json").unlink()
    (first.folder / "index.html").write_text("half")
    (first.folder / "draft.tmp").write_text("half")

    (again,) = pack.publish(book, WEEK, ["operations"])

    assert (again.revision, again.is_new) == (1, True)
    assert (first.folder / "index.html").read_text().endswith("</html>")
    assert [*first.folder.glob("*.tmp")] == []


def test_a_document_that_is_not_what_the_schema_promises_is_refused(book):
    with query.opened(write(book, usual_week()), "finance") as connection:
        pack_of_week = document.read(book, "finance", WEEK, connection)
    document.validate(pack_of_week)
    with pytest.raises(jsonschema.ValidationError, match="'rows' is a required property"):
        document.validate(
            pack_of_week | {"sections": pack_of_week["sections"] | {"more": {"sql": "", "key": []}}}
        )


def test_operations_pack_has_no_section_with_contract_prices(book):
    done = pack.publish(write(book, usual_week()))
    names = {one.team: set(pack_json(one.folder)["sections"]) for one in done}
    assert names["finance"] - names["operations"] == {
        *("statements", "contract_values", "sourcing", "average_cost")
    }
    agendas = {
        one.team: [row["rank"] for row in pack_json(one.folder)["sections"]["agenda"]["rows"]]
        for one in done
    }
    assert agendas == {"energy": [1, 2], "finance": [1, 2], "operations": [1]}
    for file, content in files(book).items():
        assert (b"37.77" in content or b"37770" in content) == (
            "/energy/" in file or "/finance/" in file
        ) or file.endswith("schema.json"), file


@pytest.mark.parametrize(
    ("week", "cause"),
    [
        ("2026-W54", "found week '2026-W54', expected one as 2026-W44"),
        ("W44", "found week 'W44', expected one as 2026-W44"),
        ("2026-W45", "week 2026-W45 ends on 2026-11-08: the book reaches 2026-11-01 so far"),
        ("2026-W12", "week 2026-W12 is before the book begins: with 2026-W44"),
    ],
)
def test_a_week_that_cannot_be_reported_says_why(book, week, cause):
    write(book, usual_week())
    with pytest.raises(pack.PackError) as refused:
        pack.publish(book, week)
    assert refused.value.causes == [cause]


def test_the_command_says_what_it_wrote_and_what_not(book):
    write(book, usual_week())
    folder = book.published / "packs" / WEEK

    def ask(*arguments: str):
        return CliRunner().invoke(app, ["--data-dir", str(book.data_dir), "pack", *arguments])

    usual = ask("--team", "operations")
    assert (usual.exit_code, usual.stdout) == (
        0,
        f"{WEEK} for operations: wrote {folder / 'index.html'}\n",
    )
    again = ask("--team", "operations", "--week", WEEK)
    assert again.stdout == f"{WEEK} for operations: nothing changed since {folder / 'index.html'}\n"
    refused = ask("--week", "44")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (
        1,
        "error: found week '44', expected one as 2026-W44",
    )
