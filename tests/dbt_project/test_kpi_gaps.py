"""Books of only some sources: each gives what can be known, and says what is missing of the rest.

What belongs here: which KPIs there are and which reasons, for every combination of sources, told
from the world's own description. What does not: what a KPI comes to (unit tests of the models).
"""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipelines.book import Book
from pipelines.cli import app
from pipelines.published import query
from tests import sourced_world
from tests.sourced_world import CLOUDS, SITES, WEEK

# Each builds a book as a whole.
pytestmark = pytest.mark.slow

AVAILABILITY, COST, CARBON, INCIDENTS = (
    "effective_availability_ratio",
    "marginal_cost_per_gpu_hour",
    "location_based_g_per_kwh",
    "incident_count",
)
MADE_OF = {
    AVAILABILITY: {"meter": "site_meter", "battery": "battery_samples"},
    COST: {"meter": "site_meter", "prices": "market_price"},
    CARBON: {"meter": "site_meter", "battery": "battery_samples", "carbon": "grid_carbon"},
    INCIDENTS: {"meter": "site_meter", "battery": "battery_samples"},
}
"""KPI -> source -> the input that is missing without it, of the sites of the world."""
BETTER_WITH = {COST: {"telemetry"}, INCIDENTS: {"telemetry", "jobs"}}
OF_A_DAY = "rest_of_week"
"""What every KPI of a book of one day lacks."""


def run(data_dir: Path) -> Result:
    return CliRunner().invoke(app, ["--data-dir", str(data_dir), "run"])


def gaps(book: Book) -> set[tuple[str, str, str, str]]:
    """Site, KPI, input and effect."""
    found = query.run_sql(
        book, "operations", f"select * from kpi_gaps where week = '{WEEK}' order by site_id, rank"
    )
    assert found["reason"].str.len_chars().min() > 10
    return set(found.select("site_id", "kpi_id", "input_id", "effect").iter_rows())


def known(book: Book) -> set[tuple[str, str]]:
    """Site and KPI of which there is a figure."""
    found = query.run_sql(
        book,
        "operations",
        "select site_id, kpi_id from governance_scorecard where scope = 'site'"
        f" and kpi_value is not null and week = '{WEEK}'",
    )
    return {(site, kpi) for site, kpi in found.iter_rows() if kpi in MADE_OF}


def expected_known() -> set[tuple[str, str]]:
    of_sites = {
        (site, kpi)
        for site, has in SITES.items()
        for kpi, needs in MADE_OF.items()
        if needs.keys() <= has
    }
    return of_sites | {(cloud, COST) for cloud, has in CLOUDS.items() if "bill" in has}


def expected_gaps() -> set[tuple[str, str, str, str]]:
    told = set()
    for site, has in SITES.items():
        for kpi, needs in MADE_OF.items():
            missing = {needs[source] for source in needs.keys() - has}
            effect = "absent" if missing else "partial"
            told |= {(site, kpi, one, effect) for one in missing | {OF_A_DAY}}
            if not missing:
                told |= {
                    (site, kpi, source, "narrowed") for source in BETTER_WITH.get(kpi, set()) - has
                }
    for cloud, has in CLOUDS.items():
        for kpi in MADE_OF:
            if kpi == COST and "bill" in has:
                told.add((cloud, kpi, OF_A_DAY, "partial"))
            else:
                told.add((cloud, kpi, OF_A_DAY, "absent"))
                told.add((cloud, kpi, "cloud_bill" if kpi == COST else "own_supply", "absent"))
    return told


@pytest.fixture(scope="module")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Book, Result]:
    """A book in which each combination of sources is a site's: what one has changes no other."""
    book = Book(tmp_path_factory.mktemp("combinations"))
    sourced_world.declare(book.data_dir)
    sourced_world.land(book.data_dir)
    return book, run(book.data_dir)


def test_every_combination_of_sources_is_done_with_status_0(combinations):
    _, result = combinations
    assert result.exit_code == 0, result.output
    assert f"What is missing of the KPIs of {WEEK}, and why" in result.output


def test_each_combination_of_sources_has_the_kpis_that_it_makes_and_no_other(combinations):
    book, _ = combinations
    assert len(SITES) == 64
    assert known(book) == expected_known()


def test_each_combination_of_sources_is_told_what_it_lacks_and_nothing_else(combinations):
    book, _ = combinations
    assert gaps(book) == expected_gaps()


def test_jobs_alone_tell_whose_gpu_hours_there_were(combinations):
    """One GPU of each site was held for the day, whether or not a meter counted it."""
    book, _ = combinations
    found = query.run_sql(
        book,
        "operations",
        f"select site_id, allocated_gpu_hours from kpi_site_weekly where week = '{WEEK}'",
    )
    hours = dict(found.iter_rows())
    assert {site for site in SITES if hours.get(site) == 24} == {
        site for site, has in SITES.items() if "jobs" in has
    }


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "Nothing of any site has been loaded yet"),
        ("bill", f"What is missing of the KPIs of {WEEK}, and why"),
        ("jobs", f"What is missing of the KPIs of {WEEK}, and why"),
        ("telemetry", f"What is missing of the KPIs of {WEEK}, and why"),
        ("prices", "Nothing of any site has been loaded yet"),
    ],
)
def test_a_book_of_one_source_or_none_is_done_and_says_what_to_land(tmp_path, source, said):
    sourced_world.declare(tmp_path, ["site-tjp"])
    sourced_world.land(tmp_path, [source] if source else [])
    result = run(tmp_path)
    assert (result.exit_code, said in result.output) == (0, True), result.output
    if source != "bill" and said.startswith("What"):
        assert {
            (kpi, effect) for site, kpi, _, effect in gaps(Book(tmp_path)) if site == "site-tjp"
        } == {(kpi, "absent") for kpi in MADE_OF}
