"""Reads Slurm accounting: what `sacct` prints as a listing or JSON and what slurmrestd answers.

What belongs here: these formats, and the local times of a cluster made instants. What does not:
which site a cluster is and how many GPUs a node has where the accounting shows none (dbt).

A listing's fields stand between `|`, tabs, `;` or commas, whichever its header names them by, in
any order and case, with or without the width of `--format` (`JobID%20`); between commas they may
be quoted, as in a CSV. JobID or JobIDRaw, State, Start and one of End, ElapsedRaw and Elapsed must
be there. `sacct --json` and slurmrestd's `/slurmdb` tell the same fields under other names. A
listing without Cluster is of the cluster whose name is a folder above it, as in
`landing/sacct/<cluster>/`, else of the only one that is declared. Seconds elapsed are ElapsedRaw,
else Elapsed (`D-HH:MM:SS`), else from Start to End, of a job that runs to the latest time in the
listing. An end that is not told is the start and the elapsed time of a job that no longer runs.
Steps are left out: their allocation stands for them.

sacct prints local times without an offset unless SLURM_TIME_FORMAT says so (`%s` are seconds since
1970), so each cluster needs a time zone. In the hour that the
clocks repeat, the seconds that the job ran and was suspended tell which of the two is meant:
end - elapsed - suspended = start. Where even that leaves both, the earlier one stands.

GPUs are counted in boards: an instance of a partitioned board (MIG) is the share of the board's
compute slices that its profile names, three of seven for 3g.40gb.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
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
    Problem,
    board_share,
    csv_rows,
    is_whole_text,
    problem,
    told_problems,
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
FIELDS = (
    *("JobID", "JobIDRaw", "Cluster", "State", *_TIMES, *_TEXTS.values()),
    *("ElapsedRaw", "Elapsed", "Suspended", "NNodes", "AllocNodes"),
    *("AllocTRES", "ConsumedEnergyRaw"),
)
_NAMES = {name.lower(): name for name in FIELDS}
_DELIMITERS = ("|", "\t", ";", ",")
_NOTHING = ("", "Unknown", "None", "None assigned", "N/A", "(null)")
_NO_VALUE = ("18446744073709551614", "4294967294")  # Slurm's NO_VAL64 and NO_VAL
# The separators sites choose with SLURM_TIME_FORMAT, turned into the default form before parsing.
_DATE_AND_TIME = r"^(\d{4})[-/](\d{2})[-/](\d{2})[-T ](\d{2}:\d{2}:\d{2})"
_EPOCH = r"^(\d{9,11})$"
_GPUS = r"^gres[/:](gpu|mig)(?::([^=:]*[^=:\d][^=:]*))?(?:[=:](\d+))?$"  # what, type, count
_PART_OF_GPUS = r"(?:^|,)gres[/:](?:mps|shard)\b"
_HELP = "run sacct --parsable2 with its header and these fields in --format"
_NO_HEADER = (
    "where it has no header, put the list that --format was given as its first line, such as"
    " JobID|Cluster|State|Start|End|ElapsedRaw|NNodes|AllocTRES"
)

# Where `sacct --json` and slurmrestd's /slurmdb tell what sacct's listing has.
_ACCOUNTING_PATHS = {
    "Cluster": ("cluster",),
    "State": ("state", "current"),
    "Submit": ("time", "submission"),
    "Start": ("time", "start"),
    "End": ("time", "end"),
    "ElapsedRaw": ("time", "elapsed"),
    "Suspended": ("time", "suspended"),
    "Partition": ("partition",),
    "QOS": ("qos",),
    "Account": ("account",),
    "User": ("user",),
    "JobName": ("name",),
    "NodeList": ("nodes",),
    "Comment": ("comment", "job"),
    "NNodes": ("allocation_nodes",),
}

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
    "listed_id": pl.String,
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
        UnreadableFile: no header with the fields needed, or JSON of neither sacct nor slurmrestd.
    """
    zones = context.cluster_time_zones
    cluster = next((name for name in PurePosixPath(file_name).parts if name in zones), None)
    if cluster is None and len(zones) == 1:
        (cluster,) = zones
    if content.lstrip()[:1] == b"{":
        answer = _answer(content, file_name)
        jobs = answer["jobs"]
        if not jobs or "job_state" in jobs[0]:
            return {"jobs": _read_answer(answer, file_name, cluster)}
        fields = _accounting_fields(jobs)
    else:
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
    first = next((line for line in text.split("\n") if line), "")
    delimiter, header = _header(first, file_name)
    if delimiter == "," and '"' in text:
        try:
            rows = csv_rows(content, expected="a CSV of sacct's fields")
        except UnreadableFile as error:
            raise UnreadableFile(f"{file_name}: {error}") from error
        told = dict(zip(header, rows.columns, strict=False))
        reason = pl.col(REJECT_REASON)
        left_out = [pl.col(name) for name in rows.columns if name == LEFT_OUT_REASON]
    else:
        rows = _rows(text, delimiter, first, header)
        told, reason, left_out = {name: name for name in header}, pl.col("line_reason"), []
    return _without_nothing(
        rows.select(
            *(pl.col(column).alias(name) for name, column in told.items() if name in FIELDS),
            *left_out,
            line_reason=reason,
        )
    )


