"""The scorecard and the agenda of the demo, against the marts they come from."""

import duckdb
import polars as pl
import pytest

from pipelines.book import Book

AGENDA = {
    "energy": "governance_agenda",
    "finance": "governance_agenda",
    "operations": "governance_agenda_operations",
}
CENT = 0.005
# Of a tonne, in data/reference/organization.yml.
CARBON_PRICE = 100


def rows_of(book: Book, team: str, sql: str) -> pl.DataFrame:
    """The answer of a team's published file."""
    with duckdb.connect(str(book.published / f"{team}.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        frame = pl.from_arrow(connection.sql(sql).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def values_of(book: Book, rule_id: str, table: str = "calc_agenda_proposals") -> pl.DataFrame:
    """Value by week and subject of one rule, whatever its rank."""
    with duckdb.connect(str(book.warehouse), read_only=True) as connection:
        frame = pl.from_arrow(
            connection.sql(
                "select week, site_id, contract_id, weekly_value, capacity_mw"
                f" from calculations.{table}"
                f" where rule_id = '{rule_id}' order by all"
            ).to_arrow_table()
        )
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_every_week_has_every_kpi_of_every_site_and_of_the_organization(demo_book):
    scorecard = rows_of(demo_book, "operations", "select * from marts.governance_scorecard")

    weeks = scorecard["week"].unique().sort().to_list()
    assert weeks == [f"2026-W{number}" for number in range(14, 46)]
    assert len(scorecard) == len(weeks) * 5 * 8
    first = scorecard.filter(pl.col("week") == weeks[0])
    assert first["previous_value"].null_count() == len(first)
    assert set(first["week_count"]) == {0}


def test_the_scorecard_of_a_week_is_that_of_its_kpis(demo_book):
    scorecard = rows_of(
        demo_book,
        "operations",
        "select site_id, kpi_id, round(kpi_value, 2), target_value, target_status,"
        " round(previous_value, 2) as previous_value"
        " from marts.governance_scorecard where week = '2026-W44'"
        " and kpi_id in ('location_based_g_per_kwh', 'incident_count') and site_id is not null"
        " order by site_id, rank",
    )

    assert scorecard.rows() == [
        ("cloud-us-south", "location_based_g_per_kwh", None, None, "no_target", None),
        ("cloud-us-south", "incident_count", None, None, "no_target", None),
        ("franklin", "location_based_g_per_kwh", 274.5, 350.0, "met", 262.1),
        ("franklin", "incident_count", 0.0, 1.0, "met", 0.0),
        ("juelich", "location_based_g_per_kwh", 239.06, 350.0, "met", 269.65),
        ("juelich", "incident_count", 1.0, 1.0, "met", 0.0),
        ("sparks", "location_based_g_per_kwh", 128.98, 350.0, "met", 108.89),
        ("sparks", "incident_count", 0.0, 1.0, "met", 0.0),
    ]


def test_the_agenda_of_a_week_is_ranked_by_worth(demo_book):
    agenda = rows_of(
        demo_book,
        "energy",
        "select rank, rule_id, owner, site_id from marts.governance_agenda"
        " where week = '2026-W44' order by rank",
    )

    assert agenda.rows() == [
        (1, "cheaper_venue", "operations", "franklin"),
        (2, "cheaper_venue", "operations", "franklin"),
        (3, "cheaper_hour", "operations", "franklin"),
        (4, "contract_expiry", "finance", "cloud-us-south"),
        (5, "contract_expiry", "finance", "juelich"),
    ]


def test_what_nobody_should_trust_comes_first(demo_book):
    agenda = rows_of(demo_book, "energy", "select week, rank, kind from marts.governance_agenda")
    first = agenda.filter(pl.col("kind") == "data").group_by("week").agg(pl.col("rank").sort())

    assert len(first) > 0
    assert all(ranks == list(range(1, len(ranks) + 1)) for ranks in first["rank"].to_list())


def test_worth_is_money_and_what_it_avoids_at_the_price_of_co2e(demo_book):
    agenda = rows_of(
        demo_book,
        "energy",
        "select weekly_worth, weekly_value, weekly_saved_location_based_kg as saved_kg"
        " from marts.governance_agenda where weekly_value is not null",
    )
    worth = pl.col("weekly_value") + pl.col("saved_kg").fill_null(0) / 1000 * CARBON_PRICE

    [expected] = agenda.select(worth)
    assert agenda["weekly_worth"].to_list() == pytest.approx(expected.to_list())


@pytest.mark.parametrize("team", AGENDA)
def test_a_week_has_at_most_seven_proposals_ranked_without_gap(demo_book, team):
    agenda = rows_of(
        demo_book, team, f"select week, rank from marts.{AGENDA[team]} order by week, rank"
    )

    for _, week in agenda.group_by("week"):
        assert week["rank"].to_list() == list(range(1, len(week) + 1))
        assert len(week) <= 7


@pytest.mark.parametrize("team", AGENDA)
def test_the_evidence_of_every_proposal_runs_on_the_file_of_the_team_that_sees_it(demo_book, team):
    with duckdb.connect(str(demo_book.published / f"{team}.duckdb"), read_only=True) as connection:
        proposals = connection.execute(
            f"select week, proposal_id, evidence_sql from marts.{AGENDA[team]}"
        ).fetchall()
        without_rows = [
            (week, proposal_id)
            for week, proposal_id, sql in proposals
            if not connection.execute(sql).fetchall()
        ]

    assert proposals
    assert without_rows == []


def test_operations_gets_no_proposal_that_rests_on_contract_prices(demo_book):
    agenda = rows_of(
        demo_book,
        "operations",
        "select distinct rule_id from marts.governance_agenda_operations where is_confidential"
        " or rule_id in ('demand_peak', 'energy_debt_within_lead_time',"
        " 'ppa_under_delivery')",
    )

    assert agenda.is_empty()


def test_an_unused_commitment_is_worth_what_the_work_that_fills_it_saves_where_it_ran(demo_book):
    proposals = values_of(demo_book, "cloud_commitment_unused").filter(pl.col("week") == "2026-W24")
    saved = rows_of(
        demo_book,
        "finance",
        "select move_saving_value from marts.fct_placement_options where week = '2026-W24'"
        " and workload_id = 'model-finetuning' and site_id = 'cloud-us-south'",
    )
    paid = rows_of(
        demo_book,
        "finance",
        "select sum(amount) as amount from marts.fct_contract_settlements"
        " where line = 'commitment_unused' and local_date between '2026-06-08' and '2026-06-14'",
    )

    assert proposals["weekly_value"].to_list() == [pytest.approx(saved.item(), abs=CENT)]
    assert proposals["weekly_value"].item() < paid.item() / 20


@pytest.mark.parametrize("rule_id", ["ppa_under_delivery", "energy_debt_within_lead_time"])
def test_no_plant_falls_short_and_no_expected_load_lacks_power(demo_book, rule_id):
    assert values_of(demo_book, rule_id).is_empty()


def test_no_week_moves_a_workload_twice_or_more_to_a_venue_than_is_free(demo_book):
    with duckdb.connect(str(demo_book.warehouse), read_only=True) as connection:
        twice = connection.execute(
            "select week, workload_id from calculations.calc_agenda_moves"
            " group by all having count(*) > 1"
        ).fetchall()
        beyond = connection.execute(
            "select moves.week, moves.site_id from calculations.calc_agenda_moves as moves"
            " inner join marts.fct_placement_options as options"
            " using (week, workload_id, site_id)"
            " group by all having sum(moves.gpu_hours) > max(options.spare_gpu_hours) + 1e-6"
        ).fetchall()

    assert (twice, beyond) == ([], [])


def test_a_cause_that_recurs_is_worth_a_twelfth_of_twelve_weeks_of_it_but_for_demand(demo_book):
    recurring = values_of(demo_book, "recurring_cause", "calc_agenda_grid_risk").filter(
        pl.col("week") == "2026-W42"
    )
    [value] = recurring["weekly_value"]
    incidents = rows_of(
        demo_book,
        "finance",
        "select week, incident_cost - demand_charge_cost as cost"
        " from marts.fct_energy_constraint_incidents"
        " where site_id = 'sparks' and primary_cause = 'storage_unavailable'",
    )
    number = pl.col("week").str.slice(6).cast(pl.Int64)
    cost = incidents.filter(number.is_between(31, 42))["cost"].sum()

    assert value == pytest.approx(cost / 12, abs=CENT)


def test_a_commitment_that_outruns_its_supply_is_short_by_the_greatest_gap_of_the_week(demo_book):
    proposals = values_of(demo_book, "commitment_outruns_supply")
    capacity = rows_of(
        demo_book,
        "finance",
        "select site_id, week, effective_it_mw, committed_it_mw from marts.fct_supply_capacity",
    )
    gaps = (
        capacity.filter(pl.col("effective_it_mw") < pl.col("committed_it_mw"))
        .group_by("week", "site_id")
        .agg(gap=(pl.col("committed_it_mw") - pl.col("effective_it_mw")).max())
    )

    assert proposals.select("week", "site_id").rows() == [("2026-W34", "franklin")]
    assert proposals["capacity_mw"].to_list() == [pytest.approx(gaps["gap"].item(), abs=1e-9)]


def test_decisions_are_judged_by_what_was_measured(demo_book):
    effects = rows_of(
        demo_book,
        "operations",
        "select decision_id, before_week_count, effect_status from marts.fct_decision_effects"
        " order by decision_id",
    )

    assert effects.rows() == [
        ("franklin-evaluation-off-peak", 4, "cannot_tell"),
        ("juelich-power-cap", 4, "too_early"),
        ("sparks-finetuning-stays", 4, "opposite"),
        ("sparks-long-duration-storage", 4, "opposite"),
    ]


def test_a_cost_expected_when_work_was_placed_is_held_against_what_it_costs_since(demo_book):
    segments = rows_of(
        demo_book,
        "finance",
        "select week, site_id, placement_decision_id, market_valued_energy_cost_per_gpu_hour,"
        " drift_ratio"
        " from marts.fct_workload_segments where workload_id = 'model-finetuning'"
        " and expected_energy_cost_per_gpu_hour is not null and week <= '2026-W44' order by week",
    )

    assert segments["week"].to_list() == [f"2026-W{number}" for number in range(38, 45)]
    assert set(segments["placement_decision_id"]) == {"sparks-finetuning-stays"}
    assert segments["drift_ratio"].to_list() == pytest.approx(
        (segments["market_valued_energy_cost_per_gpu_hour"] / 0.0104 - 1).to_list()
    )
    assert segments["drift_ratio"][-1] == pytest.approx(0.782, abs=0.001)
