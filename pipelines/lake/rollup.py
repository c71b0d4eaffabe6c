"""Rolls telemetry up to 15 minutes: energy, busy time, throttling and pods per GPU and per node.

What belongs here: the roll-ups, as Ibis expressions that any engine with windows and aggregates
can run, and the run of UTC days on DuckDB. What does not: their run on a cluster (`spark.py`),
which days need it (`pipelines/warehouse`) and everything that grows with sites and no longer with
GPUs (dbt).

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

A pod holds a board from the middle of the step before the first sample that names it to the middle
of the one after the last, for where in a step it began or ended nobody tells. So of the time of a
board's steps each moment is one pod's, one of several that share the board, or nobody's. Where no
file near a day names a pod, nothing is read for that.

`gpu_intervals` says it all of boards, and sorts the samples of each by time. On DuckDB most of that
is spared: files are written in the order of boards and times, so a sample's neighbours are those
beside it. What cannot be told from one file, where it begins or ends, is added from the few samples
there; boards whose samples came twice, or whose counter may have stood still, are worked out as
said above, and no others.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

import duckdb
import ibis
import ibis.expr.types as ir
import polars as pl
import pyarrow as pa
from ibis.expr.builders import WindowBuilder

from pipelines.book import Book
from pipelines.bucket import show
from pipelines.connectors.common import BUSY_ABOVE_RATIO
from pipelines.lake.files import listing, write_parquet
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

DAYS_AT_ONCE = 2
SAMPLES_AT_ONCE = 8_000_000
HOSTS_AT_ONCE = 750
"""So many days are rolled up beside one another, and of each as many hosts as have so many samples:
this bounds the memory."""

Keep = Callable[[str, ir.Table], ir.Table]

_MICROSECONDS = 1_000_000
_INTERVAL_US = INTERVAL_S * _MICROSECONDS
_STANDSTILL_US = STANDSTILL_S * _MICROSECONDS
_MILLIJOULES_PER_KWH = 3.6e9
_WATT_SECONDS_PER_KWH = 3.6e6
_BOARD = ("hostname", "gpu_index")
_COUNTER = "energy_counter_millijoules"
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
_AMOUNTS = {
    "gpu_samples": (*_ENERGIES, *_BUSY, *_DOUBTS, "covered_s"),
    "node_power_samples": ("node_kwh", "node_covered_s"),
}
_KEYS = {"gpu_samples": _BOARD, "node_power_samples": ("hostname",)}
_METRICS = {
    "gpu_samples": {
        "power_w": "float64",
        _COUNTER: "int64",
        "utilization_ratio": "float64",
        "sm_clock_mhz": "float64",
        "power_limit_w": "float64",
        "default_power_limit_w": "float64",
        "power_violation_ns": "int64",
        "power_brake_ns": "int64",
        "thermal_violation_ns": "int64",
        "clocks_event_reasons": "int64",
        "mig_busy_ratio": "float64",
        "mig_told_ratio": "float64",
    },
    "node_power_samples": {"power_w": "float64"},
}
_HOLDER = ("namespace", "pod", "is_shared")
# Of every sample that names a holder.
_TELLS_HOLDER = "is_shared"
_SELDOM_TOLD = frozenset({"power_brake_ns", "mig_busy_ratio", "mig_told_ratio", _TELLS_HOLDER})
# What samples tell of their part: four bits of the spans of five minutes in which the counter was
# told, four of those in which it rose, and one each.
_SPANS_RISEN = 1 << 4
_HAS_FALLEN = 1 << 8
_HAS_LATE_SAMPLE = 1 << 9
_HAS_STEP = 1 << 10
_NO_NUMBER = ibis.null("float64")
_UNKNOWN = ibis.null("boolean")

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

POD_INTERVALS = pl.Schema(
    {
        "hostname": pl.String(),
        "gpu_index": pl.String(),
        "interval_started_at": pl.Datetime("us", "UTC"),
        "namespace": pl.String(),
        "pod": pl.String(),
        "is_shared": pl.Boolean(),
        "held_s": pl.Float64(),
    }
)
"""One row per GPU board, 15 minutes and pod that held it, or those together that shared it.

