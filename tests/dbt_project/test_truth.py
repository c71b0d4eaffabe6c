"""The figures of the demo against what the simulator knows, which no pipeline code reads."""

from pathlib import Path

import duckdb
import pytest

from pipelines.book import Book

TRUE_COLUMNS = {
    "grid_import_kwh": "grid_import_kwh",
    "grid_export_kwh": "grid_export_kwh",
    "onsite_generation_kwh": "onsite_generation_kwh",
    "battery_charge_kwh": "battery_charge_kwh",
    "battery_discharge_kwh": "battery_discharge_kwh",
    "it_kwh": "it_load_kwh",
    "cooling_kwh": "cooling_load_kwh",
}


@pytest.fixture(scope="module")
def book(demo_book: Book) -> duckdb.DuckDBPyConnection:
    """The demo's warehouse with every truth table as `truth_<name>`."""
    connection = duckdb.connect(":memory:")
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"attach '{demo_book.warehouse}' as book (read_only)")
    for file in sorted((demo_book.data_dir / "truth").glob("*.parquet")):
        connection.execute(f"create view truth_{Path(file).stem} as from read_parquet('{file}')")
    return connection


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple]:
    return connection.execute(sql).fetchall()


@pytest.mark.parametrize("column", TRUE_COLUMNS)
def test_energy_of_every_site_and_day_is_within_half_a_percent(book, column):
    wrong = rows(
        book,
        f"""
        select b.site_id, cast(b.interval_started_at as date) as day,
            sum(b.{column}) as booked, sum(t.{TRUE_COLUMNS[column]}) as true_kwh
        from book.marts.fct_energy_balance as b
        join truth_site_intervals as t using (site_id, interval_started_at)
        where b.{column} is not null
        group by all
        having abs(booked - true_kwh) > 0.005 * abs(true_kwh) + 0.1
        """,
    )
    assert wrong == []


def test_every_interval_of_the_truth_is_in_the_book(book):
    missing = rows(
        book,
        """
        select site_id, count(*) from truth_site_intervals
        anti join book.marts.fct_energy_balance using (site_id, interval_started_at)
        group by all
        """,
    )
    assert missing == []


def test_the_microgrid_was_available_992_per_mille_of_the_time(book):
    [(ratio, intervals)] = rows(
        book,
        """
        select avg(cast(is_local_available as integer)), count(is_local_available)
        from book.marts.fct_supply_capacity where site_id = 'sparks'
        """,
    )
    [(true_ratio,)] = rows(
        book,
        "select local_time_availability_ratio from truth_availability where site_id = 'sparks'",
    )
    assert intervals > 20_000
    assert ratio == pytest.approx(0.992, abs=0.0005)
    assert ratio == pytest.approx(true_ratio, abs=0.0001)


SHARES_RIGHT = {
    "effective_it_mw": """
        select avg(cast(abs(b.effective_it_mw - t.effective_it_mw) <= 0.005 * t.effective_it_mw
            as integer)), count(*)
        from book.marts.fct_supply_capacity as b
        join truth_site_intervals as t using (site_id, interval_started_at)
        where b.effective_it_mw is not null
    """,
    "marginal_source": """
        select avg(cast(b.marginal_source = t.marginal_source as integer)), count(*)
        from book.marts.fct_marginal_cost as b
        join truth_site_intervals as t using (site_id, interval_started_at)
        where b.marginal_source is not null
    """,
    "marginal_price": """
        select avg(cast(abs(b.marginal_price_per_mwh - t.marginal_price_per_mwh)
            <= 0.005 * abs(t.marginal_price_per_mwh) + 0.005 as integer)), count(*)
        from book.marts.fct_marginal_cost as b
        join truth_site_intervals as t using (site_id, interval_started_at)
        where b.marginal_price_per_mwh is not null or t.marginal_price_per_mwh is not null
    """,
}


@pytest.mark.parametrize("figure", SHARES_RIGHT)
def test_figure_is_right_in_at_least_995_of_1000_intervals(book, figure):
    [(share, intervals)] = rows(book, SHARES_RIGHT[figure])
    assert intervals > 60_000
    assert share >= 0.995


@pytest.mark.parametrize("way", ["location_based", "market_based", "hourly_matched"])
def test_carbon_of_every_site_and_month_is_within_half_a_percent(book, way):
    wrong = rows(
        book,
        f"""
        select b.site_id, date_trunc('month', b.interval_started_at) as month,
            sum(b.{way}_kg) as booked, sum(t.{way}_kg) as true_kg
        from book.marts.fct_carbon as b
        join truth_site_intervals as t using (site_id, interval_started_at)
        where b.{way}_kg is not null
        group by all
        having abs(booked - true_kg) > 0.005 * true_kg
        """,
    )
    assert wrong == []


