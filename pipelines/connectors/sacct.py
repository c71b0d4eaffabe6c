"""Reads Slurm accounting: what `sacct --parsable2` prints and what slurmrestd answers.

What belongs here: both formats, and the local times of a cluster made instants. What does not:
which site a cluster is and how many GPUs a node has where the accounting shows none (dbt).

Of the fields, in any order, JobID or JobIDRaw, State, Start and one of End, ElapsedRaw and Elapsed
must be there. A listing without Cluster is of the cluster whose name is a folder above it, as in
`landing/sacct/<cluster>/`, else of the only one that is declared. Seconds elapsed are ElapsedRaw,
else Elapsed (`D-HH:MM:SS`), else from Start to End, of a job that runs to the latest time in the
listing. An end that is not told is the start and the elapsed time of a job that no longer runs.
Steps are left out: their allocation stands for them.

sacct prints local times without an offset, so each cluster needs a time zone. In the hour that the
clocks repeat, the seconds that the job ran and was suspended tell which of the two is meant:
end - elapsed - suspended = start. Where even that leaves both, the earlier one stands.

GPUs are counted in boards: an instance of a partitioned board (MIG) is the share of the board's
compute slices that its profile names, three of seven for 3g.40gb.
"""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from pipelines.connectors.common import (
    LEFT_OUT_REASON,
    REJECT_REASON,
    Context,
    Tables,
    UnreadableFile,
)
from pipelines.connectors.parsing import (
    CUT_OFF,
    UTC_TIME,
    board_share,
    is_whole_text,
    joined_reasons,
    reason,
)

_ONE_OF = (("JobID", "JobIDRaw"), ("State",), ("Start",), ("End", "ElapsedRaw", "Elapsed"))
_TEXTS = {
    "partition": "Partition",
    "qos": "QOS",
    "account": "Account",
    "user_name": "User",
    "job_name": "JobName",
    "node_list": "NodeList",
    "comment": "Comment",
}
_TIMES = ("Submit", "Start", "End")
_NOTHING = ("", "Unknown", "None", "None assigned", "N/A", "(null)")
_NO_VALUE = ("18446744073709551614", "4294967294")  # Slurm's NO_VAL64 and NO_VAL
# The separators sites choose with SLURM_TIME_FORMAT, turned into the default form before parsing.
_DATE_AND_TIME = r"^(\d{4})[-/](\d{2})[-/](\d{2})[-T ](\d{2}:\d{2}:\d{2})"
_GPUS = r"^gres[/:](gpu|mig)(?::([^=:]*[^=:\d][^=:]*))?(?:[=:](\d+))?$"  # what, type, count
_PART_OF_GPUS = r"(?:^|,)gres[/:](?:mps|shard)\b"
_HELP = "run sacct --parsable2 with its header and these fields in --format"

_ANSWER_TEXTS = {
    "cluster": "cluster",
    "partition": "partition",
    "qos": "qos",
    "account": "account",
    "user_name": "user_name",
    "job_name": "name",
    "node_list": "nodes",
    "comment": "comment",
}
_ANSWER_SCHEMA: dict[str, type[pl.DataType]] = {
    "job_id": pl.Int64,
    "job_state": pl.String,
    "submit_time": pl.Int64,
    "start_time": pl.Int64,
    "end_time": pl.Int64,
    "node_count": pl.Int64,
    "suspend_time": pl.Int64,
    "pre_sus_time": pl.Int64,
    "tres_alloc_str": pl.String,
    **dict.fromkeys(_ANSWER_TEXTS.values(), pl.String),
}
_LAST_SECOND = 253_402_300_799  # of the year 9999
_NOT_STARTED = ("PENDING", "CONFIGURING")
_NOT_ENDED = ("RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")