These have no pod, and their namespace where it is one alone.
"""

ROLL_UPS = {
    "gpu_intervals": GPU_INTERVALS,
    "node_intervals": NODE_INTERVALS,
    "pod_intervals": POD_INTERVALS,
}


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
        progress: told each date that is done.

    Returns:
        Rows written, per roll-up.
    """
    counts = dict.fromkeys(ROLL_UPS, 0)
    write_schemas(book)
    days = sorted(set(dates))
    with duckdb.connect() as engine, ThreadPoolExecutor(DAYS_AT_ONCE) as pool:
        show(engine, book.lake)
        engine.execute("set temp_directory = ?", [str(book.data_dir / "spill")])
        if memory_limit is not None:
            engine.execute("set memory_limit = ?", [memory_limit])

        def roll_up_day(day: date, statements: dict[str, str]) -> dict[str, int]:
            with engine.cursor() as own:
                samples = {
                    table: _samples(own, sample_files(book, table, day), day, as_of, left_out)
                    for table in _KEYS
                }
                frames = _rolled_up(own, samples, statements, day)
            write_day(book, day, frames)
            return {name: frame.height for name, frame in frames.items()}

        statements = (_statements(_untold(engine, book, day)) for day in days)
        for day, of_day in zip(days, pool.map(roll_up_day, days, statements), strict=True):
            if progress is not None:
                progress(f"telemetry of {day}")
            for name, count in of_day.items():
                counts[name] += count
    return counts


def rolled_up(book: Book) -> set[date]:
    """UTC dates whose roll-ups are there."""
    days = [
        {
            date.fromisoformat(name.removesuffix(".parquet"))
            for name in listing(book.roll_ups / folder)
            if name != "schema.parquet"
        }
        for folder in ROLL_UPS
    ]
    return set.intersection(*days)


def write_schemas(book: Book) -> None:
    """Write what columns the roll-ups have, for days without any."""
    for name, schema in ROLL_UPS.items():
        write_parquet(schema.to_frame(), book.roll_ups / name / "schema.parquet")


def write_day(book: Book, day: date, frames: Mapping[str, pl.DataFrame]) -> None:
    """Replace the roll-ups of a UTC date."""
    for name, frame in frames.items():
        write_parquet(frame, book.roll_ups / name / f"{day}.parquet")


def of_day(rows: pa.Table, name: str, day: date) -> pl.DataFrame:
    """Rows of a roll-up in the intervals of a UTC day, as they are written."""
    frame, schema = pl.DataFrame(rows), ROLL_UPS[name]
    started_at = pl.col("interval_started_at")
    if frame.schema["interval_started_at"] != schema["interval_started_at"]:
        frame = frame.with_columns(started_at.dt.replace_time_zone("UTC").dt.cast_time_unit("us"))
    key = [name for name in (*_BOARD, "interval_started_at", *_HOLDER) if name in schema]
    rows_of_day = frame.select(schema.names()).cast(schema).sort(key)
    return rows_of_day.filter(started_at.dt.date() == day)


def samples_seen(table: str) -> ir.Table:
    """The samples of a raw table as an engine has to show them, under its name."""
    declared = ibis.Schema.from_polars(RAW_TABLES[table].schema.create_empty().schema)
    return ibis.table({**declared, "at_us": "int64"}, name=table)


def not_kept(_name: str, rows: ir.Table) -> ir.Table:
    """Leave it to the engine how often it works out what is read more than once."""
    return rows


def gpu_intervals(samples: ir.Table, keep: Keep = not_kept) -> ir.Table:
    """One row per board and interval, from `gpu_samples` of a UTC day and its edges.

    The samples' time is `at_us`, in microseconds since 1970. What is read more than once is given
    to `keep`, with a name, and read from what it answers with.
    """
    return _gpu_totals(_sorted_parts(samples, "gpu_samples", keep))


def node_intervals(boards: ir.Table, samples: ir.Table, keep: Keep = not_kept) -> ir.Table:
    """One row per node and interval, from `gpu_intervals` and `node_power_samples`."""
    table = "node_power_samples"
    return _node_totals(boards, _per_interval(_sorted_parts(samples, table, keep), table))


