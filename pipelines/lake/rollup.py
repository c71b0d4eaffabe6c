"""Rolls telemetry up to 15 minutes: energy, busy time and throttling per GPU and per node.

What belongs here: the two roll-ups, as Ibis expressions that any engine with windows and aggregates
can run, and the run of one UTC day on DuckDB. What does not: which days need it
(`pipelines/warehouse`)
and everything that grows with sites and no longer with GPUs (dbt).

A step is the time between two samples of one board or node. Steps longer than `MAX_STEP_S` are gaps
and count nowhere. A step that crosses the start of an interval is split by time. Energy is the
difference of the energy counter; where that is missing, was reset, leaps or stands still, it is the
mean of the two powers times the length of the step. A counter stands still where it did not move
for five minutes, and is not believed until five minutes after: it may catch up at once. Where a
board's counter and its powers differ over a day by more than `DISAGREEMENT_RATIO` of the greater
and what the spread of the powers explains (three standard errors), neither is believed, and the
energy of that board and day is not known.

A board is busy where it, or in MIG mode an instance of it, is used for more than 5 % of the time;
of a board in MIG mode the share that its busy instances are. What it draws is then not told apart.

Samples of one board and time count once, however many files brought them: each metric has the
latest known value. So files with one metric each, and a day at 60 s on top of the same day at
5 minutes, give what one file with everything gives.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import duckdb
import ibis
import ibis.expr.types as ir
import polars as pl

from pipelines.book import Book
from pipelines.connectors.common import BUSY_ABOVE_RATIO
from pipelines.lake.files import write_parquet
from pipelines.lake.schemas import RAW_TABLES

INTERVAL_S = 900
MAX_STEP_S = 900
MAX_BOARD_W = 5000  # as in the raw table: a counter that rises faster has leapt
STANDSTILL_S = 300  # longer than an exporter shows the same reading for
DISAGREEMENT_RATIO = 0.1
DISAGREEMENT_STEPS = 12  # of fewer the spread is not known
AT_LIMIT_RATIO = 0.95
POWER_REASONS = 0x4 | 0x80  # software power cap, hardware power brake
BRAKE_REASON = 0x80
THERMAL_REASONS = 0x20 | 0x40  # software and hardware thermal slowdown

_MICROSECONDS = 1_000_000
_MILLIJOULES_PER_KWH = 3.6e9
_WATT_SECONDS_PER_KWH = 3.6e6
_METRICS = (
    "power_w",
    "energy_counter_millijoules",
    "utilization_ratio",
    "sm_clock_mhz",
    "power_limit_w",
    "default_power_limit_w",
    "power_violation_ns",
    "power_brake_ns",
    "thermal_violation_ns",
    "clocks_event_reasons",
    "mig_busy_ratio",
    "mig_told_ratio",
)
_SAMPLES = ("gpu_samples", "node_power_samples")
_BOARD = ("hostname", "gpu_index")
_ENERGIES = ("energy_kwh", "energy_from_counter_kwh", "energy_from_power_kwh")
_BUSY = (
    "busy_s",
    "idle_s",
    "busy_kwh",
    "idle_kwh",
    "power_capped_s",
    "power_limit_w_s",
    "power_limit_known_s",
    "default_power_limit_w_s",
    "power_braked_s",
    "thermal_throttled_s",
    "sm_clock_mhz_s",
    "sm_clock_known_s",
)
_DOUBTS = ("counter_stood_still_s", "energy_contradicted_s")

_NODE_FROM_BOARDS = {
    "gpu_kwh": "energy_kwh",
    "gpu_busy_s": "busy_s",
    "gpu_idle_s": "idle_s",
    **{name: name for name in _BUSY[2:]},
    **{name: name for name in _DOUBTS},
    "covered_s": "covered_s",
    "energy_from_power_kwh": "energy_from_power_kwh",
}

GPU_INTERVALS = pl.Schema(
    {
        "hostname": pl.String(),
        "gpu_index": pl.String(),
        "interval_started_at": pl.Datetime("us", "UTC"),
        **dict.fromkeys((*_ENERGIES, *_BUSY, *_DOUBTS, "covered_s"), pl.Float64()),
        "sample_count": pl.Int64(),
    }
)
"""One row per GPU board and 15 minutes. `covered_s` is the time whose energy is known.

