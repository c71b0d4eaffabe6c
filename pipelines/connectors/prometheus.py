"""Reads telemetry as a Prometheus server answers it and as long-term stores export it.

What belongs here: the query and query_range JSON, also as promtool prints it, wide and long exports
in Parquet and CSV, which metrics mean what, and how samples of several metrics become one row. What
does not: scrape text (`dcgm_scrape.py`, which uses the same metrics) and any sum over time
(`pipelines/lake/rollup.py`).

Under Kubernetes dcgm-exporter labels what a board tells with the namespace and pod that hold it.
Prometheus renames these to `exported_*` where its target has labels of the same names (unless
`honor_labels` is set), so that `pod` alone is then the exporter's own, on boards in use and on free
ones alike. Where no series has `exported_pod`, a pod or container named as the exporter is holds
nothing either. Pods that share a board, by time-slicing or MIG, tell the whole board's values each:
who drew what is not known, so that none of them is its holder; that they share one namespace is.

Times are UTC: Prometheus knows no other, so a time without an offset is read as UTC.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from json import JSONDecoder
from typing import Any

import orjson
import polars as pl

from pipelines.connectors.common import (
    BUSY_ABOVE_RATIO,
    LEFT_OUT_REASON,
    PART_ROWS,
    REJECT_REASON,
    Context,
    Tables,
    UnreadableFile,
    joined,
)
from pipelines.connectors.metrics import (
    DECLARED_NODE_POWER,
    Meaning,
    left_out,
    meanings,
    meter_readings,
    translated,
)
from pipelines.connectors.parsing import (
    DAMAGED_TABLE,
    UTC_TIME,
    Problem,
    board_share,
    csv_rows,
    parsed_instant,
    parsed_number,
    problem,
    told_problems,
)

GPU_METRICS: Mapping[str, Sequence[str]] = {
    "power_w": (
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_BOARD_POWER_WATTS",
        "DCGM_FI_DEV_POWER_USAGE_INSTANT",
        "DCGM_FI_DEV_BOARD_POWER_RAW_WATTS",
    ),
    "energy_counter_millijoules": ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",),
    # DCGM's newer name says ratio, but it is the same field and still counts percent.
    "utilization_ratio": (
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_GPU_UTIL_RATIO",
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    ),
    "sm_clock_mhz": ("DCGM_FI_DEV_SM_CLOCK",),
    "power_limit_w": (
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
        "DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS",
        "DCGM_FI_DEV_POWER_MGMT_LIMIT",
        "DCGM_FI_DEV_BOARD_POWER_LIMIT_REQUESTED_WATTS",
    ),
    "default_power_limit_w": (
        "DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF",
        "DCGM_FI_DEV_BOARD_POWER_LIMIT_DEFAULT_WATTS",
    ),
    "power_violation_ns": (
        "DCGM_FI_DEV_POWER_VIOLATION",
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS",
    ),
    "power_brake_ns": ("DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS",),
    "thermal_violation_ns": ("DCGM_FI_DEV_THERMAL_VIOLATION",),
    "clocks_event_reasons": (
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
    ),
}
"""Column of `gpu_samples` -> the DCGM metrics that give it, the one to prefer first."""

NODE_POWER_METRICS = (
    DECLARED_NODE_POWER,
    "ipmi_dcmi_power_consumption_watts",
    "kepler_node_platform_watts",
    "kepler_platform_watts",
)
"""Metrics that give a node's whole power, the one to prefer first."""

