"""Pages of packs in a browser: figures, sizes, paper, accessibility, and weeks unlike the usual."""

import io
import json
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from pypdf import PdfReader

from pipelines import pack
from pipelines.book import Book
from pipelines.pack import document, page
from pipelines.published import query
from pipelines.simulator.landing import declare
from tests.pack.published_books import (
    KPIS,
    MONDAY,
    STARTED_AT,
    WEEK,
    Rows,
    incident,
    proposal,
    site_row,
    usual_week,
    write,
)

# They open a browser.
pytestmark = pytest.mark.slow

TEAM = "finance"
PLACE = re.compile(r"(\w+):(.*):(\w+)")
GRAVE = ("serious", "critical")
SITE_TABLES = (
    "kpi_site_weekly",
    "governance_scorecard",
    "fct_supply_capacity",
    "fct_marginal_cost",
    "fct_carbon",
)


def published(book: Book, rows: Rows, team: str = TEAM) -> Path:
    (done,) = pack.publish(write(book, rows, [team, "energy"]), WEEK, [team])
    return done.folder


def opened(browser, folder: Path, width: int = 1440, scheme: str = "light"):
    """The page, and the list of addresses it asked for besides itself."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    address = (folder / "index.html").as_uri()
    asked: list[str] = []

    def route(request) -> None:
        if request.request.url == address:
            request.continue_()
        else:
            asked.append(request.request.url)
            request.abort()

    tab.route("**/*", route)
    tab.goto(address)
    return tab, asked


def figures(tab) -> list[tuple[str, str, str, str, str]]:
    """Section, row, column, value and text of every figure on the page."""
    found = tab.eval_on_selector_all(
        "[data-figure]", "all => all.map(one => [one.dataset.figure, one.value, one.textContent])"
    )
    split = [PLACE.fullmatch(name).groups() for name, *_ in found]
    return [(*place, value, text) for place, (_, value, text) in zip(split, found, strict=True)]


def read_number(text: str) -> float:
    number = float(re.match(r"-?[\d,.]+", text)[0].replace(",", ""))
    return number / 100 if "%" in text else number


def half_a_digit(text: str) -> float:
    digits = len(re.match(r"-?[\d,]+\.?(\d*)", text)[1])
    return 0.5000001 * 10 ** -(digits + (2 if "%" in text else 0))


def different_figures(tab, book: Book, team: str, folder: Path) -> list[tuple]:
    """Figures that are not what the SQL of their section gives, or do not read like it."""
    sections = json.loads((folder / "pack.json").read_text())["sections"]
    answers = {}
    for name, section in sections.items():
        rows = query.run_sql(book, team, section["sql"]).to_dicts()
        rows = [{key: document.as_json(value) for key, value in row.items()} for row in rows]
        answers[name] = {document.row_key(section, row): row for row in rows}
    sentences = tab.eval_on_selector_all(
        "[data-text]", "all => all.map(one => [one.dataset.text, one.textContent])"
    )
    return [
        (name, text)
        for name, text in sentences
        for section, row, column in [PLACE.fullmatch(name).groups()]
        if answers[section][row][column] != text
    ] + [
        (section, row, column, value, text)
        for section, row, column, value, text in figures(tab)
        if answers[section][row][column] != json.loads(value)
        or (
            page.DASH not in text
            if value == "null"
            else abs(read_number(text) - json.loads(value)) > half_a_digit(text)
        )
    ]


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[Book, Path]:
    book = Book(tmp_path_factory.mktemp("usual") / "data")
    declare(book)
    return book, published(book, usual_week())


def test_every_figure_is_what_the_sql_of_its_section_gives(browser, usual):
    book, folder = usual
    tab, _ = opened(browser, folder)

    assert len(figures(tab)) > 60
    assert different_figures(tab, book, TEAM, folder) == []


def test_marks_of_the_charts_say_what_the_sql_gives(browser, usual):
    book, folder = usual
    tab, _ = opened(browser, folder)
    sections = json.loads((folder / "pack.json").read_text())["sections"]

    said = tab.eval_on_selector_all(
        "#marginal svg.chart [data-said]", "all => all.map(one => one.dataset.said)"
    )
    rows = query.run_sql(book, TEAM, sections["marginal_cost"]["sql"]).to_dicts()
    assert said == [
        f"{row['local_date']:%a %-d %b} {row['local_hour']:02d}:00,"
        + (
            f" {row['marginal_cost_per_gpu_hour']:.3f} EUR per GPU-hour, {row['marginal_source']}"
            if row["marginal_cost_per_gpu_hour"] is not None
            else " not to be had, constrained"
        )
        for row in rows
    ]
    supply = tab.eval_on_selector_all(
        "#supply svg.chart [data-said]", "all => all.map(one => one.dataset.said)"
    )
    assert (
        "Tue 27 Oct 09:00, grid 0.00 MW, local 1.50 MW; effective 0.00 of 4.00 MW committed IT"
        in supply
    )
    assert "Incident 1: grid outage" in supply


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_asked_of_anybody_nothing_is_too_wide_and_axe_finds_nothing_grave(
    browser, usual, width, scheme
):
    _, folder = usual
    started = time.monotonic()
    tab, asked = opened(browser, folder, width, scheme)

    assert time.monotonic() - started < 5
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(tab).response["violations"]
    assert asked == []
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in GRAVE] == []


def test_files_are_small_and_the_page_reads_without_its_script(browser, usual):
    _, folder = usual
    assert (folder / "index.html").stat().st_size < 3_000_000
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((folder / "index.html").as_uri())
    assert tab.locator("h1").inner_text().startswith("Week 44")
    assert tab.locator("#supply svg.chart").count() == 1
    context.close()


def printed(tab) -> list[str]:
    """The words of every page of paper."""
    pdf = tab.pdf(prefer_css_page_size=True, print_background=True)
    return [re.sub(r"\s+", " ", sheet.extract_text()) for sheet in PdfReader(io.BytesIO(pdf)).pages]


def cut_sheets(tab) -> list[str]:
    """Sheets that hold more than fits, at the width of paper."""
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 794, "height": 1123})
    tab.add_style_tag(content="body { width: 188mm; }")
    return tab.eval_on_selector_all(
        ".sheet",
        "all => all.filter(one => one.scrollHeight > one.clientHeight + 1)"
        ".map(one => one.firstElementChild.id)",
    )


def test_it_prints_on_two_pages(browser, usual):
    tab, _ = opened(browser, usual[1])
    first, second = printed(tab)
    assert "Not on paper, but on the page on screen and in pack.json: sourcing, decisions" in first
    assert "alpha-ppa" in second
    assert cut_sheets(tab) == []


@pytest.mark.parametrize("site_count", [4, 9])
def test_paper_says_what_it_leaves_out_and_cuts_no_row(browser, book, site_count):
    rows = usual_week()
    crowd(rows, [f"site-{number}" for number in range(1, site_count)])
    tab, _ = opened(browser, published(book, rows))

    first, second = printed(tab)

    said = "24 lines of statements, the ends of proposals cut with …, sourcing, decisions"
    sites = f"{site_count - 4} sites, " if site_count > 4 else ""
    assert f"on screen and in pack.json: {sites}{said}" in first
    assert first.count("decides · grid risk") == 7
    assert second.count("grid outage") == 8
    assert [f"contract-{number}" in second for number in range(8)] == [True] * 8
    assert ("site-3" in first, "site-4" in first) == (True, False)
    assert cut_sheets(tab) == []


def test_statements_that_fit_stand_on_paper_and_the_others_are_counted(browser, book):
    rows = usual_week()
    line = rows["fct_contract_statements"][0]
    rows["fct_contract_statements"] = [
        line | {"statement_line_number": number} for number in range(1, 21)
    ]
    tab, _ = opened(browser, published(book, rows))
    first, second = printed(tab)
    assert "pack.json: 8 lines of statements, sourcing" in first
    assert second.count("37,770.00 EUR") == 12
    assert cut_sheets(tab) == []


def test_what_could_wait_for_a_cheaper_hour_is_shown_where_it_ran(browser, usual):
    tab, _ = opened(browser, usual[1])
    cell = tab.locator("#workloads td", has_text="ran here").first
    assert "1,200 GPU-h could start 6 h later, saving 340" in re.sub(r"\s+", " ", cell.inner_text())


def test_a_proposal_has_the_rows_behind_it_and_what_doing_nothing_leads_to(browser, usual):
    book, folder = usual
    tab, _ = opened(browser, folder)
    first = tab.locator("#agenda li").first

    words = re.sub(r"\s+", " ", first.inner_text())
    assert "Claim the shortfall of alpha-ppa" in words
    assert "If nothing is done: The same again in week 45." in words
    assert "energy decides · contract · confidence medium: two weeks are known" in words
    assert f"CO2e saved {page.DASH}" in words
    assert len(query.run_sql(book, TEAM, first.locator("pre").text_content())) == 1


def test_decisions_due_or_lately_due_are_judged_and_no_others(browser, usual):
    tab, _ = opened(browser, usual[1])
    words = re.sub(r"\s+", " ", tab.locator("#decisions").inner_text())
    assert "Decision cap infra, 2026-W40" in words
    assert "as expected The change is at least three quarters" in words
    assert "longer-ago" not in words
    assert "of-a-later-meeting" not in words


def test_sql_is_copied_by_keyboard(browser, usual):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto((usual[1] / "index.html").as_uri())
    tab.locator("#incidents summary").last.focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_function("document.activeElement.textContent === 'Copied'")
    copied = tab.evaluate("navigator.clipboard.readText()")
    sections = json.loads((usual[1] / "pack.json").read_text())["sections"]
    assert copied == sections["incidents"]["sql"]
    context.close()


def test_the_page_is_drawn_from_the_document_alone(usual):
    _, folder = usual
    pack_json = json.loads((folder / "pack.json").read_text())
    assert page.render(pack_json) == (folder / "index.html").read_text()


def no_telemetry(rows: Rows) -> None:
    rows["fct_data_quality"] = [
        row for row in rows["fct_data_quality"] if row["source_table"] != "gpu_samples"
    ] + [
        {
            "source_table": "gpu_samples",
            "utc_date": MONDAY - timedelta(days=1),
            "row_count": 288,
            "coverage_ratio": 1.0,
        }
    ]


def no_incident(rows: Rows) -> None:
    rows["fct_energy_constraint_incidents"] = []
    rows["kpi_organization_weekly"][0] |= {"incident_count": 0, "incident_cost": 0.0}


def no_targets(rows: Rows) -> None:
    for row in rows["governance_scorecard"]:
        row |= {"target_value": None, "direction": None, "target_status": "no_target"}


def first_week(rows: Rows) -> None:
    for row in rows["governance_scorecard"]:
        row |= {
            "previous_value": None,
            "lowest_8_weeks_value": None,
            "highest_8_weeks_value": None,
            "week_count": 0,
        }


def two_hundred_incidents(rows: Rows) -> None:
    rows["fct_energy_constraint_incidents"] = [
        incident(number, number * 0.8) for number in range(200)
    ]
    rows["kpi_organization_weekly"][0]["incident_count"] = 200


def site_without_data(rows: Rows) -> None:
    rows["dim_sites"].append(site_row("beta"))
    rows["governance_scorecard"] += [
        row
        | {
            "site_id": "beta",
            "kpi_value": None,
            "target_status": "unknown",
            "previous_value": None,
            "lowest_8_weeks_value": None,
            "highest_8_weeks_value": None,
            "week_count": 0,
            "coverage_ratio": 0.0,
        }
        for row in rows["governance_scorecard"]
        if row["site_id"] == "alpha"
    ]


def without_inputs(rows: Rows) -> None:
    """A KPI that is absent and two known in part for one reason; what only narrows is not told."""
    names = {kpi_id: name for kpi_id, name, *_ in KPIS}
    told = [
        (
            "location_based_g_per_kwh",
            "grid_carbon",
            "absent",
            1.0,
            "The whole week is without carbon",
        ),
        ("effective_availability_ratio", "site_meter", "partial", 0.25, "25 % is without readings"),
        ("incident_count", "site_meter", "partial", 0.25, "25 % is without readings"),
        ("incident_count", "jobs", "narrowed", 1.0, "The whole week is without jobs"),
        ("incident_count", "own_supply", "absent", 1.0, "The whole week is a cloud's own"),
    ]
    rows["kpi_gaps"] = [
        {
            "site_id": "alpha",
            "week": WEEK,
            "kpi_id": kpi_id,
            "kpi_name": names[kpi_id],
            "input_id": input_id,
            "effect": effect,
            "missing_ratio": missing_ratio,
            "reason": reason,
            "comes_from": "landing/nem12; meters.yml",
            "rank": rank,
        }
        for rank, (kpi_id, input_id, effect, missing_ratio, reason) in enumerate(told, start=1)
    ]


def crowd(rows: Rows, more_sites: list[str]) -> None:
    """More sites as alpha, eight incidents, eight contracts, seven long proposals."""
    rows["dim_sites"] += [site_row(name) for name in more_sites]
    for table in SITE_TABLES:
        of_alpha = [row for row in rows[table] if row["site_id"] == "alpha"]
        rows[table] += [row | {"site_id": name} for name in more_sites for row in of_alpha]
    rows["fct_energy_constraint_incidents"] = [incident(number, number * 20) for number in range(8)]
    [line], [value] = rows["fct_contract_statements"], rows["fct_contract_values"]
    contracts = [f"contract-{number}" for number in range(8)]
    rows["fct_contract_statements"] = [
        line | {"contract_id": name, "statement_line_number": number}
        for name in contracts
        for number in range(1, 4)
    ]
    rows["fct_contract_values"] = [value | {"contract_id": name} for name in contracts]
    long = "Ask the seller for the energy that has not come, before the quarter ends. " * 6
    rows["governance_agenda"] = [
        proposal(number, "recurring_cause", f"cause-{number}", long[:150])
        | {"proposal": long, "inaction": long, "confidence_reason": long}
        for number in range(1, 8)
    ]


def nothing_at_all(rows: Rows) -> None:
    kept = {"dim_sites", "kpi_site_daily", "raw_loads"}
    for name in set(rows) - kept:
        rows[name] = []
    rows["kpi_organization_weekly"] = [{"week": "2026-W43"}]


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (no_telemetry, "#data", "gpu samples ∅"),
        (no_incident, "#incidents", "No energy-constraint incident this week."),
        (no_targets, "header", "No target is set (targets.yml)."),
        (first_week, "#scorecard", "no week before"),
        (two_hundred_incidents, "#incidents", "192 more incidents"),
        (
            without_inputs,
            "[aria-label='What the scorecard lacks'] tbody",
            "alpha Carbon intensity, location-based The whole week is without carbon"
            " landing/nem12; meters.yml alpha Effective MW availability, Energy-constraint"
            " incidents in part 25 % is without readings landing/nem12; meters.yml",
        ),
        (site_without_data, "#supply", "No reading of this site reached the book this week."),
        (nothing_at_all, "header", "The book has no figure for this week."),
    ],
)
def test_a_week_unlike_the_usual_gives_an_honest_page_on_two_sheets(
    browser, book, change, place, words
):
    rows = usual_week()
    change(rows)
    folder = published(book, rows)

    tab, asked = opened(browser, folder, 390)

    assert words in re.sub(r"\s+", " ", tab.locator(place).inner_text())
    assert different_figures(tab, book, TEAM, folder) == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert (folder / "index.html").stat().st_size < 3_000_000
    assert len(printed(tab)) == 2
    assert cut_sheets(tab) == []
    assert asked == []


def test_an_incident_that_goes_on_from_the_week_before_is_shown_in_both(browser, book):
    rows = usual_week()
    rows["fct_energy_constraint_incidents"] = [
        incident(1, -0.25) | {"started_at": STARTED_AT - timedelta(minutes=15)}
    ]
    tab, _ = opened(browser, published(book, rows))
    assert "Sun 25 Oct 23:45" in tab.locator("#incidents").inner_text()