def test_certificates_are_refused_for_what_is_wrong_with_them_and_used_as_far_as_needed(book):
    wrong = rows(
        book,
        """
        with booked as (
            select issuance_id, certificate_id, any_value(refusal) as refusal,
                coalesce(sum(bundle_kwh) filter (where assignment_status = 'assigned'), 0)
                    as assigned_kwh,
                sum(bundle_kwh) as energy_kwh
            from book.marts.fct_certificate_assignments group by all
        ),
        true_uses as (
            select concat_ws('/', issuing_body, issuance_id,
                first_certificate || '-' || last_certificate) as certificate_id, *
            from truth_certificates
        )
        select certificate_id, booked.refusal, t.refusal, booked.assigned_kwh, t.assigned_kwh
        from booked full join true_uses as t using (certificate_id)
        where booked.refusal is distinct from t.refusal
            or abs(booked.energy_kwh - t.energy_kwh) > 0.001
            or (abs(booked.assigned_kwh - t.assigned_kwh) <= 0.005 * t.energy_kwh) is not true
        """,
    )
    assert wrong == []
    placed = rows(
        book,
        """
        select refusal, count(*), sum(assigned_kwh) > 0, sum(assigned_kwh) < sum(energy_kwh)
        from truth_certificates group by refusal order by refusal
        """,
    )
    assert placed == [
        ("counted_by_contract", 441, False, True),
        ("expired", 1, False, True),
        ("status", 1, False, True),
        ("used_twice", 1, False, True),
        ("wrong_zone", 1, False, True),
        (None, 1837, True, True),
    ]


def test_incidents_are_those_of_the_truth_and_no_others(book):
    found = rows(
        book,
        """
        select site_id, primary_cause, layer, started_at, ended_at
        from book.marts.fct_energy_constraint_incidents order by site_id, started_at
        """,
    )
    placed = rows(
        book,
        """
        select site_id, cause, layer, started_at, ended_at
        from truth_incidents order by site_id, started_at
        """,
    )
    assert [row[:3] for row in found] == [row[:3] for row in placed]
    for (*_, found_start, found_end), (*_, start, end) in zip(found, placed, strict=True):
        assert abs((found_start - start).total_seconds()) <= 900
        assert abs((found_end - end).total_seconds()) <= 900


def test_slowed_gpus_lose_the_work_that_they_did_not_do(book):
    found = rows(
        book,
        """
        select site_id, lost_gpu_hours_sensitive + lost_gpu_hours_tolerant
        from book.marts.fct_energy_constraint_incidents where primary_cause = 'power_capping'
        """,
    )
    placed = rows(
        book,
        "select site_id, slowed_gpu_hours from truth_incidents where cause = 'power_capping'",
    )
    assert found == [("juelich", pytest.approx(placed[0][1], rel=1e-4))]
    assert round(placed[0][1]) == 1233


def test_what_was_put_off_and_caught_up_is_not_lost(book):
    incidents = rows(
        book,
        """
        select cast(started_at as date), lost_gpu_hours_tolerant, deferred_gpu_hours, severity
        from book.marts.fct_energy_constraint_incidents where site_id = 'franklin' order by 1
        """,
    )
    ledger = rows(
        book,
        """
        select local_date, lapsed_gpu_hours, deferred_gpu_hours, 2
        from book.marts.fct_deferrals order by 1
        """,
    )
    assert [row[1] for row in incidents] == [0, 0]
    assert incidents == [(*row[:2], pytest.approx(row[2]), row[3]) for row in ledger]


def test_a_depleted_battery_pays_for_the_peak_of_charging_it_again(book):
    raised_kw = """
        select 4 * (
            max(grid_import_kwh)
            - max(grid_import_kwh) filter (where cast(interval_started_at as date) <> '2026-06-18')
        )
        from truth_site_intervals
        where site_id = 'sparks' and interval_started_at >= '2026-06-01 07:00:00+00'
            and interval_started_at < '2026-07-01 07:00:00+00'
    """
    cost = """
        select demand_charge_cost from book.marts.fct_energy_constraint_incidents
        where site_id = 'sparks' and cast(started_at as date) = '2026-06-18'
    """
    price = """
        select demand_charge_per_kw from book.intermediate.int_supply_prices
        where site_id = 'sparks' and interval_started_at = '2026-06-18 12:30:00+00'
    """
    (raised,), (booked,), (per_kw,) = (rows(book, sql)[0] for sql in (raised_kw, cost, price))
    assert booked == pytest.approx(raised * per_kw, rel=1e-3)
    assert round(raised) == 2150