_FLOAT_COLUMNS = (
    "power_w",
    "utilization_ratio",
    "sm_clock_mhz",
    "power_limit_w",
    "default_power_limit_w",
)
_ENGINE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
_MIG_COLUMNS = ("mig_busy_ratio", "mig_told_ratio")
_METRIC_COLUMN = {name: column for column, names in GPU_METRICS.items() for name in names}
# An exporter's own label arrives as exported_* where the server's target has one of the same name.
_GPU_HOST_LABELS = ("exported_Hostname", "exported_hostname", "Hostname", "hostname")
_GPU_INDEX_LABELS = ("exported_gpu", "gpu")
_MIG_LABELS = ("GPU_I_ID", "GPU_I_PROFILE")
_REPLICA_LABEL = "vgpu"  # of a board that is shared by time-slicing
_HOLDER_LABELS = ("exported_namespace", "exported_pod", "namespace", "pod", "container")
_HOLDER = ("namespace", "pod")
_EXPORTER = "dcgm-exporter"  # in the names of its pods and containers
_EXPORTER_CONTAINER = "exporter"  # as its Helm chart calls it
_BOARD = ("time", "time_found", "hostname", "gpu_index")
_BOARD_SAMPLE = (*_BOARD, "mig_id", "mig_profile", "is_mig", "value")
_DCGM = "DCGM_"
_DOUBLE = Problem(
    pl.col("is_double"),
    pl.lit(
        "several series of one metric name this node: expected one; tell them apart by where in"
        " mappings.yml"
    ),
)
_NODE_LABELS = ("node_name", "nodename", "exported_instance", "node", "hostname", "instance")
_TIME_COLUMNS = ("timestamp", "time", "Time", "ts")
_NAME_COLUMNS = ("__name__", "metric", "name")
_COLUMNS = {
    *_TIME_COLUMNS,
    *_NAME_COLUMNS,
    "value",
    *_METRIC_COLUMN,
    *_GPU_HOST_LABELS,
    *_GPU_INDEX_LABELS,
    *_MIG_LABELS,
    _REPLICA_LABEL,
    *_HOLDER_LABELS,
    *_NODE_LABELS,
}

_HOST_LABELS = {
    **dict.fromkeys(_METRIC_COLUMN, _GPU_HOST_LABELS),
    **dict.fromkeys(NODE_POWER_METRICS, _NODE_LABELS),
}
_SERIES = re.compile(rb'\{\s*"metric"\s*:\s*(\{(?:[^{}"]|"(?:[^"\\]|\\.)*+")*+\})')
"""Where a series begins: no text in JSON holds a quote after a brace, but for one that it ends."""

PART_BYTES = 8_000_000
"""Of an answer so much is read at once."""
PART_SAMPLES = 4 * PART_ROWS
"""Of what is told in rows of their own: metrics of a board, or its instances."""