def read(content: bytes, *, file_name: str, context: Context) -> Tables:
    """Rows of `jobs`: one per allocation, its steps left out.

    Raises:
        UnreadableFile: no header with the fields needed, or no answer of slurmrestd.
    """
    zones = context.cluster_time_zones
    cluster = next((name for name in PurePosixPath(file_name).parts if name in zones), None)
    if cluster is None and len(zones) == 1:
        (cluster,) = zones
    if content.lstrip()[:1] == b"{":
        return {"jobs": _read_answer(content, file_name, cluster)}
    fields = _fields(content, file_name)
    if "Cluster" not in fields.columns and cluster is None:
        raise UnreadableFile(
            f"{file_name}: found no field Cluster, and no folder named as one of the clusters"
            f" {', '.join(zones)}; expected to know whose jobs these are; add the field to --format"
            " or move the file to landing/sacct/<cluster>/"
        )
    told = pl.col("Cluster") if "Cluster" in fields.columns else pl.lit(None, pl.String)
    fields = fields.with_columns(Cluster=pl.coalesce(told, pl.lit(cluster, pl.String)))
    return {"jobs": _jobs(fields, zones)}


def _fields(content: bytes, file_name: str) -> pl.DataFrame:
    """The fields as text under sacct's names, null where sacct has nothing to say."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{file_name}: not UTF-8 text ({error}); expected the output of sacct; {_HELP}"
        ) from error
    filled = pl.DataFrame({"line": text.split("\n")}).filter(pl.col("line") != "")
    first = filled["line"][0] if filled.height else ""
    # --parsable ends every line with a delimiter; after --parsable2 it is an empty last field.
    line = pl.col("line").str.strip_suffix("|") if first.endswith("|") else pl.col("line")
    header = first.removesuffix("|").split("|")
    missing = [" or ".join(names) for names in _ONE_OF if not set(names) & set(header)]
    if len(set(header)) < len(header):
        raise UnreadableFile(
            f"{file_name}: found a field twice in the header {header}, expected each once; {_HELP}"
        )
    if missing:
        raise UnreadableFile(
            f"{file_name}: found the header {header}, expected the fields of a job"
            f" (missing: {', '.join(missing)}); {_HELP}"
        )
    parts = pl.col("parts")
    is_last = pl.int_range(pl.len()) == pl.len() - 1
    is_cut_off = is_last & (not is_whole_text(text))
    return (
        filled[1:]
        .select(line.str.split("|").alias("parts"))
        .select(
            *(
                parts.list.get(position, null_on_oob=True).alias(name)
                for position, name in enumerate(header)
            ),
            joined_reasons(
                pl.when(is_cut_off).then(pl.lit(CUT_OFF)),
                reason(
                    parts.list.len() != len(header),
                    field="line",
                    found=pl.format("{} fields", parts.list.len()),
                    expected=f"{len(header)} as in the header (a value may hold a '|')",
                ),
            ).alias("line_reason"),
        )
        .with_columns(
            pl.when(~pl.col(name).is_in(_NOTHING)).then(pl.col(name)).alias(name) for name in header
        )
    )


def _jobs(fields: pl.DataFrame, zones: Mapping[str, str]) -> pl.DataFrame:
    has = set(fields.columns)
    nothing = pl.lit(None, pl.String)
    tres = pl.col("AllocTRES") if "AllocTRES" in has else nothing
    energy = pl.col("ConsumedEnergyRaw") if "ConsumedEnergyRaw" in has else nothing
    nodes = [pl.col(name) for name in ("NNodes", "AllocNodes") if name in has]
    node_count = pl.coalesce(*nodes, tres.str.extract(r"(?:^|,)node=(\d+)"))
    energy = pl.when(~energy.is_in(_NO_VALUE)).then(energy)
    elapsed = pl.coalesce(
        pl.col("ElapsedRaw") if "ElapsedRaw" in has else nothing,
        _seconds(pl.col("Elapsed")) if "Elapsed" in has else nothing,
    )
    suspended = _seconds(pl.col("Suspended")) if "Suspended" in has else nothing
    job_id = pl.coalesce(pl.col(name) for name in ("JobID", "JobIDRaw") if name in has)
    times = [name for name in _TIMES if name in has]
    zone = pl.col("Cluster").replace_strict(zones, default=None, return_dtype=pl.String)
    counts = {
        "elapsed_s": (
            "ElapsedRaw" if "ElapsedRaw" in has else "Elapsed",
            elapsed,
            "whole seconds, or D-HH:MM:SS of Elapsed",
        ),
        "suspended_s": ("Suspended", suspended, "D-HH:MM:SS"),
        "node_count": ("NNodes", node_count, "a whole number of nodes"),
        "consumed_energy_j": ("ConsumedEnergyRaw", energy, "whole joules"),
    }
    parsed = (
        fields.with_columns(zone=zone)
        .with_columns(_instants(name, zones) for name in times)
        .with_columns(
            **{name: text.cast(pl.Int64, strict=False) for name, (_, text, _) in counts.items()},
            gpu_count=_gpu_count(tres),
            reasons=joined_reasons(
                pl.col("line_reason"),
                *(
                    reason(
                        text.is_not_null() & text.cast(pl.Int64, strict=False).is_null(),
                        field=field,
                        found=text,
                        expected=expected,
                    )
                    for field, text, expected in counts.values()
                ),
                _gpu_reason(tres, "AllocTRES"),
            ),
        )
    )
    if "End" not in has:
        parsed = parsed.with_columns(End_instants=pl.lit(None, parsed.schema["Start_instants"]))
    started, ended = _start_and_end()
    state = pl.col("State").str.extract(r"^(\w+)").str.to_uppercase()
    is_over = ~state.is_in([*_NOT_STARTED, *_NOT_ENDED])
    if "End" not in has:
        ended = pl.when(is_over).then(started + _lasted())
    # What still runs has run up to the listing, and that was made after all that it tells.
    told = pl.max_horizontal(pl.col(f"{name}_instants").struct.field("earlier") for name in times)
    lasted = (pl.coalesce(ended, told.max().over("Cluster")) - started).dt.total_seconds()
    from_times = (lasted - pl.col("suspended_s").fill_null(0)).clip(lower_bound=0).fill_null(0)
    is_step = job_id.str.contains(".", literal=True) & pl.col("line_reason").is_null()
    submitted = pl.col("Submit_instants").struct.field("earlier") if "Submit" in has else None
    return parsed.select(
        cluster="Cluster",
        job_id=job_id,
        **{
            column: pl.col(name) if name in has else pl.lit(None, pl.String)
            for column, name in _TEXTS.items()
        },
        state=state,
        submitted_at=pl.lit(None, UTC_TIME) if submitted is None else submitted,
        started_at=started,
        ended_at=ended,
        elapsed_s=pl.coalesce("elapsed_s", from_times),
        suspended_s="suspended_s",
        node_count="node_count",
        gpu_count="gpu_count",
        consumed_energy_j="consumed_energy_j",
        **{
            REJECT_REASON: pl.when(~is_step.fill_null(value=False)).then(
                joined_reasons(pl.col("reasons"), *(_time_reason(name) for name in times))
            ),
            LEFT_OUT_REASON: pl.when(is_step).then(pl.lit("a step, for which its job stands")),
        },
    )


def _seconds(elapsed: pl.Expr) -> pl.Expr:
    """Seconds of `D-HH:MM:SS`, `HH:MM:SS` or `MM:SS` as text; other text as it is."""
    parts = elapsed.str.extract_groups(r"^(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)$").struct
    seconds = pl.sum_horizontal(
        parts.field(str(index)).cast(pl.Int64, strict=False) * unit
        for index, unit in enumerate((86_400, 3_600, 60, 1), start=1)
    )
    return pl.when(parts.field("4").is_not_null()).then(seconds.cast(pl.String)).otherwise(elapsed)


def _instants(name: str, zones: Mapping[str, str]) -> pl.Expr:
    """The earlier and the later instant a time can mean: the same, but for a repeated hour."""
    iso = pl.col(name).str.replace(_DATE_AND_TIME, "${1}-${2}-${3}T${4}")
    with_offset = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S%#z", strict=False, time_unit="us")
    local = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="us")

    def instant(which: Any) -> pl.Expr:
        in_zone = [
            pl.when(pl.col("zone") == zone).then(
                local.dt.replace_time_zone(
                    zone, ambiguous=which, non_existent="null"
                ).dt.convert_time_zone("UTC")
            )
            for zone in sorted(set(zones.values()))
        ]
        return pl.coalesce(with_offset, *in_zone)

    return pl.struct(
        earlier=instant("earliest"), later=instant("latest"), is_local=local.is_not_null()
    ).alias(f"{name}_instants")


def _lasted() -> pl.Expr:
    """The time from a job's start to its end, or to the listing: it ran or was suspended."""
    seconds = pl.col("elapsed_s") + pl.col("suspended_s").fill_null(0)
    return pl.duration(seconds=seconds, time_unit="us")


