"""The simulated world is physical, and what it sends agrees with what it is."""

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines import reference
from pipelines.simulator import clock, events, landing
from pipelines.simulator.accounting import (
    accounting_of_day,
    host_list,
    job_rows,
    telemetry_days,
)
from pipelines.simulator.landing import DEMO_REFERENCE
from pipelines.simulator.plates import read_plates
from pipelines.simulator.site_model import (
    DISTRIBUTION_RATIO,
    TRANSFORMER_LOSS_RATIO,
    interval_mean,
)
from pipelines.simulator.truth import SiteTruth, contract_volumes
from pipelines.simulator.world import World, simulate_world

# They simulate every site.
pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
UNTIL = clock.DEFAULT_UNTIL
BEFORE = slice(0, clock.interval_index(UNTIL))


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return reference.flatten(reference.load(DEMO_REFERENCE))


@pytest.fixture(scope="module")
def world(tables: dict[str, pl.DataFrame]) -> World:
    return simulate_world(read_plates(tables))


@pytest.fixture(scope="module")
def truth(world: World, tables: dict[str, pl.DataFrame]) -> dict[str, SiteTruth]:
    return {site_id: SiteTruth(world, site, tables, UNTIL) for site_id, site in world.sites.items()}


@pytest.mark.parametrize("site_id", ["juelich", "sparks", "franklin"])
def test_energy_that_enters_a_site_leaves_it_or_is_lost_in_its_transformer(world, site_id):
    run = world.sites[site_id].run
    entered = run.import_kwh + run.generation_kwh + run.discharge_kwh
    left = run.facility_kwh + run.charge_kwh + run.export_kwh
    np.testing.assert_allclose(entered - left, TRANSFORMER_LOSS_RATIO * run.facility_kwh, atol=1e-8)
    assert not ((run.import_kwh > 0) & (run.export_kwh > 0)).any()


def test_batteries_stay_within_their_energy_and_power_and_lose_what_their_efficiency_says(world):
    for run in world.sites["sparks"].run.batteries:
        battery = run.battery
        assert run.stored_kwh.min() >= battery.reserve_ratio * battery.capacity_kwh - 1e-6
        assert run.stored_kwh.max() <= battery.capacity_kwh
        most_kwh = battery.power_kw * clock.INTERVAL_HOURS + 1e-9
        assert max(run.charge_kwh.max(), run.discharge_kwh.max()) <= most_kwh
        assert not ((run.charge_kwh > 0) & (run.discharge_kwh > 0)).any()
        assert not run.discharge_kwh[run.is_fault].any()
        np.testing.assert_allclose(
            np.diff(run.stored_kwh),
            run.charge_kwh * battery.charge_efficiency
            - run.discharge_kwh / battery.discharge_efficiency,
            atol=1e-6,
        )


def test_the_placed_events_are_the_only_incidents(truth):
    incidents = pl.concat([site.incidents() for site in truth.values()])
    found = incidents.select("site_id", "cause", "started_at", "ended_at").rows()
    trips = [
        ("sparks", "storage_unavailable", trip.started_at, trip.ended_at)
        for trip in events.BATTERY_TRIPS
    ]
    assert sorted(found) == sorted(
        [
            *trips,
            (
                "juelich",
                "power_capping",
                events.JUELICH_POWER_CAP.started_at,
                events.JUELICH_POWER_CAP.ended_at,
            ),
            (
                "sparks",
                "storage_depleted",
                datetime(2026, 6, 18, 4, tzinfo=UTC),
                datetime(2026, 6, 18, 12, tzinfo=UTC),
            ),
            (
                "sparks",
                "grid_outage",
                events.SPARKS_OUTAGE.started_at,
                events.SPARKS_OUTAGE.ended_at,
            ),
            (
                "franklin",
                "curtailment_order",
                events.FRANKLIN_CURTAILMENT.started_at,
                events.FRANKLIN_CURTAILMENT.ended_at,
            ),
            (
                "franklin",
                "price_stop",
                events.FRANKLIN_PRICE_SPIKE.started_at,
                events.FRANKLIN_PRICE_SPIKE.ended_at,
            ),
        ]
    )