def pod_intervals(samples: ir.Table, keep: Keep = not_kept) -> ir.Table:
    """One row per board, interval and pod that held it, from `gpu_samples` as `gpu_intervals`."""
    holder = ibis.struct({name: samples[name] for name in _HOLDER})
    # Which pod shares a board with which is one statement, of one file.
    told = samples.mutate(
        holder=ibis.ifelse(samples[_TELLS_HOLDER].notnull(), holder, ibis.null(holder.type()))
    )
    distinct = _distinct(
        told, "gpu_samples", ("holder",), lambda name, rows: keep(f"pods_of_{name}", rows)
    )
    window = ibis.window(group_by=_BOARD, order_by="at_us")
    steps = distinct.mutate(
        before_us=distinct.at_us - distinct.at_us.lag(1).over(window),
        after_us=distinct.at_us.lead(1).over(window) - distinct.at_us,
    )

    def of_step(step_us: ir.Value, half_us: ir.Value) -> ir.Value:
        return ibis.ifelse(step_us <= MAX_STEP_S * _MICROSECONDS, half_us, 0).fill_null(0)

    held = steps.filter(steps.holder.notnull()).unpack("holder")
    held = held.mutate(
        from_us=held.at_us - of_step(held.before_us, held.before_us - held.before_us // 2),
        to_us=held.at_us + of_step(held.after_us, held.after_us // 2),
    )
    # Two halves of steps are no longer than an interval, so that they lie in two at most.
    held = held.mutate(next_us=held.from_us - held.from_us % _INTERVAL_US + _INTERVAL_US)
    after = held.filter(held.to_us > held.next_us)
    key = (*_BOARD, *_HOLDER)
    parts = ibis.union(
        held.select(
            *key,
            interval_us=held.next_us - _INTERVAL_US,
            held_us=ibis.least(held.to_us, held.next_us) - held.from_us,
        ),
        after.select(*key, interval_us=after.next_us, held_us=after.to_us - after.next_us),
    )
    totals = parts.group_by(*key, "interval_us").agg(held_us=parts.held_us.sum())
    totals = totals.filter(totals.held_us > 0)
    return totals.mutate(
        interval_started_at=(totals.interval_us // _MICROSECONDS).cast("int64").as_timestamp("s"),
        held_s=totals.held_us / _MICROSECONDS,
    ).drop("interval_us", "held_us")


def _sorted_parts(samples: ir.Table, table: str, keep: Keep) -> ir.Table:
    rows = _by_time(samples, table, tuple(_METRICS[table]), keep)
    return keep(f"{table}_parts", _parts(rows, table))


def _node_totals(boards: ir.Table, power: ir.Table) -> ir.Table:
    """The intervals of boards added up, beside the node's own energy."""
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


def _distinct(samples: ir.Table, table: str, metrics: Sequence[str], keep: Keep) -> ir.Table:
    """One row per key and time, with the latest known value of each metric."""
    key = _KEYS[table]
    grouped = samples.group_by(*key, "at_us").agg(row_count=samples.count())
    # Comparing versions costs ten times the rest, and hardly any sample has more than one.
    repeated = grouped.filter(grouped.row_count > 1).drop("row_count")
    repeated = keep(f"{table}_repeated", repeated)
    versions = samples.semi_join(repeated, [*key, "at_us"])
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
    single = samples.anti_join(repeated, [*key, "at_us"]).select(*key, "at_us", *metrics)
    return ibis.union(single, keep(f"{table}_latest", latest))


def _by_time(
    samples: ir.Table, table: str, metrics: Sequence[str], keep: Keep = not_kept
) -> ir.Table:
    """Each sample beside those of its board before and after it, whatever files they came in."""
    key = _KEYS[table]
    distinct = _distinct(samples, table, metrics, keep)
    window = ibis.window(group_by=key, order_by="at_us")
    beside = _beside(distinct, metrics, window).mutate(is_counted=ibis.literal(value=True))
    if _COUNTER not in metrics:
        return beside
    beside = beside.mutate(
        counter_before=beside[_COUNTER].lag(2).over(window),
        counter_after=beside[_COUNTER].lead(1).over(window),
        standstill_bucket=beside.at_us // _STANDSTILL_US,
    )
    standstills = keep(f"{table}_standstills", _standstills(distinct))
    return beside.left_join(standstills, [*key, "standstill_bucket"], rname="{name}_of_standstill")


def _in_file_order(samples: ir.Table, table: str, metrics: Sequence[str]) -> ir.Table:
    """Each sample beside the one before it in its file, which costs no sorting.

    A run is of samples of one board, each later than the one before; all but its first are counted
    with it (`is_counted`).
    """
    here = ibis.window()
    follows = samples.at_us > samples.at_us.lag(1).over(here)
    for name in _KEYS[table]:
        follows &= samples[name] == samples[name].lag(1).over(here)
    rows = _beside(samples.mutate(is_counted=follows.fill_null(False)), metrics, here)
    return rows.mutate(is_last=~rows.is_counted.lead(1).over(here).fill_null(False))


def _run_parts(samples: ir.Table, table: str, metrics: Sequence[str]) -> ir.Table:
    """Parts of what is counted within runs, and with them the first and last samples of runs."""
    names = (*_KEYS[table], "at_us", "is_last", "is_counted", *metrics)
    rows = _in_file_order(samples, table, metrics)
    seam = ibis.struct({name: rows[name] for name in names})
    is_at_seam = ~rows.is_counted | rows.is_last
    rows = rows.mutate(seam=ibis.ifelse(is_at_seam, seam, ibis.null(seam.type())))
    return _parts(rows, table, seams=rows.seam.collect())


def _seams(run_parts: ir.Table, table: str, metrics: Sequence[str]) -> ir.Table:
    """The first and last samples of runs, each beside that of its board before it."""
    seams = run_parts.select(seam=run_parts.seams.unnest()).unpack("seam")
    window = ibis.window(group_by=_KEYS[table], order_by="at_us")
    seams = seams.mutate(
        is_repeated=~seams.is_counted
        & (
            (seams.at_us == seams.at_us.lag(1).over(window)) | ~seams.is_last.lag(1).over(window)
        ).fill_null(False)
    )
    return _beside(seams, metrics, window)


def _seam_parts(seams: ir.Table, table: str) -> ir.Table:
    """Parts of the steps between runs, and of what opens one."""
    rest = seams.filter(~seams.is_counted)
    return _parts(rest.mutate(is_counted=ibis.literal(value=True)), table)


def _doubted(seams: ir.Table, parts: ir.Table, table: str) -> ir.Table:
    """Boards of which runs are not enough.

    Their runs overlap, or their counter may have stood still or glitched: in one of the spans of
    `STANDSTILL_S` it did not rise, it fell, as it does before or after a glitch, or it was not told
    all the time.
    """
    key = _KEYS[table]
    doubted = seams.filter(seams.is_repeated).select(*key)
    if _COUNTER in _METRICS[table]:
        suspects = parts.filter((parts.flags & 15) != ((parts.flags >> 4) & 15)).select(*key)
        of_suspects = parts.semi_join(suspects, key)
        # A sample at the end of its interval is in the first span of the next.
        spans = ibis.union(
            *(
                of_suspects.select(
                    *key,
                    interval_us=of_suspects.interval_us + after * _INTERVAL_US,
                    told=(of_suspects.flags >> 3 * after) & mask,
                    risen=(of_suspects.flags >> 3 * after + 4) & mask,
                )
                for after, mask in ((0, 7), (1, 1))
            )
        )
        spans = spans.group_by(*key, "interval_us").agg(
            told=_bit_or(spans.told), risen=_bit_or(spans.risen)
        )
        doubted = ibis.union(
            doubted,
            spans.filter(spans.told != spans.risen).select(*key),
            parts.filter((parts.flags & _HAS_FALLEN) > 0).select(*key),
        )
    return doubted.distinct()


def _beside(samples: ir.Table, metrics: Sequence[str], window: WindowBuilder) -> ir.Table:
    """Samples with the time and the metrics of the one before."""
    names = ("at_us", *metrics)
    return samples.mutate({f"previous_{name}": samples[name].lag(1).over(window) for name in names})


def _parts(rows: ir.Table, table: str, **seams: ir.Value) -> ir.Table:
    """Amounts of steps added up per board and interval that they end in.

    A step is from one sample to the next where that is at most `MAX_STEP_S` later; it ends in the
    interval before its end. Steps that began in the interval before (`crosses`), of which there
    is one at most, stand apart, with the share that is of that interval.
    """
    untold = {
        f"{before}{name}": ibis.null(dtype)
        for name, dtype in _METRICS[table].items()
        for before in ("", "previous_")
    }
    if _COUNTER in _METRICS[table]:
        null = ibis.null("int64")
        untold |= {"counter_before": null, "counter_after": null, "stood_still": _UNKNOWN}
    rows = rows.mutate({name: null for name, null in untold.items() if name not in rows.columns})
    step_us = rows.at_us - rows.previous_at_us
    rows = rows.mutate(
        interval_us=rows.at_us - 1 - (rows.at_us - 1) % _INTERVAL_US,
        step_s=ibis.ifelse(
            rows.is_counted & (step_us <= MAX_STEP_S * _MICROSECONDS),
            step_us / _MICROSECONDS,
            _NO_NUMBER,
        ),
    )
    rows = rows.mutate(
        crosses=(rows.step_s.notnull() & (rows.previous_at_us < rows.interval_us)).fill_null(False)
    )
    rows = _gpu_amounts(rows) if table == "gpu_samples" else _node_amounts(rows)
    rows = rows.mutate(flags=_flags(rows, table))
    totals = {name: rows[name].sum() for name in _AMOUNTS[table]}
    if table == "gpu_samples":
        totals |= _doubts(rows)
    return rows.group_by(*_KEYS[table], "interval_us", "crosses").agg(
        **totals,
        began_us=rows.previous_at_us.min(),
        ended_us=rows.at_us.max(),
        sample_count=rows.count(where=rows.is_counted),
        flags=_bit_or(rows.flags),
        **seams,
    )


@ibis.udf.agg.builtin(name="bit_or")
def _bit_or(flags: int) -> int:  # type: ignore[empty-body]
    """Of all rows; Ibis has no `bit_or` for Spark, which has one."""


def _doubts(rows: ir.Table) -> dict[str, ir.Value]:
    """What tells whether a board's counter and its powers contradict one another."""
    is_both = rows.energy_from_counter_kwh.notnull() & rows.energy_from_power_kwh.notnull()
    power_kwh = rows.energy_from_power_kwh
    return {
        "both_count": rows.count(where=is_both),
        "counter_of_both_kwh": rows.energy_from_counter_kwh.sum(where=is_both),
        "power_of_both_kwh": power_kwh.sum(where=is_both),
        "power_of_both_kwh_squared": (power_kwh * power_kwh).sum(where=is_both),
    }


def _flags(rows: ir.Table, table: str) -> ir.Value:
    """What a sample that is counted tells of its part, as bits that add up."""
    flags = ibis.ifelse(rows.step_s.notnull(), _HAS_STEP, 0) + ibis.ifelse(
        rows.at_us == rows.interval_us + _INTERVAL_US, _HAS_LATE_SAMPLE, 0
    )
    if _COUNTER in _METRICS[table]:
        start, end = rows[f"previous_{_COUNTER}"], rows[_COUNTER]
        span = ibis.literal(1) << ((rows.at_us - rows.interval_us) // _STANDSTILL_US).cast("int64")
        flags += ibis.cases(
            (end > start, span * (1 + _SPANS_RISEN)),
            (end == start, span),
            (
                rows.previous_at_us.notnull() & (end.notnull() | start.notnull()),
                _HAS_FALLEN,
            ),
            else_=0,
        )
    return ibis.ifelse(rows.is_counted, flags, 0)


def _standstills(boards: ir.Table) -> ir.Table:
    """Five minutes in which a board's counter did not move since those before, and those beside."""
    told = boards.filter(boards.energy_counter_millijoules.notnull())
    told = told.mutate(standstill_bucket=told.at_us // _STANDSTILL_US)
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


def _gpu_amounts(s: ir.Table) -> ir.Table:
    """The amounts of steps of boards, null where there is no step, as if nothing contradicted."""
    start, end = s[f"previous_{_COUNTER}"], s[_COUNTER]
    busy = _latest(s, "utilization_ratio") > BUSY_ABOVE_RATIO
    is_mig = _latest(s, "mig_told_ratio").notnull()
    mig_busy = ibis.ifelse(is_mig, _latest(s, "mig_busy_ratio").fill_null(0), _NO_NUMBER)
    s = s.mutate(
        energy_from_counter_kwh=ibis.cases(
            (s.stood_still, _NO_NUMBER),
            # A glitch: not between its neighbours, which follow on from one another.
            ((s.counter_before > start) & (s.counter_before <= end), _NO_NUMBER),
            ((s.counter_after < end) & (s.counter_after >= start), _NO_NUMBER),
            (
                (end >= start) & (end - start <= s.step_s * MAX_BOARD_W * 1000),
                (end - start) / _MILLIJOULES_PER_KWH,
            ),
            else_=_NO_NUMBER,
        ),
        energy_from_power_kwh=_mean_power_w(s) * s.step_s / _WATT_SECONDS_PER_KWH,
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
    s = s.mutate(
        energy_kwh=ibis.coalesce(s.energy_from_counter_kwh, s.energy_from_power_kwh),
        capped_s=s.busy_ratio * ibis.coalesce(s.held_by_power_s, at_limit_s),
        busy_s=s.busy_ratio * s.step_s,
    )
    told_kwh = ibis.ifelse(s.is_mig, _NO_NUMBER, s.energy_kwh)
    return s.mutate(
        covered_s=ibis.ifelse(s.energy_kwh.notnull(), s.step_s, 0.0),
        idle_s=s.idle_ratio * s.step_s,
        busy_kwh=s.busy_ratio * told_kwh,
        idle_kwh=s.idle_ratio * told_kwh,
        power_capped_s=s.capped_s,
        power_limit_w_s=s.capped_s * s.limit_w,
        power_limit_known_s=ibis.ifelse(s.limit_w.notnull(), s.capped_s, _NO_NUMBER),
        default_power_limit_w_s=s.capped_s * s.default_limit_w,
        power_braked_s=s.busy_ratio * s.braked_s,
        thermal_throttled_s=s.busy_ratio * s.held_by_heat_s,
        sm_clock_mhz_s=s.busy_s * s.sm_clock,
        sm_clock_known_s=ibis.ifelse(s.sm_clock.notnull(), s.busy_s, _NO_NUMBER),
        counter_stood_still_s=ibis.ifelse(s.stood_still, s.step_s, _NO_NUMBER),
        energy_contradicted_s=s.step_s,
    )


def _node_amounts(s: ir.Table) -> ir.Table:
    """The amounts of steps of nodes, null where there is no step."""
    s = s.mutate(node_kwh=_mean_power_w(s) * s.step_s / _WATT_SECONDS_PER_KWH)
    return s.mutate(node_covered_s=ibis.ifelse(s.node_kwh.notnull(), s.step_s, 0.0))


def _gpu_totals(parts: ir.Table) -> ir.Table:
    """Amounts of boards per interval; no energy of those whose counter and powers contradict."""
    parts = parts.left_join(_contradicted(parts), _BOARD, rname="{name}_of_contradiction")
    is_told = parts.contradicted.isnull()
    parts = parts.mutate(
        **{
            name: ibis.ifelse(is_told, parts[name], _NO_NUMBER)
            for name in ("energy_kwh", "busy_kwh", "idle_kwh")
        },
        covered_s=ibis.ifelse(is_told, parts.covered_s, 0.0),
        energy_contradicted_s=ibis.ifelse(is_told, _NO_NUMBER, parts.energy_contradicted_s),
    )
    return _per_interval(parts, "gpu_samples")


def _contradicted(parts: ir.Table) -> ir.Table:
    """Boards whose counter and powers tell of different energy, over the steps that have both."""
    boards = parts.group_by(*_BOARD).agg(
        step_count=parts.both_count.sum(),
        from_counter=parts.counter_of_both_kwh.sum(),
        from_power=parts.power_of_both_kwh.sum(),
        squared=parts.power_of_both_kwh_squared.sum(),
    )
    # The square of three standard errors of a sum of so many powers.
    variance = ibis.greatest(
        boards.squared - boards.from_power * boards.from_power / boards.step_count.nullif(0), 0.0
    )
    allowed = (
        DISAGREEMENT_RATIO * ibis.greatest(boards.from_counter, boards.from_power)
        + 3 * variance.sqrt()
    )
    found = boards.filter(
        boards.step_count >= DISAGREEMENT_STEPS,
        (boards.from_counter - boards.from_power).abs() > allowed,
    )
    return found.select(*_BOARD, contradicted=ibis.literal(value=True))


def _per_interval(parts: ir.Table, table: str) -> ir.Table:
    """Amounts of parts added up per interval, those of steps across one split by time."""
    key, amounts = _KEYS[table], _AMOUNTS[table]

    def of(
        rows: ir.Table, interval_us: ir.Value, share: ir.Value, sample_count: ir.Value
    ) -> ir.Table:
        return rows.select(
            *key,
            interval_us=interval_us,
            sample_count=sample_count.cast("int64"),
            **{name: rows[name] * share for name in amounts},
        )

    share_before = (parts.interval_us - parts.began_us) / (parts.ended_us - parts.began_us)
    late_count = ibis.ifelse((parts.flags & _HAS_LATE_SAMPLE) > 0, 1, 0)
    parts = parts.mutate(
        share=ibis.ifelse(parts.crosses, 1 - share_before, 1.0),
        share_before=share_before,
        in_time_count=parts.sample_count - late_count,
        late_count=late_count,
    )
    before = parts.filter(parts.crosses)
    within = parts.filter(((parts.flags & _HAS_STEP) > 0) | (parts.in_time_count > 0))
    after = parts.filter(parts.late_count > 0)
    rows = ibis.union(
        of(before, before.interval_us - _INTERVAL_US, before.share_before, ibis.literal(0)),
        of(within, within.interval_us, within.share, within.in_time_count),
        of(after, after.interval_us + _INTERVAL_US, _NO_NUMBER, after.late_count),
    )
    totals = rows.group_by(*key, "interval_us").agg(
        **{name: _total(rows, name) for name in amounts},
        sample_count=rows.sample_count.sum(),
    )
    return totals.mutate(
        interval_started_at=(totals.interval_us // _MICROSECONDS).cast("int64").as_timestamp("s")
    ).drop("interval_us")


def _total(rows: ir.Table, name: str) -> ir.Value:
    """A sum, null where nothing is known; covered time is then 0."""
    # Rounded below any meaning, so that the order in which threads add leaves no trace.
    total = rows[name].sum().round(9)
    return total.fill_null(0.0) if name.endswith("covered_s") else total


def _known_total(boards: ir.Table, name: str) -> ir.Value:
    """The energy of a state, null where one of the boards that were in it did not tell it."""
    seconds = boards[name.replace("_kwh", "_s")]
    is_told = (seconds.isnull() | (seconds == 0) | boards[name].notnull()).all()
    return ibis.ifelse(is_told, _total(boards, name), _NO_NUMBER)


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
    counted = ibis.ifelse(rise > 0, rise, steps[counter])
    events = _latest(steps, "clocks_event_reasons")
    return ibis.cases(
        (steps.step_s.isnull(), _NO_NUMBER),
        (rise != 0, ibis.least(counted / 1e9, steps.step_s)),
        ((events & reasons) != 0, steps.step_s),
        (rise.notnull() | events.notnull(), 0.0),
        else_=None,
    )


def _where(condition: ir.Value, amount: ir.Value) -> ir.Value:
    """The amount where the condition holds, 0 where it does not, null where nobody knows."""
    return ibis.cases((condition, amount), (~condition, amount * 0.0), else_=None)


@lru_cache
def _statements(untold: frozenset[str]) -> dict[str, str]:
    """The tables that DuckDB makes of the samples it sees of some hosts, one after another.

    What no file tells would cost as much as what they all do.
    """
    made: dict[str, ir.Table] = {}

    def make(name: str, rows: ir.Table) -> ir.Table:
        made[name] = rows
        return ibis.table(rows.schema(), name=name)

    totals = {}
    for table, key in _KEYS.items():
        metrics = [name for name in _METRICS[table] if name not in untold]
        samples = samples_seen(table)
        run_parts = make(f"{table}_run_parts", _run_parts(samples, table, metrics))
        seams = make(f"{table}_seams", _seams(run_parts, table, metrics))
        seam_parts = make(f"{table}_seam_parts", _seam_parts(seams, table))
        parts = ibis.union(run_parts.drop("seams"), seam_parts)
        doubted = make(f"{table}_doubted", _doubted(seams, parts, table))
        anew = make(
            f"{table}_anew",
            _parts(_by_time(samples.semi_join(doubted, key), table, metrics), table),
        )
        totals[table] = ibis.union(parts.anti_join(doubted, key), anew)
    boards = make("gpu_intervals", _gpu_totals(totals["gpu_samples"]))
    power = _per_interval(totals["node_power_samples"], "node_power_samples")
    make("node_intervals", _node_totals(boards, power))
    if _TELLS_HOLDER not in untold:
        make("pod_intervals", pod_intervals(samples_seen("gpu_samples")))
    return {name: ibis.to_sql(rows, dialect="duckdb", pretty=False) for name, rows in made.items()}


def _rolled_up(
    engine: duckdb.DuckDBPyConnection,
    samples: dict[str, duckdb.DuckDBPyRelation],
    statements: dict[str, str],
    day: date,
) -> dict[str, pl.DataFrame]:
    """The roll-ups of a day, made for some hosts after others."""
    # Samples are read in the order in which they lie in the files.
    engine.execute("set preserve_insertion_order = true")
    engine.execute("set timezone = 'UTC'; set enable_progress_bar = false")
    frames = {name: [schema.to_frame()] for name, schema in ROLL_UPS.items()}
    for hosts in _hosts_at_once(samples):
        for table, rows in samples.items():
            shown = rows.filter(hosts).sql_query()
            engine.execute(f"create or replace temp view {table} as {shown}")
        for name, sql in statements.items():
            made = sql
            if name.endswith("_anew"):
                table = name.removesuffix("_anew")
                if not engine.sql(f"from {table}_doubted limit 1").fetchall():
                    made = f"from {table}_seam_parts limit 0"
            engine.execute(f"create or replace temp table {name} as {made}")
        for name in ROLL_UPS.keys() & statements.keys():
            rows = engine.sql(f"from {name}").to_arrow_table()
            frames[name].append(of_day(rows, name, day))
    return {name: pl.concat(of_hosts) for name, of_hosts in frames.items()}


def _hosts_at_once(samples: dict[str, duckdb.DuckDBPyRelation]) -> list[duckdb.Expression]:
    """Conditions that divide the hosts into ranges with so many samples each."""
    counted = [
        pl.DataFrame(rows.aggregate("hostname, count(*) as sample_count").to_arrow_table())
        for rows in samples.values()
    ]
    ranges = (
        pl.concat(counted)
        .group_by("hostname")
        .agg(pl.col("sample_count").sum())
        .sort("hostname")
        .with_row_index()
        .group_by(
            pl.col("sample_count").cum_sum() // SAMPLES_AT_ONCE,
            pl.col("index") // HOSTS_AT_ONCE,
            maintain_order=True,
        )
        .agg(first=pl.col("hostname").first(), last=pl.col("hostname").last())
        .select("first", "last")
    )
    hostname = duckdb.ColumnExpression("hostname")
    return [
        hostname.between(duckdb.ConstantExpression(first), duckdb.ConstantExpression(last))
        for first, last in ranges.iter_rows()
    ]


def sample_files(book: Book, table: str, day: date) -> list[str]:
    """Files with samples of a day and those next to it."""
    near = [day + timedelta(days=offset) for offset in (-1, 0, 1)]
    files = [
        folder / name
        for folder in (book.lake / table / str(near_day) for near_day in near)
        for name in listing(folder)
    ]
    # Files of an earlier version lack columns that the schema has.
    return [str(file) for file in (book.lake / table / "schema.parquet", *files)]


def _untold(engine: duckdb.DuckDBPyConnection, book: Book, day: date) -> frozenset[str]:
    """Metrics that many fleets do not have and of which no file near the day has any value."""
    told = engine.execute(
        "select distinct path_in_schema from parquet_metadata(?)"
        " where coalesce(stats_null_count < num_values, true)",
        [sample_files(book, "gpu_samples", day)],
    )
    return _SELDOM_TOLD.difference(name for (name,) in told.fetchall())


def _samples(
    engine: duckdb.DuckDBPyConnection,
    files: list[str],
    day: date,
    as_of: datetime | None,
    left_out: Collection[str],
) -> duckdb.DuckDBPyRelation:
    """Samples of a day and of the step's length around it, as known at `as_of`."""
    samples = engine.read_parquet(files, union_by_name=True)
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
    return samples.project("*, epoch_us(sampled_at) as at_us")