def _header(first: str, file_name: str) -> tuple[str, list[str]]:
    """What separates the fields of a listing and sacct's names of them, from its first line."""
    found: list[tuple[str, list[str], list[str]]] = []
    for delimiter in _DELIMITERS:
        # --parsable ends every line with a delimiter; after --parsable2 it is an empty last field.
        try:
            parts = next(csv.reader([first.removesuffix(delimiter)], delimiter=delimiter), [])
        except csv.Error as error:
            raise UnreadableFile(
                f"{file_name}: the first line is no header ({error}); {_HELP}"
            ) from error
        plain = [re.sub(r"%-?\d+$", "", part.strip()) for part in parts]
        names = [_NAMES.get(name.lower(), name) for name in plain]
        missing = [" or ".join(of) for of in _ONE_OF if not set(of) & set(names)]
        found.append((delimiter, names, missing))
    delimiter, header, missing = min(found, key=lambda one: len(one[2]))
    if len({name.lower() for name in header}) < len(header):
        raise UnreadableFile(
            f"{file_name}: found a field twice in the header {header}, expected each once; {_HELP}"
        )
    if missing:
        mend = _HELP if set(header) & set(FIELDS) else f"{_HELP}; {_NO_HEADER}"
        raise UnreadableFile(
            f"{file_name}: found the header {header}, expected the fields of a job"
            f" (missing: {', '.join(missing)}); {mend}"
        )
    return delimiter, header


def _rows(text: str, delimiter: str, first: str, header: Sequence[str]) -> pl.DataFrame:
    """The fields of lines that know no quotes, under the header's names, and `line_reason`."""
    filled = pl.DataFrame({"line": text.split("\n")}).filter(pl.col("line") != "")
    ends = first.endswith(delimiter)
    line = pl.col("line").str.strip_suffix(delimiter) if ends else pl.col("line")
    rows = filled[1:].select(
        parts=line.str.split_exact(delimiter, len(header) - 1),
        field_count=line.str.count_matches(delimiter, literal=True) + 1,
    )
    is_last = pl.int_range(pl.len()) == pl.len() - 1
    problems = [
        Problem(is_last & (not is_whole_text(text)), pl.lit(CUT_OFF)),
        problem(
            pl.col("field_count") != len(header),
            field="line",
            found=pl.format("{} fields", "field_count"),
            expected=f"{len(header)} as in the header (a value may hold a '{delimiter}')",
        ),
    ]
    return rows.select(
        *(
            pl.col("parts").struct.field(f"field_{position}").alias(name)
            for position, name in enumerate(header)
        ),
        line_reason=told_problems(rows, problems),
    )


def _without_nothing(fields: pl.DataFrame) -> pl.DataFrame:
    """The fields, null where sacct has nothing to say."""
    return fields.with_columns(
        pl.when(~pl.col(name).is_in(_NOTHING)).then(name).alias(name)
        for name in fields.columns
        if name in FIELDS
    )