Of busy time: held back by a power limit (`power_capped_s`), that limit and the one the board comes
with, each times those of the seconds of which it is known; slowed by the power brake; and the clock
times the seconds of which it is known.
"""

NODE_INTERVALS = pl.Schema(
    {
        "hostname": pl.String(),
        "interval_started_at": pl.Datetime("us", "UTC"),
        "gpu_kwh": pl.Float64(),
        "node_kwh": pl.Float64(),
        "gpu_count_reporting": pl.Int64(),
        "gpu_busy_s": pl.Float64(),
        "gpu_idle_s": pl.Float64(),
        **dict.fromkeys((*_BUSY[2:], *_DOUBTS, "covered_s"), pl.Float64()),
        "node_covered_s": pl.Float64(),
        "energy_from_power_kwh": pl.Float64(),
    }
)
"""One row per node and 15 minutes: its boards together (GPU-seconds), and its own power meter."""


def roll_up(
    book: Book,
    dates: Sequence[date],
    *,
    as_of: datetime | None = None,
    left_out: Collection[str] = (),
    memory_limit: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, int]:
    """Write the roll-ups of these UTC dates anew; a date without samples gets files without rows.

    A step is closed by the next sample, so a sample of one date also completes the last interval of
    the date before and the first of the date after, if it is within a step of them.

    Args:
        book: whose lake to read and write.
        dates: UTC dates.
        as_of: leave out rows that were not known then.
        left_out: loads whose rows are out of the book.
        memory_limit: of DuckDB, such as 4GB, beyond which it goes on below `data_dir`; by default
            what DuckDB takes, most of the machine's.
        progress: told each date.

    Returns:
        Rows written, per roll-up.
    """
    counts = {"gpu_intervals": 0, "node_intervals": 0}
    write_parquet(GPU_INTERVALS.to_frame(), book.lake / "gpu_intervals" / "schema.parquet")
    write_parquet(NODE_INTERVALS.to_frame(), book.lake / "node_intervals" / "schema.parquet")
    with duckdb.connect() as engine:
        engine.execute("set timezone = 'UTC'; set enable_progress_bar = false")
        engine.execute("set temp_directory = ?", [str(book.data_dir / "spill")])
        if memory_limit is not None:
            engine.execute("set memory_limit = ?", [memory_limit])
        for day in sorted(set(dates)):
            if progress is not None:
                progress(f"telemetry of {day}")
            for table in _SAMPLES:
                _show_samples(engine, book, table, day, as_of, left_out)
            gpu = _collected(engine, "gpu_intervals", GPU_INTERVALS, day)
            write_parquet(gpu, book.lake / "gpu_intervals" / f"{day}.parquet")
            engine.register("gpu_intervals", gpu)
            node = _collected(engine, "node_intervals", NODE_INTERVALS, day)
            write_parquet(node, book.lake / "node_intervals" / f"{day}.parquet")
            counts["gpu_intervals"] += gpu.height
            counts["node_intervals"] += node.height
    return counts


def is_rolled_up(book: Book, day: date) -> bool:
    """Whether the roll-ups of a UTC date are there."""
    folders = ("gpu_intervals", "node_intervals")
    return all((book.lake / folder / f"{day}.parquet").is_file() for folder in folders)


def gpu_intervals(samples: ir.Table) -> ir.Table:
    """One row per board and interval, from `gpu_samples` of a UTC day and its edges."""
    boards = _distinct(samples, _BOARD, _METRICS)
    steps = _steps(boards, _BOARD, _METRICS, counter="energy_counter_millijoules")
    counter_mj = steps.energy_counter_millijoules - steps.previous_energy_counter_millijoules
    steps = steps.mutate(
        standstill_bucket=steps.at_us // (STANDSTILL_S * _MICROSECONDS),
        counter_kwh=ibis.ifelse(
            (counter_mj >= 0)
            & (counter_mj <= steps.step_s * MAX_BOARD_W * 1000)
            & ~steps.is_counter_glitch,
            counter_mj / _MILLIJOULES_PER_KWH,
            ibis.null("float64"),
        ),
        energy_from_power_kwh=_mean_power_w(steps) * steps.step_s / _WATT_SECONDS_PER_KWH,
    )
    steps = steps.left_join(
        _standstills(boards), [*_BOARD, "standstill_bucket"], rname="{name}_of_standstill"
    )
    believed = steps.mutate(
        energy_from_counter_kwh=ibis.ifelse(
            steps.stood_still.isnull(), steps.counter_kwh, ibis.null("float64")
        )
    )
    steps = believed.left_join(_contradicted(believed), _BOARD, rname="{name}_of_contradiction")
    s = steps
    busy = _latest(s, "utilization_ratio") > BUSY_ABOVE_RATIO
    is_mig = _latest(s, "mig_told_ratio").notnull()
    mig_busy = ibis.ifelse(is_mig, _latest(s, "mig_busy_ratio").fill_null(0), ibis.null("float64"))
    s = steps.mutate(
        energy_kwh=ibis.ifelse(
            s.contradicted.isnull(),
            ibis.coalesce(s.energy_from_counter_kwh, s.energy_from_power_kwh),
            ibis.null("float64"),
        ),
        is_mig=is_mig,
        busy_ratio=ibis.coalesce(mig_busy, busy.cast("float64")),
        idle_ratio=ibis.coalesce(_latest(s, "mig_told_ratio") - mig_busy, 1 - busy.cast("float64")),
        held_by_power_s=_held_s(s, "power_violation_ns", POWER_REASONS),
        braked_s=_held_s(s, "power_brake_ns", BRAKE_REASON),
        held_by_heat_s=_held_s(s, "thermal_violation_ns", THERMAL_REASONS),
        limit_w=_latest(s, "power_limit_w"),
        default_limit_w=_latest(s, "default_power_limit_w"),
        sm_clock=_latest(s, "sm_clock_mhz"),
    )
    # What tells neither time nor reasons still draws as much as it may.
    at_limit_s = _where(s.power_w >= AT_LIMIT_RATIO * s.limit_w, s.step_s)
    s = s.mutate(capped_s=s.busy_ratio * ibis.coalesce(s.held_by_power_s, at_limit_s))
    told_kwh = ibis.ifelse(s.is_mig, ibis.null("float64"), s.energy_kwh)
    steps = s.mutate(
        covered_s=ibis.ifelse(s.energy_kwh.notnull(), s.step_s, 0.0),
        busy_s=s.busy_ratio * s.step_s,
        idle_s=s.idle_ratio * s.step_s,
        busy_kwh=s.busy_ratio * told_kwh,
        idle_kwh=s.idle_ratio * told_kwh,
        power_capped_s=s.capped_s,
        power_limit_w_s=s.capped_s * s.limit_w,
        power_limit_known_s=ibis.ifelse(s.limit_w.notnull(), s.capped_s, ibis.null("float64")),
        default_power_limit_w_s=s.capped_s * s.default_limit_w,
        power_braked_s=s.busy_ratio * s.braked_s,
        thermal_throttled_s=s.busy_ratio * s.held_by_heat_s,
        sm_clock_mhz_s=s.busy_ratio * s.step_s * s.sm_clock,
        sm_clock_known_s=ibis.ifelse(
            s.sm_clock.notnull(), s.busy_ratio * s.step_s, ibis.null("float64")
        ),
        counter_stood_still_s=ibis.ifelse(s.stood_still, s.step_s, ibis.null("float64")),
        energy_contradicted_s=ibis.ifelse(s.contradicted, s.step_s, ibis.null("float64")),
    )
    return _per_interval(steps, boards, _BOARD, (*_ENERGIES, *_BUSY, *_DOUBTS, "covered_s"))


def _standstills(boards: ir.Table) -> ir.Table:
    """Five minutes in which a board's counter did not move since those before, and those beside."""
    told = boards.filter(boards.energy_counter_millijoules.notnull())
    told = told.mutate(standstill_bucket=told.at_us // (STANDSTILL_S * _MICROSECONDS))
    buckets = told.group_by(*_BOARD, "standstill_bucket").agg(
        counter=told.energy_counter_millijoules.max()
    )
    window = ibis.window(group_by=_BOARD, order_by="standstill_bucket")
    counters = {at: buckets.counter.lag(at).over(window) for at in (1, 2)}
    after = buckets.counter.lead(1).over(window)
    stands = buckets.mutate(
        stood_still=(
            (buckets.counter == counters[1])
            | (counters[1] == counters[2])
            | (after == buckets.counter)
        ).fill_null(False)
    )
    return stands.filter(stands.stood_still).drop("counter")


def _contradicted(steps: ir.Table) -> ir.Table:
    """Boards whose counter and powers tell of different energy, over the steps that have both."""
    both = steps.filter(steps.energy_from_counter_kwh.notnull())
    both = both.filter(both.energy_from_power_kwh.notnull())
    boards = both.group_by(*_BOARD).agg(
        step_count=both.count(),
        from_counter=both.energy_from_counter_kwh.sum(),
        from_power=both.energy_from_power_kwh.sum(),
        spread=both.energy_from_power_kwh.std(how="pop"),
    )
    allowed = (
        DISAGREEMENT_RATIO * ibis.greatest(boards.from_counter, boards.from_power)
        + 3 * boards.spread * boards.step_count.sqrt()
    )
    found = boards.filter(
        boards.step_count >= DISAGREEMENT_STEPS,
        (boards.from_counter - boards.from_power).abs() > allowed,
    )
    return found.select(*_BOARD, contradicted=ibis.literal(value=True))


def node_energy(samples: ir.Table) -> ir.Table:
    """One row per node and interval, from `node_power_samples` of a UTC day and its edges."""
    nodes = _distinct(samples, ("hostname",), ("power_w",))
    steps = _steps(nodes, ("hostname",), ("power_w",))
    energy = _mean_power_w(steps) * steps.step_s / _WATT_SECONDS_PER_KWH
    measured = steps.mutate(
        node_kwh=energy, node_covered_s=ibis.ifelse(energy.notnull(), steps.step_s, 0.0)
    )
    return _per_interval(measured, nodes, ("hostname",), ("node_kwh", "node_covered_s"))


def node_intervals(boards: ir.Table, power: ir.Table) -> ir.Table:
    """One row per node and interval: `gpu_intervals` added up, beside the node's own energy."""
    gpus = boards.group_by("hostname", "interval_started_at").agg(
        gpu_count_reporting=boards.gpu_index.nunique(),
        **{
            name: (_known_total if name in ("busy_kwh", "idle_kwh") else _total)(boards, of_board)
            for name, of_board in _NODE_FROM_BOARDS.items()
        },
    )
    both = gpus.outer_join(power, ["hostname", "interval_started_at"], rname="{name}_of_node")
    return both.mutate(
        hostname=ibis.coalesce(both.hostname, both.hostname_of_node),
        interval_started_at=ibis.coalesce(
            both.interval_started_at, both.interval_started_at_of_node
        ),
        gpu_count_reporting=both.gpu_count_reporting.fill_null(0),
        covered_s=both.covered_s.fill_null(0.0),
        node_covered_s=both.node_covered_s.fill_null(0.0),
    )


@cache
def _sql(name: str) -> str:
    """A roll-up as DuckDB runs it; putting it into SQL costs as much as a day of some boards."""
    gpu_samples, node_power_samples, boards = (
        ibis.table(ibis.Schema.from_polars(schema), name=table)
        for table, schema in (
            *((table, RAW_TABLES[table].schema.create_empty().schema) for table in _SAMPLES),
            ("gpu_intervals", GPU_INTERVALS),
        )
    )
    expressions = {
        "gpu_intervals": gpu_intervals(gpu_samples),
        "node_intervals": node_intervals(boards, node_energy(node_power_samples)),
    }
    return ibis.to_sql(expressions[name], dialect="duckdb")


def _show_samples(
    engine: duckdb.DuckDBPyConnection,
    book: Book,
    table: str,
    day: date,
    as_of: datetime | None,
    left_out: Collection[str],
) -> None:
    """Show the engine samples of a day and of the step's length around it, as known at `as_of`."""
    near = [day + timedelta(days=offset) for offset in (-1, 0, 1)]
    files = [
        str(file)
        for folder in (book.lake / table / str(near_day) for near_day in near)
        for file in sorted(folder.glob("*.parquet"))
    ]
    # Files of an earlier version lack columns that the schema has.
    schema = str(book.lake / table / "schema.parquet")
    samples = engine.read_parquet([schema, *files], union_by_name=True)
    midnight = datetime.combine(day, time(), UTC)
    edge = timedelta(seconds=MAX_STEP_S)
    sampled_at, load_id, known_at = map(
        duckdb.ColumnExpression, ("sampled_at", "load_id", "known_at")
    )
    samples = samples.filter(sampled_at >= midnight - edge).filter(
        sampled_at <= midnight + timedelta(days=1) + edge
    )
    if left_out:
        samples = samples.filter(load_id.isnotin(*map(duckdb.ConstantExpression, left_out)))
    if as_of is not None:
        samples = samples.filter(known_at <= as_of)
    samples.create_view(table, replace=True)


def _distinct(samples: ir.Table, key: Sequence[str], metrics: Sequence[str]) -> ir.Table:
    """One row per key and time, with the latest known value of each metric."""
    at_us = samples.sampled_at.delta(ibis.timestamp("1970-01-01 00:00:00+00:00"), unit="us")
    rows = samples.mutate(at_us=at_us)
    grouped = rows.group_by(*key, "at_us").agg(
        row_count=rows.count(), **{metric: rows[metric].max() for metric in metrics}
    )
    # Comparing versions costs ten times the rest, and hardly any sample has more than one.
    repeated = grouped.filter(grouped.row_count > 1)
    versions = rows.semi_join(repeated, [*key, "at_us"])
    version = ibis.struct(
        {
            "revised_at": ibis.coalesce(versions.loaded_at, versions.known_at),
            "load_number": versions.load_number,
            "source_row": versions.source_row,
        }
    )
    latest = versions.group_by(*key, "at_us").agg(
        {
            metric: versions[metric].argmax(version, where=versions[metric].notnull())
            for metric in metrics
        }
    )
    single = grouped.filter(grouped.row_count == 1).drop("row_count")
    return ibis.union(single, latest)


def _steps(
    samples: ir.Table, key: Sequence[str], metrics: Sequence[str], *, counter: str | None = None
) -> ir.Table:
    """One row per step of at most `MAX_STEP_S`, with the metrics at its end and its start.

    With a counter it tells whether its start or end is a glitch: not between its two neighbours,
    which follow on from one another.
    """
    window = ibis.window(group_by=key, order_by="at_us")
    beside = {f"previous_{name}": samples[name].lag(1).over(window) for name in ("at_us", *metrics)}
    if counter is not None:
        beside["before"] = samples[counter].lag(2).over(window)
        beside["after"] = samples[counter].lead(1).over(window)
    lagged = samples.mutate(beside)
    if counter is not None:
        start, end = lagged[f"previous_{counter}"], lagged[counter]
        lagged = lagged.mutate(
            is_counter_glitch=(
                _is_glitch(lagged.before, start, end) | _is_glitch(start, end, lagged.after)
            )
        ).drop("before", "after")
    steps = lagged.mutate(step_s=(lagged.at_us - lagged.previous_at_us) / _MICROSECONDS)
    return steps.filter(steps.step_s <= MAX_STEP_S)


def _is_glitch(before: ir.Value, value: ir.Value, after: ir.Value) -> ir.Value:
    return ((before <= after) & ((value < before) | (value > after))).fill_null(False)


def _per_interval(
    steps: ir.Table, samples: ir.Table, key: Sequence[str], amounts: Sequence[str]
) -> ir.Table:
    """Amounts of steps added up per interval, each step split where it crosses one."""
    interval_us = INTERVAL_S * _MICROSECONDS
    first = (steps.previous_at_us // interval_us).cast("int64")
    last = ((steps.at_us - 1) // interval_us).cast("int64")
    length_us = steps.at_us - steps.previous_at_us
    in_first = ibis.least(steps.at_us, (first + 1) * interval_us) - steps.previous_at_us
    split = steps.mutate(first=first, last=last, share_of_first=in_first / length_us)

    def part(rows: ir.Table, interval: ir.Column, share: ir.Value) -> ir.Table:
        return rows.select(
            *key,
            interval=interval,
            is_sample=ibis.literal(0, "int64"),
            **{name: rows[name] * share for name in amounts},
        )

    crossing = split.filter(split.last > split.first)
    counted = samples.select(
        *key,
        interval=(samples.at_us // interval_us).cast("int64"),
        is_sample=ibis.literal(1, "int64"),
        **{name: ibis.null("float64") for name in amounts},
    )
    parts = ibis.union(
        part(split, split["first"], split.share_of_first),
        part(crossing, crossing["last"], 1 - crossing.share_of_first),
        counted,
    )
    totals = parts.group_by(*key, "interval").agg(
        **{name: _total(parts, name) for name in amounts},
        sample_count=parts.is_sample.sum(),
    )
    return totals.mutate(interval_started_at=(totals.interval * INTERVAL_S).as_timestamp("s")).drop(
        "interval"
    )


def _total(rows: ir.Table, name: str) -> ir.Value:
    """A sum, null where nothing is known; covered time is then 0."""
    # Rounded below any meaning, so that the order in which threads add leaves no trace.
    total = rows[name].sum().round(9)
    return total.fill_null(0.0) if name.endswith("covered_s") else total


def _known_total(boards: ir.Table, name: str) -> ir.Value:
    """The energy of a state, null where one of the boards that were in it did not tell it."""
    seconds = boards[name.replace("_kwh", "_s")]
    is_told = (seconds.isnull() | (seconds == 0) | boards[name].notnull()).all()
    return ibis.ifelse(is_told, _total(boards, name), ibis.null("float64"))


def _mean_power_w(steps: ir.Table) -> ir.Value:
    return (steps.power_w + steps.previous_power_w) / 2


def _latest(steps: ir.Table, metric: str) -> ir.Value:
    """A state as the sample at the step's end shows it, else the one at its start."""
    return ibis.coalesce(steps[metric], steps[f"previous_{metric}"])


def _held_s(steps: ir.Table, counter: str, reasons: int) -> ir.Value:
    """Seconds of a step that the clocks were held back: from the counter, else from the reasons.

    A counter below its earlier value was reset and has counted since from zero. One that stands
    still beside reasons is not believed.
    """
    rise = steps[counter] - steps[f"previous_{counter}"]
    counted_s = ibis.ifelse(rise >= 0, rise, steps[counter]) / 1e9
    is_held = (_latest(steps, "clocks_event_reasons") & reasons) != 0
    return ibis.coalesce(
        ibis.ifelse(rise != 0, ibis.least(counted_s, steps.step_s), ibis.null("float64")),
        _where(is_held, steps.step_s),
        ibis.ifelse(rise.notnull(), 0.0, ibis.null("float64")),
    )


def _where(condition: ir.Value, amount: ir.Value) -> ir.Value:
    """The amount where the condition holds, 0 where it does not, null where nobody knows."""
    return ibis.cases((condition, amount), (~condition, amount * 0.0), else_=None)


def _collected(
    engine: duckdb.DuckDBPyConnection, name: str, schema: pl.Schema, day: date
) -> pl.DataFrame:
    """Rows of a roll-up in the intervals of a UTC day."""
    frame = pl.DataFrame(engine.sql(_sql(name)).to_arrow_table())
    started_at = pl.col("interval_started_at")
    if frame.schema["interval_started_at"] != schema["interval_started_at"]:
        frame = frame.with_columns(started_at.dt.replace_time_zone("UTC").dt.cast_time_unit("us"))
    key = [name for name in (*_BOARD, "interval_started_at") if name in schema]
    rows = frame.select(schema.names()).cast(schema).sort(key)
    return rows.filter(started_at.dt.date() == day)