def _start_and_end() -> tuple[pl.Expr, pl.Expr]:
    """Start and end, of what they can mean the pair that is run time and suspension apart.

    A job that still runs has run up to the moment of the listing, which the others of it tell.
    """
    start, end = (pl.col(f"{name}_instants").struct for name in ("Start", "End"))
    lasted = _lasted()
    is_certain = end.field("earlier").is_null() & (start.field("earlier") == start.field("later"))
    listed_at = (start.field("earlier") + lasted).filter(is_certain).max().over("Cluster")
    pairs = [
        (start.field(of_start), end.field(of_end))
        for of_start in ("earlier", "later")
        for of_end in ("earlier", "later")
    ]
    misfits = [(last.fill_null(listed_at) - first - lasted).abs() for first, last in pairs]
    least = pl.min_horizontal(misfits)
    chosen_start, chosen_end = pairs[0]
    for misfit, (first, last) in list(zip(misfits, pairs, strict=True))[:0:-1]:
        fits = (misfit == least) & (misfits[0] != least)
        chosen_start = pl.when(fits).then(first).otherwise(chosen_start)
        chosen_end = pl.when(fits).then(last).otherwise(chosen_end)
    return chosen_start, chosen_end


def _time_reason(name: str) -> pl.Expr:
    instants = pl.col(f"{name}_instants").struct
    is_missing = pl.col(name).is_not_null() & instants.field("earlier").is_null()
    is_local = instants.field("is_local")
    return pl.coalesce(
        reason(
            is_missing & ~is_local,
            field=name,
            found=pl.col(name),
            expected="a time such as 2026-11-01T00:00:00, with or without an offset",
        ),
        reason(
            is_missing & pl.col("zone").is_null(),
            field="Cluster",
            found=pl.col("Cluster"),
            expected=f"a cluster whose time zone is known, for {name} has no offset: declare the "
            "cluster in data/reference/sites and load again",
        ),
        reason(
            is_missing,
            field=name,
            found=pl.col(name),
            expected="a time that exists in the cluster's zone: the clocks skip this hour",
        ),
    )