def _accounting_fields(jobs: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The fields of `sacct --json`, as its listing would print them with SLURM_TIME_FORMAT=%s."""
    rows = [
        {
            **{name: _told(job, *path) for name, path in _ACCOUNTING_PATHS.items()},
            "JobID": _job_id(job.get("job_id"), job.get("array"), job.get("het")),
            "line_reason": None,
            **_allocated(job),
        }
        for job in jobs
    ]
    fields = pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))
    return _without_nothing(fields).with_columns(
        pl.when(pl.col(name) != "0").then(name).alias(name) for name in _TIMES
    )


def _told(job: Any, *path: str) -> str | None:
    """The text of what stands at a path of names, its wrapping taken off."""
    for name in path:
        job = job.get(name) if isinstance(job, dict) else None
    plain = _plain(job)
    return None if plain is None else str(plain)


def _job_id(raw: Any, array: Any, het: Any) -> str:
    """The id as sacct prints it: of a task of an array or a part of a job with those of the whole.

    Args:
        raw: The job's own number.
        array: `job_id` and `task_id` of the array, the first 0 where there is none.
        het: `job_id` and `job_offset` of the whole job, likewise.
    """
    for whole, joint, part in ((array, "_", "task_id"), (het, "+", "job_offset")):
        number, place = _told(whole, "job_id"), _told(whole, part)
        if number not in (None, "0") and place is not None:
            return f"{number}{joint}{place}"
    return str(_plain(raw))


def _allocated(job: dict[str, Any]) -> dict[str, str | None]:
    """AllocTRES and the energy among it, from the list of what was allocated."""
    of_job = job.get("tres")
    listed = of_job.get("allocated") if isinstance(of_job, dict) else None
    told = {
        "/".join(filter(None, (_told(one, "type"), _told(one, "name")))): _told(one, "count")
        for one in listed or ()
    }
    energy = told.get("energy")
    return {
        "AllocTRES": ",".join(f"{name}={count}" for name, count in told.items()),
        # Slurm's NO_VAL64 is -2 where it is printed with a sign.
        "ConsumedEnergyRaw": None if energy is None or energy.startswith("-") else energy,
    }


def _jobs(fields: pl.DataFrame, zones: Mapping[str, str]) -> pl.DataFrame:
    has = set(fields.columns)
    zone = pl.col("Cluster").replace_strict(zones, default=None, return_dtype=pl.String)
    node_count = pl.coalesce(
        "NNodes", "AllocNodes", pl.col("AllocTRES").str.extract(r"(?:^|,)node=(\d+)")
    )
    energy = pl.when(~pl.col("ConsumedEnergyRaw").is_in(_NO_VALUE)).then("ConsumedEnergyRaw")
    named = fields.with_columns(
        pl.lit(None, pl.String).alias(name) for name in FIELDS if name not in has
    ).with_columns(
        zone=zone,
        job_id=pl.coalesce("JobID", "JobIDRaw"),
        state=pl.col("State").str.extract(r"^(\w+)").str.to_uppercase(),
        elapsed_told=pl.coalesce(
            "ElapsedRaw", _seconds("Elapsed") if "Elapsed" in has else pl.lit(None, pl.String)
        ),
        suspended_told=_seconds("Suspended"),
        node_count_told=node_count,
        energy_told=energy,
    )
    counts = {
        "elapsed": (
            "ElapsedRaw" if "ElapsedRaw" in has else "Elapsed",
            "whole seconds, or D-HH:MM:SS of Elapsed",
        ),
        "suspended": ("Suspended", "D-HH:MM:SS"),
        "node_count": ("NNodes", "a whole number of nodes"),
        "energy": ("ConsumedEnergyRaw", "whole joules"),
    }
    read_jobs = _with_gpus(_with_instants(named, zones), "AllocTRES").with_columns(
        # A column of a CSV that had gaps was written as decimals.
        pl.col(f"{name}_told").str.replace(r"\.0$", "").cast(pl.Int64, strict=False).alias(name)
        for name in counts
    )
    is_over = ~pl.col("state").is_in([*_NOT_STARTED, *_NOT_ENDED])
    seconds = pl.col("elapsed") + pl.col("suspended").fill_null(0)
    lasted = pl.duration(seconds=seconds, time_unit="us")
    timed = _with_start_and_end(read_jobs.with_columns(lasted=lasted))
    if "End" not in has:
        ended = pl.when(is_over).then(pl.col("started_at") + pl.col("lasted"))
        timed = timed.with_columns(ended_at=ended)
    # What still runs has run up to the listing, and that was made after all that it tells.
    latest = pl.max_horizontal(f"{name}_earlier" for name in _TIMES).max().over("Cluster")
    run_s = (pl.coalesce("ended_at", latest) - pl.col("started_at")).dt.total_seconds()
    from_times = (run_s - pl.col("suspended").fill_null(0)).clip(lower_bound=0).fill_null(0)
    is_step = pl.col("job_id").str.contains(".", literal=True) & pl.col("line_reason").is_null()
    timed = timed.with_columns(is_step=is_step.fill_null(value=False))
    left_out: pl.Expr = pl.when("is_step").then(pl.lit("a step, for which its job stands"))
    if LEFT_OUT_REASON in has:
        left_out = pl.coalesce(LEFT_OUT_REASON, left_out)
    problems = [
        *(
            problem(
                pl.col(f"{name}_told").is_not_null() & pl.col(name).is_null(),
                field=field,
                found=pl.col(f"{name}_told"),
                expected=expected,
            )
            for name, (field, expected) in counts.items()
        ),
        _gpu_problem("AllocTRES"),
        *(problem for name in _TIMES for problem in _time_problems(name)),
    ]
    # Of a line that is not whole, what stands under a name may be another's.
    reason = pl.coalesce("line_reason", pl.lit(told_problems(timed, problems)))
    return timed.select(
        "job_id",
        "state",
        "started_at",
        "ended_at",
        "node_count",
        "gpu_count",
        cluster="Cluster",
        **{column: pl.col(name) for column, name in _TEXTS.items()},
        submitted_at="Submit_earlier",
        elapsed_s=pl.coalesce("elapsed", from_times),
        suspended_s="suspended",
        consumed_energy_j="energy",
        **{
            REJECT_REASON: pl.when(left_out.is_null()).then(reason),
            LEFT_OUT_REASON: left_out,
        },
    )


@lru_cache
def _seconds(name: str) -> pl.Expr:
    """Seconds of `D-HH:MM:SS`, `HH:MM:SS` or `MM:SS` as text; other text as it is."""
    parts = pl.col(name).str.extract_groups(r"^(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)$").struct
    seconds = pl.sum_horizontal(
        parts.field(str(index)).cast(pl.Int64, strict=False) * unit
        for index, unit in enumerate((86_400, 3_600, 60, 1), start=1)
    )
    return pl.when(parts.field("4").is_not_null()).then(seconds.cast(pl.String)).otherwise(name)


def _with_instants(jobs: pl.DataFrame, zones: Mapping[str, str]) -> pl.DataFrame:
    """Per time the earlier and the later instant it can mean: the same, but for a repeated hour."""
    told_zones = jobs["zone"].drop_nulls().unique().sort()

    def instant(name: str, which: Any) -> pl.Expr:
        local = pl.col(f"{name}_local")
        in_zone = [
            pl.when(pl.col("zone") == zone).then(
                local.dt.replace_time_zone(
                    zone, ambiguous=which, non_existent="null"
                ).dt.convert_time_zone("UTC")
            )
            for zone in told_zones
        ]
        return pl.coalesce(f"{name}_with_offset", *in_zone)

    parsed = jobs.with_columns(
        column
        for name in _TIMES
        for column in _parsed_time(jobs[name].rename(f"{name}_local"), f"{name}_with_offset")
    )
    return parsed.with_columns(
        instant(name, which).alias(f"{name}_{what}")
        for name in _TIMES
        for what, which in (("earlier", "earliest"), ("later", "latest"))
    )


def _parsed_time(told: pl.Series, name: str) -> tuple[pl.Series, pl.Series]:
    """Times without an offset, and under this name those with one."""
    form = "%Y-%m-%dT%H:%M:%S"
    local = told.str.to_datetime(form, strict=False, time_unit="us")
    if local.null_count() == told.null_count():
        return local, pl.repeat(None, len(told), dtype=UTC_TIME, eager=True).rename(name)
    iso = told.str.replace(_DATE_AND_TIME, "${1}-${2}-${3}T${4}")
    with_offset = iso.str.to_datetime(f"{form}%#z", strict=False, time_unit="us")
    seconds = told.str.extract(_EPOCH).cast(pl.Int64)
    return (
        iso.str.to_datetime(form, strict=False, time_unit="us"),
        with_offset.fill_null((seconds * 1_000_000).cast(UTC_TIME)).rename(name),
    )


def _with_start_and_end(jobs: pl.DataFrame) -> pl.DataFrame:
    """Start and end, of what they can mean the pair that is run time and suspension apart.

    A job that still runs has run up to the moment of the listing, which the others of it tell.
    """
    earlier, lasted = pl.col("Start_earlier"), pl.col("lasted")
    is_certain = pl.col("End_earlier").is_null() & (earlier == pl.col("Start_later"))
    listed_at = (earlier + lasted).filter(is_certain).max().over("Cluster")
    pairs = [
        (f"Start_{of_start}", f"End_{of_end}")
        for of_start in ("earlier", "later")
        for of_end in ("earlier", "later")
    ]
    misfits = [f"misfit_{index}" for index in range(len(pairs))]
    measured = jobs.with_columns(listed_at=listed_at).with_columns(
        (pl.coalesce(end, "listed_at") - pl.col(start) - lasted).abs().alias(misfit)
        for misfit, (start, end) in zip(misfits, pairs, strict=True)
    )
    least = pl.min_horizontal(misfits)
    is_best = [(pl.col(misfit) == least) & (pl.col(misfits[0]) != least) for misfit in misfits]

    def chosen(which: int) -> pl.Expr:
        """Of equal ones, and where nothing can be measured, the first."""
        return (
            pl.when(is_best[1])
            .then(pairs[1][which])
            .when(is_best[2])
            .then(pairs[2][which])
            .when(is_best[3])
            .then(pairs[3][which])
            .otherwise(pairs[0][which])
        )

    return measured.with_columns(started_at=chosen(0), ended_at=chosen(1))


@lru_cache
def _time_problems(name: str) -> list[Problem]:
    is_missing = pl.col(name).is_not_null() & pl.col(f"{name}_earlier").is_null()
    is_local = pl.col(f"{name}_local").is_not_null()
    is_placeless = pl.col("zone").is_null()
    return [
        problem(
            is_missing & ~is_local,
            field=name,
            found=pl.col(name),
            expected="a time such as 2026-11-01T00:00:00, with or without an offset",
        ),
        problem(
            is_missing & is_local & is_placeless,
            field="Cluster",
            found=pl.col("Cluster"),
            expected=f"a cluster whose time zone is known, for {name} has no offset: declare the "
            "cluster in reference/sites and load again",
        ),
        problem(
            is_missing & is_local & ~is_placeless,
            field=name,
            found=pl.col(name),
            expected="a time that exists in the cluster's zone: the clocks skip this hour",
        ),
    ]


def _with_gpus(jobs: pl.DataFrame, tres: str) -> pl.DataFrame:
    """The jobs with the boards they were given, and whether they were given parts of unknown size.

    Clusters record the untyped count of GPUs, the typed ones or both, so both are never added up.
    """
    told = pl.col(tres)
    allocations = jobs.select(told.drop_nulls().unique())
    of_type, count = pl.col("entry").str.extract(_GPUS, 2), pl.col("entry").str.extract(_GPUS, 3)
    entries = (
        allocations.select(tres, entry=told.str.split(","))
        .explode("entry")
        .filter(pl.col("entry").str.contains(_GPUS))
        .with_columns(of_type=of_type, count=count.cast(pl.Int64).fill_null(1))
        .with_columns(boards=pl.col("count") * board_share(pl.col("of_type")).fill_null(1))
    )
    is_typed = pl.col("of_type").is_not_null()
    typed, untyped = pl.col("count").filter(is_typed).sum(), pl.col("count").filter(~is_typed).sum()
    boards = pl.col("boards").filter(is_typed).sum()
    counted = entries.group_by(tres).agg(gpu_count=boards + (untyped - typed).clip(lower_bound=0))
    is_untyped_mig = told.str.contains(r"(?:^|,)gres[/:]mig(?:[=:]\d+)?(?:,|$)")
    is_typed_mig = told.str.contains(r"(?:^|,)gres[/:]mig:[^,]*\dg\.\d")
    is_part = told.str.contains(_PART_OF_GPUS) & pl.col("gpu_count").is_null()
    sized = allocations.join(counted, on=tres, how="left").with_columns(
        is_of_unknown_size=(is_untyped_mig & ~is_typed_mig) | is_part
    )
    return jobs.join(sized, on=tres, how="left", maintain_order="left")


@lru_cache
def _gpu_problem(tres: str) -> Problem:
    return problem(
        pl.col("is_of_unknown_size"),
        field=tres,
        found=pl.col(tres),
        expected="parts of GPUs with their size: name the MIG profiles (gres/gpu:1g.10gb) in "
        "AccountingStorageTRES, and gres/gpu beside mps and shards",
    )


def _answer(content: bytes, file_name: str) -> dict[str, Any]:
    """JSON with jobs, all of them in slurmrestd's or all in the accounting's form."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{file_name}: not valid JSON ({error}); expected slurmrestd's answer or that of "
            "sacct --json; fetch it again"
        ) from error
    jobs = answer.get("jobs")
    forms = ({"job_id", "job_state", "start_time"}, {"job_id", "state", "time"})
    if not isinstance(jobs, list) or not any(
        all(isinstance(job, dict) and form <= set(job) for job in jobs) for form in forms
    ):
        raise UnreadableFile(
            f"{file_name}: found JSON with {sorted(answer)}, expected jobs with job_id, job_state "
            "and start_time as slurmrestd answers on /slurm/<version>/jobs, or with job_id, state "
            "and time as sacct --json and /slurmdb/<version>/jobs do; land such an answer"
        )
    return answer