_INT64_BLANK = float(0x7FFFFFFFFFFFFFF0)
_FP64_BLANKS = 140737488355328.0, 140737488355331.0
_OUT_OF_RANGE = 2.0**63
_MILLISECONDS_FROM = 1e11


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `gpu_samples` and `node_power_samples`, whichever metrics the file holds.

    Raises:
        UnreadableFile: the file is no answer or export of Prometheus, or has no metric known here.
    """
    return joined(read_parts(content, file_name=file_name, context=context))


def read_parts(content: bytes, *, file_name: str, context: Context) -> Iterator[Tables]:
    """The same of a large file part by part; all there is of a board and time is in one part.

    Raises:
        UnreadableFile: as `read` does, and with any part.
    """
    known = Known.of(context)
    if content.startswith(b"PAR1"):
        for export in _parquet(content, file_name, known):
            yield _read_export(export, file_name, known)
    elif content.lstrip()[:1] in (b"{", b"["):
        for series in _answers(content, file_name, known):
            told, others = _told_apart(series, known)
            if told:
                yield tables_of_samples(_long_samples(told, file_name, known), file_name, known)
            if others:
                yield left_out(others)
    else:
        yield _read_csv(content, file_name, known)


def gpu_rows(samples: pl.DataFrame) -> pl.DataFrame:
    """One row per board and time from one row per metric sample.

    Args:
        samples: `metric`, `value` (text or number), `time` (UTC), `time_found` (text), `hostname`,
            `gpu_index`, `mig_id`, `mig_profile`, `is_mig`, and `namespace` and `pod` where labels
            tell of pods; in file order.

    A MIG instance repeats the values of its whole board, so the board's first value stands; only
    its engine's activity is its own.
    """
    found = set(samples["metric"].unique())
    metrics = [name for name in _METRIC_COLUMN if name in found]
    values = (pl.when(pl.col("metric") == name).then("value").alias(name) for name in metrics)
    wide = _by_board(samples.select(*_BOARD, *values, "is_mig", *_holder(samples)), metrics)
    engines = samples.filter("is_mig", pl.col("metric") == _ENGINE).rename({"value": _ENGINE})
    if engines.height:
        wide = wide.join(_mig_shares(engines), on=_BOARD, how="left", nulls_equal=True)
    return _gpu_samples(wide)


def _by_board(rows: pl.DataFrame, metrics: list[str]) -> pl.DataFrame:
    """One row per board and time, in file order, with the first value of each metric."""
    return (
        rows.with_row_index("row")
        .sort("is_mig", maintain_order=True)
        .group_by(_BOARD)
        .agg(
            pl.col(metrics).first(ignore_nulls=True),
            pl.col("is_mig").any(),
            pl.col("row").min(),
            *(_holders_of_board() if _holder(rows) else ()),
        )
        .sort("row")
        .drop("row")
    )


def _holder(rows: pl.DataFrame) -> list[str]:
    return [name for name in _HOLDER if name in rows.columns]


def _holders_of_board() -> list[pl.Expr]:
    """Namespace and pod of a board where all its rows that have one have the same."""
    is_mig = pl.col("is_mig").any()
    is_one = {name: pl.col(name).min() == pl.col(name).max() for name in _HOLDER}
    # A pod may be told without its namespace.
    is_one_pod = is_one["pod"] & is_one["namespace"].fill_null(value=True)
    return [
        pl.when(is_one["namespace"] & ~is_mig).then(pl.col("namespace").min()).alias("namespace"),
        pl.when(is_one_pod & ~is_mig).then(pl.col("pod").min()).alias("pod"),
        pl.when(pl.col("pod").count() > 0).then(~is_one_pod | is_mig).alias("is_shared"),
    ]


def _mig_shares(rows: pl.DataFrame) -> pl.DataFrame:
    """Of boards in MIG mode the share in instances that are busy, and in those that told."""
    active = _number(_ENGINE, rows.schema[_ENGINE])
    instances = (
        rows.filter(pl.col("is_mig") & active.is_not_null())
        .group_by(*_BOARD, "mig_id", "mig_profile")
        .agg(active.max().alias("active"))
        .with_columns(share=board_share(pl.col("mig_profile")))
        .drop_nulls("share")
    )
    is_busy = pl.col("active") > BUSY_ABOVE_RATIO
    return instances.group_by(_BOARD).agg(
        mig_busy_ratio=pl.col("share").filter(is_busy).sum(), mig_told_ratio=pl.col("share").sum()
    )


@dataclass(frozen=True)
class Known:
    """Metrics that mean something here: the book's own, other makers' and those declared."""

    meanings: Sequence[Meaning]
    host_labels: Mapping[str, Sequence[str]]
    """Of each metric the labels that may name its host."""
    columns: frozenset[str]
    """Labels and columns that are of use."""

    @classmethod
    def of(cls, context: Context) -> "Known":
        """With what a book declares."""
        known = meanings(context.mappings)
        hosts = {one.metric: [label.label for label in one.hosts] for one in known}
        labels = {label for one in known for label in one.labels}
        return cls(known, {**_HOST_LABELS, **hosts}, frozenset(_COLUMNS | labels))

    def is_other(self, name: str) -> bool:
        """Whether a metric is one beside those of the book; DCGM's are all of its boards."""
        return name not in self.host_labels and not name.startswith(_DCGM)


def _told_apart(series: list[dict[str, Any]], known: Known) -> tuple[list[dict[str, Any]], int]:
    """The series that may be told, and the count of those of other metrics."""
    told = []
    for one in series:
        labels = one.get("metric") if isinstance(one, dict) else None
        name = labels.get("__name__") if isinstance(labels, dict) else None
        if name is None or not known.is_other(str(name)):
            told.append(one)
    return told, len(series) - len(told)


