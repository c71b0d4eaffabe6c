"""What is asked on a terminal, and what becomes of what is typed."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.onboarding import beginning

ORGANIZATION = ["own", "", "EUR", "Europe/Paris", "2026-01-01"]
NO_GPUS = ["n"]
# Site, name, kind, country, zone, currency, firm, non-firm, IT, PUE, two limits.
SITE = ["hall", "", "", "FR", "", "", "1", "", "0.6", "1.3", "", ""]
# Commitment, batteries, meters, scheduler, prices, grid, supply, carbon, events: none.
NOTHING = ["n"] * 9
END = ["n", "n"]
"""No other site, no cloud."""


def init(data_dir: Path, *typed: str, arguments: tuple[str, ...] = ()) -> Any:
    return CliRunner().invoke(
        app,
        ["--data-dir", str(data_dir), "init", *arguments],
        input="".join(f"{line}\n" for line in typed),
    )


def test_a_site_alone_takes_a_minute_and_leaves_out_what_is_not_there(tmp_path: Path):
    result = init(tmp_path, *ORGANIZATION, *NO_GPUS, "y", *SITE, *NOTHING, *END)
    assert result.exit_code == 0, result.output
    answers = beginning.read_answers(tmp_path / "answers.yml")
    assert answers.model_dump(exclude_defaults=True) == {
        "organization_id": "own",
        "reporting_currency": "EUR",
        "time_zone": "Europe/Paris",
        "first_day": date(2026, 1, 1),
        "sites": [
            {
                "site_id": "hall",
                "country_code": "FR",
                "grid_firm_mw": 1.0,
                "it_capacity_mw": 0.6,
                "design_pue": 1.3,
            }
        ],
    }
    assert sorted(path.name for path in (tmp_path / "reference").rglob("*.yml")) == [
        "hall.yml",
        "organization.yml",
    ]
    assert "lacks" in result.stdout


def test_an_answer_of_the_wrong_kind_is_asked_again(tmp_path: Path):
    organization = [
        *("own", "", "Euro", "EUR", "Europe/Pari", "Europe/Paris", "January", "2026-01-01"),
    ]
    site = [*SITE[:6], "much", "1", "", "-1", "0.6", "0.9", "1.3", "", ""]
    result = init(tmp_path, *organization, *NO_GPUS, "y", *site, *NOTHING, *END)
    assert result.exit_code == 0, result.output
    for message in (
        "found 'Euro', expected a currency in three capital letters, as EUR: correct it",
        "found 'Europe/Pari', expected an IANA time zone such as Europe/Berlin: correct the name",
        "found 'January', expected a date as 2026-04-01: correct it",
        "found 'much', expected a number of at least 0: correct it",
        "found -1.0, expected a number above 0: correct it",
        "found 0.9, expected a number of at least 1: correct it",
    ):
        assert message in result.output
    [site_answers] = beginning.read_answers(tmp_path / "answers.yml").sites
    assert (site_answers.it_capacity_mw, site_answers.design_pue) == (0.6, 1.3)


def test_answers_that_do_not_fit_each_other_are_asked_again_together(tmp_path: Path):
    entsoe = ["y", "entsoe", "Bavaria", "day_ahead", "", "entsoe", "DE-LU", "day_ahead", ""]
    rest = ["n", "n", "n", "n", *entsoe, "n", "n", "n", "n", "n"]
    result = init(tmp_path, *ORGANIZATION, *NO_GPUS, "y", *SITE, *rest, *END)
    assert result.exit_code == 0, result.output
    assert "found bidding_zone Bavaria, expected one of AL, AT," in result.output
    [site] = beginning.read_answers(tmp_path / "answers.yml").sites
    assert site.prices is not None
    assert site.prices.bidding_zone == "DE-LU"


def test_only_what_makes_sense_after_what_was_answered_is_asked(tmp_path: Path):
    gpus = ["y", "H100", "70", "700", "n"]
    battery = ["y", "b1", "lithium-ion", "1", "4", "0.1", "0.9", "0.9", "0"]
    battery += ["discharge_positive", "", "n"]
    meters = ["y", "PV", "onsite_generation", "", "", "solar"]
    meters += ["y", "B", "battery_charge", "", "", "", "n", "nem12"]
    nodes = ["y", "gpu[1-4],login1, cpu1", "8", "", "900", "2000", "n", "prometheus", ""]
    rest = ["n", *battery, *meters, *nodes, "y", "slurmrestd", "c", "https://s.example.org", "me"]
    rest += ["v0.0.41", "n", "n", "n", "n", "n"]
    result = init(tmp_path, *ORGANIZATION, *gpus, "y", *SITE, *rest, *END)
    assert result.exit_code == 0, result.output
    [site] = beginning.read_answers(tmp_path / "answers.yml").sites
    assert [(meter.role, meter.energy_source, meter.battery_id) for meter in site.meters] == [
        ("onsite_generation", "solar", None),
        ("battery_charge", None, "b1"),
    ]
    assert site.nodes[0].hostnames == ["gpu[1-4]", "login1", "cpu1"]
    assert site.nodes[0].gpu_model == "H100"
    assert site.scheduler is not None
    assert (site.scheduler.kind, site.scheduler.user) == ("slurmrestd", "me")
    landing = tmp_path / "landing"
    assert sorted(folder.name for folder in landing.iterdir()) == [
        *("battery_csv", "nem12", "prometheus", "sacct"),
    ]
    assert f"{landing / 'sacct' / 'c'} (wattbook pull)" in result.stdout
    assert f"{landing / 'nem12'} (you)" in result.stdout


def test_a_cloud_in_another_currency_is_asked_for_its_rate(tmp_path: Path):
    cloud = ["y", "cloud", "US", "USD", "Example Cloud", "us-1", "A3=8, A2=1", "n"]
    result = init(tmp_path, *ORGANIZATION, *NO_GPUS, "n", *cloud, "USD=0.86")
    assert result.exit_code == 0, result.output
    [found] = beginning.read_answers(tmp_path / "answers.yml").clouds
    assert found.gpus_per_instance == {"A3": 8, "A2": 1}
    assert (tmp_path / "reference" / "fx_rates.csv").read_text() == (
        "rate_date,currency_code,rate_to_reporting\n2026-01-01,USD,0.86\n"
    )


def test_what_cannot_be_together_is_kept_to_be_corrected(tmp_path: Path):
    twice = ["y", *SITE, *NOTHING, "y", *SITE, *NOTHING, "n", "n"]
    result = init(tmp_path, *ORGANIZATION, *NO_GPUS, *twice)
    kept = tmp_path / "answers.yml"
    assert result.exit_code == 1
    assert f"correct {kept} and run `wattbook init --from {kept}`" in result.stderr
    kept.write_text(kept.read_text().replace("site_id: hall", "site_id: barn", 1))
    again = init(tmp_path, arguments=("--from", str(kept)))
    assert again.exit_code == 0, again.output
    assert sorted(file.name for file in (tmp_path / "reference" / "sites").iterdir()) == [
        "barn.yml",
        "hall.yml",
    ]


def test_a_book_that_has_reference_data_is_left_alone_before_anything_is_asked(tmp_path: Path):
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "organization.yml").write_text("organization_id: mine\n")
    result = init(tmp_path)
    assert result.exit_code == 1
    assert "expected no reference data yet" in result.stderr
    assert not (tmp_path / "answers.yml").exists()


@pytest.mark.parametrize("text", ["", "organization_id: [own", "sites: 1\n"])
def test_a_file_that_holds_no_answers_fails_and_writes_nothing(tmp_path: Path, text: str):
    file = tmp_path / "mine.yml"
    file.write_text(text)
    result = init(tmp_path, arguments=("--from", str(file)))
    assert result.exit_code == 1
    assert "error: mine.yml" in result.stderr
    assert not (tmp_path / "reference").exists()
