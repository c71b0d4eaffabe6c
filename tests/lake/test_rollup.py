"""The roll-ups, on telemetry small enough to add up by hand."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random

import duckdb
import ibis
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.book import Book
from pipelines.lake import rollup
from pipelines.lake.schemas import RAW_TABLES

DAY = date(2026, 11, 1)
MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
KWH = 3_600_000_000  # in millijoules
SECOND = 1_000_000_000  # in nanoseconds


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return new_book(tmp_path)


def new_book(folder: Path) -> Book:
    book = Book(folder)
    for table in ("gpu_samples", "node_power_samples"):
        (book.lake / table).mkdir(parents=True)
        RAW_TABLES[table].schema.create_empty().write_parquet(book.lake / table / "schema.parquet")
    return book


def at(hour: int, minute: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hour, minutes=minute)


def gpu(sampled_at: datetime, **values: object) -> dict:
    return {"sampled_at": sampled_at, "hostname": "jwb0001", "gpu_index": "0", **values}


def load(
    book: Book,
    rows: list[dict],
    *,
    table: str = "gpu_samples",
    load_id: str = "a",
    known_at: datetime = MIDNIGHT,
) -> None:
    """Put rows into the lake as one load, a file per UTC day."""
    schema = RAW_TABLES[table].schema
    empty = dict.fromkeys(schema.column_names())
    provenance = {
        "known_at": known_at,
        "source_file": "file",
        "load_id": load_id * 16,
        "load_number": ord(load_id),
    }
    by_day: dict[date, list[dict]] = {}
    for number, row in enumerate(rows):
        whole = {**empty, **provenance, "source_row": number, **row}
        by_day.setdefault(row["sampled_at"].date(), []).append(whole)
    dtypes = {name: column.dtype for name, column in schema.columns().items()}
    for day, of_day in by_day.items():
        file = book.lake / table / str(day) / f"{load_id * 16}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        schema.validate(pl.DataFrame(of_day, schema=dtypes)).write_parquet(file)


def rolled_up(book: Book, table: str, day: date = DAY, **options: datetime) -> list[dict]:
    rollup.roll_up(book, [day], **options)
    return pl.read_parquet(book.lake / table / f"{day}.parquet").to_dicts()


def interval(**values: object) -> dict:
    """A row of gpu_intervals of the first interval of the day, null but for the given values."""
    return {
        **dict.fromkeys(rollup.GPU_INTERVALS.names()),
        "hostname": "jwb0001",
        "gpu_index": "0",
        "interval_started_at": MIDNIGHT,
        "covered_s": 0.0,
        **values,
    }


def test_a_quarter_of_an_hour_of_one_board_adds_up(book: Book):
    # 600 W busy for 10 minutes, then idle at 60 W: 100 Wh by the counter, then 5 Wh.
    load(
        book,
        [
            gpu(at(0, 0), power_w=600, energy_counter_millijoules=KWH, utilization_ratio=0.9),
            gpu(
                at(0, 10),
                power_w=600,
                energy_counter_millijoules=KWH + KWH // 10,
                utilization_ratio=0.9,
            ),
            gpu(
                at(0, 15),
                power_w=60,
                energy_counter_millijoules=KWH + KWH // 10 + KWH // 200,
                utilization_ratio=0.05,
            ),
        ],
    )
    assert rolled_up(book, "gpu_intervals") == [
        interval(
            energy_kwh=0.105,
            energy_from_counter_kwh=0.105,
            energy_from_power_kwh=0.1275,  # 600 W for 10 minutes, then on average 330 W for 5
            busy_s=600.0,
            idle_s=300.0,
            busy_kwh=0.1,
            idle_kwh=0.005,
            covered_s=900.0,
            sample_count=2,
        ),
        interval(interval_started_at=at(0, 15), sample_count=1),
    ]


def test_a_step_across_the_start_of_an_interval_is_split_by_time(book: Book):
    load(
        book,
        [
            gpu(at(0, 10), energy_counter_millijoules=0, utilization_ratio=1),
            gpu(at(0, 20), energy_counter_millijoules=KWH // 10, utilization_ratio=1),
            gpu(at(0, 24), energy_counter_millijoules=KWH // 10 + KWH // 50, utilization_ratio=1),
        ],
    )
    rows = rolled_up(book, "gpu_intervals")
    assert [(row["interval_started_at"], row["energy_kwh"], row["busy_s"]) for row in rows] == [
        (MIDNIGHT, 0.05, 300.0),
        (at(0, 15), 0.07, 540.0),
    ]


def test_a_step_across_midnight_is_split_between_the_days(book: Book):
    load(
        book,
        [
            gpu(at(0, -5), energy_counter_millijoules=0),
            gpu(at(0, 5), energy_counter_millijoules=KWH // 10),
        ],
    )
    counts = rollup.roll_up(book, [DAY - timedelta(days=1), DAY])
    assert counts == {"gpu_intervals": 2, "node_intervals": 2, "pod_intervals": 0}
    rows = pl.read_parquet(book.lake / "gpu_intervals" / "*.parquet").sort("interval_started_at")
    assert rows.select("interval_started_at", "energy_kwh", "covered_s").rows() == [
        (at(0, -15), 0.05, 300.0),
        (MIDNIGHT, 0.05, 300.0),
    ]


def test_a_reset_counter_is_bridged_by_power(book: Book):
    load(
        book,
        [
            gpu(at(0, 0), power_w=600, energy_counter_millijoules=5 * KWH),
            gpu(at(0, 5), power_w=600, energy_counter_millijoules=KWH // 100),
            gpu(at(0, 10), power_w=600, energy_counter_millijoules=KWH // 100 + KWH // 20),
        ],
    )
    assert rolled_up(book, "gpu_intervals") == [
        interval(
            energy_kwh=0.1,
            energy_from_counter_kwh=0.05,
            energy_from_power_kwh=0.1,
            covered_s=600.0,
            sample_count=3,
        )
    ]


def test_a_counter_that_leaps_beyond_what_a_board_can_draw_is_not_believed(book: Book):
    load(
        book,
        [
            gpu(at(0, 0), energy_counter_millijoules=0),
            gpu(at(0, 5), energy_counter_millijoules=500 * KWH),
        ],
    )
    assert rolled_up(book, "gpu_intervals") == [interval(sample_count=2)]


def test_a_counter_is_believed_up_to_what_a_board_can_draw(book: Book):
    # 5 kW for 5 minutes are 1.5 MJ.
    load(
        book,
        [
            gpu(at(0, 0), energy_counter_millijoules=0),
            gpu(at(0, 5), energy_counter_millijoules=1_500_000_000),
            gpu(at(0, 10), energy_counter_millijoules=3_000_000_001),
        ],
    )
    assert rolled_up(book, "gpu_intervals") == [
        interval(
            energy_kwh=0.416666667,
            energy_from_counter_kwh=0.416666667,
            covered_s=300.0,
            sample_count=3,
        )
    ]


def counted(
    powers_w: list[float], counters_kwh: list[float], *, step_s: int = 300, **values: object
) -> list[dict]:
    """Samples of one board from midnight on."""
    return [
        gpu(
            MIDNIGHT + timedelta(seconds=number * step_s),
            power_w=power,
            energy_counter_millijoules=round(counter * KWH),
            **values,
        )
        for number, (power, counter) in enumerate(zip(powers_w, counters_kwh, strict=True))
    ]


def test_a_counter_that_stands_still_under_load_gives_way_to_the_power(book: Book):
    # 600 W are 0.05 kWh in 5 minutes; a stale field shows the same reading all the time.
    load(book, counted([600] * 4, [7] * 4))
    assert rolled_up(book, "gpu_intervals")[0] == interval(
        energy_kwh=0.15,
        energy_from_power_kwh=0.15,
        counter_stood_still_s=900.0,
        covered_s=900.0,
        sample_count=3,
    )


def test_what_a_counter_catches_up_after_it_stood_still_does_not_count_twice(book: Book):
    # It stands still from 00:10 to 00:20 and shows all of it at 00:25, 1.8 kW over 5 minutes.
    load(book, counted([600] * 9, [0, 0.05, 0.1, 0.1, 0.1, 0.25, 0.3, 0.35, 0.4]))
    rows = rolled_up(book, "gpu_intervals")
    assert [(row["energy_kwh"], row["counter_stood_still_s"]) for row in rows] == [
        (0.15, 600.0),
        (0.15, 600.0),
        (0.1, None),
    ]


def test_a_counter_that_stands_still_until_an_interval_ends_is_not_believed_beside_it(book: Book):
    load(book, counted([600] * 7, [0, 0.05, 0.1, 0.1, 0.2, 0.25, 0.3]))
    rows = rolled_up(book, "gpu_intervals")
    assert [(row["energy_kwh"], row["counter_stood_still_s"]) for row in rows] == [
        (0.15, 600.0),
        (0.15, 300.0),
        (None, None),
    ]


def test_a_reading_that_an_exporter_repeats_is_no_standstill(book: Book):
    # A scrape every 15 seconds of readings that are taken every 30.
    taken = [number // 2 * 0.005 for number in range(61)]
    load(book, counted([600] * 61, taken, step_s=15))
    assert rolled_up(book, "gpu_intervals")[0] == interval(
        energy_kwh=0.15,
        energy_from_counter_kwh=0.15,
        energy_from_power_kwh=0.15,
        covered_s=900.0,
        sample_count=60,
    )


@pytest.mark.parametrize("glitch", [0.22, 0.02])
def test_a_reading_that_is_not_between_its_neighbours_is_bridged_by_power(
    book: Book, glitch: float
):
    load(book, counted([600] * 5, [0.05, 0.1, glitch, 0.2, 0.25]))
    rows = rolled_up(book, "gpu_intervals")
    assert [row["energy_kwh"] for row in rows] == [0.15, 0.05]
    assert rows[0]["energy_from_counter_kwh"] == 0.05


def test_a_glitch_is_seen_wherever_one_file_ends_and_the_next_begins(book: Book):
    by_file: dict[str, list[dict]] = {"a": [], "b": []}
    for glitch in range(1, 8):
        counters = [0.05 * number + 0.07 * (number == glitch) for number in range(9)]
        for split in range(10):
            rows = counted([600] * 9, counters, gpu_index=f"{glitch} {split}")
            by_file["a"] += rows[:split]
            by_file["b"] += rows[split:]
    for name, rows in by_file.items():
        load(book, rows, load_id=name)
    rows = rolled_up(book, "gpu_intervals")
    assert len(rows) == 7 * 10 * 3
    assert {row["energy_kwh"] for row in rows} == {0.15, 0.1}
    counted_kwh = {
        (row["gpu_index"][0], row["interval_started_at"], row["energy_from_counter_kwh"])
        for row in rows
    }
    assert len(counted_kwh) == 7 * 3


def test_of_counter_and_powers_that_differ_all_day_neither_is_believed(book: Book):
    # The counter tells joules: a thousandth.
    load(book, counted([600] * 13, [number * 0.00005 for number in range(13)]))
    assert rolled_up(book, "gpu_intervals")[0] == interval(
        energy_from_counter_kwh=0.00015,
        energy_from_power_kwh=0.15,
        energy_contradicted_s=900.0,
        sample_count=3,
    )


@pytest.mark.parametrize("step_count", [11, 12])
def test_counter_and_powers_are_compared_over_an_hour_at_least(book: Book, step_count: int):
    load(book, counted([600] * (step_count + 1), [n * 0.04 for n in range(step_count + 1)]))
    is_believed = step_count < rollup.DISAGREEMENT_STEPS
    assert rolled_up(book, "gpu_intervals")[0]["energy_kwh"] == (0.12 if is_believed else None)


def test_powers_that_vary_too_much_to_compare_contradict_no_counter(book: Book):
    # Busy for a minute in every five: the samples show it at times, the counter always.
    powers = [700 if number % 3 == 0 else 60 for number in range(25)]
    load(book, counted(powers, [number * 0.0155 for number in range(25)]))
    assert rolled_up(book, "gpu_intervals")[0]["energy_kwh"] == 0.0465


def test_of_a_board_in_mig_mode_its_busy_instances_are_busy(book: Book):
    load(
        book,
        [
            gpu(at(0, minute), power_w=400, mig_busy_ratio=3 / 7, mig_told_ratio=5 / 7)
            for minute in (0, 5, 10, 15)
        ],
    )
    assert rolled_up(book, "gpu_intervals")[0] == interval(
        energy_kwh=0.1,
        energy_from_power_kwh=0.1,
        busy_s=385.714285714,
        idle_s=257.142857143,
        covered_s=900.0,
        sample_count=3,
    )


def test_a_node_does_not_tell_what_is_drawn_busy_where_one_of_its_boards_does_not(book: Book):
    whole = {"power_w": 600, "utilization_ratio": 1}
    in_mig_mode = {"gpu_index": "1", "power_w": 400, "mig_busy_ratio": 1 / 7, "mig_told_ratio": 1}
    untold = {"gpu_index": "2", "power_w": 100}
    load(
        book,
        [
            gpu(at(0, minute), **values)
            for minute in (0, 15)
            for values in (whole, in_mig_mode, untold)
        ],
    )
    node = rolled_up(book, "node_intervals")[0]
    assert (node["gpu_kwh"], node["gpu_busy_s"], node["busy_kwh"], node["idle_kwh"]) == (
        pytest.approx(0.275),
        pytest.approx(900 + 900 / 7),
        None,
        None,
    )


LIMITED = {
    "utilization_ratio": 1,
    "power_w": 398,
    "power_limit_w": 400,
    "default_power_limit_w": 700,
    "sm_clock_mhz": 1200,
    "clocks_event_reasons": 0x4,
}


@pytest.mark.parametrize(
    ("values", "capped_s", "braked_s"),
    [
        ({}, 900.0, 0.0),
        ({"power_w": 300, "clocks_event_reasons": 0}, 0.0, 0.0),
        # Neither counter nor reasons: what draws as much as it may is held.
        ({"clocks_event_reasons": None}, 900.0, None),
        ({"clocks_event_reasons": None, "power_w": 379}, 0.0, None),
        ({"clocks_event_reasons": None, "power_limit_w": None}, None, None),
        ({"utilization_ratio": 0}, 0.0, 0.0),
        ({"clocks_event_reasons": 0x80, "power_brake_ns": 0}, 900.0, 900.0),
        ({"clocks_event_reasons": 0x80}, 900.0, 900.0),
    ],
)
def test_busy_boards_are_held_by_a_limit_or_slowed_by_the_power_brake(
    book: Book, values: dict, capped_s: float | None, braked_s: float | None
):
    load(book, [gpu(at(0, minute), **{**LIMITED, **values}) for minute in (0, 5, 10, 15)])
    row = rolled_up(book, "gpu_intervals")[0]
    assert (row["power_capped_s"], row["power_braked_s"]) == (capped_s, braked_s)


def test_the_clock_of_busy_time_and_the_limits_of_time_held_back_are_kept(book: Book):
    load(
        book,
        [
            gpu(at(0, 0), **LIMITED),
            gpu(at(0, 5), **LIMITED),
            gpu(at(0, 10), **{**LIMITED, "sm_clock_mhz": None, "utilization_ratio": 0}),
            gpu(
                at(0, 15),
                **{
                    **LIMITED,
                    "sm_clock_mhz": 1800,
                    "power_limit_w": 350,
                    "default_power_limit_w": None,
                },
            ),
        ],
    )
    row = rolled_up(book, "gpu_intervals")[0]
    assert row["sm_clock_mhz_s"] == 300 * 1200 + 300 * 1800
    assert row["sm_clock_known_s"] == 600
    assert row["power_limit_w_s"] == 300 * 400 + 300 * 350
    assert row["power_limit_known_s"] == 600
    assert row["default_power_limit_w_s"] == 600 * 700  # as the sample before showed it


def test_a_violation_counter_that_stands_still_beside_reasons_is_not_believed(book: Book):
    reasons = {"utilization_ratio": 1, "power_violation_ns": 5, "clocks_event_reasons": 0x80}
    load(book, [gpu(at(0, minute), **reasons) for minute in (0, 15)])
    assert rolled_up(book, "gpu_intervals")[0]["power_capped_s"] == 900.0


def test_a_gap_longer_than_a_step_counts_nowhere(book: Book):
    load(
        book,
        [
            gpu(at(0, 0), energy_counter_millijoules=0, utilization_ratio=1),
            gpu(at(0, 15), energy_counter_millijoules=KWH // 10, utilization_ratio=1),
            gpu(at(0, 30.1), energy_counter_millijoules=KWH // 5, utilization_ratio=1),
        ],
    )
    rows = rolled_up(book, "gpu_intervals")
    assert [(row["energy_kwh"], row["covered_s"], row["busy_s"]) for row in rows] == [
        (0.1, 900.0, 900.0),
        (None, 0.0, None),
        (None, 0.0, None),
    ]


def test_power_capping_and_thermal_throttling_are_told_apart_by_their_counters(book: Book):
    load(
        book,
        [
            gpu(
                at(0, 0),
                utilization_ratio=1,
                power_violation_ns=7 * SECOND,
                thermal_violation_ns=0,
                clocks_event_reasons=0,
            ),
            gpu(
                at(0, 5),
                utilization_ratio=1,
                power_violation_ns=127 * SECOND,
                thermal_violation_ns=0,
                clocks_event_reasons=0x4,
            ),
            gpu(
                at(0, 10),
                utilization_ratio=1,
                power_violation_ns=20 * SECOND,  # reset: 20 s since
                thermal_violation_ns=30 * SECOND,
                clocks_event_reasons=0x40,
            ),
            gpu(
                at(0, 15),
                utilization_ratio=0,  # idle boards are not held back from anything
                power_violation_ns=200 * SECOND,
                thermal_violation_ns=200 * SECOND,
                clocks_event_reasons=0x4,
            ),
        ],
    )
    first = rolled_up(book, "gpu_intervals")[0]
    assert (first["power_capped_s"], first["thermal_throttled_s"]) == (140.0, 30.0)


def test_without_violation_counters_the_clock_event_reasons_decide(book: Book):
    reasons = (0x1, 0x4, 0x80, 0x20, 0x40, 0x8, 0x4 | 0x20)
    load(
        book,
        [
            gpu(at(0, 2 * number), utilization_ratio=1, clocks_event_reasons=mask)
            for number, mask in enumerate(reasons)
        ],
    )
    first = rolled_up(book, "gpu_intervals")[0]
    assert (first["power_capped_s"], first["thermal_throttled_s"]) == (360.0, 360.0)


def test_where_no_one_saw_the_utilization_busy_time_is_unknown_and_not_zero(book: Book):
    load(book, [gpu(at(0, 0), power_w=100), gpu(at(0, 15), power_w=100)])
    assert rolled_up(book, "gpu_intervals")[0] == interval(
        energy_kwh=0.025, energy_from_power_kwh=0.025, covered_s=900.0, sample_count=1
    )


def minutes(step: int) -> list[dict]:
    """An hour of one board every `step` minutes, with power that swings within five minutes."""
    return [
        gpu(
            at(0, minute),
            power_w=300 + 100 * (minute % 3),
            energy_counter_millijoules=minute * KWH // 100,
            utilization_ratio=1,
        )
        for minute in range(0, 61, step)
    ]


def test_five_minutes_on_top_of_sixty_seconds_changes_nothing(book: Book, tmp_path: Path):
    both = new_book(tmp_path / "both")
    load(book, minutes(1))
    load(both, minutes(1))
    load(both, minutes(5), load_id="b", known_at=MIDNIGHT + timedelta(days=1))
    alone = rolled_up(book, "gpu_intervals")
    assert alone[0]["sample_count"] == 15
    assert rolled_up(both, "gpu_intervals") == alone


def test_files_with_one_metric_each_make_one_sample(book: Book):
    load(book, [gpu(at(0, 0), power_w=600), gpu(at(0, 15), power_w=600)], load_id="a")
    load(
        book,
        [gpu(at(0, 0), utilization_ratio=1), gpu(at(0, 15), utilization_ratio=1)],
        load_id="b",
    )
    first = rolled_up(book, "gpu_intervals")[0]
    assert (first["busy_kwh"], first["sample_count"]) == (0.15, 1)


def test_the_latest_known_value_of_a_sample_stands_and_as_of_goes_back(book: Book):
    later = MIDNIGHT + timedelta(days=3)
    load(book, [gpu(at(0, 0), power_w=600), gpu(at(0, 15), power_w=600)], load_id="f")
    load(
        book,
        [gpu(at(0, 0), power_w=400), gpu(at(0, 15), power_w=400)],
        load_id="a",
        known_at=later,
    )
    assert rolled_up(book, "gpu_intervals")[0]["energy_kwh"] == 0.1
    before = rolled_up(book, "gpu_intervals", as_of=later - timedelta(seconds=1))
    assert before[0]["energy_kwh"] == 0.15
    assert rolled_up(book, "gpu_intervals", as_of=later)[0]["energy_kwh"] == 0.1


def test_a_node_is_its_boards_beside_its_own_power(book: Book):
    load(
        book,
        [
            {**gpu(at(0, minute), power_w=power, utilization_ratio=busy), "gpu_index": index}
            for minute in (0, 15)
            for index, power, busy in (("0", 600, 1), ("1", 80, 0))
        ],
    )
    load(
        book,
        [
            {"sampled_at": at(0, minute), "hostname": host, "power_w": power}
            for minute in (0, 10)
            for host, power in (("jwb0001", 1200), ("jwb0002", 300))
        ],
        table="node_power_samples",
    )
    first, second, third = rolled_up(book, "node_intervals")
    assert first == {
        **dict.fromkeys(rollup.NODE_INTERVALS.names()),
        "hostname": "jwb0001",
        "interval_started_at": MIDNIGHT,
        "gpu_kwh": 0.17,
        "node_kwh": 0.2,
        "gpu_count_reporting": 2,
        "gpu_busy_s": 900.0,
        "gpu_idle_s": 900.0,
        "busy_kwh": 0.15,
        "idle_kwh": 0.02,
        "covered_s": 1800.0,
        "node_covered_s": 600.0,
        "energy_from_power_kwh": 0.17,
    }
    assert (second["interval_started_at"], second["gpu_count_reporting"]) == (at(0, 15), 2)
    assert third == {
        **dict.fromkeys(rollup.NODE_INTERVALS.names()),
        "hostname": "jwb0002",
        "interval_started_at": MIDNIGHT,
        "node_kwh": 0.05,
        "gpu_count_reporting": 0,
        "covered_s": 0.0,
        "node_covered_s": 600.0,
    }


def pod(name: str | None = "a", **values: object) -> dict:
    """The labels of a board that a pod holds, or several that share it."""
    return {"namespace": "research", "pod": name, "is_shared": name is None, **values}


def held(book: Book, **options: datetime) -> list[tuple]:
    rows = rolled_up(book, "pod_intervals", **options)
    return [
        (row["gpu_index"], row["interval_started_at"], row["pod"], row["held_s"]) for row in rows
    ]


def test_a_pod_holds_a_board_from_halfway_before_its_first_sample_to_halfway_after_its_last(
    book: Book,
):
    # Steps of 5 minutes: free at 0, pod a at 5 and 10, b at 15, free at 20.
    labels = ({}, pod(), pod(), pod("b"), {})
    load(book, [gpu(at(0, 5 * place), **of) for place, of in enumerate(labels)])
    assert rolled_up(book, "pod_intervals") == [
        {
            "hostname": "jwb0001",
            "gpu_index": "0",
            "interval_started_at": at(0, minute),
            "namespace": "research",
            "pod": name,
            "is_shared": False,
            "held_s": seconds,
        }
        # a from 2:30 to 12:30, b from there to 17:30, of which 2:30 are after the quarter.
        for minute, name, seconds in ((0, "a", 600.0), (0, "b", 150.0), (15, "b", 150.0))
    ]


def test_a_gap_in_the_samples_is_nobodys(book: Book):
    # The step of 16 minutes counts nowhere; one sample alone holds nothing.
    load(book, [gpu(at(0, minute), **pod()) for minute in (0, 2, 18)])
    load(book, [gpu(at(0, 5), gpu_index="1", **pod("b"))], load_id="b")
    assert held(book) == [("0", at(0, 0), "a", 120.0)]


def test_pods_that_share_a_board_hold_it_together(book: Book):
    shared = pod(None, namespace=None)
    load(book, [gpu(at(0, 0), **pod()), gpu(at(0, 4), **shared), gpu(at(0, 8), **shared)])
    rows = rolled_up(book, "pod_intervals")
    assert [(row["pod"], row["is_shared"], row["held_s"]) for row in rows] == [
        (None, True, 360.0),
        ("a", False, 120.0),
    ]


def test_who_holds_a_board_is_what_is_known_latest_and_told_by_any_file(book: Book):
    load(book, [gpu(at(0, minute), power_w=60, **pod()) for minute in (0, 4, 8)])
    # A file of another metric, from where no pod is told, says nothing of it.
    load(book, [gpu(at(0, minute), utilization_ratio=1) for minute in (0, 4, 8)], load_id="b")
    later = MIDNIGHT + timedelta(days=2)
    load(book, [gpu(at(0, 8), **pod("b"))], load_id="c", known_at=later)
    assert held(book) == [("0", at(0, 0), "a", 360.0), ("0", at(0, 0), "b", 120.0)]
    assert held(book, as_of=later - timedelta(days=1)) == [("0", at(0, 0), "a", 480.0)]


def test_files_from_before_pods_were_read_tell_of_none(book: Book):
    load(book, [gpu(at(0, minute), power_w=60) for minute in (0, 4)])
    file = book.lake / "gpu_samples" / str(DAY) / f"{'a' * 16}.parquet"
    pl.read_parquet(file).drop("namespace", "pod", "is_shared").write_parquet(file)
    assert held(book) == []
    load(book, [gpu(at(0, minute), **pod()) for minute in (8, 12)], load_id="b")
    # The step from 4 to 8 has one end that is told.
    assert held(book) == [("0", at(0, 0), "a", 360.0)]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.integers(1, 1000), min_size=2, max_size=40),
    holders=st.lists(st.sampled_from(["a", "b", None, ""]), min_size=40, max_size=40),
)
def test_the_time_of_pods_and_free_time_is_that_of_the_boards_steps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], holders: list[str | None]
):
    book = new_book(tmp_path_factory.mktemp("book"))
    sampled_at, rows, expected = MIDNIGHT, [], 0.0
    for step, here, there in zip(steps, holders, holders[1:], strict=False):
        rows.append(gpu(sampled_at, utilization_ratio=1, **({} if here == "" else pod(here))))
        sampled_at += timedelta(seconds=step)
        if step <= rollup.MAX_STEP_S:
            expected += step / 2 * ((here != "") + (there != ""))
    last = holders[len(steps)]
    rows.append(gpu(sampled_at, utilization_ratio=1, **({} if last == "" else pod(last))))
    load(book, rows)
    rollup.roll_up(book, [DAY])
    pods, boards = (
        pl.read_parquet(book.lake / table / f"{DAY}.parquet")
        for table in ("pod_intervals", "gpu_intervals")
    )
    assert pods["held_s"].sum() == pytest.approx(expected, abs=1e-4)
    of_boards = boards.select("interval_started_at", told_s=pl.col("busy_s") + pl.col("idle_s"))
    beside = pods.group_by("interval_started_at").agg(pl.col("held_s").sum())
    both = beside.join(of_boards, on="interval_started_at", how="left")
    assert both.filter(pl.col("held_s") > pl.col("told_s").fill_null(0) + 1e-4).is_empty()


def test_a_day_without_samples_has_empty_roll_ups(book: Book):
    assert rolled_up(book, "gpu_intervals") == []
    assert rolled_up(book, "node_intervals") == []
    schema = pl.read_parquet_schema(book.lake / "gpu_intervals" / "schema.parquet")
    assert schema == rollup.GPU_INTERVALS


def test_many_small_amounts_lose_nothing(book: Book):
    load(
        book,
        [
            gpu(
                MIDNIGHT + timedelta(seconds=second),
                power_w=700.1,
                energy_counter_millijoules=2**52 + 700_100 * second,
            )
            for second in range(901)
        ],
    )
    first = rolled_up(book, "gpu_intervals")[0]
    assert first["energy_from_counter_kwh"] == 0.175025
    assert first["energy_from_power_kwh"] == pytest.approx(0.175025, abs=1e-9)


def test_rolling_up_again_writes_the_same(book: Book, tmp_path: Path):
    messages: list[str] = []
    report: Callable[[str], None] = messages.append
    load(book, minutes(1))
    rollup.roll_up(book, [DAY], progress=report)
    file = book.lake / "gpu_intervals" / f"{DAY}.parquet"
    once = file.read_bytes()
    rollup.roll_up(book, [DAY, DAY], progress=report)
    assert file.read_bytes() == once
    assert messages == ["telemetry of 2026-11-01"] * 2
    assert [path.name for path in file.parent.iterdir() if path.suffix == ".tmp"] == []


def test_hosts_that_do_not_fit_at_once_are_rolled_up_after_others(
    book: Book, monkeypatch: pytest.MonkeyPatch
):
    rows = [
        {"hostname": host, "gpu_index": index, "power_w": 400, "sampled_at": at(0, minute)}
        for host in ("jwb0001", "jwb0002", "jwb0003")
        for index in ("0", "1")
        for minute in (0, 5, 10, 15)
    ]
    load(book, rows)
    node_rows = [row for row in rows if row.pop("gpu_index") == "0"]
    load(book, node_rows, table="node_power_samples")
    at_once = [rolled_up(book, table) for table in ("gpu_intervals", "node_intervals")]
    monkeypatch.setattr(rollup, "SAMPLES_AT_ONCE", 20)
    assert [rolled_up(book, table) for table in ("gpu_intervals", "node_intervals")] == at_once
    assert [len(rows) for rows in at_once] == [12, 6]


METRICS = {
    "power_w": [None, 60, 300, 398],
    "utilization_ratio": [None, 0, 0.9],
    "power_limit_w": [None, 400],
    "power_violation_ns": [None, 0, 5 * SECOND, 9 * SECOND],
    "clocks_event_reasons": [None, 0, 0x4, 0x40],
    "mig_told_ratio": [None, None, None, 5 / 7],
}
HOLDERS = [{}, {}, *[{"namespace": "research", "pod": name, "is_shared": False} for name in "ab"]]
RISES = [None, -1, 0, 0, KWH // 100, KWH // 100, KWH // 20]


def samples_in_files(random: Random) -> dict[str, list[dict]]:
    """Rows of some boards in three files: in order and not, repeated, counters of all kinds."""
    files: dict[str, list[dict]] = {name: [] for name in "abc"}
    for index in map(str, range(80)):
        sampled_at, counter, file = at(0, random.choice([-14, -3, 0, 2])), 0, "a"
        is_troubled, is_repeated = random.random() < 0.5, random.random() < 0.3
        for _ in range(random.randint(0, 25)):
            rise = random.choice(RISES) if is_troubled else KWH // 100
            counter = 0 if rise == -1 else counter + (rise or 0)
            file = random.choice([file] * 5 + ["a", "b", "c"])
            row = gpu(
                sampled_at,
                gpu_index=index,
                energy_counter_millijoules=None if rise is None else counter,
            )
            for name in [file, "b"] if is_repeated and random.random() < 0.1 else [file]:
                metrics = {metric: random.choice(values) for metric, values in METRICS.items()}
                # Without a draw of its own, so that all else stays as it was.
                holder = HOLDERS[(counter // 7 + int(index)) % len(HOLDERS)]
                files[name].append({**row, **metrics, **holder})
            sampled_at += timedelta(seconds=random.choice([60, 150, 200, 300, 300, 901]))
    if random.random() < 0.5:
        random.shuffle(files["c"])
    return {name: rows for name, rows in files.items() if rows}


@cache
def sorted_by_time() -> str:
    """The roll-up as an engine makes it that knows of no files."""
    samples = ibis.Schema.from_polars(RAW_TABLES["gpu_samples"].schema.create_empty().schema)
    table = ibis.table({**samples, "at_us": "int64"}, name="samples")
    return ibis.to_sql(rollup.gpu_intervals(table), dialect="duckdb")


@pytest.mark.parametrize("seed", range(4))
def test_reading_in_the_order_of_files_gives_what_sorting_by_time_gives(book: Book, seed: int):
    for name, rows in samples_in_files(Random(seed)).items():
        load(book, rows, load_id=name)
    rollup.roll_up(book, [DAY])
    with duckdb.connect() as engine:
        engine.execute("set timezone = 'UTC'")
        engine.read_parquet(f"{book.lake}/gpu_samples/**/*.parquet", union_by_name=True).project(
            "*, epoch_us(sampled_at) as at_us"
        ).create_view("samples")
        expected = pl.DataFrame(engine.sql(sorted_by_time()).to_arrow_table())
    started_at = pl.col("interval_started_at").dt.replace_time_zone("UTC").dt.cast_time_unit("us")
    assert_frame_equal(
        pl.read_parquet(book.lake / "gpu_intervals" / f"{DAY}.parquet"),
        expected.with_columns(started_at)
        .filter(pl.col("interval_started_at").dt.date() == DAY)
        .select(rollup.GPU_INTERVALS.names())
        .cast(rollup.GPU_INTERVALS)
        .sort("gpu_index", "interval_started_at"),
        abs_tol=2e-9,
    )


@pytest.mark.slow
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    # A counter that stands still is not believed.
    counts=st.lists(st.integers(1, KWH // 50), min_size=2, max_size=60),
    seconds=st.lists(st.integers(1, 900), min_size=60, max_size=60),
    files=st.lists(st.sampled_from("abc"), min_size=60, max_size=60),
)
def test_energy_is_the_same_however_the_samples_are_spread_over_files(
    tmp_path_factory: pytest.TempPathFactory,
    counts: list[int],
    seconds: list[int],
    files: list[str],
):
    sampled_at, counter, rows = MIDNIGHT, 0, []
    for rise, step in zip(counts, seconds, strict=False):
        rows.append(gpu(sampled_at, energy_counter_millijoules=counter))
        sampled_at += timedelta(seconds=step)
        counter += min(rise, step * rollup.MAX_BOARD_W * 1000)
    whole, spread = (new_book(tmp_path_factory.mktemp("book")) for _ in range(2))
    load(whole, rows)
    for name in "abc":
        of_file = [row for row, file in zip(rows, files, strict=False) if file == name]
        # A sample that two files hold is still one sample.
        load(spread, [*of_file, rows[0]], load_id=name)
    frames = []
    for book in (whole, spread):
        rollup.roll_up(book, [DAY])
        frames.append(pl.read_parquet(book.lake / "gpu_intervals" / f"{DAY}.parquet"))
    assert_frame_equal(*frames)
    last = rows[-1]["energy_counter_millijoules"]
    if sampled_at <= MIDNIGHT + timedelta(days=1):
        assert frames[0]["energy_kwh"].sum() == pytest.approx(last / KWH, abs=1e-7)