def _answers(content: bytes, file_name: str, known: Known) -> Iterator[list[dict[str, Any]]]:
    """The series of an answer; of a large one those not of the book, then hosts one by one."""
    found = [*_SERIES.finditer(content)] if len(content) > PART_BYTES else []
    if not found:
        yield _series(_json(content, file_name), file_name)
        return
    starts = [one.start() for one in found]
    ends = [content.rfind(b",", start, after) for start, after in pairwise(starts)]
    if any(content[end + 1 : start].strip() for end, start in zip(ends, starts[1:], strict=True)):
        # Something else stands between two series.
        yield _series(_json(content, file_name), file_name)
        return
    ends.append(starts[-1] + _json_length(content[starts[-1] :], file_name))
    _series(_json(content[: starts[0]] + content[ends[-1] :], file_name), file_name)
    spans_of_hosts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    others: list[dict[str, Any]] = []
    for one, end in zip(found, ends, strict=True):
        labels = _json(one[1], file_name)
        name = str(labels.get("__name__"))
        host_labels = known.host_labels.get(name)
        if host_labels is None and "__name__" in labels and known.is_other(name):
            others.append({"metric": labels})
        if host_labels is not None:
            host = next((labels[name] for name in host_labels if labels.get(name)), None)
            spans_of_hosts[re.sub(r":\d+$", "", str(host))].append((one.start(), end))
    # Where no metric is known, that is told of any of them.
    if others:
        yield others
    hosts = [*spans_of_hosts.values()] or ([] if others else [[(starts[0], ends[0])]])
    part: list[bytes] = []
    for number, spans in enumerate(hosts, start=1):
        part += (content[start:end] for start, end in spans)
        if sum(map(len, part)) >= PART_BYTES or number == len(hosts):
            yield _json(b"[" + b",".join(part) + b"]", file_name)
            part = []


def _json_length(content: bytes, file_name: str) -> int:
    """Bytes of the JSON that is followed by something else."""
    try:
        text = content.decode()
        _, length = JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise _no_json(error, file_name) from error
    return len(text[:length].encode())


def _json(content: bytes, file_name: str) -> Any:
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise _no_json(error, file_name) from error


def _no_json(error: Exception, file_name: str) -> UnreadableFile:
    return UnreadableFile(
        f"{file_name}: not valid JSON ({error}); expected the whole answer of "
        "/api/v1/query_range; fetch it again"
    )


def _series(answer: dict[str, Any] | list[Any], file_name: str) -> list[dict[str, Any]]:
    if isinstance(answer, list):
        # promtool prints the series alone.
        return answer
    if answer.get("status") == "error":
        raise UnreadableFile(
            f"{file_name}: Prometheus answered with an error, {answer.get('errorType')}: "
            f"{answer.get('error')}; expected status success; ask again"
        )
    data = answer.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("result"), list):
        raise UnreadableFile(
            f"{file_name}: found JSON with {sorted(answer)}, expected status and data.result as "
            "/api/v1/query and /api/v1/query_range answer; land such an answer unchanged"
        )
    if data.get("resultType") not in ("matrix", "vector"):
        raise UnreadableFile(
            f"{file_name}: data.resultType: found {data.get('resultType')!r}, expected matrix or "
            "vector; query the metric itself"
        )
    return data["result"]


def _long_samples(series: list[dict[str, Any]], file_name: str, known: Known) -> pl.DataFrame:
    try:
        points = [item["values"] if "values" in item else [item["value"]] for item in series]
        labels = pl.DataFrame(
            [{str(key): str(value) for key, value in item["metric"].items()} for item in series],
            infer_schema_length=None,
        )
        times = pl.Series([point[0] for of_one in points for point in of_one], dtype=pl.Float64)
        values = pl.Series([point[1] for of_one in points for point in of_one], dtype=pl.String)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UnreadableFile(
            f"{file_name}: data.result: a series is not of the shape "
            '{"metric": {...}, "values": [[seconds, "value"], ...]}; land the answer unchanged'
        ) from error
    if "__name__" not in labels.columns:
        raise UnreadableFile(
            f"{file_name}: found series with the labels {labels.columns} and no __name__, expected "
            "metrics by name; query the metrics themselves, not an expression"
        )
    lengths = pl.Series([len(of_one) for of_one in points], dtype=pl.UInt32)
    of_series = pl.select(pl.int_range(len(points)).repeat_by(lengths).explode()).to_series()
    of_use = labels.select(name for name in labels.columns if name in known.columns)
    return of_use[of_series.drop_nulls()].with_columns(
        _times(times).alias("time"),
        times.cast(pl.String).alias("time_found"),
        values.alias("value"),
    )