def test_contracts_settle_to_the_cent_every_month(book):
    wrong = rows(
        book,
        """
        with booked as (
            select contract_id, left(cast(local_month as varchar), 7) as month,
                sum(volume_mwh) as volume_mwh, sum(amount) as amount,
                sum(contract_amount) as contract_amount
            from book.marts.fct_contract_settlements
            where contract_id in (select contract_id from truth_settlements) group by all
        ),
        true_amounts as (
            select contract_id, left(cast(local_month as varchar), 7) as month,
                volume_mwh, amount_eur as amount, contract_amount
            from truth_settlements
        )
        select * from booked full join true_amounts as t using (contract_id, month)
        where round(booked.amount, 2) is distinct from round(t.amount, 2)
            or round(booked.contract_amount, 2) is distinct from round(t.contract_amount, 2)
            or abs(booked.volume_mwh - t.volume_mwh) > 0.001
        """,
    )
    assert wrong == []
    assert rows(book, "select count(distinct contract_id) from truth_settlements") == [(2,)]


SITE_SETTLEMENTS = """
    with booked as (
        select contract_id, line, left(cast(local_month as varchar), 7) as local_month,
            sum(quantity) as quantity, count(contract_amount) = count(*) as is_known,
            round(sum(cast(contract_amount as decimal(38, 9))), 2) as contract_amount,
            round(sum(cast(amount as decimal(38, 9))), 2) as amount
        from book.marts.fct_contract_settlements
        where contract_kind not in ('ppa_pay_as_produced', 'vppa_cfd')
        group by all
    )
    select contract_id, line, local_month, booked.is_known,
        booked.quantity, t.quantity,
        booked.contract_amount, round(cast(t.contract_amount as decimal(38, 9)), 2),
        booked.amount, round(cast(t.amount_eur as decimal(38, 9)), 2)
    from booked
    full join truth_site_settlements as t using (contract_id, line, local_month)
    order by all
"""


def test_contracts_on_sites_settle_to_the_cent_in_every_line_and_month(book):
    lines = rows(book, SITE_SETTLEMENTS)

    assert [
        (*key, quantity, true_quantity, amount, true_amount, euros, true_euros)
        for *key, is_known, quantity, true_quantity, amount, true_amount, euros, true_euros in lines
        if is_known is not False
        and (
            None in (quantity, true_quantity)
            or abs(quantity - true_quantity) > 0.001
            or (amount, euros) != (true_amount, true_euros)
        )
    ] == []
    assert len({row[0] for row in lines}) == 9


def test_only_lines_whose_readings_have_not_come_are_not_settled(book):
    unknown = [tuple(row[:3]) for row in rows(book, SITE_SETTLEMENTS) if row[3] is False]

    # The files of the Juelich meters hold whole Australian market days.
    assert unknown == [
        (contract_id, line, month)
        for contract_id, lines in (
            ("juelich-grid", ("demand", "levies", "network")),
            ("juelich-supply", ("energy",)),
        )
        for line in lines
        for month in ("2026-04", "2026-11")
    ]


def test_every_clause_of_the_contracts_on_sites_is_met_in_the_demo(book):
    assert rows(
        book,
        """
        select distinct contract_kind, clause_applied from book.marts.fct_contract_settlements
        where clause_applied <> 'none' and contract_kind not in ('ppa_pay_as_produced', 'vppa_cfd')
        order by all
        """,
    ) == [
        ("battery_tolling", "availability_guarantee"),
        ("battery_tolling", "round_trip_guarantee"),
        ("battery_tolling", "throughput_limit"),
        ("grid_connection", "ratchet"),
    ]


def test_the_cloud_costs_what_the_last_bill_says_corrections_and_credits_in_it(book):
    [(days, wrong)] = rows(
        book,
        """
        select
            count(*),
            count(*) filter (
                where (b.site_id is null and t.allocated_gpu_hours + abs(t.cloud_cost) > 0)
                or abs(b.allocated_gpu_hours - t.allocated_gpu_hours) > 1e-6
                or abs(b.cloud_cost - t.cloud_cost) > 0.01
            )
        from truth_cloud_days as t
        left join book.marts.fct_workload_energy as b
            on b.site_id = 'cloud-us-south'
            and t.workload_id = b.workload_id
            and t.utc_date = b.local_date
        """,
    )
    assert days > 400
    assert wrong == 0
