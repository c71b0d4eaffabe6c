"""Reads what OpenCost (and Kubecost) answers on `/allocation/compute`: who held a cluster's GPUs.

What belongs here: allocations made rows of `jobs`. What does not: their costs, which come from
invoices and tariffs, and which site a cluster is (dbt).

An allocation is a pod, controller or namespace, as the question aggregates, and its `start` and
`end` are those of its pods within the window asked for. It becomes a job from the one to the other,
whose boards are the mean that gives its GPU-hours. So that workload rules match it, its namespace
is the account, and of pods that Kueue queued the priority class is the QOS and the queue the
partition, where OpenCost tells these labels. One without GPUs is a job with none: it tells that its
time was listed.

The same allocation is told again by every answer whose window has it. So where any has GPUs, a
window is one UTC day or the first part of one (`window=yesterday`, `today`, or `step=1d`): answers
on the same day revise each other, and those on other days add up. What nobody held (`__idle__`) and
disks that no pod mounts (`__unmounted__`) are left out; so is what names no holder
(`__unallocated__`), unless it had GPUs.
"""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from pipelines.connectors.common import LEFT_OUT_REASON, Context, Tables, UnreadableFile
from pipelines.connectors.parsing import Field, assemble, constant, instant, number, problem, text

_EXPECTED = "the whole answer of OpenCost's /allocation/compute"
_PROPERTIES = ("cluster", "namespace", "node", "controller", "pod")
# Labels of Kueue as Prometheus spells them: kueue.x-k8s.io/queue-name and /priority-class.
_LABELS = {
    "partition": "kueue_x_k8s_io_queue_name",
    "qos": "kueue_x_k8s_io_priority_class",
}
_COLUMNS = (
    *_PROPERTIES,
    *_LABELS,
    "name",
    "window.start",
    "window.end",
    "start",
    "end",
    "gpuHours",
)


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `jobs`: one per allocation and window.

    Raises:
        UnreadableFile: no JSON, an error of OpenCost, or no list of sets of allocations.
    """
    zones = context.cluster_time_zones
    cluster = next((name for name in PurePosixPath(file_name).parts if name in zones), None)
    if cluster is None and len(zones) == 1:
        (cluster,) = zones
    rows = pl.DataFrame(
        [*_allocations(_sets(content, file_name))], schema=dict.fromkeys(_COLUMNS, pl.String)
    )
    return {"jobs": _jobs(rows.with_columns(pl.col("cluster").fill_null(pl.lit(cluster))))}


def _sets(content: bytes, file_name: str) -> list[Any]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{file_name}: not valid JSON ({error}); expected {_EXPECTED}; ask again"
        ) from error
    if not isinstance(answer, dict):
        answer = {}
    if answer.get("code", 200) != 200:
        raise UnreadableFile(
            f"{file_name}: OpenCost answered with an error, {answer['code']}:"
            f" {str(answer.get('message'))[:200]}; expected code 200; ask again"
        )
    sets = answer.get("data")
    if not isinstance(sets, list) or not all(one is None or isinstance(one, dict) for one in sets):
        raise UnreadableFile(
            f"{file_name}: found JSON with {sorted(answer)}, expected data with a list of sets of"
            f" allocations: {_EXPECTED}; land it unchanged"
        )
    return sets


def _allocations(sets: list[Any]) -> Iterator[dict[str, str | None]]:
    """The texts of each allocation; a set without any is null."""
    for of_step in sets:
        for name, allocation in (of_step or {}).items():
            told = allocation if isinstance(allocation, dict) else {}
            window, properties = (
                part if isinstance(part, dict) else {}
                for part in (told.get("window"), told.get("properties"))
            )
            labels = properties.get("labels")
            labels = labels if isinstance(labels, dict) else {}
            values = {
                **{key: properties.get(key) for key in _PROPERTIES},
                **{key: labels.get(label) for key, label in _LABELS.items()},
                "name": name,
                "window.start": window.get("start"),
                "window.end": window.get("end"),
                **{key: told.get(key) for key in ("start", "end", "gpuHours")},
            }
            # Go writes what is not set as an empty text.
            yield {
                key: None if value in (None, "") else str(value) for key, value in values.items()
            }


def _jobs(rows: pl.DataFrame) -> pl.DataFrame:
    name = pl.col("name").str.split("/").list
    started = instant("start").required("start", "the time from which the allocation ran")
    ended = instant("end").required("end", "the time to which the allocation ran")
    window = instant("window.start").required("window.start", "the start of the window asked for")
    window_end = instant("window.end").required("window.end", "the end of the window asked for")
    gpu_hours = number("gpuHours", at_least=0).required("gpuHours", "a number of GPU-hours")
    elapsed_s = (ended.value - started.value).dt.total_seconds()
    has_gpus = gpu_hours.value > 0
    left_out = (
        pl.when(name.contains("__idle__"))
        .then(pl.lit("what nobody held"))
        .when(name.contains("__unmounted__"))
        .then(pl.lit("disks that no pod mounts"))
        .when(
            name.contains("__unallocated__")
            & (pl.col("gpuHours").cast(pl.Float64, strict=False) == 0)
        )
        .then(pl.lit("what names no holder, without GPUs"))
    )
    is_part_of_day = (
        (window.value.dt.truncate("1d") == window.value)
        & (window_end.value > window.value)
        & (window_end.value <= window.value + pl.duration(days=1))
    )
    problems = (
        problem(
            has_gpus & (elapsed_s <= 0),
            field="end",
            found=pl.col("end"),
            expected="an end after the start, for it has GPU-hours",
        ),
        problem(
            # Were only those with GPUs rejected, the others would tell that nobody held any.
            has_gpus.any() & ~is_part_of_day,
            field="window",
            found=pl.concat_str("window.start", pl.lit(" to "), "window.end"),
            expected="one UTC day or the first part of one, for windows that overlap tell the same"
            " GPU-hours twice: ask with window=yesterday, or step=1d from a midnight on",
        ),
    )
    fields = {
        "cluster": text("cluster").required("cluster", "the name of a cluster in properties"),
        "job_id": text("name"),
        "partition": text("partition"),
        "qos": text("qos"),
        "account": text("namespace"),
        "user_name": constant(None),
        "job_name": Field(pl.coalesce("controller", "pod", "name")),
        "state": constant("COMPLETED"),
        "submitted_at": window,
        "started_at": started,
        "ended_at": ended,
        "elapsed_s": Field(elapsed_s),
        "suspended_s": constant(None, pl.Int64),
        "node_count": Field(pl.col("node").is_not_null().cast(pl.Int64)),
        "gpu_count": Field(
            pl.when(has_gpus).then(gpu_hours.value * 3600 / elapsed_s).otherwise(gpu_hours.value),
            gpu_hours.problems,
        ),
        "node_list": text("node"),
        "consumed_energy_j": constant(None, pl.Int64),
        "comment": constant(None),
    }
    return assemble(
        rows.with_columns(left_out.alias(LEFT_OUT_REASON)),
        fields,
        problems=(*window_end.problems, *problems),
    )