def _parquet(content: bytes, file_name: str, known: Known) -> Iterator[pl.DataFrame]:
    export = pl.scan_parquet(content)
    try:
        columns = export.collect_schema()
        row_count = export.select(pl.len()).collect().item()
        parts = _parts(export, columns, row_count, known) if row_count > PART_ROWS else [export]
        for part in parts:
            yield part.collect()
    except DAMAGED_TABLE as error:
        raise UnreadableFile(
            f"{file_name}: Parquet that cannot be read ({error}); expected a complete file; "
            "export it again"
        ) from error


def _parts(
    export: pl.LazyFrame, columns: pl.Schema, row_count: int, known: Known
) -> Iterator[pl.LazyFrame]:
    """Parts of an export: by rows where each row is all of a board and time, else by time.

    Of what is told in several rows, which may stand far apart, only known metrics are of use.
    """
    time = next((name for name in _TIME_COLUMNS if name in columns), None)
    is_wide = any(name in _METRIC_COLUMN for name in columns)
    of_use = export.select(name for name in columns if name in known.columns)
    if time is not None and is_wide and not _has_instances(export, columns):
        for first in range(0, row_count, PART_ROWS):
            yield of_use.slice(first, PART_ROWS)
        return
    name_column = next((name for name in _NAME_COLUMNS if name in columns), None)
    if not is_wide and name_column is not None:
        name = pl.col(name_column).cast(pl.String)
        # Others are only counted, so that their labels and times are of no use.
        is_other = ~name.is_in([*known.host_labels]) & ~name.str.starts_with(_DCGM)
        others = export.filter(is_other).select(name_column, *([time] if time else []))
        others = others.with_columns(pl.lit("").alias("value"))
        if not others.head(1).collect().is_empty():
            yield others
            export = export.filter(~is_other)
        of_use = of_use.filter(name.is_in([*known.host_labels]))
    if time is None or of_use.head(1).collect().is_empty():
        # What is missing is told of any of its rows.
        yield export.head(1)
        return
    minute = _time(time, columns[time]).dt.truncate("1m")
    minutes = of_use.group_by(minute=minute).len().collect(engine="streaming").sort("minute")
    before = pl.col("len").cum_sum() - pl.col("len")
    spans = minutes.group_by(
        pl.col("minute").is_null(), part=before // PART_SAMPLES, maintain_order=True
    ).agg(first=pl.col("minute").first(), last=pl.col("minute").last())
    for first, last in spans.select("first", "last").iter_rows():
        yield of_use.filter(minute.is_null() if first is None else minute.is_between(first, last))


def _has_instances(export: pl.LazyFrame, columns: pl.Schema) -> bool:
    """Whether some rows are of MIG instances or replicas, of which a board has several."""
    names = (*_MIG_LABELS, _REPLICA_LABEL)
    labels = [pl.col(name).cast(pl.String) for name in names if name in columns]
    told = export.select(pl.any_horizontal(pl.lit(value=False), *((x != "").any() for x in labels)))
    return bool(told.collect(engine="streaming").item())


def _read_csv(content: bytes, file_name: str, known: Known) -> Tables:
    try:
        rows = csv_rows(content, expected="a Prometheus answer or a wide or long export of metrics")
    except UnreadableFile as error:
        raise UnreadableFile(f"{file_name}: {error}") from error
    reasons = [name for name in (REJECT_REASON, LEFT_OUT_REASON) if name in rows.columns]
    is_sound = pl.all_horizontal(pl.col(reasons).is_null())
    tables = _read_export(rows.filter(is_sound).drop(reasons), file_name, known)
    unread = rows.filter(~is_sound).select(reasons)
    if unread.height:
        table = next(iter(tables), "gpu_samples")
        read_rows = [tables[table]] if table in tables else []
        tables[table] = pl.concat([*read_rows, unread], how="diagonal")
    return tables