def _gpu_count(tres: pl.Expr) -> pl.Expr:
    """Boards of AllocTRES: the typed GPUs, and what the untyped count has beyond them.

    Clusters record the untyped count, the typed ones or both, so both are never added up.
    """
    entry = pl.element()
    of_type, count = entry.str.extract(_GPUS, 2), entry.str.extract(_GPUS, 3).cast(pl.Int64)
    count = pl.when(entry.str.contains(_GPUS)).then(count.fill_null(1))
    share = board_share(of_type).fill_null(1)

    def total(of_entry: pl.Expr) -> pl.Expr:
        return tres.str.split(",").list.eval(of_entry).list.sum().fill_null(0)

    typed = total(pl.when(of_type.is_not_null()).then(count))
    untyped = total(pl.when(of_type.is_null()).then(count))
    boards = total(pl.when(of_type.is_not_null()).then(count * share))
    is_shown = tres.str.split(",").list.eval(entry.str.contains(_GPUS)).list.any()
    return pl.when(is_shown).then(boards + (untyped - typed).clip(lower_bound=0))


def _gpu_reason(tres: pl.Expr, field: str) -> pl.Expr:
    """Parts of GPUs of which the accounting does not tell the size."""
    is_untyped_mig = tres.str.contains(r"(?:^|,)gres[/:]mig(?:[=:]\d+)?(?:,|$)")
    is_typed_mig = tres.str.contains(r"(?:^|,)gres[/:]mig:[^,]*\dg\.\d")
    is_part = tres.str.contains(_PART_OF_GPUS) & _gpu_count(tres).is_null()
    return reason(
        (is_untyped_mig & ~is_typed_mig) | is_part,
        field=field,
        found=tres,
        expected="parts of GPUs with their size: name the MIG profiles (gres/gpu:1g.10gb) in "
        "AccountingStorageTRES, and gres/gpu beside mps and shards",
    )


