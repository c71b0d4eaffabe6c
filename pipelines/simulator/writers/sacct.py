"""Writes Slurm accounting as `sacct --parsable2` prints it.

What belongs here: the pipe-delimited text with header, local times without offset, and the step
rows (`.batch`, `.extern`) that repeat their job. What does not: the making of jobs.
"""

import polars as pl

_COLUMNS = (
    "JobID",
    "JobIDRaw",
    "Cluster",
    "Partition",
    "QOS",
    "Account",
    "User",
    "JobName",
    "State",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "Suspended",
    "NNodes",
    "AllocTRES",
    "NodeList",
    "ConsumedEnergyRaw",
    "Comment",
)
_STEPS = ("", ".batch", ".extern")
_CPUS_PER_NODE = 96


def write_sacct(jobs: pl.DataFrame, *, time_zone: str) -> bytes:
    """Every job with its steps, times in `time_zone` without an offset, as sacct prints them."""
    rows = pl.concat(
        [
            _rows(jobs, step, time_zone).with_columns(
                job_order=pl.int_range(pl.len()), step_order=pl.lit(order)
            )
            for order, step in enumerate(_STEPS)
        ]
    ).sort("job_order", "step_order")
    started = (pl.col("Start") != "Unknown") | (pl.col("step_order") == 0)
    lines = rows.filter(started).select(
        pl.concat_str(
            # sacct escapes nothing: a delimiter inside a value would shift the columns.
            *(
                pl.col(name).fill_null("").str.replace_all("|", "/", literal=True)
                for name in _COLUMNS
            ),
            separator="|",
        )
    )
    return ("\n".join(["|".join(_COLUMNS), *lines.to_series().to_list()]) + "\n").encode()


def _rows(jobs: pl.DataFrame, step: str, time_zone: str) -> pl.DataFrame:
    is_step = bool(step)
    nodes = pl.lit(1, pl.Int64) if step == ".batch" else pl.col("node_count")
    nothing = pl.lit("")

    def job_only(expression: pl.Expr | str) -> pl.Expr:
        value = pl.col(expression) if isinstance(expression, str) else expression
        return nothing if is_step else value

    return jobs.select(
        JobID=pl.col("job_id") + step,
        JobIDRaw=pl.col("job_id") + step,
        Cluster="cluster",
        Partition=job_only("partition"),
        QOS=job_only("qos"),
        Account="account",
        User=job_only("user_name"),
        JobName=pl.lit(step.removeprefix(".")) if is_step else pl.col("job_name"),
        State=_state() if not is_step else pl.col("state"),
        Submit=_local_time("started_at" if is_step else "submitted_at", time_zone),
        Start=_local_time("started_at", time_zone),
        End=_local_time("ended_at", time_zone),
        ElapsedRaw=pl.col("elapsed_s").cast(pl.String),
        Suspended=_duration("suspended_s"),
        NNodes=nodes.cast(pl.String),
        AllocTRES=_tres(nodes),
        NodeList=pl.col("node_list").fill_null("None assigned"),
        ConsumedEnergyRaw=pl.col("consumed_energy_j").cast(pl.String),
        Comment=job_only("comment"),
    )


def _state() -> pl.Expr:
    cancelled = pl.col("state") == "CANCELLED"
    return pl.when(cancelled).then(pl.lit("CANCELLED by 1000")).otherwise(pl.col("state"))


def _local_time(column: str, time_zone: str) -> pl.Expr:
    return (
        pl.col(column)
        .dt.convert_time_zone(time_zone)
        .dt.strftime("%Y-%m-%dT%H:%M:%S")
        .fill_null("Unknown")
    )


def _duration(column: str) -> pl.Expr:
    """Seconds as [days-]hours:minutes:seconds."""
    seconds = pl.col(column)
    parts = [seconds // 3600 % 24, seconds // 60 % 60, seconds % 60]
    clock = pl.concat_str(*(part.cast(pl.String).str.zfill(2) for part in parts), separator=":")
    days = (
        pl.when(seconds >= 86_400).then(pl.format("{}-", seconds // 86_400)).otherwise(pl.lit(""))
    )
    return (days + clock).fill_null("")


def _tres(nodes: pl.Expr) -> pl.Expr:
    """Trackable resources; what is no whole number of boards is held in instances of a seventh."""
    cpus = nodes * _CPUS_PER_NODE
    boards = pl.col("gpu_count")
    instances = (boards * 7).round().cast(pl.Int64)
    gpus = (
        pl.when(boards % 1 > 0)
        .then(pl.format(",gres/gpu={},gres/gpu:1g.10gb={}", instances, instances))
        .otherwise(pl.format(",gres/gpu={}", boards.cast(pl.Int64)))
        .fill_null("")
    )
    return pl.when(nodes > 0).then(
        pl.format("billing={},cpu={}{},node={}", cpus, cpus, gpus, nodes)
    )