def _read_export(export: pl.DataFrame, file_name: str, known: Known) -> Tables:
    metrics = [name for name in export.columns if name in _METRIC_COLUMN]
    name_column = _first_present(_NAME_COLUMNS, export)
    if not metrics and (name_column is None or "value" not in export.columns):
        raise UnreadableFile(
            f"{file_name}: found the columns {export.columns}, expected either one column per "
            f"metric (such as {next(iter(_METRIC_COLUMN))}) or __name__ and value; export the "
            "metrics under their own names"
        )
    time_column = _first_present(_TIME_COLUMNS, export)
    if time_column is None:
        raise UnreadableFile(
            f"{file_name}: found the columns {export.columns}, expected one of "
            f"{list(_TIME_COLUMNS)} for the time; name it so"
        )
    times = _times(export[time_column])
    rows = export.drop(time_column).with_columns(
        times.alias("time"), export[time_column].alias("time_found")
    )
    if metrics or name_column is None:
        return {"gpu_samples": _wide_gpu_rows(rows, metrics)}
    return tables_of_samples(rows.rename({name_column: "__name__"}), file_name, known)


def _wide_gpu_rows(rows: pl.DataFrame, metrics: list[str]) -> pl.DataFrame:
    labelled = _with_board(rows)
    wide = labelled.select(*_BOARD, *metrics, "is_mig", *_holder(labelled))
    is_shared = bool(_holder(wide)) and wide.select(_BOARD).is_duplicated().any()
    if is_shared or wide["is_mig"].any():
        wide = _by_board(wide, metrics)
        if _ENGINE in metrics:
            wide = wide.join(_mig_shares(labelled), on=_BOARD, how="left", nulls_equal=True)
    return _gpu_samples(wide)


def tables_of_samples(samples: pl.DataFrame, file_name: str, known: Known) -> Tables:
    """Rows per table from labelled samples, one row each: `__name__`, `time`, `value`, labels."""
    samples = samples.with_columns(pl.col("__name__").cast(pl.String))
    told, is_told = translated(samples, known.meanings)
    names = samples["__name__"].unique().drop_nulls()
    of_book = {*_METRIC_COLUMN, *NODE_POWER_METRICS}
    beside = [name for name in names if name not in of_book and not name.startswith(_DCGM)]
    others = int((samples["__name__"].is_in(beside) & ~is_told).sum()) if beside else 0
    if told.height:
        untold = samples.filter(~is_told).with_columns(pl.col("value").cast(pl.String))
        samples = pl.concat([told, untold], how="diagonal")
    gpu = samples.filter(pl.col("__name__").is_in(list(_METRIC_COLUMN)))
    node = samples.filter(pl.col("__name__").is_in(NODE_POWER_METRICS))
    tables: Tables = {}
    if gpu.height:
        boards = _with_board(gpu)
        tables["gpu_samples"] = gpu_rows(
            boards.select(*_BOARD_SAMPLE, *_holder(boards), metric="__name__")
        )
    if node.height:
        tables["node_power_samples"] = _node_rows(node)
    if told.height:
        meters = meter_readings(told)
        if meters.height:
            tables["meter_readings"] = meters
    if others:
        return joined([tables, left_out(others)])
    if not tables and samples.height:
        found = samples["__name__"].unique().sort().head(5).to_list()
        raise UnreadableFile(
            f"{file_name}: found the metrics {found}, expected at least one of "
            f"{[*_METRIC_COLUMN, *NODE_POWER_METRICS[1:]]}; export one of these"
        )
    return tables


def _with_board(samples: pl.DataFrame) -> pl.DataFrame:
    mig_id, mig_profile = (_label((name,), samples) for name in _MIG_LABELS)
    return samples.with_columns(
        hostname=_label(_GPU_HOST_LABELS, samples),
        gpu_index=_label(_GPU_INDEX_LABELS, samples),
        mig_id=mig_id,
        mig_profile=mig_profile,
        is_mig=mig_id.is_not_null() | mig_profile.is_not_null(),
        **_pod_labels(samples),
    )


def _pod_labels(samples: pl.DataFrame) -> dict[str, pl.Expr]:
    """The namespace and pod that hold each board; nothing where no label tells of pods."""
    if not {"exported_pod", "pod"} & {*samples.columns}:
        return {}
    exported, pod, container = (
        _label((name,), samples) for name in ("exported_pod", "pod", "container")
    )
    is_exporter = (
        pod.str.contains(_EXPORTER, literal=True)
        | container.str.contains(_EXPORTER, literal=True).fill_null(value=False)
        | (container == _EXPORTER_CONTAINER).fill_null(value=False)
    )
    is_exported = exported.is_not_null()
    holds = ~is_exported.any() & ~is_exporter
    return {
        name: pl.when(is_exported)
        .then(_label((f"exported_{name}",), samples))
        .when(holds)
        .then(pl.when(pod.is_not_null()).then(_label((name,), samples)))
        for name in _HOLDER
    }