def _read_answer(content: bytes, file_name: str, cluster: str | None) -> pl.DataFrame:
    """Jobs of slurmrestd's `/slurm/<version>/jobs`, with the moment of the answer as `known_at`."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{file_name}: not valid JSON ({error}); expected slurmrestd's answer to "
            "/slurm/<version>/jobs; fetch it again"
        ) from error
    jobs = answer.get("jobs")
    if not isinstance(jobs, list) or not all(
        isinstance(job, dict) and {"job_id", "job_state", "start_time"} <= set(job) for job in jobs
    ):
        raise UnreadableFile(
            f"{file_name}: found JSON with {sorted(answer)}, expected jobs with job_id, job_state "
            "and start_time as slurmrestd answers on /slurm/<version>/jobs (not /slurmdb); land "
            "that answer, or sacct --parsable2"
        )
    try:
        known_at = {"last_update": _plain(answer.get("last_update"))}
        rows = pl.DataFrame(
            [_plain_job(job) | known_at for job in jobs],
            schema={**_ANSWER_SCHEMA, "last_update": pl.Int64},
        )
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise UnreadableFile(
            f"{file_name}: jobs: a value has another type than slurmrestd gives it ({error}); "
            "land the answer unchanged"
        ) from error
    times = ("submit_time", "start_time", "end_time", "last_update")
    # A job that waits has an expected start, one that runs an expected end: neither has happened.
    has_started = ~pl.col("job_state").is_in(_NOT_STARTED)
    has_started = has_started & (pl.col("start_time") > 0)
    has_ended = has_started & ~pl.col("job_state").is_in(_NOT_ENDED) & (pl.col("end_time") > 0)
    started = pl.when(has_started).then("start_time")
    ended = pl.when(has_ended).then("end_time")
    lasted_s = (pl.coalesce(ended, "last_update") - started).clip(lower_bound=0).fill_null(0)
    # suspend_time is when the job was last suspended or went on, pre_sus_time what it ran before.
    since_s = pl.coalesce(ended, "last_update") - pl.col("suspend_time")
    since_s = pl.when(pl.col("job_state") != "SUSPENDED").then(since_s).otherwise(0)
    ran_s = pl.when(has_started & (pl.col("suspend_time") > 0)).then(
        (pl.col("pre_sus_time") + since_s).clip(0, lasted_s)
    )
    texts = {
        column: pl.when(~pl.col(name).is_in(_NOTHING)).then(pl.col(name))
        for column, name in _ANSWER_TEXTS.items()
    }
    return rows.select(
        job_id=pl.col("job_id").cast(pl.String),
        **texts | {"cluster": pl.coalesce(texts["cluster"], pl.lit(cluster, pl.String))},
        state=pl.col("job_state").str.to_uppercase(),
        submitted_at=_from_epoch(pl.when(pl.col("submit_time") > 0).then("submit_time")),
        started_at=_from_epoch(started),
        ended_at=_from_epoch(ended),
        elapsed_s=pl.coalesce(ran_s, lasted_s),
        suspended_s=lasted_s - pl.coalesce(ran_s, lasted_s),
        node_count=pl.col("node_count").fill_null(0),
        gpu_count=_gpu_count(pl.col("tres_alloc_str")),
        consumed_energy_j=pl.lit(None, pl.Int64),
        **({"known_at": _from_epoch(pl.col("last_update"))} if answer.get("last_update") else {}),
        **{
            REJECT_REASON: joined_reasons(
                *(
                    reason(
                        pl.col(name) > _LAST_SECOND,
                        field=name,
                        found=pl.col(name),
                        expected="seconds since 1970",
                    )
                    for name in times
                ),
                _gpu_reason(pl.col("tres_alloc_str"), "tres_alloc_str"),
            )
        },
    )


def _plain_job(job: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(job.get(name)) for name in _ANSWER_SCHEMA}


def _plain(value: Any) -> Any:
    """A value without slurmrestd's wrapping: {set, infinite, number}, or a list of states."""
    if isinstance(value, dict):
        return value.get("number") if value.get("set") and not value.get("infinite") else None
    if isinstance(value, list):
        return value[0] if value else None
    return value


def _from_epoch(seconds: pl.Expr) -> pl.Expr:
    within = pl.when(seconds <= _LAST_SECOND).then(seconds.cast(pl.Int64))
    return (within * 1_000_000).cast(UTC_TIME)
