"""How KPIs and what they lack are printed."""

from rich.console import Console

from pipelines.onboarding import shown
from pipelines.onboarding.needs import Kpi, Lack

METER = Lack("readings of the meter", True, "landing/nem12, landing/mscons", None)
PLAN = Lack("the plan", False, "capacity_plan.yml", None)
JOBS = Lack("accounting", True, "landing/sacct", "hours lost are not known")
SITES = {
    "hall": [
        Kpi("Availability", True, (METER, PLAN)),
        Kpi("Cost", True, ()),
        Kpi("Incidents", True, (JOBS,)),
    ],
    "cloud": [Kpi("Availability", False, ()), Kpi("Cost", True, ()), Kpi("Incidents", False, ())],
}


def test_a_site_is_a_row_and_each_kpi_ready_or_with_what_it_lacks_a_line_each():
    console = Console(width=200)
    with console.capture() as captured:
        console.print(shown.table(SITES))
    rows = [
        [cell.strip() for cell in line.strip("│\n").split("│")]
        for line in captured.get().splitlines()
        if line.startswith("│")
    ]
    assert rows == [
        ["hall", "lacks", "ready", "ready, but without"],
        ["", "readings of the meter (nothing landed)", "", "accounting (nothing landed)"],
        ["", "the plan (not declared)", "", ""],
        ["cloud", "not of a public cloud", "ready", "not of a public cloud"],
    ]


def test_where_to_get_what_is_lacking_is_told_once():
    assert list(shown.remedies(SITES)) == [
        "readings of the meter: land in landing/nem12, landing/mscons",
        "the plan: declare in capacity_plan.yml",
        "accounting: land in landing/sacct; without: hours lost are not known",
    ]