def _gpu_samples(wide: pl.DataFrame) -> pl.DataFrame:
    """`gpu_samples` from one row per board and time with a column per metric."""
    present = [name for name in _METRIC_COLUMN if name in wide.columns]
    read = wide.with_columns(
        _plain_number(name, wide.schema[name]).alias(f"number of {name}") for name in present
    )
    problems = [*_key_problems(), *(_no_number(name, wide.schema[name]) for name in present)]
    return read.with_columns(
        *(_not_blank(name, pl.col(f"number of {name}")).alias(name) for name in present),
        told_problems(read, problems).alias(REJECT_REASON),
    ).select(
        pl.col("time").alias("sampled_at"),
        "hostname",
        "gpu_index",
        *(_gpu_column(column, present) for column in GPU_METRICS),
        *(
            pl.col(name) if name in wide.columns else pl.lit(None, pl.Float64).alias(name)
            for name in _MIG_COLUMNS
        ),
        *_holder_columns(wide),
        REJECT_REASON,
    )


def _holder_columns(wide: pl.DataFrame) -> list[pl.Expr]:
    """Who holds a board; a row that stands for all of one has one pod."""
    if not _holder(wide):
        untold = {**dict.fromkeys(_HOLDER, pl.String()), "is_shared": pl.Boolean()}
        return [pl.lit(None, kind).alias(name) for name, kind in untold.items()]
    is_shared = pl.when(pl.col("pod").is_not_null()).then(pl.lit(value=False)).alias("is_shared")
    told = pl.col("is_shared") if "is_shared" in wide.columns else is_shared
    return [*(pl.col(name) for name in _HOLDER), told]


def _gpu_column(column: str, present: list[str]) -> pl.Expr:
    """A column of `gpu_samples` from the metrics that give it, in its own unit."""
    names = [name for name in GPU_METRICS[column] if name in present]
    if column == "utilization_ratio":
        return _utilization(names).alias(column)
    value = pl.coalesce(names) if names else pl.lit(None, pl.Float64)
    if column not in _FLOAT_COLUMNS:
        value = value.cast(pl.Int64, strict=False)
    return value.alias(column)


def _utilization(names: list[str]) -> pl.Expr:
    """How much a board was used: in MIG mode 0 says nothing, and the engine's is an instance's."""
    values = [pl.col(name) / (1 if name == _ENGINE else 100) for name in names]
    says_nothing = [
        pl.col("is_mig") if name == _ENGINE else pl.col("is_mig") & (pl.col(name) == 0)
        for name in names
    ]
    return pl.coalesce(
        pl.lit(None, pl.Float64),
        *(
            pl.when(~nothing).then(value)
            for value, nothing in zip(values, says_nothing, strict=True)
        ),
    )


def _node_rows(samples: pl.DataFrame) -> pl.DataFrame:
    """One row per node and time: the preferred metric; of several power supplies the greatest.

    A management controller lists the server's total beside its parts, so parts are never added.
    """
    preference = pl.col("__name__").replace_strict(
        {name: order for order, name in enumerate(NODE_POWER_METRICS)}, return_dtype=pl.Int8
    )
    host = _label(("Hostname", *_NODE_LABELS), samples).str.replace(
        r":\d+$", ""
    )  # instance carries a port
    power = _plain_number("value", samples.schema["value"])
    rows = samples.with_columns(hostname=host, power_w=power, preference=preference)
    problems = [
        _time_problem(),
        _label_problem("hostname", _NODE_LABELS),
        problem(
            _is_no_number("value", samples.schema["value"], "power_w"),
            field="power_w",
            found=pl.col("value"),
            expected="a number of watts",
        ),
        *([_DOUBLE] if "is_double" in rows.columns else []),
    ]
    told = rows.with_columns(told_problems(rows, problems).alias(REJECT_REASON)).filter(
        pl.col("power_w").is_not_null() | pl.col(REJECT_REASON).is_not_null()
    )
    if told["preference"].n_unique() > 1:
        preferred = pl.col("preference").min().over("hostname", "time")
        told = told.filter(pl.col("preference") == preferred)
    return (
        told.group_by("time", "hostname", maintain_order=True)
        .agg(pl.col("power_w").max(), pl.col(REJECT_REASON).first())
        .select(pl.col("time").alias("sampled_at"), "hostname", "power_w", REJECT_REASON)
    )