def test_the_local_layer_of_sparks_was_available_99_2_percent_of_the_time(truth):
    assert truth["sparks"].availability()["local_time_availability_ratio"] == pytest.approx(
        0.992, abs=0.0005
    )


def test_sites_do_without_signals_outside_the_placed_events(world, truth):
    for site_id, site in truth.items():
        quiet = ~np.any(list(site.signals().values()), axis=0)
        drawn_kw = site.imported[quiet] / clock.INTERVAL_HOURS
        assert (drawn_kw < 0.97 * 1000 * site.grid_mw[quiet]).all(), site_id
        assert (site.effective_mw[quiet] >= site.committed_mw[quiet]).all(), site_id
        assert (site.it / clock.INTERVAL_HOURS / 1000 < site.committed_mw).all(), site_id
        gpus = len(world.sites[site_id].fleet.idle_w)
        held = sum(
            (schedule.gpu_count * (schedule.end_step - schedule.start_step))[
                (schedule.start_step >= clock.WARM_UP_STEPS)
                & (schedule.start_step < clock.step_index(UNTIL))
            ].sum()
            for schedule in world.sites[site_id].schedules
        )
        used_ratio = held / (gpus * ((UNTIL - clock.WORLD_STARTED_AT) // clock.STEP))
        assert 0.75 <= used_ratio <= 0.92, site_id


def test_during_the_curtailment_the_import_stays_just_below_the_limit(truth):
    site = truth["franklin"]
    import_kw = site.imported[site.is_curtailed] / clock.INTERVAL_HOURS
    assert len(import_kw) == 14
    assert (import_kw <= 22000).all()
    assert (import_kw >= 0.985 * 22000).all()


def test_no_node_runs_two_jobs_at_once(world):
    for site in world.sites.values():
        for schedule in site.schedules:
            slots = np.concatenate(schedule.slots)
            sizes = [len(item) for item in schedule.slots]
            start = np.repeat(schedule.start_step, sizes)
            end = np.repeat(schedule.end_step, sizes)
            order = np.lexsort((start, slots))
            same = np.diff(slots[order]) == 0
            assert (start[order][1:] >= end[order][:-1])[same].all(), schedule.pool.name


def test_jobs_wait_run_and_end_in_this_order(world):
    jobs = job_rows(world.sites["sparks"])
    assert jobs["job_id"].n_unique() == jobs.height
    assert jobs.filter(pl.col("submitted_at") > pl.col("started_at")).is_empty()
    assert jobs.filter(pl.col("ended_at") <= pl.col("started_at")).is_empty()
    assert jobs.filter(pl.col("started_at") - pl.col("submitted_at") > timedelta(hours=1)).height


def test_accounting_shows_a_long_job_running_until_the_day_it_ends(world):
    jobs = job_rows(world.sites["franklin"]).filter(
        pl.col("started_at") >= clock.WORLD_STARTED_AT,
        pl.col("elapsed_s") > 3 * 86400,
    )
    job = jobs.row(0, named=True)
    first = job["started_at"].replace(hour=0, minute=0, second=0)
    shown = {
        day: accounting_of_day(jobs, first + timedelta(days=day)).filter(job_id=job["job_id"])
        for day in range(-1, (job["ended_at"] - first).days + 2)
    }
    last = (job["ended_at"] - first).days
    assert shown[-1].is_empty()
    assert all(shown[day]["state"].to_list() == ["RUNNING"] for day in range(last))
    assert shown[last].select("state", "ended_at").row(0) == (job["state"], job["ended_at"])
    assert shown[last + 1].is_empty()


def test_host_lists_fold_neighbours():
    names = [f"jwb{number:04d}" for number in range(1, 61)]
    assert host_list(names, np.array([4, 3, 2, 8])) == "jwb[0003-0005,0009]"
    assert host_list(names, np.array([8, 8])) == "jwb0009"


@pytest.mark.parametrize("site_id", ["juelich", "sparks"])
def test_counters_and_node_power_add_up_to_the_it_meter(world, site_id):
    site = world.sites[site_id]
    start = events.TELEMETRY_STARTED_AT
    days = list(telemetry_days(site, datetime(2026, 10, 20, tzinfo=UTC), ()))
    gpus = pl.concat([day[1] for day in days]).filter(pl.col("sampled_at") >= start)
    nodes = pl.concat([day[2] for day in days])
    counter = pl.col("energy_counter_millijoules")
    counted_kwh = (
        gpus.group_by("hostname", "gpu_index")
        .agg(counter.last() - counter.first())["energy_counter_millijoules"]
        .sum()
        / 3.6e9
    )
    last = gpus["sampled_at"].max()
    steps = range(clock.step_index(start), clock.step_index(last))
    drawn = site.telemetry(steps)
    assert counted_kwh == pytest.approx(drawn.gpu_w.sum() / 12 / 1000, rel=1e-9)
    node_kwh = nodes.filter(pl.col("sampled_at") > start)["power_w"].sum() / 12 / 1000
    assert node_kwh == pytest.approx(drawn.node_w.sum() / 12 / 1000, rel=1e-4)
    whole = slice(0, len(steps) // 3 * 3)
    by_interval = drawn.node_w[:, whole].sum(axis=0).reshape(-1, 3).mean(axis=1) / 4 / 1000
    first = clock.interval_index(start)
    np.testing.assert_allclose(
        by_interval * (1 + DISTRIBUTION_RATIO),
        site.run.it_kwh[first : first + len(by_interval)],
        rtol=1e-9,
    )


def test_the_power_cap_shows_in_counters_reasons_and_the_it_meter(world):
    site = world.sites["juelich"]
    span = events.JUELICH_POWER_CAP
    steps = range(clock.step_index(span.started_at), clock.step_index(span.ended_at))
    drawn = site.telemetry(steps)
    assert drawn.is_capped[drawn.busy].mean() > 0.5
    assert drawn.gpu_w.max() <= events.JUELICH_POWER_CAP_RATIO * site.fleet.peak_w + 1e-9
    first = clock.interval_index(span.started_at)
    np.testing.assert_allclose(
        drawn.node_w.sum(axis=0).reshape(-1, 3).mean(axis=1) / 4000 * (1 + DISTRIBUTION_RATIO),
        site.run.it_kwh[first : first + 10],
        rtol=1e-9,
    )


def test_the_driver_reload_resets_the_counters_of_one_node(world):
    days = telemetry_days(world.sites["sparks"], datetime(2026, 10, 22, tzinfo=UTC), ())
    samples = list(days)[-1][1]
    fell = samples.with_columns(
        rise=pl.col("energy_counter_millijoules").diff().over("hostname", "gpu_index")
    ).filter(pl.col("rise") < 0)
    assert fell["hostname"].unique().to_list() == ["spk0017"]
    assert fell["sampled_at"].unique().to_list() == [datetime(2026, 10, 21, 14, 10, tzinfo=UTC)]
    assert fell.height == 8


def test_fine_samples_agree_with_the_export_at_its_times(world):
    *_, (_, samples, _, fine) = telemetry_days(
        world.sites["sparks"], datetime(2026, 11, 2, tzinfo=UTC), ("spk0017", "spk0200")
    )
    assert fine.height == 2 * 8 * 1440
    keys = ["hostname", "gpu_index", "sampled_at"]
    both = fine.join(samples, on=keys, how="inner").select(samples.columns).sort(keys)
    assert both.height == 2 * 8 * 288
    assert both.equals(samples.join(fine, on=keys, how="semi").sort(keys))


def test_may_is_a_month_of_negative_prices_and_prices_follow_the_sun(world):
    price = world.zones["US-TEX-ERCO"].price_per_mwh
    month = clock.local_parts(clock.interval_starts(), "America/Chicago")[2]
    assert (price[month == 5] < 0).mean() > 0.3
    assert (price[month == 8] < 0).mean() < 0.05
    german = world.zones["DE"]
    assert (german.price_per_mwh < 0).any()
    assert np.corrcoef(german.price_per_mwh, german.generation_mw["B16"])[0, 1] < -0.4
    carbon = world.carbon_hourly["DE"]
    hourly_price = german.price_per_mwh.reshape(-1, 4).mean(axis=1)
    assert np.corrcoef(hourly_price, carbon["direct_g_per_kwh"])[0, 1] > 0.5
    assert (carbon["life_cycle_g_per_kwh"] > carbon["direct_g_per_kwh"]).all()


def test_a_negative_price_takes_volume_from_one_contract_and_the_floor_from_the_other(
    world, tables
):
    volumes = contract_volumes(world, tables, BEFORE.stop)
    price = world.zones["US-TEX-ERCO"].price_per_mwh[BEFORE]
    produced, virtual = volumes["franklin-lupinus-pap"], volumes["franklin-lupinus2-vppa"]
    negative = (price < 0) & (world.ppa_kwh["FKL-SOLAR"][BEFORE] > 0)
    assert negative.any()
    assert not produced.kwh[negative].any()
    # The shares of a plant are settled in thousandths of a kilowatt-hour.
    share_kwh = world.ppa_kwh["FKL-SOLAR"][BEFORE][negative] * 0.4
    np.testing.assert_allclose(virtual.kwh[negative], share_kwh, rtol=0, atol=0.00051)
    np.testing.assert_allclose(virtual.amount[negative], virtual.kwh[negative] * 0.0342)


def test_idle_power_alone_is_less_than_any_load(world):
    site = world.sites["juelich"]
    power = np.zeros(clock.STEP_COUNT)
    assert interval_mean(power).shape == (clock.INTERVAL_COUNT,)
    assert site.run.it_kwh.min() > site.fleet.idle_w.sum() / 4000


def test_until_must_lie_in_the_world_and_have_a_time_zone(tmp_path):
    with pytest.raises(ValueError, match="without a time zone"):
        landing.simulate(tmp_path, until=datetime(2026, 5, 1))  # noqa: DTZ001 - the mistake
    with pytest.raises(ValueError, match="outside the simulated world"):
        landing.simulate(tmp_path, until=datetime(2027, 1, 1, tzinfo=UTC))


def _files(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_one_day_more_only_adds_files(tmp_path, world, monkeypatch):
    """Two days in spring stand for the horizon: telemetry begins later and is tested above."""
    monkeypatch.setattr(landing, "simulate_world", lambda plates: world)
    landing.simulate(tmp_path / "two", until=datetime(2026, 4, 8, tzinfo=UTC))
    landing.simulate(tmp_path / "three", until=datetime(2026, 4, 9, 5, tzinfo=UTC))
    two, three = _files(tmp_path / "two" / "landing"), _files(tmp_path / "three" / "landing")
    assert two == {name: three[name] for name in two}
    assert len(three) > len(two) > 20
    assert not [name for name in three if name.endswith(".part")]


def test_a_battery_sends_nothing_before_it_joins(tmp_path, world):
    """The iron-air battery joins on 2026-10-05."""
    desk = landing._Desk(tmp_path, datetime(2026, 9, 1, tzinfo=UTC))
    site = world.sites["sparks"]
    for run in site.run.batteries:
        landing._land_battery(desk, site, run)
    senders = {name.split("/")[-1].rsplit("_", 1)[0] for name in _files(tmp_path)}
    assert senders == {"sparks-second-life"}


def test_the_world_is_the_same_each_time(world, tables):
    again = simulate_world(read_plates(tables))
    for site_id, site in world.sites.items():
        assert (again.sites[site_id].run.import_kwh == site.run.import_kwh).all()
        assert again.sites[site_id].schedules[1].state == site.schedules[1].state
    assert (again.zones["DE"].price_per_mwh == world.zones["DE"].price_per_mwh).all()


def test_the_pipeline_knows_neither_the_truth_nor_the_simulator():
    """Only the command line and the Dagster definitions may start a simulation, nothing more."""
    outside = [
        path
        for path in (PROJECT / "pipelines").rglob("*.py")
        if "simulator" not in path.relative_to(PROJECT / "pipelines").parts
    ]
    assert len(outside) > 20
    for path in outside:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                is_folder = node.value.strip("/") == "truth" or "truth/" in node.value
                assert not is_folder or _is_docstring(node, tree), f"{path}: {node.value!r}"
            for name in names:
                if name.startswith("pipelines.simulator"):
                    assert name.startswith("pipelines.simulator.landing"), f"{path}: {name}"
                    assert path.name in {"cli.py", "definitions.py"}, f"{path}: {name}"


def _is_docstring(constant: ast.Constant, tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Expr) and node.value is constant for node in ast.walk(tree))