def _read_answer(answer: dict[str, Any], file_name: str, cluster: str | None) -> pl.DataFrame:
    """Jobs of slurmrestd's `/slurm/<version>/jobs`, with the moment of the answer as `known_at`."""
    jobs = answer["jobs"]
    try:
        known_at = {"last_update": _plain(answer.get("last_update"))}
        rows = pl.DataFrame(
            [_plain_job(job) | known_at for job in jobs],
            schema={**_ANSWER_SCHEMA, "last_update": pl.Int64},
        )
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise UnreadableFile(
            f"{file_name}: jobs: found a value of another kind than slurmrestd tells, such as a"
            " word for a number of seconds; land the answer unchanged"
        ) from error
    rows = _with_gpus(rows, "tres_alloc_str")
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
        job_id="listed_id",
        **texts | {"cluster": pl.coalesce(texts["cluster"], pl.lit(cluster, pl.String))},
        state=pl.col("job_state").str.to_uppercase(),
        submitted_at=_from_epoch(pl.when(pl.col("submit_time") > 0).then("submit_time")),
        started_at=_from_epoch(started),
        ended_at=_from_epoch(ended),
        elapsed_s=pl.coalesce(ran_s, lasted_s),
        suspended_s=lasted_s - pl.coalesce(ran_s, lasted_s),
        node_count=pl.col("node_count").fill_null(0),
        gpu_count="gpu_count",
        consumed_energy_j=pl.lit(None, pl.Int64),
        **({"known_at": _from_epoch(pl.col("last_update"))} if answer.get("last_update") else {}),
        **{
            REJECT_REASON: told_problems(
                rows,
                [
                    *(
                        problem(
                            pl.col(name) > _LAST_SECOND,
                            field=name,
                            found=pl.col(name),
                            expected="seconds since 1970",
                        )
                        for name in times
                    ),
                    _gpu_problem("tres_alloc_str"),
                ],
            )
        },
    )


def _plain_job(job: dict[str, Any]) -> dict[str, Any]:
    array = {"job_id": job.get("array_job_id"), "task_id": job.get("array_task_id")}
    het = {"job_id": job.get("het_job_id"), "job_offset": job.get("het_job_offset")}
    told = {name: _plain(job.get(name)) for name in _ANSWER_SCHEMA}
    return told | {"listed_id": _job_id(job["job_id"], array, het)}


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