def _plain_number(name: str, dtype: pl.DataType) -> pl.Expr:
    """A finite number of a column of text or numbers, else null."""
    value = pl.col(name)
    as_number = parsed_number(value) if dtype == pl.String else value.cast(pl.Float64)
    return pl.when(as_number.is_finite() & (as_number > -_OUT_OF_RANGE)).then(as_number)


def _number(name: str, dtype: pl.DataType) -> pl.Expr:
    """A metric's value; DCGM's blanks (not found, not supported, no permission) are null."""
    return _not_blank(name, _plain_number(name, dtype))


def _not_blank(name: str, value: pl.Expr) -> pl.Expr:
    blank = value >= _INT64_BLANK
    if _METRIC_COLUMN[name] in _FLOAT_COLUMNS:
        blank = blank | value.is_between(*_FP64_BLANKS)
    return pl.when(~blank).then(value)


def _is_no_number(name: str, dtype: pl.DataType, number: str) -> pl.Expr:
    value = pl.col(name)
    is_filled = value.is_not_null()
    if dtype == pl.String:
        is_filled = is_filled & (value.str.strip_chars() != "")
    return is_filled & pl.col(number).is_null()


def _no_number(name: str, dtype: pl.DataType) -> Problem:
    return problem(
        _is_no_number(name, dtype, f"number of {name}"),
        field=f"{_METRIC_COLUMN[name]} ({name})",
        found=pl.col(name),
        expected="a number",
    )


def _key_problems() -> list[Problem]:
    return [
        _time_problem(),
        _label_problem("hostname", _GPU_HOST_LABELS),
        _label_problem("gpu_index", _GPU_INDEX_LABELS),
    ]


def _time_problem() -> Problem:
    return problem(
        pl.col("time").is_null(),
        field="sampled_at",
        found=pl.col("time_found"),
        expected="a time: seconds since 1970 or ISO 8601",
    )


def _label_problem(column: str, labels: Sequence[str]) -> Problem:
    return problem(
        pl.col(column).is_null(),
        field=column,
        found=None,
        expected=f"one of the labels {', '.join(labels)}",
    )


def _label(names: Sequence[str], samples: pl.DataFrame) -> pl.Expr:
    """The first of these labels that a sample has."""
    present = [pl.col(name).cast(pl.String) for name in names if name in samples.columns]
    if not present:
        return pl.lit(None, pl.String)
    return pl.coalesce(pl.when(label != "").then(label) for label in present)


def _first_present(names: Sequence[str], frame: pl.DataFrame) -> str | None:
    return next((name for name in names if name in frame.columns), None)


def _times(column: pl.Series) -> pl.Series:
    """Times of an export in UTC, null where unreadable."""
    return column.rename("time").to_frame().select(_time("time", column.dtype)).to_series()


def _time(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        zoned = column if dtype.time_zone else column.dt.replace_time_zone("UTC")
        return zoned.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    if dtype == pl.String:
        return pl.coalesce(_from_epoch(parsed_number(column)), parsed_instant(column, is_utc=True))
    return _from_epoch(column)


def _from_epoch(seconds: pl.Expr) -> pl.Expr:
    """Seconds since 1970; milli-, micro- or nanoseconds where the number is too large for them."""
    value = seconds.cast(pl.Float64)
    microseconds = (
        pl.when(value.abs() < _MILLISECONDS_FROM)
        .then(value * 1e6)
        .when(value.abs() < _MILLISECONDS_FROM * 1e3)
        .then(value * 1e3)
        .when(value.abs() < _MILLISECONDS_FROM * 1e6)
        .then(value)
        .otherwise(value / 1e3)
    )
    return microseconds.round(0).cast(pl.Int64, strict=False).cast(UTC_TIME)
